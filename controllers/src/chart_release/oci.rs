//! Charts in registries: the layer of a manifest that is a chart's archive.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What a manifest is asked for as.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of a chart's archive.
const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/// A reference's parts: host, path, and tag or digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reference {
    pub(super) host: String,
    pub(super) path: String,
    /// A tag, or `sha256:…`.
    pub(super) version: Option<String>,
}

impl Reference {
    /// Reads `oci://HOST/PATH[:TAG|@DIGEST]`; `version` is used where it names none.
    pub(super) fn parse(text: &str, version: Option<&str>) -> Option<Reference> {
        let (host, rest) = text.strip_prefix("oci://")?.split_once('/')?;
        let (path, own) = match rest.split_once('@') {
            Some((path, digest)) => (path, Some(digest)),
            None => match rest.rsplit_once(':') {
                Some((path, tag)) => (path, Some(tag)),
                None => (rest, None),
            },
        };
        // A tag has no plus sign: Helm writes an underscore.
        let version = own.or(version).map(|version| version.replace('+', "_"));
        Some(Reference {
            host: host.to_owned(),
            path: path.to_owned(),
            version,
        })
    }

    /// Whether it is in the cluster's own registry.
    pub(super) fn own(&self) -> bool {
        matches!(
            self.host.as_str(),
            "registry.wk.internal" | "localhost:5000" | "127.0.0.1:5000"
        )
    }
}

/// The digest of the archive that a manifest names.
pub(super) fn layer(manifest: &Value) -> Option<&str> {
    let layers = manifest["layers"].as_array()?;
    let layer = layers.iter().find(|layer| layer["mediaType"] == CHART)?;
    layer["digest"].as_str()
}

/// Whether a blob is what its digest says.
pub(super) fn verify(blob: &[u8], digest: &str) -> bool {
    let seen: String = Sha256::digest(blob)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    digest.strip_prefix("sha256:") == Some(seen.as_str())
}

/// The newest of some tags: the highest version that is no pre-release.
pub(super) fn newest<'a>(tags: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    tags.filter_map(|tag| Some((version(tag)?, tag)))
        .max()
        .map(|(_, tag)| tag)
}

/// `1.2.3` as numbers.
pub(super) fn version(text: &str) -> Option<[u64; 3]> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let text = text.split(['+', '_']).next()?;
    let mut numbers = [0; 3];
    let mut parts = text.split('.');
    for number in &mut numbers {
        *number = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        let read = |text, version| {
            let reference = Reference::parse(text, version)?;
            let version = reference.version.clone().unwrap_or_default();
            Some(format!(
                "{} {} {version} {}",
                reference.host,
                reference.path,
                reference.own()
            ))
        };
        assert_eq!(
            read("oci://registry.wk.internal/team/nginx", Some("1.2+b")).unwrap(),
            "registry.wk.internal team/nginx 1.2_b true"
        );
        assert_eq!(
            read("oci://a:5/b/c:1", Some("2")).unwrap(),
            "a:5 b/c 1 false"
        );
        assert_eq!(
            read("oci://a/b@sha256:ab", None).unwrap(),
            "a b sha256:ab false"
        );
        assert_eq!(read("nginx", None), None);
    }

    #[test]
    fn the_newest_tag_is_the_highest_release() {
        let tags = ["1.9.0", "1.10.0", "2.0.0-rc1", "latest", "v1.2.3"];
        assert_eq!(newest(tags.into_iter()), Some("1.10.0"));
    }
}
