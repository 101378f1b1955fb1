//! What one node's things on the host are called.
//!
//! Made of a hash of the node's name: the same at every start, so that they are adopted, and another
//! for another node, so that several share a host.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The names of a node's namespace, link and table, and the metric that tells its routes apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Names {
    /// Under `/run/netns`, so that `ip netns` lists it.
    pub(crate) namespace: String,
    /// The host's end of the link; at most 15 characters.
    pub(crate) link: String,
    pub(crate) table: String,
    pub(crate) metric: u32,
}

impl Names {
    pub(crate) fn of_node(node_name: &str) -> Self {
        let digest = Sha256::digest(node_name.as_bytes());
        let mut hash = String::new();
        for byte in &digest[..4] {
            write!(hash, "{byte:02x}").expect("writing to a String cannot fail");
        }
        Self {
            namespace: format!("wk-{hash}"),
            link: format!("wk{hash}"),
            table: format!("wk-{hash}"),
            metric: 1024 + u32::from(u16::from_be_bytes([digest[0], digest[1]])),
        }
    }
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
        assert!(one.link.len() <= 15, "{}", one.link);
    }
}
