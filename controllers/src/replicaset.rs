//! Keeps the number of pods a ReplicaSet owns equal to `spec.replicas`.
//!
//! Reads `ReplicaSet` and `Pod`; creates, deletes, adopts and releases `Pod`; writes `ReplicaSet`
//! status and Events. Never deletes a pod whose controller is not this ReplicaSet, and never acts
//! while pods it asked for have not been seen.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{Selector, SelectorExt};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cache::Listener;
use crate::context::{Context, owner, replicaset_resource, selects};
use crate::error::{Error, within, within_opt};
use crate::events::Severity;
use crate::key::Key;
use crate::pod;
use crate::queue::{Action, Queue};

/// Most pods created or deleted in one go; the rest follows when these have been seen.
const BURST: usize = 500;
/// Requests in flight for one ReplicaSet.
const AT_ONCE: usize = 64;
/// After this an expectation counts as lost, and the cache as right.
const EXPECTATION_LIFE: Duration = Duration::from_secs(300);
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

/// Works on one ReplicaSet.
pub(crate) async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(raw) = context.replicasets.get(&key) else {
        context.expectations.forget(&key);
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
    if let Some(left) = context.expectations.until_settled(&key) {
        (plan.create, plan.delete) = (0, Vec::new());
        plan.look_again = Some(plan.look_again.map_or(left, |again| again.min(left)));
    }
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    if !plan.adopt.is_empty() {
        check_owner(&context, &set, &key).await?;
    }
    for name in &plan.adopt {
        adopt(&context, &api, &set, &pods, name).await?;
    }
    for name in &plan.release {
        release(&context, &api, &uid, &pods, name).await?;
    }
    let made = if plan.create > 0 {
        create(&context, &key, &raw, &set, plan.create).await
    } else {
        delete(&context, &api, &key, &set, &pods, &plan.delete).await
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

/// The pod that a template asks for, as the value it is.
fn new_pod(raw: &DynamicObject, set: &ReplicaSet) -> Value {
    let template = raw
        .data
        .pointer("/spec/template")
        .cloned()
        .unwrap_or_default();
    let mut metadata = json!({
        "generateName": format!("{}-", set.name_any()),
        "ownerReferences": [owner_reference(set)],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template
            .pointer(&format!("/metadata/{field}"))
            .filter(|value| !value.is_null())
        {
            metadata[field] = value.clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

fn owner_reference(set: &ReplicaSet) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set.name_any(), "uid": set.uid(),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// Creates pods in batches of 1, 2, 4, …: a refusal then costs few requests.
async fn create(
    context: &Context,
    key: &Key,
    raw: &DynamicObject,
    set: &ReplicaSet,
    count: usize,
) -> Result<(), Error> {
    let pod = new_pod(raw, set);
    let values: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &key.namespace,
        &kube::api::ApiResource::erase::<Pod>(&()),
    );
    let template: DynamicObject = serde_json::from_value(pod)?;
    let params = PostParams {
        field_manager: Some("kube-controller-manager".into()),
        ..PostParams::default()
    };
    context.expectations.expect_creations(key, count);
    let (mut left, mut batch) = (count, 1);
    while left > 0 {
        let now = batch.min(left);
        let answers: Vec<_> = stream::iter(0..now)
            .map(|_| within(values.create(&params, &template)))
            .buffer_unordered(AT_ONCE.min(now))
            .collect()
            .await;
        left -= now;
        batch *= 2;
        let mut failure = None;
        for answer in answers {
            match answer.and_then(|pod| {
                pod.try_parse::<Pod>()
                    .map_err(|error| Error::Invalid(error.to_string()))
            }) {
                Ok(pod) => {
                    let message = format!("Created pod: {}", pod.name_any());
                    context.recorder.named(COMPONENT).record(
                        set,
                        Severity::Normal,
                        "SuccessfulCreate",
                        message,
                    );
                    context.pods.apply(pod);
                }
                Err(error) => {
                    context.expectations.created(key);
                    failure = Some(error);
                }
            }
        }
        if let Some(error) = failure {
            context.expectations.drop_creations(key, left);
            let message = format!("Error creating: {error}");
            context.recorder.named(COMPONENT).record(
                set,
                Severity::Warning,
                "FailedCreate",
                message,
            );
            return Err(error);
        }
    }
    Ok(())
}

async fn delete(
    context: &Context,
    api: &Api<Pod>,
    key: &Key,
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    names: &[String],
) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let doomed: Vec<Arc<Pod>> = pods
        .iter()
        .filter(|pod| names.contains(&pod.name_any()))
        .cloned()
        .collect();
    context
        .expectations
        .expect_deletions(key, doomed.iter().filter_map(|pod| pod.uid()));
    let requests = doomed.into_iter().map(|pod| remove(api.clone(), pod));
    let answers: Vec<_> = stream::iter(requests.collect::<Vec<_>>())
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut outcome = Ok(());
    for (pod, answer) in answers {
        match answer {
            Ok(answer) => {
                if let Some(pod) = answer {
                    context.pods.apply(pod);
                }
                let message = format!("Deleted pod: {}", pod.name_any());
                context.recorder.named(COMPONENT).record(
                    set,
                    Severity::Normal,
                    "SuccessfulDelete",
                    message,
                );
            }
            Err(error) => {
                context
                    .expectations
                    .deleted(key, &pod.uid().unwrap_or_default());
                let message = format!("Error deleting: {error}");
                context.recorder.named(COMPONENT).record(
                    set,
                    Severity::Warning,
                    "FailedDelete",
                    message,
                );
                outcome = Err(error);
            }
        }
    }
    outcome
}

async fn remove(api: Api<Pod>, pod: Arc<Pod>) -> (Arc<Pod>, Result<Option<Pod>, Error>) {
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: pod.uid(),
        resource_version: None,
    });
    let answer = within_opt(api.delete(&pod.name_any(), &params)).await;
    // While it is going the answer is the pod, else a Status.
    (
        pod,
        answer.map(|answer| answer.and_then(|answer| answer.left())),
    )
}

/// Asks the apiserver whether the set is still there and stays: only then may it adopt.
async fn check_owner(context: &Context, set: &ReplicaSet, key: &Key) -> Result<(), Error> {
    let api: Api<ReplicaSet> = Api::namespaced(context.client.clone(), &key.namespace);
    let live = within_opt(api.get_metadata(&key.name)).await?;
    let stays = live.is_some_and(|live| {
        live.metadata.uid == set.metadata.uid && live.metadata.deletion_timestamp.is_none()
    });
    if stays {
        Ok(())
    } else {
        Err(Error::Conflict(format!(
            "ReplicaSet {key} is going: it adopts no pods"
        )))
    }
}

async fn adopt(
    context: &Context,
    api: &Api<Pod>,
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    name: &str,
) -> Result<(), Error> {
    let uid = pods
        .iter()
        .find(|pod| pod.name_any() == name)
        .and_then(|pod| pod.uid());
    let patch = json!({"metadata": {"uid": uid, "ownerReferences": [owner_reference(set)]}});
    let answer =
        within_opt(api.patch(name, &PatchParams::default(), &Patch::Strategic(patch))).await?;
    answer.into_iter().for_each(|pod| context.pods.apply(pod));
    Ok(())
}

async fn release(
    context: &Context,
    api: &Api<Pod>,
    owner: &str,
    pods: &[Arc<Pod>],
    name: &str,
) -> Result<(), Error> {
    let uid = pods
        .iter()
        .find(|pod| pod.name_any() == name)
        .and_then(|pod| pod.uid());
    let patch =
        json!({"metadata": {"uid": uid, "ownerReferences": [{"$patch": "delete", "uid": owner}]}});
    let answer =
        within_opt(api.patch(name, &PatchParams::default(), &Patch::Strategic(patch))).await?;
    answer.into_iter().for_each(|pod| context.pods.apply(pod));
    Ok(())
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
        &replicaset_resource(),
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

/// Pods asked for and not yet seen: while there are some, the cache is behind our own writes.
#[derive(Default)]
pub(crate) struct Expectations {
    of: Mutex<HashMap<Key, Expected>>,
}

struct Expected {
    creations: usize,
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    fn with(&self, key: &Key, change: impl FnOnce(&mut Expected)) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(expected) = of.get_mut(key) {
            change(expected);
        }
    }

    fn start(&self, key: &Key, creations: usize, deletions: HashSet<String>) {
        let expected = Expected {
            creations,
            deletions,
            since: Instant::now(),
        };
        self.of
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), expected);
    }

    fn expect_creations(&self, key: &Key, count: usize) {
        self.start(key, count, HashSet::new());
    }

    fn expect_deletions(&self, key: &Key, uids: impl Iterator<Item = String>) {
        self.start(key, 0, uids.collect());
    }

    fn created(&self, key: &Key) {
        self.drop_creations(key, 1);
    }

    fn drop_creations(&self, key: &Key, count: usize) {
        self.with(key, |expected| {
            expected.creations = expected.creations.saturating_sub(count);
        });
    }

    fn deleted(&self, key: &Key, uid: &str) {
        self.with(key, |expected| {
            expected.deletions.remove(uid);
        });
    }

    /// How long to wait for what was not seen; `None` when all was, or has been waited for long.
    fn until_settled(&self, key: &Key) -> Option<Duration> {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = of
            .get(key)
            .filter(|expected| expected.creations > 0 || !expected.deletions.is_empty())?;
        EXPECTATION_LIFE
            .checked_sub(expected.since.elapsed())
            .filter(|left| !left.is_zero())
    }

    fn forget(&self, key: &Key) {
        self.of
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

/// A pod wakes its set; one without an owner wakes every set of its namespace that selects it.
pub(crate) fn on_pod(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<Pod> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let Some(context) = context.upgrade() else {
            return;
        };
        for pod in old.into_iter().chain(new) {
            let namespace = pod.namespace().unwrap_or_default();
            let controller = pod
                .owner_references()
                .iter()
                .find(|o| o.controller == Some(true));
            match controller.filter(|owner| owner.kind == "ReplicaSet") {
                Some(owner) => {
                    let key = Key::new(&namespace, &owner.name);
                    if old.is_none() {
                        context.expectations.created(&key);
                    }
                    if new.is_none_or(|new| new.metadata.deletion_timestamp.is_some()) {
                        context
                            .expectations
                            .deleted(&key, &pod.uid().unwrap_or_default());
                    }
                    queue.add(key);
                }
                None if controller.is_none() => {
                    for set in context.replicasets.by("namespace", &namespace) {
                        if selects(&set, pod.labels()) {
                            queue.add(Key::of(&*set));
                        }
                    }
                }
                None => {}
            }
        }
    })
}

pub(crate) fn on_replicaset(queue: &Queue<Key>) -> Listener<DynamicObject> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        old.or(new)
            .into_iter()
            .for_each(|set| queue.add(Key::of(&**set)));
    })
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

    #[test]
    fn expectations_settle_when_every_pod_was_seen() {
        let (expectations, key) = (Expectations::default(), Key::new("ns", "s"));
        expectations.expect_creations(&key, 2);
        expectations.created(&key);
        assert!(expectations.until_settled(&key).is_some());
        expectations.created(&key);
        assert!(expectations.until_settled(&key).is_none());
        expectations.expect_deletions(&key, ["u".to_owned()].into_iter());
        assert!(expectations.until_settled(&key).is_some());
        expectations.deleted(&key, "u");
        assert!(expectations.until_settled(&key).is_none());
    }
}
