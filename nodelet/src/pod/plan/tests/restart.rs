//! Containers that end, and start again.

use expect_test::expect;
use serde_json::json;

use crate::pod::script::{check, pod};

#[test]
fn a_failing_container_restarts_at_once_then_after_10_s_then_20_s() {
    check(
        pod(&["a"], json!({})),
        "up, run a, exit a 1, run a, exit a 1, +9s, +1s, run a, exit a 1",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            exit a 1 => start a#1
            run a =>
            exit a 1 => back-off a#1 10s (wake in 10s)
            +9s => (wake in 1s)
            +1s => start a#2
            run a =>
            exit a 1 => back-off a#2 20s (wake in 20s)
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=2 [{"waiting":{"message":"back-off 20s restarting failed container=a pod=web_ns(u1)","reason":"CrashLoopBackOff"}},{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
        "#]],
    );
}

#[test]
fn ten_minutes_of_running_forgive_earlier_failures() {
    check(
        pod(&["a"], json!({})),
        "up, run a, exit a 1, run a, +600s, exit a 1",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            exit a 1 => start a#1
            run a =>
            +600s =>
            exit a 1 => start a#2
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=1 [{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn a_pod_that_never_restarts_ends_with_its_containers() {
    let never = || pod(&["a", "b"], json!({"restartPolicy": "Never"}));
    check(
        never(),
        "up, run a, run b, exit a 0, exit b 0, down",
        expect![[r#"
            => set-up
            up => start a#0 start b#0
            run a =>
            run b =>
            exit a 0 =>
            exit b 0 => tear-down
            down =>
            Succeeded: not PodReadyToStartContainers, Initialized (PodCompleted), not Ready (PodCompleted), not ContainersReady (PodCompleted)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
              b started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://b","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
        "#]],
    );
    check(
        never(),
        "up, run a, run b, exit a 3, exit b 0, down",
        expect![[r#"
            => set-up
            up => start a#0 start b#0
            run a =>
            run b =>
            exit a 3 =>
            exit b 0 => tear-down
            down =>
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":3,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
              b started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://b","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn on_failure_restarts_what_failed_and_leaves_what_succeeded() {
    let pod = pod(&["a", "b"], json!({"restartPolicy": "OnFailure"}));
    check(
        pod,
        "up, run a, run b, exit a 0, exit b 1, run b, exit b 0, down",
        expect![[r#"
            => set-up
            up => start a#0 start b#0
            run a =>
            run b =>
            exit a 0 =>
            exit b 1 => start b#1
            run b =>
            exit b 0 => tear-down
            down =>
            Succeeded: not PodReadyToStartContainers, Initialized (PodCompleted), not Ready (PodCompleted), not ContainersReady (PodCompleted)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
              b started=false ready=false restarts=1 [{"terminated":{"containerID":"wasm://b","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{"terminated":{"containerID":"wasm://b","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
        "#]],
    );
}

#[test]
fn a_containers_own_policy_decides_for_it_alone() {
    let containers = json!([
        {"name": "a", "image": "img", "restartPolicy": "Never"},
        {"name": "b", "image": "img", "restartPolicy": "OnFailure"},
    ]);
    check(
        pod(&[], json!({"containers": containers})),
        "up, run a, run b, exit b 1, run b, exit a 1, exit b 0, down",
        expect![[r#"
            => set-up
            up => start a#0 start b#0
            run a =>
            run b =>
            exit b 1 => start b#1
            run b =>
            exit a 1 =>
            exit b 0 => tear-down
            down =>
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
              b started=false ready=false restarts=1 [{"terminated":{"containerID":"wasm://b","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{"terminated":{"containerID":"wasm://b","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
        "#]],
    );
}

#[test]
fn a_rule_restarts_the_exit_codes_that_it_names() {
    let codes = json!({"operator": "In", "values": [42]});
    let rules = json!([{"action": "Restart", "exitCodes": codes}]);
    let containers = json!([{"name": "a", "image": "img", "restartPolicy": "Never", "restartPolicyRules": rules}]);
    check(
        pod(
            &[],
            json!({"containers": containers, "restartPolicy": "Never"}),
        ),
        "up, run a, exit a 42, run a, exit a 1, down",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            exit a 42 => start a#1
            run a =>
            exit a 1 => tear-down
            down =>
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=1 [{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}},{"terminated":{"containerID":"wasm://a","exitCode":42,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
        "#]],
    );
}

#[test]
fn the_delay_between_restarts_grows_to_five_minutes() {
    check(
        pod(&["a"], json!({})),
        "up, run a, exit a 0, run a, exit a 0, +10s, run a, exit a 0, +20s, run a, exit a 0, +40s, \
         run a, exit a 0, +80s, run a, exit a 0, +160s, run a, exit a 0, +300s, run a, exit a 0",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            exit a 0 => start a#1
            run a =>
            exit a 0 => back-off a#1 10s (wake in 10s)
            +10s => start a#2
            run a =>
            exit a 0 => back-off a#2 20s (wake in 20s)
            +20s => start a#3
            run a =>
            exit a 0 => back-off a#3 40s (wake in 40s)
            +40s => start a#4
            run a =>
            exit a 0 => back-off a#4 80s (wake in 80s)
            +80s => start a#5
            run a =>
            exit a 0 => back-off a#5 160s (wake in 160s)
            +160s => start a#6
            run a =>
            exit a 0 => back-off a#6 300s (wake in 300s)
            +300s => start a#7
            run a =>
            exit a 0 => back-off a#7 300s (wake in 300s)
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=7 [{"waiting":{"message":"back-off 5m0s restarting failed container=a pod=web_ns(u1)","reason":"CrashLoopBackOff"}},{"terminated":{"containerID":"wasm://a","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}}]
        "#]],
    );
}
