//! Whether pods tolerate the taints of nodes.
//!
//! Pure.

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

pub(crate) const NO_SCHEDULE: &str = "NoSchedule";
pub(crate) const NO_EXECUTE: &str = "NoExecute";

pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub(crate) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub(crate) const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
pub(crate) const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
pub(crate) const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
pub(crate) const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";

/// The node's taints.
pub(crate) fn of(node: &Node) -> &[Taint] {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    taints.unwrap_or_default()
}

/// The pod's tolerations.
pub(crate) fn tolerations(pod: &Pod) -> &[Toleration] {
    let spec = pod.spec.as_ref();
    let tolerations = spec.and_then(|spec| spec.tolerations.as_deref());
    tolerations.unwrap_or_default()
}

/// The first toleration that covers the taint.
pub(crate) fn covering<'a>(tolerations: &'a [Toleration], taint: &Taint) -> Option<&'a Toleration> {
    tolerations
        .iter()
        .find(|toleration| covers(toleration, taint))
}

/// Without an effect a toleration covers each, without a key (and with `Exists`) every taint.
fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    let value = match text(&toleration.operator).as_str() {
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        "Exists" => true,
        _ => false,
    };
    (key.is_empty() || key == taint.key) && (effect.is_empty() || effect == taint.effect) && value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_toleration_covers_by_key_effect_and_value() {
        let covered = |toleration: serde_json::Value| {
            let toleration: Toleration = serde_json::from_value(toleration).unwrap();
            let taint = json!({"key": "a", "value": "b", "effect": "NoExecute"});
            covers(&toleration, &serde_json::from_value(taint).unwrap())
        };
        assert!(covered(json!({"operator": "Exists"})));
        assert!(covered(json!({"key": "a", "value": "b"})));
        assert!(covered(
            json!({"key": "a", "operator": "Exists", "effect": "NoExecute"})
        ));
        assert!(!covered(json!({"key": "a"})));
        assert!(!covered(json!({"key": "c", "operator": "Exists"})));
        assert!(!covered(
            json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"})
        ));
    }
}
