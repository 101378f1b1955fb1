//! What probes' verdicts lead to.

use expect_test::expect;
use serde_json::{Value, json};

use crate::pod::script::{check, pod};

/// A pod with a container that has these probes.
fn probed(names: &[&str], policy: &str) -> k8s_openapi::api::core::v1::Pod {
    let mut container = json!({"name": "a", "image": "img"});
    for name in names {
        container[format!("{name}Probe")] = json!({"tcpSocket": {"port": 1}});
    }
    pod(
        &[],
        json!({"containers": [container], "restartPolicy": policy}),
    )
}

#[test]
fn a_startup_probe_comes_before_the_others() {
    check(
        probed(&["startup", "liveness", "readiness"], "Always"),
        "up, run a, status, startup a ok, status, ready a ok",
        expect![[r#"
            => set-up
            up => start a#0
            run a => [a startup?]
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
            status => [a startup?]
            startup a ok => [a live? a ready?]
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=true ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
            status => [a live? a ready?]
            ready a ok => [a live? a ready?]
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
        "#]],
    );
}

#[test]
fn readiness_comes_and_goes() {
    check(
        probed(&["readiness"], "Always"),
        "up, run a, status, ready a ok, status, ready a no",
        expect![[r#"
            => set-up
            up => start a#0
            run a => [a ready?]
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=true ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
            status => [a ready?]
            ready a ok => [a ready?]
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
            status => [a ready?]
            ready a no => [a ready?]
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=true ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
        "#]],
    );
}

#[test]
fn a_container_that_is_not_alive_is_ended_and_starts_again() {
    check(
        probed(&["liveness"], "Always"),
        "up, run a, live a no, status, exit a 143, run a, live a no, exit a 143",
        expect![[r#"
            => set-up
            up => start a#0
            run a => [a live?]
            live a no => stop a#0 30s (Container a failed liveness probe, will be restarted) signal a#0 30s
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
            status =>
            exit a 143 => start a#1
            run a => [a live?]
            live a no => stop a#1 30s (Container a failed liveness probe, will be restarted) signal a#1 30s
            exit a 143 => back-off a#1 10s (wake in 10s)
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=1 [{"waiting":{"message":"back-off 10s restarting failed container=a pod=web_ns(u1)","reason":"CrashLoopBackOff"}},{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
        "#]],
    );
    check(
        probed(&["liveness"], "Never"),
        "up, run a, live a no, exit a 143, down",
        expect![[r#"
            => set-up
            up => start a#0
            run a => [a live?]
            live a no => stop a#0 30s (Container a failed liveness probe) signal a#0 30s
            exit a 143 => tear-down
            down =>
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn a_probe_may_have_a_grace_of_its_own() {
    let probe = json!({"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 3});
    let container: Value = json!({"name": "a", "image": "img", "startupProbe": probe});
    check(
        pod(&[], json!({"containers": [container]})),
        "up, run a, startup a no, exit a 137",
        expect![[r#"
            => set-up
            up => start a#0
            run a => [a startup?]
            startup a no => stop a#0 3s (Container a failed startup probe, will be restarted) signal a#0 3s
            exit a 137 => start a#1
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":137,"finishedAt":"0","reason":"Error","startedAt":"0"}},{}]
        "#]],
    );
}

#[test]
fn a_verdict_about_an_earlier_attempt_says_nothing() {
    check(
        probed(&["liveness", "readiness"], "Always"),
        "up, run a, ready a ok, exit a 1, run a, status",
        expect![[r#"
            => set-up
            up => start a#0
            run a => [a live? a ready?]
            ready a ok => [a live? a ready?]
            exit a 1 => start a#1
            run a => [a live? a ready?]
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=true ready=false restarts=1 [{"running":{"startedAt":"T0"}},{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
            status => [a live? a ready?]
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=true ready=false restarts=1 [{"running":{"startedAt":"T0"}},{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"0","reason":"Error","startedAt":"0"}}]
        "#]],
    );
}

#[test]
fn a_pod_that_ends_stays_ready_until_its_container_has_ended() {
    check(
        probed(&["liveness", "readiness"], "Always"),
        "up, run a, ready a ok, delete 30, status, live a no, ready a no, exit a 0, down",
        expect![[r#"
            => set-up
            up => start a#0
            run a => [a live? a ready?]
            ready a ok => [a live? a ready?]
            delete 30 => stop a#0 30s signal a#0 30s [a ready?]
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
            status => [a ready?]
            live a no => [a ready?]
            ready a no => [a ready?]
            exit a 0 => tear-down
            down => remove
            Succeeded: not PodReadyToStartContainers, Initialized (PodCompleted), not Ready (PodCompleted), not ContainersReady (PodCompleted)
              a started=false ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":0,"finishedAt":"0","reason":"Completed","startedAt":"0"}},{}]
        "#]],
    );
}
