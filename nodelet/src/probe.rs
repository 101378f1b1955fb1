//! Probes: whether a container is started, alive and ready, as the kubelet finds out.
//!
//! - [`attempt`]: one probe of whichever sort, and what came of it.
//! - [`http`], [`tcp`], [`grpc`], [`exec`]: the four sorts.
//! - [`dial`]: connections, and what goes wrong with them in the words of Kubernetes' Events.
//! - [`threshold`]: from results to verdicts; pure.
//! - [`counts`]: how often they passed and failed.
//! - [`allowance`]: how many Events a probe may write.
//!
//! [`watch`] is a stream: whoever polls it does the probing, nothing is spawned, and between two probes it holds a
//! timer and a few words. Writes Events and nothing else: what a verdict means is the pod worker's to decide.

mod allowance;
mod attempt;
pub(crate) mod counts;
mod dial;
pub(crate) mod exec;
mod grpc;
pub(crate) mod http;
mod tcp;
mod threshold;

use std::{fmt, sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Container, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use runtimes::{ContainerId, ContainerState, PodAddress, PodRef, Port, Runtime};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use self::{
    allowance::Allowance,
    attempt::Outcome,
    counts::{Counter, Counts},
    threshold::Threshold,
};
use crate::pod::{environment::expand, worker::Context};

/// Probes under way at once on the node; more wait, and their time has not begun.
const CONCURRENT: usize = 1_024;

/// What a probe asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    /// The container's probe of this kind, its command expanded from the values that its `env` gives in plain.
    pub(crate) fn of(self, container: &Container) -> Option<Probe> {
        let probe = match self {
            Kind::Startup => &container.startup_probe,
            Kind::Liveness => &container.liveness_probe,
            Kind::Readiness => &container.readiness_probe,
        };
        let mut probe = probe.clone()?;
        let words = probe
            .exec
            .as_mut()
            .and_then(|exec| exec.command.as_mut())
            .into_iter()
            .flatten();
        for word in words {
            *word = expand(word, |name| {
                let variables = container.env.iter().flatten();
                let mut same = variables.filter(|variable| variable.name == name);
                same.next_back().and_then(|variable| variable.value.clone())
            });
        }
        Some(probe)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        })
    }
}

/// Where a container is reached.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) pod: PodRef,
    pub(crate) address: PodAddress,
    /// The container's name.
    pub(crate) container: String,
    /// Whether it is one of the pod's `initContainers`.
    pub(crate) init: bool,
    pub(crate) id: ContainerId,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) ports: Vec<Port>,
}

impl Target {
    /// A port by number or by its declared name; otherwise why there is none, in the kubelet's words.
    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => i64::from(*number),
            IntOrString::String(name) => {
                let mut named = self.ports.iter();
                match named.find(|port| port.name.as_deref() == Some(name)) {
                    Some(port) => i64::from(port.number),
                    // It may be a number written as a string.
                    None => name
                        .parse()
                        .map_err(|_| format!("strconv.Atoi: parsing {name:?}: invalid syntax"))?,
                }
            }
        };
        match u16::try_from(number) {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("invalid port number: {number}")),
        }
    }
}

/// What a container's probes have come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Verdict {
    pub(crate) kind: Kind,
    pub(crate) passed: bool,
    /// What the last probe said.
    pub(crate) message: String,
}

/// What all probes of a node share.
#[derive(Debug)]
pub(crate) struct Probes {
    pub(crate) counts: Counts,
    permits: Semaphore,
    /// When the nodelet began.
    since: Timestamp,
}

impl Probes {
    pub(crate) fn new(since: Timestamp) -> Probes {
        Probes {
            counts: Counts::default(),
            permits: Semaphore::new(CONCURRENT),
            since,
        }
    }
}

