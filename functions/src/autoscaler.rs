//! Says how many pods the revisions of containers have, by how many requests there are at once.
//!
//! Reads `FunctionRevision` and what gateways count ([`Demand`]); writes `spec.replicas` of revisions through their
//! `scale`. Never makes or deletes a pod: the controller does, within the bounds of the revision.
//!
//! [`window`] is what is remembered of the demand, [`decide`] what follows from it; both are pure. After a restart it
//! takes revisions for busy until one window has passed, so that nothing is taken away from requests under way.

mod decide;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    controller::revision::{Revision, Runtime},
    error::{Error, within_opt},
    key::Key,
    metrics,
};
use decide::{Bounds, State, decide};

/// How often gateways are asked.
const PERIOD: Duration = Duration::from_secs(2);
/// How long they may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// What a revision was asked for lately, all gateways together.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Sample {
    /// Requests at once, those that wait among them.
    pub concurrency: f64,
    /// Those that wait for a pod now.
    pub waiting: u64,
}

/// What gateways count.
#[async_trait]
pub trait Demand: Send + Sync + 'static {
    /// The demand of every revision of a container that has any.
    ///
    /// # Errors
    /// A gateway did not answer: nothing is decided without it.
    async fn demand(&self) -> anyhow::Result<Vec<(Key, Sample)>>;
}

/// Decides every [`PERIOD`] until `stop`.
pub(crate) async fn run(context: Arc<Context>, demand: Arc<dyn Demand>, stop: CancellationToken) {
    let mut states: BTreeMap<Key, State> = BTreeMap::new();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let asked = tokio::time::timeout(ANSWER, demand.demand()).await;
        let samples = match asked {
            Ok(Ok(samples)) => samples,
            Ok(Err(error)) => {
                tracing::warn!(%error, "ask gateways for the demand");
                continue;
            }
            Err(_) => {
                tracing::warn!("gateways did not tell the demand in time");
                continue;
            }
        };
        let samples: BTreeMap<Key, Sample> = samples.into_iter().collect();
        let now = started.elapsed();
        let revisions = containers(&context, &samples);
        let known: BTreeSet<&Key> = revisions.iter().map(|(key, _)| key).collect();
        states.retain(|key, _| known.contains(key));
        for (key, revision) in &revisions {
            let sample = samples.get(key).copied().unwrap_or_default();
            let state = states.entry(key.clone()).or_insert_with(|| State::new(now));
            if let Err(error) = apply(&context, key, revision, state, sample, now).await {
                tracing::warn!(%error, revision = %key, "scale a revision; trying again");
            }
        }
    }
}

/// Revisions of containers that serve, and have pods or are asked for some.
fn containers(context: &Context, samples: &BTreeMap<Key, Sample>) -> Vec<(Key, Revision)> {
    let sets = context.sets.keys();
    let keys: BTreeSet<&Key> = sets.iter().chain(samples.keys()).collect();
    keys.into_iter()
        .filter_map(|key| {
            let revision = Revision::read(&context.revisions.get(key)?).ok()?;
            let scales = revision.runtime() == Some(Runtime::Container) && revision.was_ready();
            (scales && !revision.deleting).then(|| (key.clone(), revision))
        })
        .collect()
}

async fn apply(
    context: &Context,
    key: &Key,
    revision: &Revision,
    state: &mut State,
    sample: Sample,
    now: Duration,
) -> Result<(), Error> {
    let status = revision.read.status.as_ref();
    let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
    let current = revision.typed().replicas.unwrap_or(1);
    let decision = decide(
        &Bounds::of(revision.typed()),
        state,
        sample,
        u32::try_from(ready).unwrap_or(0),
        u32::try_from(current).unwrap_or(0),
        now,
    );
    metrics::decided(decision.panics);
    let wanted = i32::try_from(decision.replicas).unwrap_or(i32::MAX);
    if revision.typed().replicas == Some(wanted) {
        return Ok(());
    }
    tracing::info!(
        revision = %key, replicas = wanted, before = current, panics = decision.panics,
        "the scale of a revision changes"
    );
    let api: Api<kube::api::DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &key.namespace,
        &context.kinds.revisions,
    );
    // Whoever changed it meanwhile (a gateway that wants the first pod) is heard first.
    let object = context.revisions.get(key);
    let version = object.and_then(|object| object.resource_version());
    let patch = json!({
        "metadata": {"resourceVersion": version},
        "spec": {"replicas": wanted},
    });
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    match within_opt(api.patch_scale(&key.name, &params, &patch)).await {
        Ok(_) | Err(Error::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
