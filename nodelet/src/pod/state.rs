//! What a pod worker knows: the pod as the API last gave it, its address, and how each container fares.
//!
//! Changed only by [`PodState::update`] (the API has another version), [`PodState::observe`] (something happened) and
//! [`PodState::begin`] (the worker took an action of the plan). Pure: no IO, no clock.

mod begin;
mod observe;
mod restore;

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as ContainerFields, EphemeralContainer, Pod, PodSpec, Probe,
};
use runtimes::{ContainerId, Exit, PodAddress, PodRef};

pub(crate) use restore::Held;

use super::{
    container::{Container, Reason, Role, StartFailure, State, Why},
    restart,
};
use crate::probe::Kind;

/// Why a pod failed that took more of the node than it may.
pub(crate) const EVICTED: &str = "Evicted";

/// The pod's place on the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sandbox {
    Wanted,
    /// Being set up.
    SettingUp,
    /// Refused; tried again then.
    Refused {
        retry_at: Timestamp,
    },
    Ready(PodAddress),
    TearingDown,
    TornDown,
}

/// How far the pod's deletion from the API is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Removal {
    Wanted,
    UnderWay,
    Failed { retry_at: Timestamp },
    Done,
}

/// The pod has been ended by other means than its containers' own ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Over {
    pub(crate) phase: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    /// It never began: the node did not take it.
    pub(crate) rejected: bool,
}

/// A container that has been started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Started {
    pub(crate) image_id: String,
    pub(crate) container_id: String,
}

/// Something that happened to the pod.
#[derive(Clone, Debug)]
pub(crate) enum Observation {
    SandboxReady(PodAddress),
    SandboxRefused {
        retry_in: Duration,
    },
    TornDown,
    /// The container at this place has been started.
    Started(usize, Started),
    StartFailed(usize, StartFailure),
    /// Its postStart hook is over.
    PostStarted(usize, Result<(), String>),
    /// What a probe of this attempt says.
    Probed {
        place: usize,
        attempt: u32,
        kind: Kind,
        passed: bool,
    },
    /// Its preStop hook is over.
    PreStopped(usize),
    Exited(usize, Exit),
    /// Stopped before there was anything to stop, or its runtime knows no more of it.
    Lost(usize),
    Removed,
    RemovalFailed {
        retry_in: Duration,
    },
}

/// What a pod worker knows.
#[derive(Clone, Debug)]
pub(crate) struct PodState {
    /// As the API last gave it, without managed fields.
    pub(crate) pod: Arc<Pod>,
    /// The API has it no more.
    pub(crate) gone: bool,
    pub(crate) sandbox: Sandbox,
    /// Init containers first, in order; then the main ones; then ephemeral ones.
    pub(crate) containers: Vec<Container>,
    pub(crate) started_at: Timestamp,
    /// The IP that status shows, kept when the address is freed.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) over: Option<Over>,
    pub(crate) removal: Removal,
}

impl PodState {
    /// The pod as the API now has it.
    pub(crate) fn update(&mut self, pod: Arc<Pod>, now: Timestamp) {
        self.pod = pod;
        let added = ephemeral(&self.pod)
            .iter()
            .filter(|fields| !self.containers.iter().any(|c| *c.name == fields.name))
            .map(|fields| Container::new(&fields.name, Role::Ephemeral, self.patience(), now))
            .collect::<Vec<_>>();
        self.containers.extend(added);
        for place in 0..self.containers.len() {
            self.retry_changed(place);
        }
        // Somebody else has ended it, and nothing leads back from there.
        if self.over.is_none() {
            self.over = restore::over(&self.pod);
        }
    }

    /// A container that could not be started, or crashed, is tried at once if its image is another now.
    fn retry_changed(&mut self, place: usize) {
        let changed = self.image_changed(place);
        let container = &mut self.containers[place];
        if let State::Waiting { retry_at, .. } = &mut container.state
            && changed
        {
            *retry_at = None;
            container.restart_delay = Duration::ZERO;
            container.pull_delay = Duration::ZERO;
            container.config_delay = Duration::ZERO;
        }
    }

    /// Whether the spec names another image than the container was last started from.
    pub(crate) fn image_changed(&self, place: usize) -> bool {
        let image = self.fields(place).and_then(|fields| fields.image.clone());
        let known = &self.containers[place].image;
        !known.is_empty() && image.is_some_and(|image| *image != **known)
    }

    /// The pod's names.
    pub(crate) fn pod_ref(&self) -> PodRef {
        let metadata = &self.pod.metadata;
        PodRef {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// Whether the API wants it to end.
    pub(crate) fn deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some() || self.gone
    }

    /// The fields of the container at this place.
    pub(crate) fn fields(&self, place: usize) -> Option<Cow<'_, ContainerFields>> {
        if let Some((fields, _)) = roles(&self.pod).nth(place) {
            return Some(Cow::Borrowed(fields));
        }
        let name = &self.containers.get(place)?.name;
        let fields = ephemeral(&self.pod)
            .iter()
            .find(|fields| *fields.name == **name)?;
        Some(Cow::Owned(container_of(fields)))
    }

