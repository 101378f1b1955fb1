//! What a DaemonSet's status says, and writing it.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::view::View;
use crate::context::{Context, resource};
use crate::error::{Error, within_opt};
use crate::pod;

/// Counts nodes. Pure.
pub(super) fn status(view: &View<'_>) -> DaemonSetStatus {
    let mut status = DaemonSetStatus::default();
    let [mut updated, mut available] = [0, 0];
    for (node, verdict) in &view.nodes {
        let oldest = view.on(node).first();
        if !verdict.runs {
            status.number_misscheduled += i32::from(oldest.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        if let Some(pod) = oldest {
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(pod::ready(pod));
            available += i32::from(view.available(pod));
            updated += i32::from(view.updated(pod));
        }
    }
    status.updated_number_scheduled = Some(updated);
    status.number_available = Some(available);
    status.number_unavailable = Some(status.desired_number_scheduled - available);
    status
}

/// Writes the status if it changed. `acted`: whether what the generation asks for has been looked into.
pub(super) async fn write(
    context: &Context,
    set: &DaemonSet,
    mut status: DaemonSetStatus,
    acted: bool,
) -> Result<(), Error> {
    let old = set.status.clone().unwrap_or_default();
    status.observed_generation = if acted {
        set.metadata.generation
    } else {
        old.observed_generation
    };
    if fields(&old) == fields(&status) {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": set.uid()}, "status": fields(&status)});
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &set.namespace().unwrap_or_default(),
        &resource::<DaemonSet>(),
    );
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let answer = within_opt(api.patch_status(&set.name_any(), &params, &patch)).await?;
    answer
        .into_iter()
        .for_each(|set| context.daemonsets.apply(set));
    Ok(())
}

/// As Kubernetes writes it: some counts are there at 0 too.
fn fields(status: &DaemonSetStatus) -> Value {
    let some = |count: Option<i32>| count.filter(|count| *count != 0);
    json!({
        "currentNumberScheduled": status.current_number_scheduled,
        "desiredNumberScheduled": status.desired_number_scheduled,
        "numberMisscheduled": status.number_misscheduled,
        "numberReady": status.number_ready,
        "updatedNumberScheduled": some(status.updated_number_scheduled),
        "numberAvailable": some(status.number_available),
        "numberUnavailable": some(status.number_unavailable),
        "observedGeneration": status.observed_generation,
    })
}
