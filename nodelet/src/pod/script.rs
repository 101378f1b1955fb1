//! Plays a pod's life from a few words a line, for tests: what happened, and what the plan made of it.

use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use expect_test::Expect;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use runtimes::{Exit, PodAddress};
use serde_json::{Value, json};

use super::{
    plan::{Action, plan},
    state::{Observation, PodState, Reason, StartFailure, Started},
    status::{Transitions, status},
};

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
/// Steps: `up`, `run a`, `exit a 1`, `fail a ErrImagePull`, `lost a`, `down`, `+10s`, `delete 30`, `gone`, `removed`.
#[track_caller]
pub(crate) fn check(pod: Pod, script: &str, expected: Expect) {
    let begin = Timestamp::from_second(1_000_000_000).expect("a time");
    let mut player = Player {
        state: PodState::new(Arc::new(pod), |_| None, begin),
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
            ["removed"] => Observation::Removed,
            ["gone"] => {
                self.state.gone = true;
                return;
            }
            ["delete", grace] => {
                let mut pod = (*self.state.pod).clone();
                let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now);
                pod.metadata.deletion_timestamp = Some(at);
                pod.metadata.deletion_grace_period_seconds = grace.parse().ok();
                self.state.update(Arc::new(pod));
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
        writeln!(self.out, "{}", line.trim_start()).expect("write");
    }

    fn name(&self, action: &Action) -> String {
        let named = |place: &usize| {
            let container = &self.state.containers[*place];
            format!("{}#{}", container.name, container.attempt)
        };
        match action {
            Action::SetUp => " set-up".to_owned(),
            Action::Start(place) => format!(" start {}", named(place)),
            Action::Stop(place, grace) => format!(" stop {} {}s", named(place), grace.as_secs()),
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
        writeln!(self.out, "{}{why}", status.phase.unwrap_or_default()).expect("write");
        for condition in status.conditions.into_iter().flatten() {
            let why = [condition.reason, condition.message]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(": ");
            writeln!(self.out, "  {}={} {why}", condition.type_, condition.status).expect("write");
        }
        let containers = status
            .init_container_statuses
            .into_iter()
            .chain(status.container_statuses)
            .flatten();
        for container in containers {
            let state =
                serde_json::to_string(&[&container.state, &container.last_state]).expect("JSON");
            let state = state.replace(&self.begin.to_string(), "T0");
            writeln!(
                self.out,
                "  {} ready={} restarts={} {state}",
                container.name, container.ready, container.restart_count
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
    }
}
