//! Scales what a HorizontalPodAutoscaler names, by what its pods use and by other metrics.
//!
//! Reads `HorizontalPodAutoscaler`, `Pod`, the metrics APIs and the `scale` of any kind; writes that `scale`
//! and the autoscaler's status. Never touches a target that was set to no replicas, nor one whose pods
//! another autoscaler counts too.
//!
//! - [`calculate`]: how many replicas a metric asks for. [`propose`]: the same with Kubernetes' words.
//! - [`limits`]: how fast that is followed. [`memory`]: what it is followed by.
//! - [`counted`]: which pods. [`usage`]: what the metrics APIs tell of them. [`ask`]: asks.
//! - [`status`]: tells what was seen and done.

mod ask;
mod calculate;
mod counted;
mod limits;
mod memory;
mod propose;
mod status;
mod usage;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::core::Selector;
use tokio::time::Instant;

use crate::cache::Listener;
use crate::context::Context;
use crate::error::Error;
use crate::events::Severity;
use crate::key::Key;
use crate::manager::Manager;
use crate::quantity;
use crate::queue::{Action, Queue};
use crate::scale::{self, Served};

use ask::Questions;
use calculate::{Scene, Tolerance};
use counted::counted;
use limits::{Limited, limit};
use memory::Memory;
use propose::{Verdict, propose};
use status::Draft;

/// How often a target that somebody else changes meanwhile is read again.
const ATTEMPTS: usize = 4;

/// What an operator may choose; the names and defaults are those of Kubernetes' flags.
#[derive(Clone, Copy, Debug)]
pub struct Autoscaling {
    /// How often each autoscaler looks.
    pub sync_period: Duration,
    /// The window of going down, where an autoscaler names none.
    pub downscale_stabilization: Duration,
    /// The share by which a metric may miss its target, where an autoscaler names none.
    pub tolerance: f64,
    /// How long after its start a pod's CPU counts only once it has been ready for a whole sample.
    pub cpu_initialization_period: Duration,
    /// How long after its start a pod may turn unready and count as never having been ready.
    pub initial_readiness_delay: Duration,
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(300),
            tolerance: 0.1,
            cpu_initialization_period: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
        }
    }
}

/// All autoscalers: what each remembers, and which pods it counts.
#[derive(Default)]
struct Autoscalers {
    memories: Mutex<HashMap<Key, Memory>>,
    selectors: Mutex<HashMap<Key, Selector>>,
}

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let queue = Queue::new("horizontalpodautoscaler");
    manager.context.autoscalers.listen(on_spec(&queue));
    let all = Arc::new(Autoscalers::default());
    manager.work(queue, move |context, key| {
        reconcile(context, all.clone(), key)
    });
}

/// An autoscaler that comes, goes or is to do something else. What is written of its status wakes nobody.
fn on_spec(queue: &Queue<Key>) -> Listener<HorizontalPodAutoscaler> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        if let (Some(old), Some(new)) = (old, new)
            && old.spec == new.spec
        {
            return;
        }
        let autoscaler = new.or(old).into_iter();
        autoscaler.for_each(|autoscaler| queue.add(Key::of(&**autoscaler)));
    })
}

/// Looks at one autoscaler, if its time has come.
async fn reconcile(
    context: Arc<Context>,
    all: Arc<Autoscalers>,
    key: Key,
) -> Result<Action, Error> {
    let Some(autoscaler) = context.autoscalers.get(&key) else {
        all.memories().remove(&key);
        all.selectors().remove(&key);
        return Ok(Action::AwaitChange);
    };
    let now = Instant::now();
    let kept = all.memories().remove(&key);
    let mut memory = kept
        .filter(|memory| memory.uid == autoscaler.uid())
        .unwrap_or_default();
    let same = memory.spec.as_ref() == Some(&autoscaler.spec);
    let due = match memory.due.filter(|due| same && *due > now) {
        Some(due) => due,
        None => {
            memory.uid = autoscaler.uid();
            memory.spec = Some(autoscaler.spec.clone());
            let looked = look(&context, &all, &autoscaler, &mut memory).await;
            if let Err(error) = looked {
                // Its status and Events say so; the next look comes in its time all the same.
                tracing::debug!(autoscaler = %key, %error, "an autoscaler could not do all of its work");
            }
            next(memory.due, now, context.config.autoscaling.sync_period)
        }
    };
    memory.due = Some(due);
    all.memories().insert(key, memory);
    Ok(Action::After(due.saturating_duration_since(Instant::now())))
}

/// The next look: a whole number of periods after the one before, so that looks do not drift.
fn next(due: Option<Instant>, now: Instant, period: Duration) -> Instant {
    let next = due.map_or(now, |due| due.min(now)) + period;
    if next > now { next } else { now + period }
}

