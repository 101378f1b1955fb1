//! The end of a container: waiting for it, and bringing it about.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::AbortHandle};
use runtimes::{ContainerId, RuntimeError};
use tracing::{debug, error, warn};

use super::{Context, STOP_SLACK, Work, Worker};
use crate::{
    logs,
    pod::{
        container::{State, Step, Stopping, Why},
        message::{self, Sources},
        plan::LEAST_GRACE,
        state::Observation,
    },
};

/// Between looks at a runtime that cannot say how a container is, and tries to end one that will not.
const RETRY: Duration = Duration::from_secs(1);

impl Worker {
    /// Begins to end a container: what starts is cancelled, what runs hears its preStop hook.
    pub(super) fn stop(&mut self, place: usize, why: Why) {
        self.cancel(place);
        let State::Stopping(stopping) = &self.state.containers[place].state else {
            return;
        };
        if stopping.since.is_none() {
            return;
        }
        let (step, grace) = (stopping.step, stopping.grace);
        self.note(place, false, "Killing", self.state.killing(place, why));
        if step == Step::PreStop {
            self.pre_stop(place, grace);
        }
    }

    /// A runtime that was told already is told again.
    pub(super) fn hasten(&mut self, place: usize, grace: Duration) {
        if let State::Stopping(stopping) = &self.state.containers[place].state
            && stopping.step == Step::Signalled
        {
            self.signal(place, grace.max(LEAST_GRACE));
        }
    }

    /// Has the runtime end a container.
    pub(super) fn signal(&mut self, place: usize, grace: Duration) {
        // A hook that is not over by now has had its time.
        self.cancel(place);
        // A container that ran is waited for already; one that was on its way is not.
        let waited = match &self.state.containers[place].state {
            State::Stopping(Stopping { since, .. }) => since.is_some(),
            _ => true,
        };
        let (context, id, sources) = (
            self.context.clone(),
            self.state.id(place),
            self.sources(place),
        );
        let pod = self.pod_ref.clone();
        self.work.push(
            async move {
                while let Err(message) = end(&context, &id, grace).await {
                    context.note(&pod, None, true, "FailedKillPod", message);
                    tokio::time::sleep(RETRY).await;
                }
                if waited {
                    return None;
                }
                Some(exit(&context, place, &id, &sources).await)
            }
            .boxed(),
        );
    }

    fn cancel(&mut self, place: usize) {
        if let Some(handle) = self.under_way.remove(&place) {
            AbortHandle::abort(&handle);
        }
    }

    /// Waits for the end of the container at this place.
    pub(super) fn wait(&self, place: usize) -> Work {
        let (context, id, sources) = (
            self.context.clone(),
            self.state.id(place),
            self.sources(place),
        );
        async move { Some(exit(&context, place, &id, &sources).await) }.boxed()
    }

    fn sources(&self, place: usize) -> Sources {
        let container = &self.state.containers[place];
        let config = &self.context.config;
        let fields = self.state.fields(place).unwrap_or_default();
        let fallback =
            fields.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        let (name, attempt) = (&container.name, container.attempt);
        let log = fallback.then(|| logs::file(&config.log_dir, &self.pod_ref, name, attempt));
        let uid = &self.pod_ref.uid;
        Sources {
            directory: message::directory(&config.pods_dir, uid, name, attempt),
            log,
        }
    }
}

/// Ends a container in whichever runtime holds it; `Err` is the message for the Event.
async fn end(context: &Context, id: &ContainerId, grace: Duration) -> Result<(), String> {
    for runtime in &context.runtimes {
        match tokio::time::timeout(grace + STOP_SLACK, runtime.stop(id, grace)).await {
            Ok(Ok(()) | Err(RuntimeError::NotFound(_))) => {}
            Ok(Err(error)) => {
                warn!(%error, container = %id, "stop a container");
                return Err(format!("error killing pod: stop container {id}: {error}"));
            }
            Err(_) => {
                error!(container = %id, "a runtime did not end a container in time");
                return Err(format!(
                    "error killing pod: container {id} did not end within {} s of the end of its grace period",
                    STOP_SLACK.as_secs()
                ));
            }
        }
    }
    Ok(())
}

/// How a container ended, once it has.
async fn exit(
    context: &Arc<Context>,
    place: usize,
    id: &ContainerId,
    sources: &Sources,
) -> Observation {
    loop {
        let mut trouble = false;
        for runtime in &context.runtimes {
            match runtime.wait(id).await {
                Ok(exit) => return Observation::Exited(place, sources.complete(exit).await),
                Err(RuntimeError::NotFound(_)) => {}
                Err(error) => {
                    debug!(%error, container = %id, "wait for a container");
                    trouble = true;
                }
            }
        }
        if !trouble {
            return Observation::Lost(place);
        }
        tokio::time::sleep(RETRY).await;
    }
}
