//! The probes of a pod's containers, and where containers are reached.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use futures::{
    Stream, StreamExt,
    future::AbortHandle,
    stream::{self, Abortable, SelectAll},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LifecycleHandler, Probe};
use runtimes::{ContainerId, PodAddress, PodRef, Port, Runtime};

use super::{Context, Worker};
use crate::pod::{
    container::Probed,
    plan::probes,
    start::ports,
    state::{Observation, Sandbox},
};

type Verdicts = Pin<Box<dyn Stream<Item = Observation> + Send>>;
/// Place, attempt and kind of a probe.
type Key = (usize, u32, Probed);

/// The probes that run. A pod without any costs two empty collections.
#[derive(Default)]
pub(super) struct Probing {
    running: BTreeMap<Key, AbortHandle>,
    verdicts: SelectAll<Verdicts>,
}

impl Probing {
    /// The next verdict.
    pub(super) async fn next(&mut self) -> Observation {
        if self.verdicts.is_empty() {
            return std::future::pending().await;
        }
        match self.verdicts.next().await {
            Some(verdict) => verdict,
            None => std::future::pending().await,
        }
    }
}

impl Worker {
    /// Has exactly those probes run that the plan wants.
    pub(super) fn probe(&mut self, now: Timestamp) {
        let wanted = probes(&self.state);
        self.probing.running.retain(|key, handle| {
            let keep = wanted.contains(key);
            if !keep {
                handle.abort();
            }
            keep
        });
        for key in wanted {
            if !self.probing.running.contains_key(&key) {
                self.begin_probe(key, now);
            }
        }
    }

    fn begin_probe(&mut self, key: Key, now: Timestamp) {
        let (place, attempt, probed) = key;
        let (Some(target), Some(probe)) = (self.reached(place), self.state.probe(place, probed))
        else {
            return;
        };
        let mut probe = probe.clone();
        // Counted from the container's start, which may be a startup probe ago.
        let since = self.state.containers[place].running_since().unwrap_or(now);
        let ran = i32::try_from(now.duration_since(since).as_secs()).unwrap_or(i32::MAX);
        probe.initial_delay_seconds = probe
            .initial_delay_seconds
            .map(|delay| delay.saturating_sub(ran).max(0));
        let verdicts = watch(self.context.clone(), target, probed, probe);
        let (handle, registration) = AbortHandle::new_pair();
        let observed = verdicts.map(move |passed| Observation::Probed {
            place,
            attempt,
            probed,
            passed,
        });
        let verdicts = Abortable::new(observed, registration);
        self.probing.verdicts.push(Box::pin(verdicts));
        self.probing.running.insert(key, handle);
    }

    /// Where a container is reached; `None` if its pod has no address or it has no runtime.
    pub(super) fn reached(&self, place: usize) -> Option<Target> {
        let Sandbox::Ready(address) = self.state.sandbox else {
            return None;
        };
        let container = &self.state.containers[place];
        let name = container.container_id.split("://").next();
        let mut runtimes = self.context.runtimes.iter();
        Some(Target {
            pod: self.pod_ref.clone(),
            address,
            container: container.name.to_string(),
            id: self.state.id(place),
            runtime: runtimes
                .find(|runtime| Some(runtime.name()) == name)?
                .clone(),
            ports: ports(&*self.state.fields(place)?),
        })
    }
}

/// Where a container is reached.
#[expect(dead_code, reason = "what asks a container something is not here yet")]
pub(super) struct Target {
    pub(super) pod: PodRef,
    pub(super) address: PodAddress,
    pub(super) container: String,
    pub(super) id: ContainerId,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) ports: Vec<Port>,
}

/// Every container is taken to be well.
fn watch(
    _context: Arc<Context>,
    _target: Target,
    _probed: Probed,
    _probe: Probe,
) -> Pin<Box<dyn Stream<Item = bool> + Send>> {
    Box::pin(stream::iter([true]))
}

/// Hooks have nothing to say.
pub(super) async fn hook(_target: &Target, _handler: &LifecycleHandler) -> Result<(), String> {
    Ok(())
}
