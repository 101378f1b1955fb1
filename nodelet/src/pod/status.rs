//! What the API is told of a pod. Pure.
//!
//! [`status`] derives phase, conditions and container statuses from a [`PodState`]; [`Written`] remembers what the
//! API was told last and answers the strategic merge patch that brings it up to date. Conditions of other writers
//! (`PodScheduled`, readiness gates) are never in the patch.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    net::IpAddr,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Map, Value, json};

use super::{
    plan::complete,
    state::{Container, Ended, PodState, Reason, Role, Sandbox, State, initialized},
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

/// The status of the pod, now.
pub(crate) fn status(
    state: &PodState,
    host: &[IpAddr],
    transitions: &mut Transitions,
    now: Timestamp,
) -> PodStatus {
    let phase = phase(state);
    let statuses = |init: bool| -> Option<Vec<ContainerStatus>> {
        let list: Vec<ContainerStatus> = state
            .containers
            .iter()
            .enumerate()
            .filter(|(_, container)| (container.role != Role::Main) == init)
            .map(|(place, container)| container_status(state, place, container))
            .collect();
        (!list.is_empty()).then_some(list)
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        reason: state.over.as_ref().and_then(|over| over.reason.clone()),
        message: state.over.as_ref().and_then(|over| over.message.clone()),
        host_ip: host.first().map(IpAddr::to_string),
        host_ips: Some(
            host.iter()
                .map(|ip| HostIP { ip: ip.to_string() })
                .collect(),
        ),
        pod_ip: state.ip.map(|ip| ip.to_string()),
        pod_ips: state.ip.map(|ip| vec![PodIP { ip: ip.to_string() }]),
        start_time: Some(Time(state.started_at)),
        qos_class: Some(qos_class(&state.pod).to_owned()),
        observed_generation: state.pod.metadata.generation,
        conditions: Some(conditions(state, phase, transitions, now)),
        init_container_statuses: statuses(true),
        container_statuses: statuses(false),
        ..PodStatus::default()
    }
}

/// The pod's phase, from its containers.
pub(crate) fn phase(state: &PodState) -> &'static str {
    if let Some(over) = &state.over {
        return over.phase;
    }
    let deleted = state.pod.metadata.deletion_timestamp.is_some() || state.gone;
    if !state.initialized() && !complete(state) {
        return "Pending";
    }
    let mains = || {
        state
            .containers
            .iter()
            .filter(|container| container.role == Role::Main)
    };
    let all_ended = mains().all(|main| matches!(main.state, State::Exited { .. }));
    if complete(state) || (deleted && all_ended) {
        let failed = |container: &Container| match &container.state {
            State::Exited { ended, .. } => ended.code != 0,
            _ => container.role == Role::Main,
        };
        let init_failed = state
            .containers
            .iter()
            .any(|c| c.role == Role::Init && failed(c));
        return if init_failed || mains().any(failed) {
            "Failed"
        } else {
            "Succeeded"
        };
    }
    let never_ran = |main: &Container| {
        matches!(main.state, State::Waiting { .. } | State::Starting { .. }) && main.last.is_none()
    };
    if mains().any(never_ran) {
        "Pending"
    } else {
        "Running"
    }
}

fn conditions(
    state: &PodState,
    phase: &str,
    transitions: &mut Transitions,
    now: Timestamp,
) -> Vec<PodCondition> {
    let incomplete: Vec<&str> = state
        .containers
        .iter()
        .filter(|c| !initialized(c))
        .map(|c| &*c.name)
        .collect();
    let unready: Vec<&str> = state
        .containers
        .iter()
        .filter(|c| c.role == Role::Main && !c.running())
        .map(|c| &*c.name)
        .collect();
    let list = |names: &[&str]| format!("[{}]", names.join(" "));
    let initialized = if phase == "Succeeded" {
        Verdict::yes_because("PodCompleted")
    } else if incomplete.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no(
            "ContainersNotInitialized",
            format!("containers with incomplete status: {}", list(&incomplete)),
        )
    };
    let containers_ready = match phase {
        "Succeeded" => Verdict::no("PodCompleted", String::new()),
        "Failed" => Verdict::no("PodFailed", String::new()),
        _ if unready.is_empty() => Verdict::yes(),
        _ => Verdict::no(
            "ContainersNotReady",
            format!("containers with unready status: {}", list(&unready)),
        ),
    };
    let ready = if containers_ready.holds {
        gates(&state.pod)
    } else {
        containers_ready.clone()
    };
    let sandbox = match state.sandbox {
        Sandbox::Ready(_) => Verdict::yes(),
        _ => Verdict::no("", String::new()),
    };
    [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
    ]
    .into_iter()
    .map(|(type_, verdict)| {
        verdict.condition(type_, state.pod.metadata.generation, transitions, now)
    })
    .collect()
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
                Some(_) => Some(format!(
                    "the status of pod readiness gate {gate:?} is not \"True\""
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

fn container_status(state: &PodState, place: usize, container: &Container) -> ContainerStatus {
    let image = state
        .fields(place)
        .and_then(|fields| fields.image.clone())
        .unwrap_or_default();
    let done = matches!(&container.state, State::Exited { ended, .. } if ended.code == 0);
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ContainerStatus {
        name: container.name.to_string(),
        image,
        image_id: container.image_id.clone(),
        container_id: some(&container.container_id),
        ready: if container.role == Role::Init {
            done
        } else {
            container.running()
        },
        started: Some(container.running()),
        restart_count: i32::try_from(container.attempt).unwrap_or(i32::MAX),
        state: Some(container_state(&container.state)),
        last_state: Some(ContainerState {
            terminated: container.last.as_ref().map(terminated),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    }
}

fn container_state(state: &State) -> ContainerState {
    let waiting = |reason: Reason, message: &str| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.as_str().to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ContainerState::default()
    };
    match state {
        State::Waiting {
            reason, message, ..
        } => waiting(*reason, message),
        State::Starting { reason } => waiting(*reason, ""),
        State::Stopping { since: None, .. } => waiting(Reason::ContainerCreating, ""),
        State::Running { since }
        | State::Stopping {
            since: Some(since), ..
        } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(*since)),
            }),
            ..ContainerState::default()
        },
        State::Exited { ended, .. } => ContainerState {
            terminated: Some(terminated(ended)),
            ..ContainerState::default()
        },
    }
}

