//! How far a roll-out is, in the words of `kubectl rollout status`. Pure.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::wait::{self, Progress};

pub(super) enum Status {
    UnderWay(String),
    Done(String),
}

/// Judges a Deployment, a StatefulSet or a DaemonSet.
///
/// # Errors
/// It will not be rolled out by waiting.
pub(super) fn of(object: &Value) -> Result<Status> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let strategy = &object["spec"]["updateStrategy"];
    let kind = object["kind"].as_str().unwrap_or_default();
    if kind != "Deployment" && strategy["type"] == "OnDelete" {
        bail!("rollout status is only available for RollingUpdate strategy type");
    }
    let called = match kind {
        "StatefulSet" => "statefulset",
        "DaemonSet" => "daemon set",
        _ => "deployment",
    };
    let status = &object["status"];
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    Ok(match wait::progress(object) {
        Progress::Failed(_) => bail!("{called} {name:?} exceeded its progress deadline"),
        Progress::Waiting(_)
            if number(&status["observedGeneration"])
                < number(&object["metadata"]["generation"]) =>
        {
            Status::UnderWay(format!(
                "Waiting for {called} spec update to be observed..."
            ))
        }
        Progress::Waiting(_) if kind == "StatefulSet" => Status::UnderWay(stateful_set(object)),
        Progress::Waiting(text) => {
            let waiting = format!("Waiting for {called} {name:?} rollout to finish: {text}...");
            Status::UnderWay(waiting)
        }
        Progress::Ready(_) if kind == "StatefulSet" => {
            let updated = number(&status["updatedReplicas"]);
            let partition = number(&strategy["rollingUpdate"]["partition"]);
            Status::Done(if partition > 0 {
                format!("partitioned roll out complete: {updated} new pods have been updated...")
            } else {
                let revision = status["updateRevision"].as_str().unwrap_or_default();
                let current = number(&status["currentReplicas"]);
                format!(
                    "statefulset rolling update complete {current} pods at revision {revision}..."
                )
            })
        }
        Progress::Ready(_) => Status::Done(format!("{called} {name:?} successfully rolled out")),
    })
}

/// What a StatefulSet waits for.
fn stateful_set(object: &Value) -> String {
    let (spec, status) = (&object["spec"], &object["status"]);
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let (ready, updated) = (
        number(&status["readyReplicas"]),
        number(&status["updatedReplicas"]),
    );
    let partition = number(&spec["updateStrategy"]["rollingUpdate"]["partition"]);
    if ready < wanted {
        format!("Waiting for {} pods to be ready...", wanted - ready)
    } else if partition > 0 {
        let new = wanted - partition;
        format!(
            "Waiting for partitioned roll out to finish: {updated} out of {new} new pods have been updated..."
        )
    } else {
        let revision = status["updateRevision"].as_str().unwrap_or_default();
        format!(
            "waiting for statefulset rolling update to complete {updated} pods at revision {revision}..."
        )
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(object: Value, expected: Expect) {
        expected.assert_eq(&match of(&object) {
            Ok(Status::UnderWay(line)) => line,
            Ok(Status::Done(line)) => format!("done: {line}"),
            Err(error) => format!("error: {error}"),
        });
    }

    fn stateful(strategy: Value, ready: i64, updated: i64) -> Value {
        json!({
            "kind": "StatefulSet", "metadata": {"name": "web", "generation": 2},
            "spec": {"replicas": 3, "updateStrategy": strategy},
            "status": {"observedGeneration": 2, "replicas": 3, "readyReplicas": ready,
                "availableReplicas": ready, "updatedReplicas": updated, "currentReplicas": updated,
                "currentRevision": if updated == 3 { "web-2" } else { "web-1" },
                "updateRevision": "web-2"},
        })
    }

    #[test]
    fn a_stateful_set_is_ready_then_new() {
        let rolling = json!({"type": "RollingUpdate"});
        check(
            stateful(rolling.clone(), 1, 1),
            expect![[r#"Waiting for 2 pods to be ready..."#]],
        );
        check(
            stateful(rolling.clone(), 3, 1),
            expect![[
                r#"waiting for statefulset rolling update to complete 1 pods at revision web-2..."#
            ]],
        );
        check(
            stateful(rolling, 3, 3),
            expect!["done: statefulset rolling update complete 3 pods at revision web-2..."],
        );
        let partitioned = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
        check(
            stateful(partitioned, 3, 1),
            expect!["done: partitioned roll out complete: 1 new pods have been updated..."],
        );
        check(
            stateful(json!({"type": "OnDelete"}), 3, 3),
            expect!["error: rollout status is only available for RollingUpdate strategy type"],
        );
    }

    #[test]
    fn a_daemon_set_is_updated_on_every_node() {
        let set = |observed: i64, updated: i64, available: i64| {
            json!({
                "kind": "DaemonSet", "metadata": {"name": "log", "generation": 2},
                "spec": {"updateStrategy": {"type": "RollingUpdate"}},
                "status": {"observedGeneration": observed, "desiredNumberScheduled": 2,
                    "updatedNumberScheduled": updated, "numberAvailable": available},
            })
        };
        check(
            set(1, 2, 2),
            expect!["Waiting for daemon set spec update to be observed..."],
        );
        check(
            set(2, 1, 2),
            expect![[
                r#"Waiting for daemon set "log" rollout to finish: 1 out of 2 new pods have been updated..."#
            ]],
        );
        check(
            set(2, 2, 1),
            expect![[
                r#"Waiting for daemon set "log" rollout to finish: 1 of 2 updated pods are available..."#
            ]],
        );
        check(
            set(2, 2, 2),
            expect![[r#"done: daemon set "log" successfully rolled out"#]],
        );
    }
}
