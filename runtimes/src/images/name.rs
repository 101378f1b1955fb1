//! Which references name the same image: `busybox`, `docker.io/library/busybox` and
//! `docker.io/library/busybox:latest` do.
//!
//! The index is kept by normal names; what a pod wrote stays in its spec and status. Pure.

use std::str::FromStr as _;

use oci_client::Reference;

use super::file;

/// Whether an image may be called so.
pub fn is_name(reference: &str) -> bool {
    file::find_path(reference).is_some() || parse(reference).is_ok()
}

/// The one name that all references to an image share on a node: registry, repository and tag or digest
/// written out. A reference to a file, or one that cannot be parsed, is its own.
pub fn normal_name(reference: &str) -> String {
    if file::find_path(reference).is_some() {
        return reference.to_owned();
    }
    match parse(reference) {
        Ok(parsed) => match parsed.digest() {
            // A tag beside a digest says nothing more.
            Some(digest) => format!("{}/{}@{digest}", parsed.registry(), parsed.repository()),
            None => parsed.whole(),
        },
        Err(_) => reference.to_owned(),
    }
}

/// Checks that a reference can be one to a registry.
pub(super) fn parse(reference: &str) -> Result<Reference, String> {
    let parsed = Reference::from_str(reference).map_err(|error| error.to_string())?;
    match parsed.digest() {
        Some(digest) if !digest.starts_with("sha256:") => {
            Err("its digest is not a sha256".to_owned())
        }
        _ => Ok(parsed),
    }
}

/// A reference without its tag and digest; one to a file is kept as it is.
pub fn repository(name: &str) -> &str {
    if file::find_path(name).is_some() {
        return name;
    }
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        // Otherwise it is a registry's port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(reference: &str, want: Expect) {
        want.assert_eq(&normal_name(reference));
    }

    #[test]
    fn what_is_left_out_is_written_out() {
        check("busybox", expect!["docker.io/library/busybox:latest"]);
        check("busybox:1.36", expect!["docker.io/library/busybox:1.36"]);
        check("team/app", expect!["docker.io/team/app:latest"]);
        check(
            "index.docker.io/library/busybox",
            expect!["docker.io/library/busybox:latest"],
        );
        check("127.0.0.1:5000/a", expect!["127.0.0.1:5000/a:latest"]);
        check("ghcr.io/a/b:v1", expect!["ghcr.io/a/b:v1"]);
        let digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        check(
            &format!("busybox:1@{digest}"),
            expect![
                "docker.io/library/busybox@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
            ],
        );
        check("file:///a.wasm", expect!["file:///a.wasm"]);
        check("No Name", expect!["No Name"]);
    }

    #[test]
    fn a_repository_is_a_name_without_tag_and_digest() {
        assert_eq!(repository("file:///a:1@2"), "file:///a:1@2");
        for name in ["a.b:5000/c:v1", "a.b:5000/c@sha256:00", "a.b:5000/c"] {
            assert_eq!(repository(name), "a.b:5000/c");
        }
    }
}
