//! Pods that an earlier process has worked on.

use expect_test::expect;
use serde_json::json;

use crate::pod::script::{check, pod};

#[test]
fn a_container_lost_with_an_earlier_process_starts_again_as_the_next_attempt() {
    let mut lost = pod(&["a"], json!({}));
    let status = json!({"phase": "Running", "podIP": "10.64.0.9", "containerStatuses": [{
        "name": "a", "image": "img", "imageID": "", "ready": true, "restartCount": 2,
        "state": {"running": {"startedAt": "2001-01-01T00:00:00Z"}},
    }]});
    lost.status = Some(serde_json::from_value(status).expect("a status"));
    check(
        lost,
        "up, run a",
        expect![[r#"
            => set-up
            up => resume a#2
            run a =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=2 [{"running":{"startedAt":"2001-01-01T00:00:00Z"}},{}]
        "#]],
    );
}

#[test]
fn a_pod_that_had_ended_is_not_run_again() {
    let mut ended = pod(&["a"], json!({"restartPolicy": "Never"}));
    let status = json!({"phase": "Succeeded", "containerStatuses": [{
        "name": "a", "image": "img", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
    }]});
    ended.status = Some(serde_json::from_value(status).expect("a status"));
    check(
        ended,
        "down",
        expect![[r#"
            => tear-down
            down =>
            Succeeded: not PodReadyToStartContainers, Initialized (PodCompleted), not Ready (PodCompleted), not ContainersReady (PodCompleted)
              a started=false ready=false restarts=0 [{"terminated":{"exitCode":0,"reason":"Completed"}},{}]
        "#]],
    );
}

fn lost(spec: serde_json::Value) -> k8s_openapi::api::core::v1::Pod {
    let mut lost = pod(&["a"], spec);
    let status = json!({"phase": "Running", "podIP": "10.64.0.9", "startTime": "2001-01-01T00:00:00Z", "containerStatuses": [{
        "name": "a", "image": "img", "imageID": "img@sha256:0", "ready": true, "started": true, "restartCount": 1,
        "containerID": "wasm://a", "state": {"running": {"startedAt": "2001-01-01T00:00:00Z"}},
    }]});
    lost.status = Some(serde_json::from_value(status).expect("a status"));
    lost
}

#[test]
fn a_server_that_was_lost_with_an_earlier_process_is_the_same_container() {
    check(
        lost(json!({})),
        "up, status, run a",
        expect![[r#"
        => set-up
        up => resume a#1
        Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
          a started=false ready=false restarts=1 [{"running":{"startedAt":"2001-01-01T00:00:00Z"}},{}]
        status =>
        run a =>
        Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
          a started=true ready=true restarts=1 [{"running":{"startedAt":"2001-01-01T00:00:00Z"}},{}]
    "#]],
    );
}

#[test]
fn a_program_that_was_lost_has_ended_and_its_policy_decides() {
    let never = json!({"restartPolicy": "Never"});
    check(
        lost(never),
        "up, lost a, down",
        expect![[r#"
        => set-up
        up => resume a#1
        lost a => tear-down
        down =>
        Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
          a started=false ready=false restarts=1 [{"terminated":{"containerID":"wasm://a","exitCode":137,"message":"The container could not be located when the pod was terminated","reason":"ContainerStatusUnknown","startedAt":"2001-01-01T00:00:00Z"}},{}]
    "#]],
    );
}

#[test]
fn a_pod_deleted_while_nobody_looked_is_torn_down() {
    check(
        lost(json!({})),
        "delete 30, up, down",
        expect![[r#"
        => set-up
        delete 30 =>
        up => tear-down
        down => remove
        Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
          a started=false ready=false restarts=1 [{"terminated":{"containerID":"wasm://a","exitCode":137,"message":"The container could not be located when the pod was terminated","reason":"ContainerStatusUnknown","startedAt":"2001-01-01T00:00:00Z"}},{}]
    "#]],
    );
}