fn terminated(ended: &Ended) -> ContainerStateTerminated {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ContainerStateTerminated {
        exit_code: ended.code,
        reason: some(&ended.reason),
        message: some(&ended.message),
        container_id: some(&ended.container_id),
        started_at: ended.started_at.map(Time),
        finished_at: ended.finished_at.map(Time),
        signal: None,
    }
}

/// `status.qosClass`, from the containers' cpu and memory.
pub(crate) fn qos_class(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else {
        return "BestEffort";
    };
    let (mut any, mut guaranteed) = (false, true);
    for container in spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
    {
        let resources = container.resources.clone().unwrap_or_default();
        let (requests, limits) = (
            resources.requests.unwrap_or_default(),
            resources.limits.unwrap_or_default(),
        );
        for name in ["cpu", "memory"] {
            let (request, limit) = (requests.get(name), limits.get(name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// What the API was told last, as one hash a field and a condition: a pod at rest should cost little memory.
#[derive(Debug, Default)]
pub(crate) struct Written {
    fields: BTreeMap<String, u64>,
    conditions: BTreeMap<String, u64>,
    ip: Option<String>,
}

/// The status fields that the nodelet owns besides `conditions`.
const FIELDS: [&str; 12] = [
    "phase",
    "reason",
    "message",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "qosClass",
    "observedGeneration",
    "initContainerStatuses",
    "containerStatuses",
];

impl Written {
    /// What the API holds already.
    pub(crate) fn from_status(status: Option<&PodStatus>) -> Written {
        let mut written = Written::default();
        if let Some(status) = status {
            written.learn(&to_map(status));
        }
        written
    }

    /// The API now holds this status.
    pub(crate) fn learn(&mut self, status: &Map<String, Value>) {
        self.fields = FIELDS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), hash(status.get(*name)?))))
            .collect();
        for condition in status
            .get("conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            self.conditions.insert(type_of(condition), hash(condition));
        }
        self.ip = status
            .get("podIP")
            .and_then(Value::as_str)
            .map(str::to_owned);
    }

    /// The patch of `status` that makes the API hold `wanted`; `None` if it does.
    pub(crate) fn patch(&self, wanted: &Map<String, Value>) -> Option<Value> {
        let mut patch = Map::new();
        for name in FIELDS {
            match (wanted.get(name), self.fields.get(name)) {
                (Some(value), written) if written != Some(&hash(value)) => {
                    patch.insert(name.to_owned(), value.clone());
                }
                (None, Some(_)) => {
                    patch.insert(name.to_owned(), Value::Null);
                }
                _ => {}
            }
        }
        // The list merges by address: the pod's old one must not stay in it.
        if self.ip.is_some()
            && let Some(Value::Array(ips)) = patch.get_mut("podIPs")
        {
            ips.insert(0, json!({"$patch": "replace"}));
        }
        let conditions: Vec<Value> = wanted
            .get("conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|condition| self.conditions.get(&type_of(condition)) != Some(&hash(condition)))
            .map(with_absent_as_null)
            .collect();
        if !conditions.is_empty() {
            patch.insert("conditions".to_owned(), Value::Array(conditions));
        }
        (!patch.is_empty()).then_some(Value::Object(patch))
    }
}

/// A status as JSON.
pub(crate) fn to_map(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn type_of(condition: &Value) -> String {
    condition
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Merging keeps what a patch leaves out: a reason that no longer applies has to be taken away.
fn with_absent_as_null(condition: &Value) -> Value {
    let mut condition = condition.clone();
    if let Value::Object(map) = &mut condition {
        for name in ["reason", "message"] {
            map.entry(name).or_insert(Value::Null);
        }
    }
    condition
}

fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
