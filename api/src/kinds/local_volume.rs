//! Volumes that nodes make of their own directories: which node a claim asks, and which made a volume. Pure.

use serde_json::Value;

pub(crate) const PROVISIONER: &str = "wk.dev/local";
/// On a volume: who made it, and on which node.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const NODE: &str = "wk.dev/node";
/// On a claim: who makes its volume, and where.
const ASKED: &str = "volume.kubernetes.io/storage-provisioner";
const SELECTED: &str = "volume.kubernetes.io/selected-node";

/// The field by which claims and volumes of one node are selected.
pub(crate) const NODE_FIELD: &str = "wk.dev/node";

/// The node that a claim asks for its volume; empty if it asks none.
pub(crate) fn asked(claim: &Value) -> &str {
    named(claim, ASKED, SELECTED)
}

/// The node that made a volume; empty if none did.
pub(crate) fn maker(volume: &Value) -> &str {
    named(volume, PROVISIONED_BY, NODE)
}

fn named<'a>(object: &'a Value, provisioner: &str, node: &str) -> &'a str {
    let annotation = |name: &str| {
        let annotation = object["metadata"]["annotations"][name].as_str();
        annotation.unwrap_or_default()
    };
    match annotation(provisioner) == PROVISIONER {
        true => annotation(node),
        false => "",
    }
}
