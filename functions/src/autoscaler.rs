//! Says how many pods the revisions of containers have, by how many requests there are at once.
//!
//! Reads `FunctionRevision` and what gateways count ([`Demand`]); writes `spec.replicas` of revisions through their
//! `scale`. Never makes or deletes a pod: the controller does, within the bounds of the revision.
//!
//! [`gather`] asks the gateways; [`window`] is what is remembered of the demand, [`decide`] what follows from it, both
//! pure. After a restart, or where another process led before, it takes revisions for busy until every gateway has
//! spoken and one window has passed, so that nothing is taken away from requests under way.

mod decide;
mod gather;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

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
use gather::{Gathered, Gatherer};

pub use gather::{Demand, Gateway};

/// How often gateways are asked.
const PERIOD: Duration = Duration::from_secs(2);
/// How long it may take to learn which gateways there are.
const LIST: Duration = Duration::from_secs(2);

/// What a revision was asked for lately.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Sample {
    /// Requests at once, those that wait among them.
    pub concurrency: f64,
    /// Those that wait for a pod now.
    pub waiting: u64,
}

/// Decides every [`PERIOD`] until `stop`.
pub(crate) async fn run(context: Arc<Context>, demand: Arc<dyn Demand>, stop: CancellationToken) {
    let mut states: BTreeMap<Key, State> = BTreeMap::new();
    let mut gatherer = Gatherer::default();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let gateways = match tokio::time::timeout(LIST, demand.gateways()).await {
            Ok(Ok(gateways)) => gateways,
            Ok(Err(error)) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "learn which gateways there are");
                continue;
            }
            Err(_) => {
                tracing::warn!("it took too long to learn which gateways there are");
                continue;
            }
        };
        let Gathered { samples, gaps } = gatherer.gather(gateways, started.elapsed()).await;
        let now = started.elapsed();
        let revisions = containers(&context, &samples);
        let known: BTreeSet<&Key> = revisions.iter().map(|(key, _)| key).collect();
        states.retain(|key, _| known.contains(key));
        for (key, revision) in &revisions {
            let sample = samples.get(key).copied().unwrap_or_default();
            let state = states.entry(key.clone()).or_insert_with(|| State::new(now));
            state.learn(gaps, now);
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
