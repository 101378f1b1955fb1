//! The probes of a pod's containers, and where containers are reached.

use std::{collections::BTreeMap, pin::Pin};

use futures::{
    Stream, StreamExt,
    future::AbortHandle,
    stream::{Abortable, SelectAll},
};

use super::Worker;
use crate::{
    pod::{
        container::Role,
        plan::probes,
        start::ports,
        state::{Observation, Sandbox},
    },
    probe::{Kind, Target, watch},
};

type Verdicts = Pin<Box<dyn Stream<Item = Observation> + Send>>;
/// Place, attempt and kind of a probe.
type Key = (usize, u32, Kind);

/// The probes that run. A pod without any costs two empty collections.
#[derive(Default)]
pub(super) struct Probing {
    running: BTreeMap<Key, AbortHandle>,
    verdicts: SelectAll<Verdicts>,
}

impl Probing {
    /// The next verdict.
    pub(super) async fn next(&mut self) -> Observation {
        match self.verdicts.next().await {
            Some(verdict) => verdict,
            // None runs: there is nothing to wait for.
            None => std::future::pending().await,
        }
    }
}

impl Worker {
    /// Has exactly those probes run that the plan wants.
    pub(super) fn probe(&mut self) {
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
                self.begin_probe(key);
            }
        }
    }

    fn begin_probe(&mut self, key: Key) {
        let (place, attempt, kind) = key;
        let probe = self.state.fields(place).and_then(|fields| kind.of(&fields));
        let (Some(target), Some(probe)) = (self.reached(place), probe) else {
            return;
        };
        let (handle, registration) = AbortHandle::new_pair();
        let verdicts = watch(self.context.clone(), target, kind, probe);
        let observed = verdicts.map(move |verdict| Observation::Probed {
            place,
            attempt,
            kind,
            passed: verdict.passed,
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
            init: matches!(container.role, Role::Init | Role::Sidecar),
            id: self.state.id(place),
            runtime: runtimes
                .find(|runtime| Some(runtime.name()) == name)?
                .clone(),
            ports: ports(&*self.state.fields(place)?),
        })
    }
}
