//! postStart and preStop.

use expect_test::expect;
use serde_json::json;

use crate::pod::script::{check, pod};

fn hooked(lifecycle: serde_json::Value) -> serde_json::Value {
    json!({"containers": [{"name": "a", "image": "img", "lifecycle": lifecycle}]})
}

#[test]
fn a_container_runs_once_its_post_start_hook_is_over() {
    let hook = json!({"postStart": {"sleep": {"seconds": 1}}});
    check(
        pod(&[], hooked(hook)),
        "up, run a, status, hooked a",
        expect![[r#"
            => set-up
            up => start a#0
            run a => post-start a#0
            Pending: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=0 [{"waiting":{"reason":"ContainerCreating"}},{}]
            status =>
            hooked a =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
        "#]],
    );
}

#[test]
fn a_failed_post_start_hook_ends_the_container_which_starts_again() {
    let hook = json!({"postStart": {"exec": {"command": ["x"]}}});
    check(
        pod(&[], hooked(hook)),
        "up, run a, hook-failed a, exit a 143, status, run a, hook-failed a, exit a 143",
        expect![[r#"
            => set-up
            up => start a#0
            run a => post-start a#0
            hook-failed a => stop a#0 30s (FailedPostStartHook) signal a#0 30s
            exit a 143 => start a#1
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=0 [{"waiting":{"message":"it did not work","reason":"PostStartHookError"}},{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
            status =>
            run a => post-start a#1
            hook-failed a => stop a#1 30s (FailedPostStartHook) signal a#1 30s
            exit a 143 => back-off a#1 10s (wake in 10s)
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=1 [{"waiting":{"message":"back-off 10s restarting failed container=a pod=web_ns(u1)","reason":"CrashLoopBackOff"}},{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
        "#]],
    );
}

#[test]
fn a_container_that_ends_during_its_post_start_hook_has_ended() {
    let hook = json!({"postStart": {"sleep": {"seconds": 1}}});
    check(
        pod(&[], hooked(hook)),
        "up, run a, exit a 1, run a, delete 30, exit a 143",
        expect![[r#"
            => set-up
            up => start a#0
            run a => post-start a#0
            exit a 1 => start a#1
            run a => post-start a#1
            delete 30 => stop a#1 30s signal a#1 30s
            exit a 143 => tear-down
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=1 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
        "#]],
    );
}

#[test]
fn a_pre_stop_hook_takes_of_the_grace() {
    let hook = json!({"preStop": {"sleep": {"seconds": 10}}});
    check(
        pod(&[], hooked(hook.clone())),
        "up, run a, delete 30, +10s, stop-hooked a, exit a 143, down",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            delete 30 => stop a#0 30s pre-stop (wake in 30s)
            +10s => (wake in 20s)
            stop-hooked a => signal a#0 20s
            exit a 143 => tear-down
            down => remove
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
    // Not over in time.
    check(
        pod(&[], hooked(hook.clone())),
        "up, run a, delete 5, +5s, exit a 143",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            delete 5 => stop a#0 5s pre-stop (wake in 5s)
            +5s => signal a#0 2s
            exit a 143 => tear-down
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
    // Less time than there was.
    check(
        pod(&[], hooked(hook.clone())),
        "up, run a, delete 30, +1s, delete 3, +3s, exit a 143",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            delete 30 => stop a#0 30s pre-stop (wake in 30s)
            +1s => (wake in 29s)
            delete 3 => hasten a#0 3s (wake in 3s)
            +3s => signal a#0 2s
            exit a 143 => tear-down
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
    // None at all.
    check(
        pod(&[], hooked(hook)),
        "up, run a, delete 0, exit a 143",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            delete 0 => stop a#0 0s signal a#0 2s
            exit a 143 => tear-down
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn hooks_of_sidecars_run_at_once_and_their_ends_wait_for_their_turn() {
    let hook = json!({"preStop": {"sleep": {"seconds": 1}}});
    let sidecar =
        json!({"name": "s", "image": "img", "restartPolicy": "Always", "lifecycle": hook});
    check(
        pod(&["a"], json!({"initContainers": [sidecar]})),
        "up, run s, run a, delete 30, +1s, stop-hooked s, +9s, exit a 0, exit s 143",
        expect![[r#"
            => set-up
            up => start s#0
            run s => start a#0
            run a =>
            delete 30 => stop s#0 30s pre-stop stop a#0 30s signal a#0 30s (wake in 30s)
            +1s => (wake in 29s)
            stop-hooked s => (wake in 29s)
            +9s => (wake in 20s)
            exit a 0 => signal s#0 20s
            exit s 143 => tear-down
            Succeeded: not PodReadyToStartContainers, Initialized (PodCompleted), not Ready (PodCompleted), not ContainersReady (PodCompleted)
              s started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://s","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
        "#]],
    );
}
