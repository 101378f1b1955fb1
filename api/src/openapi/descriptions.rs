//! What Kubernetes says of its types and fields, for `kubectl explain`.
//!
//! Reads `facts/kubernetes-1.36-descriptions.json.gz`, made by `facts/descriptions.py`. A megabyte of
//! text that only the building of documents needs: it is unpacked for that and let go.

use std::{collections::HashMap, io::Read as _};

use flate2::read::GzDecoder;

static FACTS: &[u8] = include_bytes!("../../facts/kubernetes-1.36-descriptions.json.gz");

/// The descriptions of every built-in definition.
pub(super) struct Descriptions(HashMap<String, HashMap<String, String>>);

impl Descriptions {
    /// Unpacks them.
    pub(super) fn read() -> Self {
        let mut text = String::new();
        GzDecoder::new(FACTS)
            .read_to_string(&mut text)
            .expect("the facts are packed whole: a test unpacks them");
        Self(serde_json::from_str(&text).expect("the facts are JSON: a test reads them"))
    }

    /// What is said of a definition; `None` if nothing is.
    pub(super) fn definition(&self, name: &str) -> Option<&str> {
        self.field(name, "")
    }

    /// What is said of a field of a definition.
    pub(super) fn field(&self, definition: &str, name: &str) -> Option<&str> {
        Some(self.0.get(definition)?.get(name)?.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_fields_are_described() {
        let descriptions = Descriptions::read();
        let pod = "io.k8s.api.core.v1.Pod";
        assert_eq!(
            descriptions.definition(pod),
            Some(
                "Pod is a collection of containers that can run on a host. This resource is created by clients and scheduled onto hosts."
            )
        );
        assert!(descriptions.field(pod, "spec").is_some());
        assert_eq!(descriptions.field(pod, "wings"), None);
    }
}
