//! Pods that end.

use expect_test::expect;
use serde_json::json;

use crate::pod::script::{check, pod};

#[test]
fn a_deleted_pod_ends_within_its_grace_and_is_removed_after() {
    check(
        pod(&["a"], json!({})),
        "up, run a, delete 30, delete 5, exit a 143, down, removed, gone",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            delete 30 => stop a#0 30s signal a#0 30s
            delete 5 => hasten a#0 5s
            exit a 143 => tear-down
            down => remove
            removed =>
            gone => forget
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn a_pod_deleted_while_it_starts_is_ended_all_the_same() {
    check(
        pod(&["a"], json!({})),
        "up, delete 30, lost a, down",
        expect![[r#"
            => set-up
            up => start a#0
            delete 30 => stop a#0 30s signal a#0 30s
            lost a => tear-down
            down => remove
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"exitCode":137,"message":"The container could not be located when the pod was terminated","reason":"ContainerStatusUnknown"}},{}]
        "#]],
    );
    check(
        pod(&["a"], json!({})),
        "delete 0, up, down, removed",
        expect![[r#"
            => set-up
            delete 0 =>
            up => tear-down
            down => remove
            removed =>
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"exitCode":137,"message":"The container could not be located when the pod was terminated","reason":"ContainerStatusUnknown"}},{}]
        "#]],
    );
}

#[test]
fn a_pod_that_is_gone_leaves_nothing() {
    check(
        pod(&["a"], json!({})),
        "up, run a, gone, exit a 143, down",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            gone => stop a#0 30s signal a#0 30s
            exit a 143 => tear-down
            down => forget
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn a_pod_past_its_deadline_fails() {
    let extra = json!({"activeDeadlineSeconds": 60});
    check(
        pod(&["a"], extra),
        "up, run a, +60s, exit a 143, down",
        expect![[r#"
            => set-up (wake in 60s)
            up => start a#0 (wake in 60s)
            run a => (wake in 60s)
            +60s => expire stop a#0 30s signal a#0 30s
            exit a 143 => tear-down
            down =>
            Failed DeadlineExceeded: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn sidecars_end_one_after_another_in_reverse_within_what_is_left_of_the_grace() {
    let sidecar = |name| json!({"name": name, "image": "img", "restartPolicy": "Always"});
    let extra = json!({"initContainers": [sidecar("s"), sidecar("t")]});
    check(
        pod(&["a", "b"], extra.clone()),
        "up, run s, run t, run a, run b, delete 30, exit a 0, +10s, exit b 0, +5s, exit t 143, exit s 143",
        expect![[r#"
            => set-up
            up => start s#0
            run s => start t#0
            run t => start a#0 start b#0
            run a =>
            run b =>
            delete 30 => stop s#0 30s stop t#0 30s stop a#0 30s stop b#0 30s signal a#0 30s signal b#0 30s (wake in 30s)
            exit a 0 => (wake in 30s)
            +10s => (wake in 20s)
            exit b 0 => signal t#0 20s (wake in 20s)
            +5s => (wake in 15s)
            exit t 143 => signal s#0 15s
            exit s 143 => tear-down
            Succeeded: not PodReadyToStartContainers, Initialized (PodCompleted), not Ready (PodCompleted), not ContainersReady (PodCompleted)
              s started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://s","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
              t started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://t","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
              b started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://b","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
        "#]],
    );
    check(
        pod(&["a"], extra),
        "up, run s, run t, run a, delete 5, +5s, exit a 137, exit s 137, exit t 137, down",
        expect![[r#"
            => set-up
            up => start s#0
            run s => start t#0
            run t => start a#0
            run a =>
            delete 5 => stop s#0 5s stop t#0 5s stop a#0 5s signal a#0 5s (wake in 5s)
            +5s => signal s#0 2s signal t#0 2s
            exit a 137 =>
            exit s 137 =>
            exit t 137 => tear-down
            down => remove
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              s started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://s","exitCode":137,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
              t started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://t","exitCode":137,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":137,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn a_pod_deleted_by_force_has_two_seconds() {
    check(
        pod(&["a"], json!({})),
        "up, run a, delete 0, exit a 143, down",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            delete 0 => stop a#0 0s signal a#0 2s
            exit a 143 => tear-down
            down => remove
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn a_deadline_may_be_brought_forward() {
    check(
        pod(&["a"], json!({"activeDeadlineSeconds": 600})),
        "up, run a, +20s, deadline 10, exit a 143, down",
        expect![[r#"
            => set-up (wake in 600s)
            up => start a#0 (wake in 600s)
            run a => (wake in 600s)
            +20s => (wake in 580s)
            deadline 10 => expire stop a#0 30s signal a#0 30s
            exit a 143 => tear-down
            down =>
            Failed DeadlineExceeded: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn a_pod_whose_work_is_done_is_running_until_its_sidecar_has_ended() {
    let sidecar = json!({"name": "s", "image": "img", "restartPolicy": "Always"});
    let extra = json!({"initContainers": [sidecar], "restartPolicy": "Never"});
    check(
        pod(&["a"], extra),
        "up, run s, run a, exit a 1, status, exit s 0, status, down",
        expect![[r#"
            => set-up
            up => start s#0
            run s => start a#0
            run a =>
            exit a 1 => stop s#0 30s signal s#0 30s
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              s started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
            status =>
            exit s 0 => tear-down
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              s started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://s","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
            status =>
            down =>
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              s started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://s","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn a_container_that_was_to_restart_does_not_when_the_pod_ends() {
    let probes = json!({"containers": [{"name": "a", "image": "img", "livenessProbe": {"tcpSocket": {"port": 1}}}]});
    check(
        pod(&[], probes),
        "up, run a, live a no, delete 5, exit a 143, down",
        expect![[r#"
            => set-up
            up => start a#0
            run a => [a live?]
            live a no => stop a#0 30s (Container a failed liveness probe, will be restarted) signal a#0 30s
            delete 5 => hasten a#0 5s
            exit a 143 => tear-down
            down => remove
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn a_pod_that_has_failed_shows_how_its_containers_ended_and_nothing_that_waits() {
    check(
        pod(&["a", "b"], json!({"activeDeadlineSeconds": 4})),
        "up, run a, exit a 1, run a, exit a 1, +4s, exit b 137, down",
        expect![[r#"
            => set-up (wake in 4s)
            up => start a#0 start b#0 (wake in 4s)
            run a => (wake in 4s)
            exit a 1 => start a#1 (wake in 4s)
            run a => (wake in 4s)
            exit a 1 => back-off a#1 10s (wake in 4s)
            +4s => expire stop b#0 30s signal b#0 30s
            exit b 137 => tear-down
            down =>
            Failed DeadlineExceeded: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=1 [{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
              b started=false ready=false restarts=0 [{"terminated":{"exitCode":137,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}
