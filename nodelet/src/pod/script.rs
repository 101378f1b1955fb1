//! Plays a pod's life from a few words a line, for tests: what happened, and what the plan made of it.

use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use expect_test::Expect;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use runtimes::{Exit, PodAddress};
use serde_json::{Value, json};

use super::{
    container::{Reason, StartFailure, State, Step, Why},
    plan::{Action, plan, probes},
    state::{Observation, PodState, Started},
    status::{Transitions, status},
};
use crate::probe::Kind;

/// A pod with containers `a`, `b`, …; `extra` is merged into its spec.
pub(crate) fn pod(names: &[&str], extra: Value) -> Pod {
    let containers: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "image": "img"}))
        .collect();
    let mut spec =
        json!({"containers": containers, "nodeName": "n", "terminationGracePeriodSeconds": 30});
    for (name, value) in extra.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
    let metadata = json!({"name": "web", "namespace": "ns", "uid": "u1", "generation": 1});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod")
}

/// Plays `script` and compares every step's actions and the status at the end.
///
/// Steps: `up`, `refused`, `run a`, `exit a 1`, `fail a ErrImagePull`, `lost a`, `hooked a`, `hook-failed a`,
/// `stop-hooked a`, `startup a ok`, `live a no`, `ready a ok`, `down`, `+10s`, `delete 30`, `gone`, `removed`,
/// `image a img:2`, `debug d`, `deadline 5`, `status` (shown there and then).
#[track_caller]
pub(crate) fn check(pod: Pod, script: &str, expected: Expect) {
    let begin = Timestamp::from_second(1_000_000_000).expect("a time");
    let mut player = Player {
        state: PodState::new(Arc::new(pod), &[], begin),
        now: begin,
        begin,
        out: String::new(),
    };
    player.settle("");
    for step in script
        .split(',')
        .map(str::trim)
        .filter(|step| !step.is_empty())
    {
        player.step(step);
        player.settle(step);
    }
    player.summarise();
    expected.assert_eq(&player.out);
}

struct Player {
    state: PodState,
    now: Timestamp,
    begin: Timestamp,
    out: String,
}

impl Player {
    fn step(&mut self, step: &str) {
        let words: Vec<&str> = step.split(' ').collect();
        let place = |name: &str| {
            let containers = &self.state.containers;
            containers
                .iter()
                .position(|c| *c.name == *name)
                .expect("a container of the pod")
        };
        let seen = match words.as_slice() {
            ["up"] => Observation::SandboxReady(PodAddress {
                ip: [10, 64, 0, 5].into(),
                loopback: [127, 65, 0, 5].into(),
            }),
            ["refused"] => Observation::SandboxRefused {
                retry_in: Duration::from_secs(5),
            },
            ["down"] => Observation::TornDown,
            ["run", name] => Observation::Started(
                place(name),
                Started {
                    image_id: "img@sha256:0".into(),
                    container_id: format!("wasm://{name}"),
                },
            ),
            ["exit", name, code] => {
                Observation::Exited(place(name), exit(code.parse().expect("a code")))
            }
            ["fail", name, reason] => Observation::StartFailed(place(name), failure(reason)),
            ["lost", name] => Observation::Lost(place(name)),
            ["hooked", name] => Observation::PostStarted(place(name), Ok(())),
            ["hook-failed", name] => {
                Observation::PostStarted(place(name), Err("it did not work".into()))
            }
            ["stop-hooked", name] => Observation::PreStopped(place(name)),
            [probed @ ("startup" | "live" | "ready"), name, verdict] => Observation::Probed {
                place: place(name),
                attempt: self.state.containers[place(name)].attempt,
                kind: match *probed {
                    "startup" => Kind::Startup,
                    "live" => Kind::Liveness,
                    _ => Kind::Readiness,
                },
                passed: *verdict == "ok",
            },
            ["removed"] => Observation::Removed,
            ["gone"] => {
                self.state.gone = true;
                return;
            }
            ["status"] => {
                self.summarise();
                return;
            }
            [change, rest @ ..] if ["delete", "image", "debug", "deadline"].contains(change) => {
                let mut pod = (*self.state.pod).clone();
                self.edit(&mut pod, change, rest);
                self.state.update(Arc::new(pod), self.now);
                return;
            }
            [wait] => {
                let seconds = wait.trim_start_matches('+').trim_end_matches('s');
                self.now += Duration::from_secs(seconds.parse().expect("seconds"));
                return;
            }
            _ => panic!("no such step: {step}"),
        };
        self.state.observe(seen, self.now);
    }

