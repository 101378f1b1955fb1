//! What to do next for a pod. Pure: same state, same plan.
//!
//! The worker takes every action of the plan at once ([`PodState::begin`]) and plans again when something happened or
//! at `wake_at`; a plan of a state in which everything that can be done is under way is empty.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::state::{
    PULL_ERROR_SHOWN, PodState, Reason, Removal, Role, Sandbox, State, initialized,
};

/// `terminationGracePeriodSeconds` where the pod has none.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// One thing to do. Places are indices into [`PodState::containers`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Give the pod its address and log directory.
    SetUp,
    /// Bring a container from image to running.
    Start(usize),
    /// End a container, or what is on its way to be one.
    Stop(usize, Duration),
    /// Show `CrashLoopBackOff` until then.
    BackOffRestart(usize, Timestamp),
    /// Show `ImagePullBackOff` instead of `ErrImagePull`.
    BackOffPull(usize),
    /// The pod has outlived `activeDeadlineSeconds`.
    Expire,
    /// Remove the containers from their runtimes and free the address.
    TearDown,
    /// Delete the pod from the API; only once its final status is written.
    Remove,
    /// Nothing of the pod is left: remove its logs and end the worker.
    Forget,
}

/// What to do now, and when to look again if nothing happens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake_at: Option<Timestamp>,
}

impl Plan {
    /// True once `at` has come; otherwise asks to be woken then.
    fn due(&mut self, at: Timestamp, now: Timestamp) -> bool {
        if at > now {
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
        at <= now
    }
}

/// Decides what to do.
pub(crate) fn plan(state: &PodState, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    match ending(state) {
        Some(grace) => plan_end(state, grace, now, &mut plan),
        None => plan_run(state, now, &mut plan),
    }
    plan
}

/// How long containers may take to end, if the pod is to end.
pub(crate) fn ending(state: &PodState) -> Option<Duration> {
    let spec = state.pod.spec.as_ref();
    let seconds = |seconds: Option<i64>| {
        seconds
            .and_then(|s| u64::try_from(s).ok())
            .map(Duration::from_secs)
    };
    let usual = seconds(spec.and_then(|spec| spec.termination_grace_period_seconds))
        .unwrap_or(DEFAULT_GRACE);
    let metadata = &state.pod.metadata;
    if metadata.deletion_timestamp.is_some() || state.gone {
        return Some(seconds(metadata.deletion_grace_period_seconds).unwrap_or(usual));
    }
    (state.over.is_some() || complete(state)).then_some(usual)
}

/// Whether the containers have come to an end that no restart follows.
pub(crate) fn complete(state: &PodState) -> bool {
    let ended_for_good = |role: Role, state_of: &State| match state_of {
        State::Exited { ended, .. } => !state.restarts(role, ended.code),
        _ => false,
    };
    let init_failed = state.containers.iter().any(|container| {
        container.role == Role::Init
            && matches!(&container.state, State::Exited { ended, .. } if ended.code != 0)
            && ended_for_good(Role::Init, &container.state)
    });
    let mut mains = state
        .containers
        .iter()
        .filter(|container| container.role == Role::Main)
        .peekable();
    init_failed
        || (mains.peek().is_some() && mains.all(|main| ended_for_good(Role::Main, &main.state)))
}

fn plan_run(state: &PodState, now: Timestamp, plan: &mut Plan) {
    if let Some(seconds) = state
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.active_deadline_seconds)
    {
        let deadline = state
            .started_at
            .saturating_add(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX);
        if plan.due(deadline, now) {
            plan.actions.push(Action::Expire);
            return;
        }
    }
    match state.sandbox {
        Sandbox::Wanted => plan.actions.push(Action::SetUp),
        Sandbox::Refused { retry_at } => {
            if plan.due(retry_at, now) {
                plan.actions.push(Action::SetUp);
            }
        }
        Sandbox::SettingUp | Sandbox::TearingDown | Sandbox::TornDown => {}
        Sandbox::Ready(_) => plan_containers(state, now, plan),
    }
}

fn plan_containers(state: &PodState, now: Timestamp, plan: &mut Plan) {
    for (place, container) in state.containers.iter().enumerate() {
        if !(container.role == Role::Init && initialized(container)) {
            plan_container(state, place, now, plan);
        }
        if !initialized(container) {
            return;
        }
    }
}

