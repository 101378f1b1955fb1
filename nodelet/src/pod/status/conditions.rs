//! The conditions that the nodelet owns, and when each last changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::pod::{
    container::{Container, Role},
    state::{PodState, Sandbox, initialized},
};

/// When each condition last changed: type → (status, time).
pub(crate) type Transitions = BTreeMap<String, (String, Timestamp)>;

/// The transitions that the API's status holds, for a pod that an earlier process worked on.
pub(crate) fn transitions(pod: &Pod) -> Transitions {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .filter_map(|c| {
            Some((
                c.type_.clone(),
                (c.status.clone(), c.last_transition_time.as_ref()?.0),
            ))
        })
        .collect()
}

pub(super) fn conditions(
    state: &PodState,
    phase: &str,
    transitions: &mut Transitions,
    now: Timestamp,
) -> Vec<PodCondition> {
    let containers_ready = containers_ready(state, phase);
    let ready = if containers_ready.holds {
        gates(&state.pod)
    } else {
        containers_ready.clone()
    };
    // What runs from before this process has its sandbox, though that is still to be found again.
    let runs = state.containers.iter().any(Container::running);
    let sandbox = match state.sandbox {
        Sandbox::Ready(_) => Verdict::yes(),
        Sandbox::Wanted | Sandbox::SettingUp | Sandbox::Refused { .. } if runs => Verdict::yes(),
        _ => Verdict::no("", String::new()),
    };
    [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", is_initialized(state, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Verdict::yes()),
    ]
    .into_iter()
    .map(|(type_, verdict)| {
        verdict.condition(type_, state.pod.metadata.generation, transitions, now)
    })
    .collect()
}

fn is_initialized(state: &PodState, phase: &str) -> Verdict {
    let incomplete: Vec<&str> = state
        .containers
        .iter()
        .filter(|container| !initialized(container))
        .map(|container| &*container.name)
        .collect();
    if phase == "Succeeded" {
        Verdict::yes_because("PodCompleted")
    } else if incomplete.is_empty() || state.begun() {
        Verdict::yes()
    } else {
        let message = format!("containers with incomplete status: {}", list(&incomplete));
        Verdict::no("ContainersNotInitialized", message)
    }
}

fn containers_ready(state: &PodState, phase: &str) -> Verdict {
    let unready: Vec<&str> = state
        .containers
        .iter()
        .filter(|c| matches!(c.role, Role::Main | Role::Sidecar) && !c.is_ready())
        .map(|c| &*c.name)
        .collect();
    match phase {
        "Succeeded" => Verdict::no("PodCompleted", String::new()),
        "Failed" => Verdict::no("PodFailed", String::new()),
        _ if unready.is_empty() => Verdict::yes(),
        _ => Verdict::no(
            "ContainersNotReady",
            format!("containers with unready status: {}", list(&unready)),
        ),
    }
}

/// As Go prints a list of strings.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

/// The pod's readiness gates, whose conditions others write.
fn gates(pod: &Pod) -> Verdict {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.readiness_gates.as_deref())
        .unwrap_or_default();
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let unmet: Vec<String> = gates
        .iter()
        .filter_map(|gate| {
            let gate = &gate.condition_type;
            match conditions.iter().find(|condition| condition.type_ == *gate) {
                Some(condition) if condition.status == "True" => None,
                Some(condition) => Some(format!(
                    "the status of pod readiness gate {gate:?} is not \"True\", but {}",
                    condition.status
                )),
                None => Some(format!(
                    "corresponding condition of pod readiness gate {gate:?} does not exist."
                )),
            }
        })
        .collect();
    if unmet.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ReadinessGatesNotReady", unmet.join(", "))
    }
}

/// Whether a condition holds, and why.
#[derive(Clone)]
struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes() -> Verdict {
        Verdict::yes_because("")
    }

    fn yes_because(reason: &'static str) -> Verdict {
        Verdict {
            holds: true,
            reason,
            message: String::new(),
        }
    }

    fn no(reason: &'static str, message: String) -> Verdict {
        Verdict {
            holds: false,
            reason,
            message,
        }
    }

    fn condition(
        self,
        type_: &str,
        generation: Option<i64>,
        transitions: &mut Transitions,
        now: Timestamp,
    ) -> PodCondition {
        let status = if self.holds { "True" } else { "False" };
        let entry = transitions
            .entry(type_.to_owned())
            .or_insert_with(|| (status.to_owned(), now));
        if entry.0 != status {
            *entry = (status.to_owned(), now);
        }
        let some = |text: String| (!text.is_empty()).then_some(text);
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: some(self.reason.to_owned()),
            message: some(self.message),
            last_transition_time: Some(Time(entry.1)),
            observed_generation: generation,
            last_probe_time: None,
        }
    }
}
