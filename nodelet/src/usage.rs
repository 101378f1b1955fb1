//! What the node and its containers use: CPU time and memory, sampled all the time so that there is a rate to
//! tell whenever somebody asks.
//!
//! - [`series`]: a few samples, and the rate between them. Pure.
//! - [`disk`]: what pods keep on disk. [`limits`]: which of them keep more than they may; pure.
//! - [`summary`]: `/stats/summary`. [`resource`]: `/metrics/resource`. Pure.
//!
//! A container's figures are its runtime's ([`runtimes::Stats`]); the node's are the host's, from `/proc`.
//! Nothing is kept beyond the window, and nothing of a container that has ended.

pub(crate) mod disk;
mod limits;
pub(crate) mod resource;
mod series;
pub(crate) mod summary;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use runtimes::{ContainerId, ContainerState, PodRef, Runtime};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::debug;

use crate::{clock::Clock, host, pods::Pods};
pub(crate) use series::Used;
use series::{Sample, Series};

/// How often a sample is taken.
const PERIOD: Duration = Duration::from_secs(5);
/// How long one round of asking the runtimes may take.
const DEADLINE: Duration = Duration::from_secs(4);

/// A container that runs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) uid: String,
    pub(crate) container: String,
}

/// What is known of a container.
#[derive(Debug)]
struct Known {
    id: ContainerId,
    started_at: Timestamp,
    series: Series,
}

#[derive(Default, Debug)]
struct State {
    node: Series,
    containers: BTreeMap<Place, Known>,
}

/// What is used now; shared by whoever samples and whoever tells.
#[derive(Clone, Default, Debug)]
pub(crate) struct Usage(Arc<Mutex<State>>);

/// What a running container uses.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ContainerUsage {
    pub(crate) place: Place,
    pub(crate) started_at: Timestamp,
    pub(crate) used: Used,
}

/// What everything on the node uses.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct NodeUsage {
    /// Of the host as a whole; nothing before the first sample.
    pub(crate) node: Option<Used>,
    /// By namespace, pod and container.
    pub(crate) containers: Vec<ContainerUsage>,
}

impl Usage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets containers other than these.
    fn keep(&self, ids: &HashSet<&ContainerId>) {
        let mut state = self.lock();
        state.containers.retain(|_, known| ids.contains(&known.id));
    }

    /// What was last seen.
    pub(crate) fn now(&self) -> NodeUsage {
        let state = self.lock();
        let containers = state.containers.iter().filter_map(|(place, known)| {
            Some(ContainerUsage {
                place: place.clone(),
                started_at: known.started_at,
                used: known.series.used()?,
            })
        });
        NodeUsage {
            node: state.node.used(),
            containers: containers.collect(),
        }
    }
}

/// Takes the samples.
pub(crate) struct Sampler {
    pub(crate) usage: Usage,
    pub(crate) pods: Pods,
    pub(crate) runtimes: Vec<Arc<dyn Runtime>>,
    pub(crate) clock: Clock,
}

impl Sampler {
    /// Samples until it is dropped.
    pub(crate) async fn run(self) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if tokio::time::timeout(DEADLINE, self.sample()).await.is_err() {
                debug!("the runtimes did not say in time what their containers use");
            }
        }
    }

    async fn sample(&self) {
        if let Some(cpu) = host::cpu_time() {
            let (total, available) = host::memory();
            let sample = self.take(cpu, total.saturating_sub(available));
            self.usage.lock().node.push(sample);
        }
        let running = self.pods.running();
        let ids: HashSet<&ContainerId> = running.iter().map(|(_, _, id)| id).collect();
        self.usage.keep(&ids);
        for (pod, container, id) in running {
            self.sample_container(pod, &container, id).await;
        }
    }

    fn take(&self, cpu: Duration, memory_bytes: u64) -> Sample {
        Sample {
            at: Instant::now(),
            time: self.clock.now(),
            cpu,
            memory_bytes,
        }
    }

    async fn sample_container(&self, pod: PodRef, container: &str, id: ContainerId) {
        for runtime in &self.runtimes {
            // One that is of another runtime, or has just ended, is not there.
            let Ok(status) = runtime.status(&id).await else {
                continue;
            };
            let ContainerState::Running { started_at } = status.state else {
                return;
            };
            let (Ok(stats), Ok(started_at)) =
                (runtime.stats(&id).await, Timestamp::try_from(started_at))
            else {
                return;
            };
            let place = Place {
                namespace: pod.namespace,
                pod: pod.name,
                uid: pod.uid,
                container: container.to_owned(),
            };
            let sample = self.take(stats.cpu, stats.memory_bytes);
            let mut state = self.usage.lock();
            let known = state.containers.entry(place).or_insert_with(|| Known {
                id: id.clone(),
                started_at,
                series: Series::default(),
            });
            known.series.push(sample);
            return;
        }
    }
}
