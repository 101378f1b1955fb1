//! What keeps a workload waiting: the first of its pods that is not ready, and why.

use serde_json::Value;

use crate::release::readiness::{self, Progress};

use super::Action;

/// Kinds whose pods their selector finds.
const WORKLOADS: [&str; 5] = [
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Job",
];

impl Action<'_> {
    /// Says what a workload waits for by its pods; `None` if they don't say.
    pub(super) async fn trouble(&self, workload: &Value) -> Option<String> {
        let selector = selector(workload)?;
        let namespace = workload["metadata"]["namespace"].as_str();
        // Whoever may not see pods is told less.
        let pods = self.cluster.list("v1", "Pod", namespace, &selector).await;
        trouble(&pods.ok()?)
    }
}

/// The labels of a workload's pods, as a query has them.
fn selector(workload: &Value) -> Option<String> {
    if !WORKLOADS.contains(&workload["kind"].as_str()?) {
        return None;
    }
    let labels = workload["spec"]["selector"]["matchLabels"].as_object()?;
    let pairs = labels
        .iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let selector = pairs.collect::<Vec<_>>().join(",");
    (!selector.is_empty()).then_some(selector)
}

/// The first pod that is not ready, and why.
fn trouble(pods: &[Value]) -> Option<String> {
    pods.iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .find_map(|pod| {
            let mut pod = pod.clone();
            // Items of a list don't say what they are.
            pod["kind"] = "Pod".into();
            let why = match readiness::progress(&pod) {
                Progress::Ready(_) => return None,
                Progress::Waiting(why) | Progress::Failed(why) => why,
            };
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            Some(format!("pod {name:?}: {why}"))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_pod_that_is_not_ready_says_why() {
        let ready = json!({"metadata": {"name": "a"}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let pulling = json!({"metadata": {"name": "b"}, "status": {"phase": "Pending", "containerStatuses": [
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}},
        ]}});
        let going = json!({"metadata": {"name": "c", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Pending"}});
        assert_eq!(trouble(&[ready.clone(), going.clone()]), None);
        assert_eq!(
            trouble(&[ready, going, pulling]).as_deref(),
            Some("pod \"b\": ImagePullBackOff: no such image")
        );
    }

    #[test]
    fn pods_are_found_by_the_workloads_labels() {
        let of = |kind: &str| json!({"kind": kind, "spec": {"selector": {"matchLabels": {"a": "b", "c": "d"}}}});
        assert_eq!(selector(&of("Deployment")).as_deref(), Some("a=b,c=d"));
        assert_eq!(selector(&of("Service")), None);
    }
}
