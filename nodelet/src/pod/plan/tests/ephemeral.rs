//! Ephemeral containers.

use expect_test::expect;
use serde_json::json;

use crate::pod::script::{check, pod};

#[test]
fn an_ephemeral_container_starts_beside_the_others_and_never_again() {
    check(
        pod(&["a"], json!({})),
        "up, run a, debug d, run d, status, exit d 1",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            debug d => start d#0
            run d =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
              d started=false ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
            status =>
            exit d 1 =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
              d started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://d","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn an_ephemeral_container_ends_with_its_pod_and_does_not_hold_it_up() {
    check(
        pod(&["a"], json!({"restartPolicy": "Never"})),
        "up, run a, debug d, run d, exit a 0, exit d 143, down",
        expect![[r#"
            => set-up
            up => start a#0
            run a =>
            debug d => start d#0
            run d =>
            exit a 0 => stop d#0 30s signal d#0 30s
            exit d 143 => tear-down
            down =>
            Succeeded: not PodReadyToStartContainers, Initialized (PodCompleted), not Ready (PodCompleted), not ContainersReady (PodCompleted)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
              d started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://d","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn an_ephemeral_container_waits_for_no_init_container() {
    let init = json!({"initContainers": [{"name": "i", "image": "img"}]});
    check(
        pod(&["a"], init),
        "up, run i, debug d, run d",
        expect![[r#"
        => set-up
        up => start i#0
        run i =>
        debug d => start d#0
        run d =>
        Pending: PodReadyToStartContainers, not Initialized (ContainersNotInitialized: containers with incomplete status: [i]), not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
          i started=true ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
          a started=false ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
          d started=false ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
    "#]],
    );
}
