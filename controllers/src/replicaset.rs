//! Keeps the number of pods a ReplicaSet owns equal to `spec.replicas`.
//!
//! Reads `ReplicaSet` and `Pod`; creates, deletes, adopts and releases `Pod`; writes `ReplicaSet`
//! status and Events. Never deletes a pod whose controller is not this ReplicaSet, and never acts
//! while pods it asked for have not been seen.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{Selector, SelectorExt};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::context::{Context, owner, resource};
use crate::error::{Error, within_opt};
use crate::key::Key;
use crate::manager::{Manager, changed};
use crate::pod;
use crate::pod_control::{BURST, PodControl};
use crate::queue::{Action, Queue};

const COMPONENT: &str = "replicaset-controller";

/// What to do about one ReplicaSet.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    adopt: Vec<String>,
    release: Vec<String>,
    create: usize,
    delete: Vec<String>,
    status: ReplicaSetStatus,
    /// When a pod becomes available by merely staying ready.
    look_again: Option<Duration>,
}

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("replicaset"));
    let control = PodControl::new::<ReplicaSet>(COMPONENT);
    context
        .pods
        .listen(control.on_pod(&context.replicasets, &queue));
    context.replicasets.listen(changed(&queue));
    manager.work(queue, move |context, key| {
        reconcile(context, control.clone(), key)
    });
}

/// Works on one ReplicaSet.
async fn reconcile(
    context: Arc<Context>,
    control: Arc<PodControl>,
    key: Key,
) -> Result<Action, Error> {
    let Some(raw) = context.replicasets.get(&key) else {
        control.forget(&key);
        return Ok(Action::AwaitChange);
    };
    let set: ReplicaSet = (*raw)
        .clone()
        .try_parse()
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let uid = set.uid().unwrap_or_default();
    let mut pods = context.pods.by("owner", &uid);
    pods.extend(context.pods.by("orphans", &key.namespace));
    let mut plan = plan(&set, &pods, Timestamp::now())?;
    if let Some(left) = control.until_settled(&key) {
        (plan.create, plan.delete) = (0, Vec::new());
        plan.look_again = Some(plan.look_again.map_or(left, |again| again.min(left)));
    }
    let named = |names: &[String]| -> Vec<Arc<Pod>> {
        let named = pods.iter().filter(|pod| names.contains(&pod.name_any()));
        named.cloned().collect()
    };
    control.adopt(&context, &raw, &named(&plan.adopt)).await?;
    control
        .release(&context, &raw, &named(&plan.release))
        .await?;
    let made = if plan.create > 0 {
        let pods = vec![control.pod(&raw); plan.create];
        control.create(&context, &raw, pods).await
    } else {
        let doomed = named(&plan.delete);
        control.delete(&context, &raw, doomed).await
    };
    let failed = made.as_ref().err().map(|error| {
        let reason = if plan.create > 0 {
            "FailedCreate"
        } else {
            "FailedDelete"
        };
        (reason, error.to_string())
    });
    write_status(&context, &set, plan.status, failed).await?;
    made?;
    Ok(plan.look_again.map_or(Action::AwaitChange, Action::After))
}

/// Decides what to change. `pods` are those that the set owns and those that nobody does.
fn plan(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Result<Plan, Error> {
    let spec = set.spec.clone().unwrap_or_default();
    let selector: Selector = spec
        .selector
        .try_into()
        .map_err(|error| Error::Invalid(format!("spec.selector: {error}")))?;
    let deleting = set.metadata.deletion_timestamp.is_some();
    let mut plan = Plan::default();
    let (mut active, mut terminating) = (Vec::new(), 0_usize);
    for pod in pods {
        let owned = !owner(&**pod).is_empty();
        let matches = selector.matches(pod.labels()) && !selector.selects_all();
        match (owned, matches) {
            (true, false) if !deleting && pod::active(pod) => plan.release.push(pod.name_any()),
            (false, true) if !deleting && pod::active(pod) => {
                plan.adopt.push(pod.name_any());
                active.push(pod);
            }
            (true, true) if pod::active(pod) => active.push(pod),
            (true, true) if pod::terminating(pod) => terminating += 1,
            _ => {}
        }
    }
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if !deleting {
        plan.create = wanted.saturating_sub(active.len()).min(BURST);
        let surplus = active.len().saturating_sub(wanted).min(BURST);
        if surplus > 0 {
            plan.delete = first_to_go(&active).into_iter().take(surplus).collect();
        }
    }
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let template_labels = spec
        .template
        .and_then(|t| t.metadata)
        .and_then(|m| m.labels)
        .unwrap_or_default();
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|pod| test(pod)).count()).ok()
    };
    plan.status = ReplicaSetStatus {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: count(&|pod| {
            template_labels
                .iter()
                .all(|(k, v)| pod.labels().get(k) == Some(v))
        }),
        ready_replicas: count(&pod::ready),
        available_replicas: count(&|pod| pod::available(pod, min_ready, now)),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation,
        conditions: set.status.clone().and_then(|status| status.conditions),
    };
    plan.look_again = active
        .iter()
        .filter_map(|pod| until_available(pod, min_ready, now))
        .min();
    Ok(plan)
}

/// How long a ready pod must still stay so to be available.
fn until_available(pod: &Pod, min_ready: i32, now: Timestamp) -> Option<Duration> {
    let since = pod::ready_since(pod)?;
    if pod::available(pod, min_ready, now) {
        return None;
    }
    let left = i64::from(min_ready) - now.duration_since(since).as_secs();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1)))
}