/// Looks at a target and does what its metrics ask for.
async fn look(
    context: &Context,
    all: &Autoscalers,
    autoscaler: &Arc<HorizontalPodAutoscaler>,
    memory: &mut Memory,
) -> Result<(), Error> {
    let mut draft = Draft::of(autoscaler, Timestamp::now());
    let (served, scale) = match target(context, autoscaler).await {
        Ok(target) => target,
        Err(error) => {
            let cause = error.to_string();
            let message =
                format!("the HPA controller was unable to get the target's current scale: {cause}");
            warn(context, autoscaler, "FailedGetScale", cause);
            draft.set("AbleToScale", false, "FailedGetScale", &message);
            draft.write(context).await?;
            return Err(error);
        }
    };
    let message = "the HPA controller was able to get the target's current scale";
    draft.set("AbleToScale", true, "SucceededGetScale", message);
    let current = scale::replicas(&scale);
    memory.begin(current, Instant::now());

    let spec = &autoscaler.spec;
    let (least, most) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
    let (mut metrics, mut failed) = (Vec::new(), None);
    let (desired, reason) = if current == 0 && least != 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        draft.set("ScalingActive", false, "ScalingDisabled", message);
        (0, String::new())
    } else if current > most {
        let reason = "Current number of replicas above Spec.MaxReplicas";
        (most, reason.to_owned())
    } else if current < least {
        let reason = "Current number of replicas below Spec.MinReplicas";
        (least, reason.to_owned())
    } else {
        let verdict = judge(context, all, autoscaler, &scale, &mut draft).await;
        let verdict = verdict.unwrap_or_else(|error| {
            failed = Some(error);
            Verdict::of(current, Vec::new())
        });
        failed = failed.or_else(|| verdict.error());
        for failure in &verdict.failures {
            warn(context, autoscaler, failure.reason, failure.cause.clone());
        }
        metrics = verdict.statuses;
        let Some((wanted, metric)) = verdict.replicas else {
            if let Some(failure) = verdict.failures.first() {
                let cause = &failure.cause;
                let message = format!("the HPA was unable to compute the replica count: {cause}");
                draft.set("ScalingActive", false, failure.reason, &message);
            }
            draft.count(current, None, metrics);
            let error = failed.unwrap_or_default();
            draft.write(context).await?;
            warn(
                context,
                autoscaler,
                "FailedComputeMetricsReplicas",
                error.clone(),
            );
            return Err(Error::Invalid(error));
        };
        let message =
            format!("the HPA was able to successfully calculate a replica count from {metric}");
        draft.set("ScalingActive", true, "ValidMetricFound", &message);
        let window = context.config.autoscaling.downscale_stabilization;
        let limited = limit(spec, memory, (current, wanted), window, Instant::now());
        (
            condition(&mut draft, &limited),
            why(current, wanted, &metric),
        )
    };
    if desired != current {
        if let Err(error) = rescale(context, &served, &scale, desired).await {
            let message = format!("New size: {desired}; reason: {reason}; error: {error}");
            warn(context, autoscaler, "FailedRescale", message);
            let message =
                format!("the HPA controller was unable to update the target scale: {error}");
            draft.set("AbleToScale", false, "FailedUpdateScale", &message);
            draft.count(current, None, metrics);
            draft.write(context).await?;
            return Err(error);
        }
        let message =
            format!("the HPA controller was able to update the target scale to {desired}");
        draft.set("AbleToScale", true, "SucceededRescale", &message);
        let message = format!("New size: {desired}; reason: {reason}");
        tell(
            context,
            autoscaler,
            Severity::Normal,
            "SuccessfulRescale",
            message,
        );
        memory.rescaled(current, desired, Instant::now());
        draft.rescaled();
    }
    draft.count(current, Some(desired), metrics);
    draft.write(context).await?;
    failed.map_or(Ok(()), |error| Err(Error::Invalid(error)))
}

/// What is scaled, and its scale.
async fn target(
    context: &Context,
    autoscaler: &HorizontalPodAutoscaler,
) -> Result<(Served, Scale), Error> {
    let target = &autoscaler.spec.scale_target_ref;
    let (client, scales) = (&context.client, &context.scales);
    let version = target.api_version.as_deref().unwrap_or_default();
    let served = scales.served(client, version, &target.kind).await?;
    if !served.scaled {
        let text = "the server could not find the requested resource";
        return Err(Error::NotFound(text.to_owned()));
    }
    let namespace = autoscaler.namespace().unwrap_or_default();
    let scale = scale::get(client, &namespace, &served, &target.name).await?;
    Ok((served, scale))
}

