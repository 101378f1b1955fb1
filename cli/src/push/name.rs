//! Which repository and tag of the cluster's registry a reference means. Pure.

use anyhow::{Result, bail};

/// The registry's name in references of pods.
pub(crate) const HOST: &str = "registry.wk.internal";

/// What else a reference may call it.
const ALIASES: [&str; 2] = ["localhost:5000", "127.0.0.1:5000"];

/// A reference taken apart.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Name {
    /// `None`: the namespace that the command works in.
    pub(super) namespace: Option<String>,
    /// The rest of the repository.
    pub(super) rest: String,
    pub(super) tag: String,
}

impl Name {
    /// `NAMESPACE/NAME`; to be asked once the namespace is known.
    pub(super) fn repository(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.rest),
            None => self.rest.clone(),
        }
    }
}

/// Takes `[registry.wk.internal/][NAMESPACE/]NAME[:TAG]` apart.
pub(super) fn parse(reference: &str) -> Result<Name> {
    if reference.contains('@') {
        bail!(
            "{reference:?}: what is pushed gets its digest from its content: name a tag, or nothing"
        );
    }
    let (host, path) = match reference.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), rest)
        }
        _ => (None, reference),
    };
    if let Some(host) = host
        && host != HOST
        && !ALIASES.contains(&host)
    {
        bail!(
            "{reference:?} names the registry {host}: this pushes to the cluster's own registry, {HOST}, alone"
        );
    }
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) => (path, tag),
        None => (path, "latest"),
    };
    let (namespace, rest) = match path.split_once('/') {
        Some((namespace, rest)) => (Some(namespace), rest),
        // With the registry's name, a reference is whole.
        None if host.is_some() => {
            bail!("{reference:?}: repositories are in namespaces: {HOST}/NAMESPACE/NAME")
        }
        None => (None, path),
    };
    let whole = namespace.into_iter().chain(rest.split('/'));
    for part in whole {
        if !is_part(part) {
            bail!(
                "{reference:?} is no repository: {part:?} must be lower-case letters and digits, with one of . _ - between them"
            );
        }
    }
    if !is_tag(tag) {
        bail!("{reference:?}: {tag:?} is no tag");
    }
    Ok(Name {
        namespace: namespace.map(str::to_owned),
        rest: rest.to_owned(),
        tag: tag.to_owned(),
    })
}

fn is_part(part: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes
            .iter()
            .all(|byte| plain(byte) || b"._-".contains(byte))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(|byte| word(*byte))
        && bytes.iter().all(|byte| word(*byte) || b".-".contains(byte))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(reference: &str, want: Expect) {
        want.assert_eq(&match parse(reference) {
            Ok(name) => format!("{:?} {} {}", name.namespace, name.rest, name.tag),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        check("hello", expect!["None hello latest"]);
        check("hello:v1", expect!["None hello v1"]);
        check("web/hello", expect![[r#"Some("web") hello latest"#]]);
        check(
            "registry.wk.internal/web/team/hello:v1",
            expect![[r#"Some("web") team/hello v1"#]],
        );
        check(
            "localhost:5000/web/hello",
            expect![[r#"Some("web") hello latest"#]],
        );
    }

    #[test]
    fn only_the_own_registry_is_pushed_to() {
        check(
            "ghcr.io/a/b",
            expect![[
                r#""ghcr.io/a/b" names the registry ghcr.io: this pushes to the cluster's own registry, registry.wk.internal, alone"#
            ]],
        );
        check(
            "localhost:5000/hello",
            expect![[
                r#""localhost:5000/hello": repositories are in namespaces: registry.wk.internal/NAMESPACE/NAME"#
            ]],
        );
        check(
            "Hello",
            expect![[
                r#""Hello" is no repository: "Hello" must be lower-case letters and digits, with one of . _ - between them"#
            ]],
        );
        check("hello:", expect![[r#""hello:": "" is no tag"#]]);
        check(
            "hello@sha256:00",
            expect![[
                r#""hello@sha256:00": what is pushed gets its digest from its content: name a tag, or nothing"#
            ]],
        );
    }
}
