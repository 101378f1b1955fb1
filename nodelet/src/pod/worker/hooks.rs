//! Lifecycle hooks of containers.

use std::time::Duration;

use futures::{
    FutureExt,
    future::{AbortHandle, Abortable},
};
use k8s_openapi::api::core::v1::{Lifecycle, LifecycleHandler};
use tracing::debug;

use super::{Work, Worker};
use crate::{handler, pod::state::Observation};

impl Worker {
    /// Runs a container's postStart hook: the container is not running before it is over.
    pub(super) fn post_start(&mut self, place: usize) {
        let Some(handler) = self.handler(place, |lifecycle| lifecycle.post_start.clone()) else {
            self.observe(Observation::PostStarted(place, Ok(())));
            return;
        };
        let (context, pod) = (self.context.clone(), self.pod_ref.clone());
        let container = &self.state.containers[place];
        let (name, role) = (container.name.clone(), container.role);
        let target = self.reached(place);
        let hook = async move {
            let outcome = match target {
                Some(target) => handler::run(&target, &handler).await,
                None => Err("the pod has no address".to_owned()),
            };
            if outcome.is_err() {
                let message = "PostStartHook failed".to_owned();
                context.note_container(&pod, &name, role, true, "FailedPostStartHook", message);
            }
            Some(Observation::PostStarted(place, outcome))
        };
        self.take_on(place, hook.boxed());
    }

    /// Runs a container's preStop hook; what it takes is taken from the container's grace.
    pub(super) fn pre_stop(&mut self, place: usize, grace: Duration) {
        let handler = self.handler(place, |lifecycle| lifecycle.pre_stop.clone());
        let (Some(handler), Some(target)) = (handler, self.reached(place)) else {
            self.observe(Observation::PreStopped(place));
            return;
        };
        let (context, pod) = (self.context.clone(), self.pod_ref.clone());
        let container = &self.state.containers[place];
        let (name, role) = (container.name.clone(), container.role);
        let hook = async move {
            if let Err(error) = handler::run(&target, &handler).await {
                debug!(error, ?grace, container = &*name, "preStop hook");
                let message = "PreStopHook failed".to_owned();
                context.note_container(&pod, &name, role, true, "FailedPreStopHook", message);
            }
            Some(Observation::PreStopped(place))
        };
        self.take_on(place, hook.boxed());
    }

    fn handler(
        &self,
        place: usize,
        pick: impl Fn(&Lifecycle) -> Option<LifecycleHandler>,
    ) -> Option<LifecycleHandler> {
        pick(self.state.fields(place)?.lifecycle.as_ref()?)
    }

    /// Has it done until it is over or cancelled.
    fn take_on(&mut self, place: usize, work: Work) {
        let (handle, registration) = AbortHandle::new_pair();
        self.under_way.insert(place, handle);
        let cancellable = Abortable::new(work, registration);
        self.work
            .push(cancellable.map(|done| done.ok().flatten()).boxed());
    }
}
