//! What a node's conditions say, and what they say once it is lost.
//!
//! Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use serde_json::{Value, json};

/// What only the node itself knows.
const REPORTED: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// The status of the condition `Ready`; `None`: the node has said nothing yet.
pub(super) fn ready(node: &Node) -> Option<&str> {
    condition(node, "Ready").map(|condition| condition.status.as_str())
}

/// When the node last wrote its status, by its own clock.
pub(super) fn status_beat(node: &Node) -> Option<Timestamp> {
    let beat = condition(node, "Ready")?.last_heartbeat_time.as_ref()?;
    Some(beat.0)
}

/// The conditions of a node that fell silent, where they are not so already.
pub(super) fn unknown(node: &Node, now: Timestamp) -> Vec<Value> {
    let unknown = |kind: &&str| match condition(node, kind) {
        None => Some(json!({
            "type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated",
            "message": "Kubelet never posted node status.", "lastTransitionTime": now,
            "lastHeartbeatTime": node.metadata.creation_timestamp,
        })),
        Some(known) if known.status == "Unknown" => None,
        Some(_) => Some(json!({
            "type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.", "lastTransitionTime": now,
        })),
    };
    REPORTED.iter().filter_map(unknown).collect()
}
