//! The status of a StatefulSet: counted from its pods, and written when something of it changed.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::plan::{Seen, available};
use crate::context::{Context, resource};
use crate::error::{Error, within_opt};
use crate::history::REVISION_LABEL;
use crate::pod;

/// Counts the pods. When all are of the new revision and ready, that is the current one.
pub(super) fn count(seen: &Seen<'_>) -> StatefulSetStatus {
    let count = |test: &dyn Fn(&Pod) -> bool| {
        let pods = seen.pods.iter().filter(|pod| test(pod));
        i32::try_from(pods.count()).unwrap_or(i32::MAX)
    };
    let of = |pod: &Pod, revision: &str| {
        pod.metadata.deletion_timestamp.is_none()
            && pod.labels().get(REVISION_LABEL).map(String::as_str) == Some(revision)
    };
    let ready = |pod: &Pod| pod::phase(pod) == "Running" && pod::ready(pod);
    let seconds = seen.set.min_ready_seconds;
    let mut status = StatefulSetStatus {
        replicas: count(&|_| true),
        ready_replicas: Some(count(&ready)),
        available_replicas: Some(count(&|pod| available(pod, seconds, seen.now))),
        current_replicas: Some(count(&|pod| of(pod, seen.current))),
        updated_replicas: Some(count(&|pod| of(pod, seen.update))),
        current_revision: Some(seen.current.to_owned()),
        update_revision: Some(seen.update.to_owned()),
        ..StatefulSetStatus::default()
    };
    let wanted = seen.set.ordinals.end - seen.set.ordinals.start;
    let all = |count: Option<i32>| count.map(i64::from) == Some(wanted);
    let counts = [
        status.updated_replicas,
        status.ready_replicas,
        Some(status.replicas),
    ];
    if seen.set.rolling.is_some() && counts.into_iter().all(all) {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
    status
}

/// Writes the status if it differs from what the set has.
pub(super) async fn write(
    context: &Context,
    set: &StatefulSet,
    status: &StatefulSetStatus,
) -> Result<(), Error> {
    let mut wanted = json!({
        "observedGeneration": set.metadata.generation,
        "replicas": status.replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "currentReplicas": status.current_replicas,
        "updatedReplicas": status.updated_replicas,
        "currentRevision": status.current_revision,
        "updateRevision": status.update_revision,
    });
    let have = json!(set.status.clone().unwrap_or_default());
    let same = |(field, value): (&String, &serde_json::Value)| {
        have[field] == *value || (have[field].is_null() && *value == 0)
    };
    let known = wanted
        .as_object()
        .is_some_and(|wanted| wanted.iter().all(same));
    if known && !have["collisionCount"].is_null() {
        return Ok(());
    }
    if have["collisionCount"].is_null() {
        wanted["collisionCount"] = json!(0);
    }
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &set.namespace().unwrap_or_default(),
        &resource::<StatefulSet>(),
    );
    let patch = json!({"metadata": {"uid": set.uid()}, "status": wanted});
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let answer = within_opt(api.patch_status(&set.name_any(), &params, &patch)).await?;
    answer
        .into_iter()
        .for_each(|set| context.statefulsets.apply(set));
    Ok(())
}