/// Asks for all metrics and weighs what they say.
///
/// # Errors
/// The selector is of no use: then nothing was asked.
async fn judge(
    context: &Context,
    all: &Autoscalers,
    autoscaler: &Arc<HorizontalPodAutoscaler>,
    scale: &Scale,
    draft: &mut Draft<'_>,
) -> Result<Verdict, String> {
    let namespace = autoscaler.namespace().unwrap_or_default();
    let status = scale.status.as_ref();
    let text = status.and_then(|status| status.selector.as_deref());
    let text = text.unwrap_or_default();
    let pods = match counted(context, &all.selectors, autoscaler, text) {
        Ok(pods) => pods,
        Err(unusable) => {
            warn(context, autoscaler, unusable.event, unusable.error.clone());
            draft.set("ScalingActive", false, unusable.reason, &unusable.message);
            return Err(unusable.error);
        }
    };
    let mut questions = Questions::new(context, &namespace, text);
    let specs: Vec<&MetricSpec> = autoscaler.spec.metrics.iter().flatten().collect();
    let mut seen = Vec::with_capacity(specs.len());
    for spec in &specs {
        seen.push(questions.ask(spec).await);
    }
    let autoscaling = context.config.autoscaling;
    let scene = Scene {
        wanted: scale::replicas(scale),
        present: status.map_or(0, |status| status.replicas),
        pods: &pods,
        tolerance: tolerance(autoscaler, autoscaling.tolerance),
        timing: Timing::of(&autoscaling),
        now: Timestamp::now(),
    };
    let asked = specs.into_iter().zip(seen);
    let proposals = asked
        .map(|(spec, seen)| propose(spec, seen, &scene))
        .collect();
    Ok(Verdict::of(scene.wanted, proposals))
}

/// How pods that have just begun count.
#[derive(Clone, Copy, Debug)]
struct Timing {
    cpu_initialization: Duration,
    initial_readiness: Duration,
}

impl Timing {
    fn of(autoscaling: &Autoscaling) -> Self {
        Self {
            cpu_initialization: autoscaling.cpu_initialization_period,
            initial_readiness: autoscaling.initial_readiness_delay,
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::of(&Autoscaling::default())
    }
}

fn tolerance(autoscaler: &HorizontalPodAutoscaler, default: f64) -> Tolerance {
    let behavior = autoscaler.spec.behavior.as_ref();
    let own = |tolerance: Option<&Quantity>| share(&tolerance?.0);
    let up = behavior.and_then(|behavior| behavior.scale_up.as_ref());
    let down = behavior.and_then(|behavior| behavior.scale_down.as_ref());
    Tolerance {
        up: up
            .and_then(|rules| own(rules.tolerance.as_ref()))
            .unwrap_or(default),
        down: down
            .and_then(|rules| own(rules.tolerance.as_ref()))
            .unwrap_or(default),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
fn share(quantity: &str) -> Option<f64> {
    Some(quantity::nanos(quantity)? as f64 / 1e9)
}

/// Says how a recommendation was limited, and gives what is left of it.
fn condition(draft: &mut Draft<'_>, limited: &Limited) -> i32 {
    let (reason, message) = limited.able;
    draft.set("AbleToScale", true, reason, message);
    let (is, reason, message) = limited.limited;
    draft.set("ScalingLimited", is, reason, message);
    limited.replicas
}

fn why(current: i32, wanted: i32, metric: &str) -> String {
    if wanted > current {
        format!("{metric} above target")
    } else if wanted < current {
        "All metrics below target".to_owned()
    } else {
        String::new()
    }
}

/// Wants so many replicas. Whoever else wrote to the target meanwhile is heard, unless it was about this.
async fn rescale(
    context: &Context,
    served: &Served,
    scale: &Scale,
    replicas: i32,
) -> Result<(), Error> {
    let mut seen = scale.clone();
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match scale::set(&context.client, served, &seen, replicas).await {
            Err(Error::Conflict(message)) => {
                let metadata = &scale.metadata;
                let namespace = metadata.namespace.as_deref().unwrap_or_default();
                let name = metadata.name.as_deref().unwrap_or_default();
                seen = scale::get(&context.client, namespace, served, name).await?;
                let same = seen.metadata.uid == metadata.uid
                    && scale::replicas(&seen) == scale::replicas(scale);
                if left == 0 || !same {
                    return Err(Error::Conflict(message));
                }
            }
            outcome => return outcome,
        }
    }
}

fn warn(
    context: &Context,
    autoscaler: &Arc<HorizontalPodAutoscaler>,
    reason: &'static str,
    message: String,
) {
    tell(context, autoscaler, Severity::Warning, reason, message);
}

fn tell(
    context: &Context,
    autoscaler: &Arc<HorizontalPodAutoscaler>,
    severity: Severity,
    reason: &'static str,
    message: String,
) {
    let recorder = context.recorder.named("horizontal-pod-autoscaler");
    recorder.record(&**autoscaler, severity, reason, message);
}

impl Autoscalers {
    fn memories(&self) -> MutexGuard<'_, HashMap<Key, Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn selectors(&self) -> MutexGuard<'_, HashMap<Key, Selector>> {
        self.selectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