fn plan_container(state: &PodState, place: usize, now: Timestamp, plan: &mut Plan) {
    let container = &state.containers[place];
    match &container.state {
        State::Waiting {
            retry_at,
            reason,
            since,
            ..
        } => {
            if retry_at.is_none_or(|at| plan.due(at, now)) {
                plan.actions.push(Action::Start(place));
            } else if *reason == Reason::ErrImagePull && plan.due(*since + PULL_ERROR_SHOWN, now) {
                plan.actions.push(Action::BackOffPull(place));
            }
        }
        State::Exited { ended, at } if state.restarts(container.role, ended.code) => {
            let retry_at = *at + container.restart_delay();
            plan.actions.push(if retry_at <= now {
                Action::Start(place)
            } else {
                Action::BackOffRestart(place, retry_at)
            });
        }
        State::Starting { .. }
        | State::Running { .. }
        | State::Stopping { .. }
        | State::Exited { .. } => {}
    }
}

fn plan_end(state: &PodState, grace: Duration, now: Timestamp, plan: &mut Plan) {
    // Sidecars serve the others to the end.
    let mains_alive = state
        .containers
        .iter()
        .any(|container| container.role != Role::Sidecar && container.alive());
    for (place, container) in state.containers.iter().enumerate() {
        if container.role == Role::Sidecar && mains_alive {
            continue;
        }
        let stop = match container.state {
            State::Starting { .. } | State::Running { .. } => true,
            State::Stopping { grace: given, .. } => given > grace,
            State::Waiting { .. } | State::Exited { .. } => false,
        };
        if stop {
            plan.actions.push(Action::Stop(place, grace));
        }
    }
    if state.containers.iter().any(super::state::Container::alive) {
        return;
    }
    match state.sandbox {
        // Torn down although never set up: containers of an earlier process may be left.
        Sandbox::Ready(_) | Sandbox::Wanted | Sandbox::Refused { .. } => {
            plan.actions.push(Action::TearDown);
        }
        Sandbox::SettingUp | Sandbox::TearingDown => {}
        Sandbox::TornDown if state.gone => plan.actions.push(Action::Forget),
        Sandbox::TornDown if state.pod.metadata.deletion_timestamp.is_some() => match state.removal
        {
            Removal::Wanted => plan.actions.push(Action::Remove),
            Removal::Failed { retry_at } => {
                if plan.due(retry_at, now) {
                    plan.actions.push(Action::Remove);
                }
            }
            Removal::UnderWay | Removal::Done => {}
        },
        Sandbox::TornDown => {}
    }
}