    /// A change that a user makes.
    fn edit(&self, pod: &mut Pod, change: &str, words: &[&str]) {
        let spec = pod.spec.as_mut().expect("a spec");
        match (change, words) {
            ("delete", [grace]) => {
                let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now);
                pod.metadata.deletion_timestamp = Some(at);
                pod.metadata.deletion_grace_period_seconds = grace.parse().ok();
            }
            ("image", [name, image]) => {
                let all = spec.init_containers.iter_mut().flatten();
                let mut all = all.chain(&mut spec.containers);
                let container = all.find(|container| container.name == *name);
                container.expect("a container").image = Some((*image).to_owned());
            }
            ("debug", [name]) => {
                let fields = json!({"name": name, "image": "debug", "targetContainerName": "a"});
                let fields = serde_json::from_value(fields).expect("a container");
                spec.ephemeral_containers
                    .get_or_insert_default()
                    .push(fields);
            }
            ("deadline", [seconds]) => spec.active_deadline_seconds = seconds.parse().ok(),
            _ => panic!("no such change: {change} {words:?}"),
        }
    }

    /// Takes every action and notes them after the step.
    fn settle(&mut self, step: &str) {
        let mut line = format!("{step} =>");
        loop {
            let plan = plan(&self.state, self.now);
            if plan.actions.is_empty() || plan.actions == [Action::Forget] {
                if !plan.actions.is_empty() {
                    line.push_str(" forget");
                }
                if let Some(at) = plan.wake_at {
                    let left = at.duration_since(self.now).as_secs();
                    write!(line, " (wake in {left}s)").expect("write");
                }
                break;
            }
            for action in plan.actions {
                self.state.begin(&action, self.now);
                line.push_str(&self.name(&action));
            }
        }
        let probes = self.probes();
        if !probes.is_empty() {
            write!(line, " [{}]", probes.join(" ")).expect("write");
        }
        writeln!(self.out, "{}", line.trim_start()).expect("write");
    }

    /// The probes that run.
    fn probes(&self) -> Vec<String> {
        let name = |(place, _, probed): (usize, u32, Kind)| {
            let container: &str = &self.state.containers[place].name;
            let probed = match probed {
                Kind::Startup => "startup",
                Kind::Liveness => "live",
                Kind::Readiness => "ready",
            };
            format!("{container} {probed}?")
        };
        probes(&self.state).into_iter().map(name).collect()
    }

    fn name(&self, action: &Action) -> String {
        let named = |place: &usize| {
            let container = &self.state.containers[*place];
            format!("{}#{}", container.name, container.attempt)
        };
        match action {
            Action::SetUp => " set-up".to_owned(),
            Action::Start(place) => format!(" start {}", named(place)),
            Action::Resume(place) => format!(" resume {}", named(place)),
            Action::PostStart(place) => format!(" post-start {}", named(place)),
            Action::Stop(place, why, grace) => {
                let (state, mut more) = (&self.state.containers[*place].state, String::new());
                if *why != Why::PodEnds {
                    more = format!(" ({})", self.state.killing(*place, *why));
                }
                if let State::Stopping(stopping) = state
                    && stopping.step == Step::PreStop
                {
                    more.push_str(" pre-stop");
                }
                format!(" stop {} {}s{more}", named(place), grace.as_secs())
            }
            Action::Hasten(place, grace) => {
                format!(" hasten {} {}s", named(place), grace.as_secs())
            }
            Action::Signal(place, grace) => {
                format!(" signal {} {}s", named(place), grace.as_secs())
            }
            Action::BackOffRestart(place, at) => {
                format!(
                    " back-off {} {}s",
                    named(place),
                    at.duration_since(self.now).as_secs()
                )
            }
            Action::BackOffPull(place) => format!(" back-off-pull {}", named(place)),
            Action::Expire => " expire".to_owned(),
            Action::TearDown => " tear-down".to_owned(),
            Action::Remove => " remove".to_owned(),
            Action::Forget => " forget".to_owned(),
        }
    }

    fn summarise(&mut self) {
        let status = status(
            &self.state,
            &[[192, 0, 2, 1].into()],
            &mut Transitions::new(),
            self.now,
        );
        let why = status
            .reason
            .map(|reason| format!(" {reason}"))
            .unwrap_or_default();
        write!(self.out, "{}{why}:", status.phase.unwrap_or_default()).expect("write");
        let shown = |condition: &&PodCondition| condition.type_ != "PodScheduled";
        for condition in status.conditions.iter().flatten().filter(shown) {
            let why = [&condition.reason, &condition.message];
            let why = why.into_iter().flatten().cloned().collect::<Vec<_>>();
            let holds = if condition.status == "True" {
                ""
            } else {
                "not "
            };
            write!(self.out, " {holds}{}", condition.type_).expect("write");
            if !why.is_empty() {
                write!(self.out, " ({})", why.join(": ")).expect("write");
            }
            self.out.push(',');
        }
        self.out.pop();
        self.out.push('\n');
        let containers = status
            .init_container_statuses
            .into_iter()
            .chain(status.container_statuses)
            .chain(status.ephemeral_container_statuses)
            .flatten();
        for container in containers {
            let state =
                serde_json::to_string(&[&container.state, &container.last_state]).expect("JSON");
            let state = state
                .replace(&self.begin.to_string(), "T0")
                .replace("1970-01-01T00:00:00Z", "0");
            writeln!(
                self.out,
                "  {} started={} ready={} restarts={} {state}",
                container.name,
                container.started.unwrap_or(false),
                container.ready,
                container.restart_count
            )
            .expect("write");
        }
    }
}

