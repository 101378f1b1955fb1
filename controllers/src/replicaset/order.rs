//! The order in which the pods of a set go when there are too many. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use crate::pod;

/// Sorts pods by who goes first: unassigned ones, pending, not ready, cheap to delete, those that share their
/// node with many of `related`, ready for a short time, often restarted, new. Times are told apart by
/// their magnitude only: of pods of about one age any may go, so that zones lose pods evenly.
pub(super) fn sort(pods: &mut [Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pod::active(pod)) {
        *on_node.entry(pod::node(pod).unwrap_or("")).or_default() += 1;
    }
    pods.sort_by_cached_key(|pod| {
        let ready = pod::ready(pod);
        let since = pod::ready_since(pod);
        let crowd = on_node.get(pod::node(pod).unwrap_or("")).copied();
        (
            pod::node(pod).is_some(),
            phase(pod),
            ready,
            pod::deletion_cost(pod),
            Reverse(crowd.unwrap_or(0)),
            if ready { magnitude(since, now) } else { 0 },
            Reverse(restarts(pod)),
            magnitude(pod.creation_timestamp().map(|time| time.0), now),
            pod.uid(),
        )
    });
}

fn phase(pod: &Pod) -> u8 {
    match pod::phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    }
}

/// The binary logarithm of how long ago it was; less than any where that is not known.
fn magnitude(since: Option<Timestamp>, now: Timestamp) -> i32 {
    let Some(since) = since else { return -2 };
    let nanoseconds = u128::try_from(now.duration_since(since).as_nanos()).unwrap_or(0);
    let bits = nanoseconds.checked_ilog2();
    bits.and_then(|bits| i32::try_from(bits).ok()).unwrap_or(-1)
}

/// The most restarts of a container, and of a sidecar.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else {
        return (0, 0);
    };
    let most = |statuses: &Option<Vec<ContainerStatus>>| {
        let counts = statuses.iter().flatten().map(|status| status.restart_count);
        counts.max().unwrap_or(0)
    };
    (
        most(&status.container_statuses),
        most(&status.init_container_statuses),
    )
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    /// `name key=value…`: `node`, `phase`, `ready` and `age` (seconds), `cost`, `restarts`.
    fn pod(text: &str) -> Arc<Pod> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap();
        let fields: HashMap<&str, &str> = words.map(|word| word.split_once('=').unwrap()).collect();
        let ago = |seconds: &str| now() - jiff::SignedDuration::from_secs(seconds.parse().unwrap());
        let of = |field: &str| fields.get(field).copied();
        let ready = of("ready").map(ago);
        let restarts: i32 = of("restarts").unwrap_or("0").parse().unwrap();
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {
                    "name": name, "uid": name, "creationTimestamp": ago(of("age").unwrap_or("64")),
                    "annotations": {"controller.kubernetes.io/pod-deletion-cost": of("cost").unwrap_or("")},
                },
                "spec": {"containers": [], "nodeName": of("node")},
                "status": {
                    "phase": of("phase").unwrap_or("Running"),
                    "conditions": [{"type": "Ready", "status": if ready.is_some() { "True" } else { "False" },
                        "lastTransitionTime": ready}],
                    "containerStatuses": [{"name": "c", "restartCount": restarts, "image": "", "imageID": "",
                        "ready": true}],
                },
            }))
            .unwrap(),
        )
    }

    fn now() -> Timestamp {
        "2026-01-02T00:00:00Z".parse().unwrap()
    }

    #[track_caller]
    fn check(pods: &str, related: &str, expect: Expect) {
        let of = |text: &str| -> Vec<Arc<Pod>> { text.lines().map(pod).collect() };
        let (mut pods, mut related) = (of(pods), of(related));
        related.extend(pods.iter().cloned());
        sort(&mut pods, &related, now());
        let names: Vec<String> = pods.iter().map(|pod| pod.name_any()).collect();
        expect.assert_eq(&names.join(" "));
    }

    #[test]
    fn pods_that_do_not_serve_go_first() {
        check(
            "ready node=n ready=60\nrunning node=n\nunknown node=n phase=Unknown\npending node=n phase=Pending\nunassigned phase=Pending",
            "",
            expect!["unassigned pending unknown running ready"],
        );
    }

    #[test]
    fn a_cheap_pod_goes_before_one_on_a_crowded_node_and_that_before_a_new_one() {
        check(
            "new node=a ready=1\ncrowded node=b ready=9999\ncheap node=a ready=9999 cost=-5\ndear node=b cost=7 ready=1",
            "other node=b ready=5",
            expect!["cheap crowded new dear"],
        );
        check(
            "a node=a ready=9 cost=+5\nb node=b ready=9 cost=x\nc node=c ready=9 cost=1",
            "",
            expect!["a b c"],
        );
    }

    #[test]
    fn ages_are_told_apart_by_their_magnitude() {
        check(
            "old node=n ready=9000\nfresh node=n ready=5\nb node=n ready=600\na node=n ready=900",
            "",
            expect!["fresh a b old"],
        );
    }

    #[test]
    fn of_two_the_one_that_restarted_goes_then_the_newer() {
        check(
            "a node=n ready=60 age=7\nb node=n ready=60 age=9000 restarts=3\nc node=n ready=60 age=9000",
            "",
            expect!["b a c"],
        );
    }
}