#[cfg(test)]
mod tests {
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
            Running
              PodReadyToStartContainers=True 
              Initialized=True 
              Ready=True 
              ContainersReady=True 
              a ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
              b ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
        "#]],
        );
    }

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
                Running
                  PodReadyToStartContainers=True 
                  Initialized=True 
                  Ready=False ContainersNotReady: containers with unready status: [a]
                  ContainersReady=False ContainersNotReady: containers with unready status: [a]
                  a ready=false restarts=2 [{"waiting":{"message":"back-off 20s restarting failed container=a pod=web_ns(u1)","reason":"CrashLoopBackOff"}},{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"1970-01-01T00:00:00Z","reason":"Error","startedAt":"1970-01-01T00:00:00Z"}}]
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
            Running
              PodReadyToStartContainers=True 
              Initialized=True 
              Ready=False ContainersNotReady: containers with unready status: [a]
              ContainersReady=False ContainersNotReady: containers with unready status: [a]
              a ready=false restarts=2 [{"waiting":{"reason":"ContainerCreating"}},{"terminated":{"containerID":"wasm://a","exitCode":1,"finishedAt":"1970-01-01T00:00:00Z","reason":"Error","startedAt":"1970-01-01T00:00:00Z"}}]
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
            Succeeded
              PodReadyToStartContainers=False 
              Initialized=True PodCompleted
              Ready=False PodCompleted
              ContainersReady=False PodCompleted
              a ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":0,"finishedAt":"1970-01-01T00:00:00Z","reason":"Completed","startedAt":"1970-01-01T00:00:00Z"}},{}]
              b ready=false restarts=0 [{"terminated":{"containerID":"wasm://b","exitCode":0,"finishedAt":"1970-01-01T00:00:00Z","reason":"Completed","startedAt":"1970-01-01T00:00:00Z"}},{}]
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
            Failed
              PodReadyToStartContainers=False 
              Initialized=True 
              Ready=False PodFailed
              ContainersReady=False PodFailed
              a ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":3,"finishedAt":"1970-01-01T00:00:00Z","reason":"Error","startedAt":"1970-01-01T00:00:00Z"}},{}]
              b ready=false restarts=0 [{"terminated":{"containerID":"wasm://b","exitCode":0,"finishedAt":"1970-01-01T00:00:00Z","reason":"Completed","startedAt":"1970-01-01T00:00:00Z"}},{}]
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
            Succeeded
              PodReadyToStartContainers=False 
              Initialized=True PodCompleted
              Ready=False PodCompleted
              ContainersReady=False PodCompleted
              a ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":0,"finishedAt":"1970-01-01T00:00:00Z","reason":"Completed","startedAt":"1970-01-01T00:00:00Z"}},{}]
              b ready=false restarts=1 [{"terminated":{"containerID":"wasm://b","exitCode":0,"finishedAt":"1970-01-01T00:00:00Z","reason":"Completed","startedAt":"1970-01-01T00:00:00Z"}},{"terminated":{"containerID":"wasm://b","exitCode":1,"finishedAt":"1970-01-01T00:00:00Z","reason":"Error","startedAt":"1970-01-01T00:00:00Z"}}]
        "#]],
        );
    }

    #[test]
    fn init_containers_run_one_by_one_before_the_others() {
        let init = json!({"initContainers": [{"name": "i", "image": "img"}, {"name": "j", "image": "img"}]});
        check(
            pod(&["a"], init.clone()),
            "up, run i",
            expect![[r#"
            => set-up
            up => start i#0
            run i =>
            Pending
              PodReadyToStartContainers=True 
              Initialized=False ContainersNotInitialized: containers with incomplete status: [i j]
              Ready=False ContainersNotReady: containers with unready status: [a]
              ContainersReady=False ContainersNotReady: containers with unready status: [a]
              i ready=false restarts=0 [{"running":{"startedAt":"T0"}},{}]
              j ready=false restarts=0 [{"waiting":{"reason":"ContainerCreating"}},{}]
              a ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
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
            Running
              PodReadyToStartContainers=True 
              Initialized=True 
              Ready=True 
              ContainersReady=True 
              i ready=true restarts=0 [{"terminated":{"containerID":"wasm://i","exitCode":0,"finishedAt":"1970-01-01T00:00:00Z","reason":"Completed","startedAt":"1970-01-01T00:00:00Z"}},{}]
              j ready=true restarts=0 [{"terminated":{"containerID":"wasm://j","exitCode":0,"finishedAt":"1970-01-01T00:00:00Z","reason":"Completed","startedAt":"1970-01-01T00:00:00Z"}},{}]
              a ready=true restarts=0 [{"running":{"startedAt":"T0"}},{}]
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
            Failed
              PodReadyToStartContainers=False 
              Initialized=False ContainersNotInitialized: containers with incomplete status: [i]
              Ready=False PodFailed
              ContainersReady=False PodFailed
              i ready=false restarts=0 [{"terminated":{"containerID":"wasm://i","exitCode":1,"finishedAt":"1970-01-01T00:00:00Z","reason":"Error","startedAt":"1970-01-01T00:00:00Z"}},{}]
              a ready=false restarts=0 [{"waiting":{"reason":"PodInitializing"}},{}]
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
            exit a 0 => stop s#0 30s
            exit s 143 => tear-down
            down =>
            Succeeded
              PodReadyToStartContainers=False 
              Initialized=True PodCompleted
              Ready=False PodCompleted
              ContainersReady=False PodCompleted
              s ready=false restarts=0 [{"terminated":{"containerID":"wasm://s","exitCode":143,"finishedAt":"1970-01-01T00:00:00Z","reason":"Error","startedAt":"1970-01-01T00:00:00Z"}},{}]
              a ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":0,"finishedAt":"1970-01-01T00:00:00Z","reason":"Completed","startedAt":"1970-01-01T00:00:00Z"}},{}]
        "#]],
        );
    }

    #[test]
    fn a_deleted_pod_ends_within_its_grace_and_is_removed_after() {
        check(
            pod(&["a"], json!({})),
            "up, run a, delete 30, delete 5, exit a 143, down, removed, gone",
            expect![[r#"
                => set-up
                up => start a#0
                run a =>
                delete 30 => stop a#0 30s
                delete 5 => stop a#0 5s
                exit a 143 => tear-down
                down => remove
                removed =>
                gone => forget
                Failed
                  PodReadyToStartContainers=False 
                  Initialized=True 
                  Ready=False PodFailed
                  ContainersReady=False PodFailed
                  a ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"1970-01-01T00:00:00Z","reason":"Error","startedAt":"1970-01-01T00:00:00Z"}},{}]
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
            delete 30 => stop a#0 30s
            lost a => tear-down
            down => remove
            Failed
              PodReadyToStartContainers=False 
              Initialized=True 
              Ready=False PodFailed
              ContainersReady=False PodFailed
              a ready=false restarts=0 [{"terminated":{"exitCode":137,"finishedAt":"T0","message":"The container was gone when the node looked for it","reason":"Unknown"}},{}]
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
            Pending
              PodReadyToStartContainers=False 
              Initialized=True 
              Ready=False ContainersNotReady: containers with unready status: [a]
              ContainersReady=False ContainersNotReady: containers with unready status: [a]
              a ready=false restarts=0 [{"waiting":{"reason":"ContainerCreating"}},{}]
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
            gone => stop a#0 30s
            exit a 143 => tear-down
            down => forget
            Failed
              PodReadyToStartContainers=False 
              Initialized=True 
              Ready=False PodFailed
              ContainersReady=False PodFailed
              a ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"1970-01-01T00:00:00Z","reason":"Error","startedAt":"1970-01-01T00:00:00Z"}},{}]
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
                Pending
                  PodReadyToStartContainers=True 
                  Initialized=True 
                  Ready=False ContainersNotReady: containers with unready status: [a]
                  ContainersReady=False ContainersNotReady: containers with unready status: [a]
                  a ready=false restarts=0 [{"waiting":{"message":"Back-off pulling image \"img\": ErrImagePull: because","reason":"ImagePullBackOff"}},{}]
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
            Pending
              PodReadyToStartContainers=True 
              Initialized=True 
              Ready=False ContainersNotReady: containers with unready status: [a]
              ContainersReady=False ContainersNotReady: containers with unready status: [a]
              a ready=false restarts=0 [{"waiting":{"reason":"CreateContainerConfigError"}},{}]
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
            Failed
              PodReadyToStartContainers=False 
              Initialized=True 
              Ready=False PodFailed
              ContainersReady=False PodFailed
              a ready=false restarts=0 [{"terminated":{"exitCode":128,"finishedAt":"T0","message":"because","reason":"StartError"}},{}]
        "#]],
        );
        check(
            pod(&["a"], json!({})),
            "up, fail a RunContainerError, +10s",
            expect![[r#"
            => set-up
            up => start a#0
            fail a RunContainerError => (wake in 10s)
            +10s => start a#1
            Running
              PodReadyToStartContainers=True 
              Initialized=True 
              Ready=False ContainersNotReady: containers with unready status: [a]
              ContainersReady=False ContainersNotReady: containers with unready status: [a]
              a ready=false restarts=1 [{"waiting":{"reason":"ContainerCreating"}},{"terminated":{"exitCode":128,"finishedAt":"T0","message":"because","reason":"StartError"}}]
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
            +60s => expire stop a#0 30s
            exit a 143 => tear-down
            down =>
            Failed DeadlineExceeded
              PodReadyToStartContainers=False 
              Initialized=True 
              Ready=False PodFailed
              ContainersReady=False PodFailed
              a ready=false restarts=0 [{"terminated":{"containerID":"wasm://a","exitCode":143,"finishedAt":"1970-01-01T00:00:00Z","reason":"Error","startedAt":"1970-01-01T00:00:00Z"}},{}]
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
            Pending
              PodReadyToStartContainers=True 
              Initialized=True 
              Ready=False ContainersNotReady: containers with unready status: [a]
              ContainersReady=False ContainersNotReady: containers with unready status: [a]
              a ready=false restarts=0 [{"waiting":{"reason":"ContainerCreating"}},{}]
        "#]],
        );
    }

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
            up => start a#3
            run a =>
            Running
              PodReadyToStartContainers=True 
              Initialized=True 
              Ready=True 
              ContainersReady=True 
              a ready=true restarts=3 [{"running":{"startedAt":"T0"}},{"terminated":{"exitCode":137,"finishedAt":"T0","message":"The container was gone when the node looked for it","reason":"Unknown"}}]
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
            Succeeded
              PodReadyToStartContainers=False 
              Initialized=True PodCompleted
              Ready=False PodCompleted
              ContainersReady=False PodCompleted
              a ready=false restarts=0 [{"terminated":{"exitCode":0,"reason":"Completed"}},{}]
        "#]],
        );
    }
}
