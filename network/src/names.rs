//! What one node's things on the host are called.
//!
//! Made of a hash of the node's name: the same at every start, so that they are adopted, and another
//! for another node, so that several share a host.

use std::{
    ffi::OsStr,
    fmt::Write,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Where namespaces are kept.
pub(crate) const NAMESPACES: &str = "/run/netns";

/// The names of a node's namespaces, links and tables, and the metric that tells its routes apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Names {
    /// The Wasm pods' namespace: in `/run/netns`, so that `ip netns` lists it.
    pub(crate) namespace: PathBuf,
    /// What the host's ends of isolated pods' links begin with.
    pub(crate) pod_links: String,
    /// The host's end of the link; at most 15 characters.
    pub(crate) link: String,
    pub(crate) table: String,
    /// The table of NetworkPolicies.
    pub(crate) policies: String,
    pub(crate) metric: u32,
}

impl Names {
    pub(crate) fn of_node(node_name: &str) -> Self {
        let digest = Sha256::digest(node_name.as_bytes());
        let hash = hex(&digest[..4]);
        Self {
            namespace: Path::new(NAMESPACES).join(format!("wk-{hash}")),
            pod_links: format!("wkp{}", hex(&digest[..2])),
            link: format!("wk{hash}"),
            table: format!("wk-{hash}"),
            policies: format!("wk-{hash}-policies"),
            metric: 1024 + u32::from(u16::from_be_bytes([digest[0], digest[1]])),
        }
    }

    /// The host's end of an isolated pod's link.
    pub(crate) fn pod_link(&self, uid: &str) -> String {
        let digest = Sha256::digest(uid.as_bytes());
        format!("{}{}", self.pod_links, hex(&digest[..4]))
    }

    /// What keeps an isolated pod's namespace: beside the Wasm pods'.
    pub(crate) fn pod_namespace(&self, uid: &str) -> PathBuf {
        let mut path = self.namespace.clone().into_os_string();
        path.push(format!("-{uid}"));
        path.into()
    }

    /// The uid of the pod whose namespace is kept in a file of that name; `None` if it is no pod's.
    pub(crate) fn pod_of(&self, file: &OsStr) -> Option<String> {
        let own = self.namespace.file_name()?.to_str()?;
        let uid = file.to_str()?.strip_prefix(own)?.strip_prefix('-')?;
        Some(uid.to_owned())
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_stable_and_differ_between_nodes() {
        let one = Names::of_node("a-node-with-a-rather-long-name.example.org");
        assert_eq!(
            one,
            Names::of_node("a-node-with-a-rather-long-name.example.org")
        );
        assert_ne!(one, Names::of_node("another"));
        let file = |path: PathBuf| path.file_name().map(OsStr::to_owned).unwrap();
        assert_eq!(
            one.pod_of(&file(one.pod_namespace("a-b"))).as_deref(),
            Some("a-b")
        );
        assert_eq!(one.pod_of(&file(one.namespace.clone())), None);
        assert_eq!(
            one.pod_of(&file(Names::of_node("another").pod_namespace("a"))),
            None
        );
        for link in [
            &one.link,
            &one.pod_link("d9a7c1de-2f54-4c1c-8a2f-0f6a2a3b4c5d"),
        ] {
            assert!(link.len() <= 15, "{link}");
        }
    }
}
