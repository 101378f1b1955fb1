//! From nothing to running.

use expect_test::expect;
use serde_json::json;

use crate::pod::script::{check, pod};

#[test]
fn a_pod_is_set_up_then_its_containers_start_together() {
    check(
        pod(&["a", "b"], json!({})),
        "up, run b, run a",
        expect![[r#"
            => set-up
            up => start a#0 start b#0
            run b =>
            run a =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
              b started=true ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
        "#]],
    );
}

#[test]
fn a_failed_pull_backs_off_from_10_s() {
    check(
        pod(&["a"], json!({})),
        "up, fail a ErrImagePull, +2s, +8s, fail a ErrImagePull, +2s",
        expect![[r#"
            => set-up
            up => start a#0
            fail a ErrImagePull => (wake in 2s)
            +2s => back-off-pull a#0 (wake in 8s)
            +8s => start a#0
            fail a ErrImagePull => (wake in 2s)
            +2s => back-off-pull a#0 (wake in 18s)
            Pending: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=0 [{"waiting":{"message":"Back-off pulling image \"img\": ErrImagePull: because","reason":"ImagePullBackOff"}},{}]
        "#]],
    );
}

#[test]
fn a_missing_config_map_is_looked_for_after_a_second() {
    check(
        pod(&["a"], json!({})),
        "up, fail a CreateContainerConfigError, +1s",
        expect![[r#"
            => set-up
            up => start a#0
            fail a CreateContainerConfigError => (wake in 1s)
            +1s => start a#0
            Pending: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=0 [{"waiting":{"message":"because","reason":"CreateContainerConfigError"}},{}]
        "#]],
    );
}

#[test]
fn a_container_that_cannot_start_fails_a_pod_that_never_restarts() {
    let never = pod(&["a"], json!({"restartPolicy": "Never"}));
    check(
        never,
        "up, fail a RunContainerError, down",
        expect![[r#"
            => set-up
            up => start a#0
            fail a RunContainerError => tear-down
            down =>
            Failed: not PodReadyToStartContainers, Initialized, not Ready (PodFailed), not ContainersReady (PodFailed)
              a started=false ready=false restarts=0 [{"terminated":{"exitCode":128,"finishedAt":"T0","message":"because","reason":"StartError","startedAt":"T0"}},{}]
        "#]],
    );
    check(
        pod(&["a"], json!({})),
        "up, fail a RunContainerError, +2s",
        expect![[r#"
            => set-up
            up => start a#0
            fail a RunContainerError => (wake in 2s)
            +2s => start a#1
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=0 [{"waiting":{"message":"because","reason":"RunContainerError"}},{"terminated":{"exitCode":128,"finishedAt":"T0","message":"because","reason":"StartError","startedAt":"T0"}}]
        "#]],
    );
}

#[test]
fn a_container_that_cannot_start_crashes_in_a_loop() {
    check(
        pod(&["a"], json!({})),
        "up, fail a RunContainerError, +2s, fail a RunContainerError, +2s, status, +8s, fail a RunContainerError, +2s, +18s, run a",
        expect![[r#"
            => set-up
            up => start a#0
            fail a RunContainerError => (wake in 2s)
            +2s => start a#1
            fail a RunContainerError => (wake in 2s)
            +2s => back-off a#1 8s (wake in 8s)
            Running: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=1 [{"waiting":{"message":"back-off 10s restarting failed container=a pod=web_ns(u1)","reason":"CrashLoopBackOff"}},{"terminated":{"exitCode":128,"finishedAt":"2001-09-09T01:46:42Z","message":"because","reason":"StartError","startedAt":"2001-09-09T01:46:42Z"}}]
            status => (wake in 8s)
            +8s => start a#2
            fail a RunContainerError => (wake in 2s)
            +2s => back-off a#2 18s (wake in 18s)
            +18s => start a#3
            run a =>
            Running: PodReadyToStartContainers, Initialized, Ready, ContainersReady
              a started=true ready=true restarts=3 [{"running":{"startedAt":"2001-09-09T01:47:12Z"}},{"terminated":{"exitCode":128,"finishedAt":"2001-09-09T01:46:52Z","message":"because","reason":"StartError","startedAt":"2001-09-09T01:46:52Z"}}]
        "#]],
    );
}

#[test]
fn a_container_that_cannot_be_made_is_tried_again_and_nothing_is_counted() {
    check(
        pod(&["a"], json!({})),
        "up, fail a CreateContainerError, +10s, fail a CreateContainerError",
        expect![[r#"
            => set-up
            up => start a#0
            fail a CreateContainerError => (wake in 10s)
            +10s => start a#0
            fail a CreateContainerError => (wake in 20s)
            Pending: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=0 [{"waiting":{"message":"because","reason":"CreateContainerError"}},{}]
        "#]],
    );
}

#[test]
fn a_refused_address_is_asked_for_again() {
    check(
        pod(&["a"], json!({})),
        "refused, +5s, up",
        expect![[r#"
            => set-up
            refused => (wake in 5s)
            +5s => set-up
            up => start a#0
            Pending: PodReadyToStartContainers, Initialized, not Ready (ContainersNotReady: containers with unready status: [a]), not ContainersReady (ContainersNotReady: containers with unready status: [a])
              a started=false ready=false restarts=0 [{"waiting":{"reason":"ContainerCreating"}},{}]
        "#]],
    );
}