    /// The container that an ephemeral one is there to look at.
    pub(crate) fn target(&self, place: usize) -> Option<&str> {
        let name = &self.containers[place].name;
        let fields = ephemeral(&self.pod)
            .iter()
            .find(|fields| *fields.name == **name)?;
        fields.target_container_name.as_deref()
    }

    /// Whether any of its containers has a probe.
    pub(crate) fn has_probes(&self) -> bool {
        roles(&self.pod).any(|(fields, _)| {
            fields.startup_probe.is_some()
                || fields.liveness_probe.is_some()
                || fields.readiness_probe.is_some()
        })
    }

    /// The probe of a container, if its spec has it.
    pub(crate) fn probe(&self, place: usize, kind: Kind) -> Option<&Probe> {
        let (fields, _) = roles(&self.pod).nth(place)?;
        let probe = match kind {
            Kind::Startup => &fields.startup_probe,
            Kind::Liveness => &fields.liveness_probe,
            Kind::Readiness => &fields.readiness_probe,
        };
        probe.as_ref()
    }

    /// The id of the container at this place in its present attempt.
    pub(crate) fn id(&self, place: usize) -> ContainerId {
        let container = &self.containers[place];
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        ContainerId(format!("{uid}/{}/{}", container.name, container.attempt).into())
    }

    /// Whether the container at this place is started again after `code`.
    pub(crate) fn restarts(&self, place: usize, code: i32) -> bool {
        let policy = self.spec().and_then(|spec| spec.restart_policy.as_deref());
        let container = &self.containers[place];
        container.redo
            || self.fields(place).is_some_and(|fields| {
                restart::restarts(container.role, &fields, policy.unwrap_or("Always"), code)
            })
    }

    /// Whether a main container has run: from then on, init containers have done their part.
    pub(crate) fn begun(&self) -> bool {
        self.containers
            .iter()
            .any(|container| container.role == Role::Main && container.ran())
    }

    /// What a container shows that has not been started.
    fn patience(&self) -> Reason {
        let init = self
            .spec()
            .and_then(|spec| spec.init_containers.as_deref())
            .unwrap_or_default();
        if init.is_empty() {
            Reason::ContainerCreating
        } else {
            Reason::PodInitializing
        }
    }

    /// What the Event of a container's end says.
    pub(crate) fn killing(&self, place: usize, why: Why) -> String {
        let Container { name, role, .. } = &self.containers[place];
        let probe = match why {
            Why::PodEnds => return format!("Stopping container {name}"),
            Why::PostStart => return "FailedPostStartHook".to_owned(),
            Why::Changed => {
                return format!("Container {name} definition changed, will be restarted");
            }
            Why::Liveness => "liveness",
            Why::Startup => "startup",
        };
        match role {
            Role::Sidecar => format!("Init container {name} failed {probe} probe"),
            _ if self.restarts(place, 137) => {
                format!("Container {name} failed {probe} probe, will be restarted")
            }
            _ => format!("Container {name} failed {probe} probe"),
        }
    }
}

/// Whether this container no longer holds the ones after it back.
pub(crate) fn initialized(container: &Container) -> bool {
    match container.role {
        Role::Init => container.exit_code() == Some(0),
        Role::Sidecar => container.is_started(),
        Role::Main | Role::Ephemeral => true,
    }
}

/// The pod's init and main containers in the order of [`PodState::containers`].
fn roles(pod: &Pod) -> impl Iterator<Item = (&ContainerFields, Role)> {
    let spec = pod.spec.as_ref();
    let init = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let main = spec
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    let role = |fields: &ContainerFields| match fields.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    };
    init.iter()
        .map(move |fields| (fields, role(fields)))
        .chain(main.iter().map(|fields| (fields, Role::Main)))
}

fn ephemeral(pod: &Pod) -> &[EphemeralContainer] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.ephemeral_containers.as_deref())
        .unwrap_or_default()
}

/// An ephemeral container as a container: what it may not have is absent.
fn container_of(fields: &EphemeralContainer) -> ContainerFields {
    let fields = fields.clone();
    ContainerFields {
        name: fields.name,
        image: fields.image,
        image_pull_policy: fields.image_pull_policy,
        command: fields.command,
        args: fields.args,
        env: fields.env,
        env_from: fields.env_from,
        working_dir: fields.working_dir,
        resources: fields.resources,
        security_context: fields.security_context,
        stdin: fields.stdin,
        stdin_once: fields.stdin_once,
        tty: fields.tty,
        termination_message_path: fields.termination_message_path,
        termination_message_policy: fields.termination_message_policy,
        volume_devices: fields.volume_devices,
        volume_mounts: fields.volume_mounts,
        ..ContainerFields::default()
    }
}
