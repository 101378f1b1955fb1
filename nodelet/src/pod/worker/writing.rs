//! The pod's status on its way to the API, and what the server tells of its containers.

use std::{future::Future, pin::Pin, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use runtimes::PodRef;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tracing::warn;

use super::{ContainerView, Views, Worker};
use crate::{
    deadline::{CallError, call},
    pod::{
        container::{Container, State},
        state::{PodState, Sandbox},
        status::{Transitions, Written, status, to_map, transitions},
    },
};

/// How long `ContainerCreating` waits to be written: most starts are over by then, and one write is saved.
const START_UNSEEN: Duration = Duration::from_millis(100);
/// The same for a pod that an earlier process ran: its containers may come back as they were.
const RETURN_UNSEEN: Duration = Duration::from_secs(1);
/// Delays between tries to write a status.
const FIRST_WRITE_DELAY: Duration = Duration::from_millis(100);
const LONGEST_WRITE_DELAY: Duration = Duration::from_secs(10);

/// A status that was written, and how that went.
pub(super) type Outcome = (Map<String, Value>, Result<(), CallError>);
type Write = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What the API and the server were told.
pub(super) struct Writing {
    views: watch::Sender<Views>,
    /// The uid that the API knows the pod by; what was written to another is not written.
    api_uid: Option<String>,
    written: Written,
    transitions: Transitions,
    /// A status on its way to the API.
    write: Option<Write>,
    delay: Duration,
    /// No status is written before.
    quiet_until: Option<Timestamp>,
}

impl Writing {
    pub(super) fn new(state: &PodState, views: watch::Sender<Views>, now: Timestamp) -> Writing {
        let lost = |container: &Container| matches!(container.state, State::Lost { .. });
        let unseen = if state.containers.iter().any(lost) {
            RETURN_UNSEEN
        } else {
            START_UNSEEN
        };
        Writing {
            views,
            api_uid: None,
            written: Written::from_status(state.pod.status.as_ref()),
            transitions: transitions(&state.pod),
            write: None,
            delay: FIRST_WRITE_DELAY,
            quiet_until: Some(now + unseen),
        }
    }

    pub(super) fn quiet_until(&self) -> Option<Timestamp> {
        self.quiet_until
    }

    /// Waits until what is being written is written.
    pub(super) async fn done(&mut self) -> Outcome {
        match &mut self.write {
            Some(write) => write.await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn learn(&mut self, (status, outcome): Outcome, pod: &PodRef, now: Timestamp) {
        self.write = None;
        match outcome {
            Ok(()) => {
                self.written.learn(&status);
                self.delay = FIRST_WRITE_DELAY;
            }
            // Gone, or another pod of that name: the watch will say so.
            Err(error) if matches!(error.code(), Some(404 | 409)) => self.written.learn(&status),
            Err(error) => {
                let PodRef {
                    namespace, name, ..
                } = pod;
                warn!(%error, namespace, name, "write the status of a pod");
                self.delay = (self.delay * 2).min(LONGEST_WRITE_DELAY);
                self.quiet_until = Some(now + self.delay);
            }
        }
    }
}

impl Worker {
    /// Starts writing the status if it changed, and tells the server how the containers are.
    pub(super) fn publish(&mut self, now: Timestamp) {
        let views = self.state.containers.iter().map(view).collect::<Views>();
        let writing = &mut self.writing;
        writing.views.send_if_modified(|old| {
            let changed = *old != views;
            *old = views;
            changed
        });
        let quiet = starting(&self.state) || writing.delay > FIRST_WRITE_DELAY;
        if writing
            .quiet_until
            .is_some_and(|until| until <= now || !quiet)
        {
            writing.quiet_until = None;
        }
        if writing.quiet_until.is_some() || writing.write.is_some() || self.state.gone {
            return;
        }
        // A static pod's mirror may be missing, or have come anew.
        let Some(uid) = self.context.mirrors.api_uid(&self.pod_ref.uid) else {
            return;
        };
        let writing = &mut self.writing;
        if uid != self.pod_ref.uid && writing.api_uid.as_ref() != Some(&uid) {
            writing.api_uid = Some(uid.clone());
            writing.written = Written::from_status(None);
        }
        let Some((status, patch)) = self.patch(now) else {
            return;
        };
        let (context, pod) = (self.context.clone(), self.pod_ref.clone());
        self.writing.write = Some(Box::pin(async move {
            let _permit = context.writes.acquire().await;
            let pods: Api<Pod> = Api::namespaced(context.client.clone(), &pod.namespace);
            // The uid keeps this off another pod that has taken the name.
            let body = json!({"metadata": {"uid": uid}, "status": patch});
            let outcome = call(pods.patch_status(
                &pod.name,
                &PatchParams::default(),
                &Patch::Strategic(body),
            ))
            .await;
            (status, outcome.map(drop))
        }));
    }

    /// Whether the API does not hold the status as it now is; if so, it is written next.
    pub(super) fn unwritten(&mut self, now: Timestamp) -> bool {
        let unwritten = self.writing.write.is_some() || self.patch(now).is_some();
        if unwritten && self.writing.delay == FIRST_WRITE_DELAY {
            self.writing.quiet_until = None;
        }
        unwritten
    }

    fn patch(&mut self, now: Timestamp) -> Option<(Map<String, Value>, Value)> {
        let status = status(
            &self.state,
            &self.context.config.addresses,
            &mut self.writing.transitions,
            now,
        );
        let status = to_map(&status);
        let patch = self.writing.written.patch(&status)?;
        Some((status, patch))
    }
}

/// Whether what would be written is soon to be overtaken: a first start is under way, or a return.
fn starting(state: &PodState) -> bool {
    let quiet = |container: &Container| match &container.state {
        State::Lost { .. } => true,
        State::Starting { .. } | State::Waiting { retry_at: None, .. } => container.last.is_none(),
        State::Running { .. } => true,
        _ => false,
    };
    let placed = matches!(
        state.sandbox,
        Sandbox::SettingUp | Sandbox::Wanted | Sandbox::Ready(_)
    );
    let mut containers = state.containers.iter();
    placed
        && !state.deleted()
        && state.over.is_none()
        && containers.clone().all(quiet)
        && containers.any(|container| !container.running())
}

fn view(container: &Container) -> ContainerView {
    let ran = container.used || container.alive();
    let newest = if ran {
        Some(container.attempt)
    } else {
        container.attempt.checked_sub(1)
    };
    let ended = match &container.state {
        State::Waiting { .. } if container.used && container.last.is_some() => {
            Some(container.attempt)
        }
        _ => container.attempt.checked_sub(1),
    };
    let waiting = match &container.state {
        State::Waiting { reason, .. } => Some(reason.as_str()),
        State::Starting { shown } => Some(match shown {
            Some(shown) => shown.reason.as_str(),
            None => "ContainerCreating",
        }),
        State::PostStart { .. } => Some("ContainerCreating"),
        _ => None,
    };
    let attempt = if matches!(container.state, State::Starting { .. }) {
        container.attempt.checked_sub(1)
    } else {
        newest
    };
    ContainerView {
        name: container.name.clone(),
        attempt,
        running: container.alive(),
        waiting,
        ended,
    }
}
