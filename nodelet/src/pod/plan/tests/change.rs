//! Spec changes of a pod that runs.

use expect_test::expect;
use serde_json::json;

use crate::pod::script::{check, pod};

#[test]
fn a_container_whose_image_changes_is_replaced_whatever_the_policy() {
    check(
        pod(&["a", "b"], json!({"restartPolicy": "Never"})),
        "up, run a, run b, image a img:2, exit a 143, run a",
        expect![[r#"
            => set-up
            up => start a#0 start b#0
            run a =>
            run b =>
            image a img:2 => stop a#0 30s (Container a definition changed, will be restarted) signal a#0 30s
            exit a 143 => start a#1
            run a =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=1 [{"running":{"startedAt":"T0"}},{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
              b started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
        "#]],
    );
}

#[test]
fn a_corrected_image_is_pulled_at_once() {
    check(
        pod(&["a"], json!({})),
        "up, fail a ErrImagePull, +2s, image a img:2, run a",
        expect![[r#"
            => set-up
            up => start a#0
            fail a ErrImagePull => (wake in 2s)
            +2s => back-off-pull a#0 (wake in 8s)
            image a img:2 => start a#0
            run a =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=0 [{"running":{"startedAt":"2001-09-09T01:46:42Z"}},{}]
        "#]],
    );
}

#[test]
fn a_crashing_container_with_another_image_is_tried_at_once() {
    check(
        pod(&["a"], json!({})),
        "up, run a, exit a 1, run a, exit a 1, image a img:2, run a, exit a 1",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            exit a 1 => start a#1
            run a =>
            exit a 1 => back-off a#1 10s (wake in 10s)
            image a img:2 => start a#2
            run a =>
            exit a 1 => back-off a#2 10s (wake in 10s)
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=2 [{"waiting":{"message":"back-off 10s restarting failed container=a pod=web_ns(u1)","reason":"CrashLoopBackOff"}},{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
        "#]],
    );
}

#[test]
fn a_sidecar_is_replaced_too() {
    let sidecar = json!({"name": "s", "image": "img", "restartPolicy": "Always"});
    check(
        pod(&["a"], json!({"initContainers": [sidecar]})),
        "up, run s, run a, image s img:2, exit s 143, run s",
        expect![[r#"
            => set-up
            up => start s#0
            run s => start a#0
            run a =>
            image s img:2 => stop s#0 30s (Container s definition changed, will be restarted) signal s#0 30s
            exit s 143 => start s#1
            run s =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              s started=true ready=true restarts=1 [{"running":{"startedAt":"T0"}},{"terminated":{"containerID":"wasm://s","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
        "#]],
    );
}
