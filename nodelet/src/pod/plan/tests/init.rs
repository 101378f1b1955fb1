//! Init containers and sidecars, on the way up.

use expect_test::expect;
use serde_json::json;

use crate::pod::script::{check, pod};

#[test]
fn init_containers_run_one_by_one_before_the_others() {
    let init =
        json!({"initContainers": [{"name": "i", "image": "img"}, {"name": "j", "image": "img"}]});
    check(
        pod(&["a"], init.clone()),
        "up, run i",
        expect![[r#"
            => set-up
            up => start i#0
            run i =>
            Pending: PodReadyToStartContainers, not Initialized (ContainersNotInitialized: containers with incomplete status: [i j]), not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              i started=true ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
              j started=false ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
              a started=false ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
        "#]],
    );
    check(
        pod(&["a"], init),
        "up, run i, exit i 0, run j, exit j 0, run a",
        expect![[r#"
            => set-up
            up => start i#0
            run i =>
            exit i 0 => start j#0
            run j =>
            exit j 0 => start a#0
            run a =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              i started=false ready=true restarts=0 [{"terminated":{"containerID":"wasm://i","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
              j started=false ready=true restarts=0 [{"terminated":{"containerID":"wasm://j","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
        "#]],
    );
}

#[test]
fn a_failed_init_container_of_a_pod_that_never_restarts_fails_the_pod() {
    let extra =
        json!({"initContainers": [{"name": "i", "image": "img"}], "restartPolicy": "Never"});
    check(
        pod(&["a"], extra),
        "up, run i, exit i 1, down",
        expect![[r#"
            => set-up
            up => start i#0
            run i =>
            exit i 1 => tear-down
            down =>
            Failed: not PodReadyToStartContainers, not Initialized (ContainersNotInitialized: containers with incomplete status: [i]), not Ready (PodFailed), not ContainersReady (PodFailed)
              i started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://i","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
              a started=false ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
        "#]],
    );
}

#[test]
fn a_sidecar_runs_beside_the_others_and_ends_after_them() {
    let sidecar = json!({"name": "s", "image": "img", "restartPolicy": "Always"});
    let extra = json!({"initContainers": [sidecar], "restartPolicy": "Never"});
    check(
        pod(&["a"], extra),
        "up, run s, run a, exit a 0, exit s 143, down",
        expect![[r#"
            => set-up
            up => start s#0
            run s => start a#0
            run a =>
            exit a 0 => stop s#0 30s signal s#0 30s
            exit s 143 => tear-down
            down =>
            Succeeded: not PodReadyToStartContainers, Initialized (PodCompleted), not Ready (PodCompleted), not ContainersReady (PodCompleted)
              s started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://s","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn an_init_container_that_fails_is_tried_again_with_back_off() {
    let init = json!({"initContainers": [{"name": "i", "image": "img"}]});
    check(
        pod(&["a"], init),
        "up, run i, exit i 1, status, run i, exit i 1, status, +10s, run i, exit i 0",
        expect![[r#"
            => set-up
            up => start i#0
            run i =>
            exit i 1 => start i#1
            Pending: PodReadyToStartContainers, not Initialized (ContainersNotInitialized: containers with incomplete status: [i]), not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              i started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://i","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
              a started=false ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
            status =>
            run i =>
            exit i 1 => back-off i#1 10s (wake in 10s)
            Pending: PodReadyToStartContainers, not Initialized (ContainersNotInitialized: containers with incomplete status: [i]), not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              i started=false ready=false restarts=1 [{"waiting":{"message":"back-off 10s restarting failed container=i pod=web_ns(u1)","reason":"CrashLoopBackOff"}},{"terminated":{"containerID":"wasm://i","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
              a started=false ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
            status => (wake in 10s)
            +10s => start i#2
            run i =>
            exit i 0 => start a#0
            Pending: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              i started=false ready=true restarts=2 [{"terminated":{"containerID":"wasm://i","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{"terminated":{"containerID":"wasm://i","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
              a started=false ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
        "#]],
    );
}

fn sidecars(extra: serde_json::Value) -> serde_json::Value {
    let mut first = json!({"name": "s", "image": "img", "restartPolicy": "Always"});
    for (name, value) in extra.as_object().into_iter().flatten() {
        first[name] = value.clone();
    }
    let second = json!({"name": "t", "image": "img", "restartPolicy": "Always"});
    json!({"initContainers": [first, second]})
}

#[test]
fn a_sidecar_is_started_before_the_next_container_is() {
    let probe = json!({"startupProbe": {"tcpSocket": {"port": 1}}});
    check(
        pod(&["a"], sidecars(probe)),
        "up, run s, status, startup s ok, run t, run a",
        expect![[r#"
            => set-up
            up => start s#0
            run s => [s startup?]
            Pending: PodReadyToStartContainers, not Initialized (ContainersNotInitialized: containers with incomplete status: [s t]), not Ready (ContainersNotReady: containers with unready status: [s t a]), not ContainersReady (ContainersNotReady: containers with unready status: [s t a])
              s started=false ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
              t started=false ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
              a started=false ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
            status => [s startup?]
            startup s ok => start t#0
            run t => start a#0
            run a =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              s started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
              t started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
        "#]],
    );
}

#[test]
fn a_sidecar_that_fails_its_startup_probe_starts_again() {
    let probe =
        json!({"startupProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 4}});
    check(
        pod(&["a"], sidecars(probe)),
        "up, run s, startup s no, exit s 143, run s",
        expect![[r#"
            => set-up
            up => start s#0
            run s => [s startup?]
            startup s no => stop s#0 4s (Init container s failed startup probe) signal s#0 4s
            exit s 143 => start s#1
            run s => [s startup?]
            Pending: PodReadyToStartContainers, not Initialized (ContainersNotInitialized: containers with incomplete status: [s t]), not Ready (ContainersNotReady: containers with unready status: [s t a]), not ContainersReady (ContainersNotReady: containers with unready status: [s t a])
              s started=false ready=false restarts=1 [{"running":{"startedAt":"T0"}},{"terminated":{"containerID":"wasm://s","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
              t started=false ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
              a started=false ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
        "#]],
    );
}

#[test]
fn a_sidecar_restarts_whatever_its_exit_code_and_the_pod_is_unready_meanwhile() {
    let mut extra = sidecars(json!({}));
    extra["restartPolicy"] = "Never".into();
    check(
        pod(&["a"], extra),
        "up, run s, run t, run a, exit s 0, status, run s",
        expect![[r#"
            => set-up
            up => start s#0
            run s => start t#0
            run t => start a#0
            run a =>
            exit s 0 => start s#1
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [s]), not ContainersReady (ContainersNotReady: containers with unready status: [s])
              s started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://s","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
              t started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
            status =>
            run s =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              s started=true ready=true restarts=1 [{"running":{"startedAt":"T0"}},{"terminated":{"containerID":"wasm://s","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}}]
              t started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
        "#]],
    );
}

#[test]
fn a_sidecars_readiness_counts_for_the_pods() {
    let probe = json!({"readinessProbe": {"tcpSocket": {"port": 1}}});
    check(
        pod(&["a"], sidecars(probe)),
        "up, run s, run t, run a, status, ready s ok, ready s no",
        expect![[r#"
            => set-up
            up => start s#0
            run s => start t#0 [s ready?]
            run t => start a#0 [s ready?]
            run a => [s ready?]
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [s]), not ContainersReady (ContainersNotReady: containers with unready status: [s])
              s started=true ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
              t started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
            status => [s ready?]
            ready s ok => [s ready?]
            ready s no => [s ready?]
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [s]), not ContainersReady (ContainersNotReady: containers with unready status: [s])
              s started=true ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
              t started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
        "#]],
    );
}