fn exit(code: i32) -> Exit {
    Exit {
        code,
        reason: if code == 0 { "Completed" } else { "Error" },
        message: String::new(),
        started_at: SystemTime::UNIX_EPOCH,
        finished_at: SystemTime::UNIX_EPOCH,
    }
}

fn failure(reason: &str) -> StartFailure {
    let reasons = [
        Reason::ErrImagePull,
        Reason::InvalidImageName,
        Reason::CreateContainerConfigError,
        Reason::CreateContainerError,
        Reason::RunContainerError,
    ];
    let reason = reasons
        .into_iter()
        .find(|other| other.as_str() == reason)
        .expect("a reason");
    StartFailure {
        reason,
        message: "because".into(),
        container_id: String::new(),
    }
}

/// What must hold however a life goes.
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::pod::{
        container::Container,
        plan::{Plan, ending},
        state::Sandbox,
    };

    /// Something that happens, to which container.
    type Event = (u8, usize);

    fn lived() -> Pod {
        let hook =
            json!({"postStart": {"sleep": {"seconds": 1}}, "preStop": {"sleep": {"seconds": 1}}});
        let probe = json!({"tcpSocket": {"port": 1}});
        let sidecar = json!({"name": "s", "image": "img", "restartPolicy": "Always", "startupProbe": probe, "lifecycle": hook});
        let containers = json!([
            {"name": "a", "image": "img", "livenessProbe": probe, "readinessProbe": probe, "lifecycle": hook},
            {"name": "b", "image": "img", "restartPolicy": "Never"},
        ]);
        let init = json!([{"name": "i", "image": "img"}, sidecar]);
        pod(
            &[],
            json!({"initContainers": init, "containers": containers}),
        )
    }

    /// What can happen to a container where it is.
    fn happens(state: &PodState, place: usize, which: u8) -> Option<Observation> {
        let started = || Started {
            image_id: "img@sha256:0".into(),
            container_id: "wasm://c".into(),
        };
        let attempt = state.containers[place].attempt;
        let probed = |kind, passed| Observation::Probed {
            place,
            attempt,
            kind,
            passed,
        };
        Some(match (&state.containers[place].state, which % 8) {
            (State::Starting { .. }, 0..=3) => Observation::Started(place, started()),
            (State::Starting { .. }, 4) => Observation::StartFailed(place, failure("ErrImagePull")),
            (State::Starting { .. }, 5) => {
                Observation::StartFailed(place, failure("RunContainerError"))
            }
            (State::PostStart { begun: true, .. }, 0..=3) => {
                Observation::PostStarted(place, Ok(()))
            }
            (State::PostStart { begun: true, .. }, 4) => {
                Observation::PostStarted(place, Err("no".into()))
            }
            (State::Running { .. }, 0) => probed(Kind::Startup, true),
            (State::Running { .. }, 1) => probed(Kind::Startup, false),
            (State::Running { .. }, 2) => probed(Kind::Liveness, false),
            (State::Running { .. }, 3) => probed(Kind::Readiness, true),
            (State::Running { .. } | State::PostStart { .. }, 5) => {
                Observation::Exited(place, exit(1))
            }
            (State::Running { .. } | State::PostStart { .. }, 6) => {
                Observation::Exited(place, exit(0))
            }
            (State::Stopping(stopping), 0..=3) if stopping.step == Step::PreStop => {
                Observation::PreStopped(place)
            }
            (State::Stopping(_), 5) => Observation::Exited(place, exit(143)),
            _ => return None,
        })
    }

    fn sandbox(state: &PodState) -> Option<Observation> {
        match state.sandbox {
            Sandbox::SettingUp => Some(Observation::SandboxReady(PodAddress {
                ip: [10, 64, 0, 5].into(),
                loopback: [127, 65, 0, 5].into(),
            })),
            Sandbox::TearingDown => Some(Observation::TornDown),
            _ => None,
        }
    }

    /// Takes every action; none may start what runs, or take the pod away from under it.
    fn settle(state: &mut PodState, now: Timestamp) -> Plan {
        for _ in 0..100 {
            let plan = plan(state, now);
            if plan.actions.is_empty() || plan.actions.contains(&Action::Forget) {
                return plan;
            }
            for action in &plan.actions {
                let alive = state.containers.iter().any(Container::alive);
                match action {
                    Action::Start(place) | Action::Resume(place) => {
                        assert!(!state.containers[*place].alive(), "{action:?}");
                        assert!(ending(state).is_none(), "{action:?}");
                    }
                    Action::TearDown | Action::Remove => assert!(!alive, "{action:?}"),
                    _ => {}
                }
                state.begin(action, now);
            }
            let at = &[[192, 0, 2, 1].into()];
            status(state, at, &mut Transitions::new(), now);
        }
        panic!("the plan never comes to rest: {state:#?}");
    }

    proptest! {
        /// A pod comes to rest whatever happens, and one that is deleted ends whatever had happened before.
        #[test]
        fn a_deleted_pod_ends_whatever_had_happened(
            events in prop::collection::vec((any::<u8>(), 0..4_usize), 0..80),
            policy in prop::sample::select(vec!["Always", "OnFailure", "Never"]),
            grace in 0..40_i64,
        ) {
            let begin = Timestamp::from_second(1_000_000_000).expect("a time");
            let mut pod = lived();
            pod.spec.as_mut().expect("a spec").restart_policy = Some(policy.to_owned());
            let mut state = PodState::new(Arc::new(pod), &[], begin);
            let mut now = begin;
            settle(&mut state, now);
            let mut live = |state: &mut PodState, (which, place): Event| {
                now += Duration::from_secs(u64::from(which / 8));
                let seen = happens(state, place, which).or_else(|| sandbox(state));
                if let Some(seen) = seen {
                    state.observe(seen, now);
                }
                settle(state, now)
            };
            for event in events {
                live(&mut state, event);
            }
            let mut deleted = (*state.pod).clone();
            let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(begin);
            deleted.metadata.deletion_timestamp = Some(at);
            deleted.metadata.deletion_grace_period_seconds = Some(grace);
            state.update(Arc::new(deleted), begin);
            // Everything that is told to end does, each in its time.
            for _ in 0..20 {
                for place in 0..4 {
                    live(&mut state, (5, place));
                    live(&mut state, (8 * 10, place));
                }
            }
            prop_assert_eq!(state.sandbox, Sandbox::TornDown);
            prop_assert!(!state.containers.iter().any(Container::alive));
            state.observe(Observation::Removed, begin);
            state.gone = true;
            let plan = settle(&mut state, begin);
            prop_assert_eq!(plan.actions, vec![Action::Forget]);
        }
    }
}
