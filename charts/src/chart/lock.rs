//! `Chart.lock`: which versions a chart's dependencies were resolved to, and a digest that tells when they changed.

use super::{Dependency, Lock, package};
use crate::fetch;

/// The digest of what is asked for and what it was resolved to, as Helm computes it.
pub fn digest(asked: &[Dependency], resolved: &[Dependency]) -> String {
    // Plain data always has a text.
    let text = serde_json::to_string(&[asked, resolved]).unwrap_or_default();
    fetch::digest(escaped(&text).as_bytes())
}

/// What Go's encoder escapes beyond what must be; such characters are only ever within strings.
fn escaped(text: &str) -> String {
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// The file's text.
pub fn text(lock: &Lock) -> String {
    package::text(&serde_json::to_value(lock).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::Metadata;

    /// The digest is what Helm 4 wrote for this chart.
    #[test]
    fn the_digest_is_helms() {
        let chart = b"apiVersion: v2
name: parent
version: 0.1.0
dependencies:
- name: a
  version: '>=1.0.0 <2'
  repository: file://../a
  condition: a.enabled
  tags: [one, two]
  import-values:
  - data
  - child: x.y
    parent: z
- name: b
  version: 0.4.x
  repository: file://../b
  alias: other
";
        let locked = |name: &str, version: &str| Dependency {
            name: name.to_owned(),
            version: version.to_owned(),
            repository: format!("file://../{name}"),
            ..Dependency::default()
        };
        let asked = Metadata::parse(chart).unwrap().dependencies;
        let resolved = [locked("a", "1.2.3"), locked("b", "0.4.0")];
        assert_eq!(
            digest(&asked, &resolved),
            "sha256:f3600fe01c884cd32c7fc304c591f3821728316a73f455ef763e58b0bff4e177"
        );
    }
}