/// Probes a running container until dropped. Yields a verdict when its threshold is first met and whenever it changes;
/// ends after a startup probe's verdict, and after a liveness probe that failed: the container will not go on.
pub(crate) fn watch(
    context: Arc<Context>,
    target: Target,
    kind: Kind,
    probe: Probe,
) -> BoxStream<'static, Verdict> {
    let counter = context.probes.counts.counter(kind, &target);
    let threshold = Threshold::new(
        count(probe.success_threshold, 1),
        count(probe.failure_threshold, 3),
    );
    let watcher = Watcher {
        period: seconds(probe.period_seconds, 10),
        allowance: Allowance::new(context.clock.now()),
        last: None,
        due: None,
        over: false,
        context,
        target,
        kind,
        probe,
        counter,
        threshold,
    };
    stream::unfold(watcher, |mut watcher| async move {
        let verdict = watcher.next().await?;
        Some((verdict, watcher))
    })
    .boxed()
}

/// A field that counts; the API has given it its default already.
fn count(field: Option<i32>, default: u32) -> u32 {
    field
        .and_then(|value| u32::try_from(value).ok())
        .filter(|value| *value > 0)
        .unwrap_or(default)
}

fn seconds(field: Option<i32>, default: u32) -> Duration {
    Duration::from_secs(u64::from(count(field, default)))
}

/// One probe of one container.
struct Watcher {
    context: Arc<Context>,
    target: Target,
    kind: Kind,
    probe: Probe,
    period: Duration,
    threshold: Threshold,
    counter: Counter,
    allowance: Allowance,
    /// The last verdict that was told.
    last: Option<bool>,
    /// When to probe next; not known before the first.
    due: Option<Instant>,
    over: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<Verdict> {
        while !self.over {
            let due = match self.due {
                Some(due) => due,
                None => Instant::now() + self.first().await,
            };
            sleep_until(due).await;
            // Each period has its probe; those that a slow one has overrun are left out.
            self.due = Some((due + self.period).max(Instant::now()));
            let (passed, message) = match self.attempt().await {
                Outcome::Success(message) => (true, message),
                Outcome::Warning(message) => {
                    let text = format!("{} probe warning: {message}", self.kind);
                    self.note("ProbeWarning", text);
                    (true, message)
                }
                Outcome::Failure(message) => {
                    self.note(
                        "Unhealthy",
                        format!("{} probe failed: {message}", self.kind),
                    );
                    (false, message)
                }
                // It says nothing about the container, so it counts for nothing.
                Outcome::Error { state, message } => {
                    let kind = self.kind;
                    let text =
                        format!("{kind} probe errored and resulted in {state} state: {message}");
                    self.note("Unhealthy", text);
                    continue;
                }
            };
            self.counter.add(passed);
            let Some(passed) = self.threshold.push(passed) else {
                continue;
            };
            self.over = match self.kind {
                Kind::Startup => true,
                Kind::Liveness => !passed,
                Kind::Readiness => false,
            };
            if self.last.replace(passed) != Some(passed) {
                return Some(Verdict {
                    kind: self.kind,
                    passed,
                    message,
                });
            }
        }
        None
    }

    /// How long to wait before the first probe: what is left of the initial delay. Containers that an earlier process
    /// left running are not all probed at once when the nodelet starts, but within a period.
    async fn first(&self) -> Duration {
        let delay = u64::try_from(self.probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
        let delay = Duration::from_secs(delay);
        let status = self.target.runtime.status(&self.target.id).await;
        let Ok(ContainerState::Running { started_at }) = status.map(|status| status.state) else {
            return delay;
        };
        let Ok(started_at) = Timestamp::try_from(started_at) else {
            return delay;
        };
        let age = self.context.clock.now().duration_since(started_at);
        let left = delay.saturating_sub(Duration::try_from(age).unwrap_or_default());
        if started_at < self.context.probes.since {
            left.max(self.period.mul_f64(rand::random()))
        } else {
            left
        }
    }

    async fn attempt(&self) -> Outcome {
        let _permit = self.context.probes.permits.acquire().await;
        // In a box, so that a watcher at rest is small.
        Box::pin(attempt::attempt(&self.target, &self.probe)).await
    }

    fn note(&mut self, reason: &'static str, message: String) {
        if self.allowance.take(self.context.clock.now()) {
            let container = Some((self.target.container.as_str(), self.target.init));
            let pod = &self.target.pod;
            self.context.note(pod, container, true, reason, message);
        }
    }
}

#[cfg(test)]
mod tests;