/// Names in the order in which pods go: unassigned, pending, not ready, cheap to delete, on a
/// crowded node, shortest ready, newest.
fn first_to_go(pods: &[&Arc<Pod>]) -> Vec<String> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in pods {
        *on_node.entry(pod::node(pod).unwrap_or("")).or_default() += 1;
    }
    let mut pods = pods.to_vec();
    pods.sort_by_key(|pod| {
        let node = pod::node(pod);
        let phase = match pod::phase(pod) {
            "Pending" => 0,
            "Running" => 2,
            _ => 1,
        };
        (
            node.is_some(),
            phase,
            pod::ready(pod),
            pod::deletion_cost(pod),
            Reverse(on_node.get(node.unwrap_or("")).copied().unwrap_or(0)),
            Reverse(pod::ready_since(pod)),
            Reverse(pod.creation_timestamp().map(|time| time.0)),
            pod.name_any(),
        )
    });
    pods.into_iter().map(|pod| pod.name_any()).collect()
}

async fn write_status(
    context: &Context,
    set: &ReplicaSet,
    mut status: ReplicaSetStatus,
    failure: Option<(&str, String)>,
) -> Result<(), Error> {
    let mut conditions = status.conditions.take().unwrap_or_default();
    let known = conditions
        .iter()
        .find(|condition| condition.type_ == "ReplicaFailure")
        .cloned();
    conditions.retain(|condition| condition.type_ != "ReplicaFailure");
    if let Some((reason, message)) = failure {
        conditions.push(known.unwrap_or_else(|| ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(Time(Timestamp::now())),
        }));
    }
    let old = set.status.clone().unwrap_or_default();
    let zero = |count: Option<i32>| count.unwrap_or(0);
    let same = old.replicas == status.replicas
        && zero(old.fully_labeled_replicas) == zero(status.fully_labeled_replicas)
        && zero(old.ready_replicas) == zero(status.ready_replicas)
        && zero(old.available_replicas) == zero(status.available_replicas)
        && zero(old.terminating_replicas) == zero(status.terminating_replicas)
        && old.observed_generation == status.observed_generation
        && old.conditions.unwrap_or_default() == conditions;
    if same {
        return Ok(());
    }
    let conditions = if conditions.is_empty() {
        Value::Null
    } else {
        json!(conditions)
    };
    let patch = json!({"metadata": {"uid": set.uid()}, "status": {
        "replicas": status.replicas,
        "fullyLabeledReplicas": status.fully_labeled_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "terminatingReplicas": status.terminating_replicas,
        "observedGeneration": status.observed_generation,
        "conditions": conditions,
    }});
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &set.namespace().unwrap_or_default(),
        &resource::<ReplicaSet>(),
    );
    let answer = within_opt(api.patch_status(
        &set.name_any(),
        &PatchParams::default(),
        &Patch::Merge(patch),
    ))
    .await?;
    answer
        .into_iter()
        .for_each(|set| context.replicasets.apply(set));
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// `a+` is a ready pod, `a-` one that is not, `a?` unassigned, `a!` ended, `a~` terminating;
    /// an upper-case name is one that nobody owns, `a=` an owned one whose labels no longer match.
    fn pod(text: &str) -> Arc<Pod> {
        let (name, state) = text.split_at(1);
        let status = if state == "+" { "True" } else { "False" };
        let app = if state == "=" { "other" } else { "x" };
        let node = (state != "?").then_some("n");
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "labels": {"app": app}},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": match state { "?" => "Pending", "!" => "Failed", _ => "Running" },
                "conditions": [{"type": "Ready", "status": status,
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap();
        if state == "~" {
            pod.metadata.deletion_timestamp =
                serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        }
        if name.to_lowercase() == name {
            pod.metadata.owner_references = serde_json::from_value(
                json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": "s",
                    "controller": true}]),
            )
            .unwrap();
        }
        Arc::new(pod)
    }

    #[track_caller]
    fn check(replicas: i32, pods: &str, expect: Expect) {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": "s", "uid": "s", "generation": 1},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "x"}},
                "template": {"metadata": {"labels": {"app": "x"}}}},
        }))
        .unwrap();
        let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
        let plan = plan(&set, &pods, "2026-01-01T00:01:00Z".parse().unwrap()).unwrap();
        let mut said = Vec::new();
        for (verb, names) in [
            ("adopt", &plan.adopt),
            ("release", &plan.release),
            ("delete", &plan.delete),
        ] {
            if !names.is_empty() {
                said.push(format!("{verb} {}", names.join(" ")));
            }
        }
        if plan.create > 0 {
            said.push(format!("create {}", plan.create));
        }
        said.push(format!(
            "{} ready of {}",
            plan.status.ready_replicas.unwrap(),
            plan.status.replicas
        ));
        expect.assert_eq(&said.join(", "));
    }

    #[test]
    fn missing_pods_are_created() {
        check(3, "a+", expect!["create 2, 1 ready of 1"]);
    }

    #[test]
    fn scale_down_removes_pods_that_are_not_ready_first() {
        check(2, "a+ b- c+", expect!["delete b, 2 ready of 3"]);
        check(1, "a+ b- c?", expect!["delete c b, 1 ready of 3"]);
    }

    #[test]
    fn ended_and_terminating_pods_are_replaced() {
        check(2, "a! b~", expect!["create 2, 0 ready of 0"]);
    }

    #[test]
    fn pods_are_adopted_and_released_by_their_labels() {
        check(
            2,
            "A+ b=",
            expect!["adopt A, release b, create 1, 1 ready of 1"],
        );
    }

    #[test]
    fn a_burst_is_bounded() {
        check(2000, "", expect!["create 500, 0 ready of 0"]);
    }
}
