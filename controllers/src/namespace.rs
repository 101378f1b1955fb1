//! Empties a namespace that is being deleted, then lets it go.
//!
//! Reads `Namespace` and lists everything in it; deletes it all, and takes the `kubernetes`
//! finalizer away through the `finalize` subresource. Never touches a namespace that stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams,
    PostParams,
};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within_opt};
use crate::inventory::Inventory;
use crate::key::Key;
use crate::manager::Manager;
use crate::queue::{Action, Queue};

/// The last removal wakes us; this is for what a lost watch did not tell.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// While pods end, which nothing but the last of them tells.
const PODS_END: Duration = Duration::from_millis(500);
/// Kinds emptied at a time.
const AT_ONCE: usize = 8;

/// What one look at the contents found.
#[derive(Debug, Default, PartialEq)]
struct Findings {
    /// `pods.` or `deployments.apps`, and how many are left.
    left: BTreeMap<String, usize>,
    /// Finalizers of what is left, and on how many objects.
    finalizers: BTreeMap<String, usize>,
    /// What could not be deleted or listed.
    failures: Vec<String>,
}

/// Adds this controller; the inventory wakes `queue` too.
pub(crate) fn start(manager: &mut Manager, queue: Queue<Key>) {
    manager.context.namespaces.listen(on_namespace(&queue));
    let inventory = manager.inventory.clone();
    manager.work(queue, move |context, key| {
        reconcile(context, inventory.clone(), key)
    });
}

/// Works on one Namespace.
async fn reconcile(
    context: Arc<Context>,
    inventory: Arc<Inventory>,
    key: Key,
) -> Result<Action, Error> {
    let Some(namespace) = context
        .namespaces
        .get(&key)
        .filter(|namespace| terminating(namespace))
    else {
        return Ok(Action::AwaitChange);
    };
    // Before the first discovery there is nothing to say, let alone to finish.
    let Some(discovered) = inventory.discovered() else {
        return Ok(Action::After(Duration::from_millis(100)));
    };
    inventory.refresh().await;
    let findings = empty_all(&context, &inventory, &key.name).await;
    let undiscovered = discovered.err();
    let conditions = plan_conditions(undiscovered.as_deref(), &findings);
    write_conditions(&context, &namespace, conditions).await?;
    if let Some(error) = undiscovered {
        return Err(Error::Refused(error));
    }
    if let Some(failure) = findings.failures.into_iter().next() {
        return Err(Error::Refused(failure));
    }
    if findings.left.contains_key("pods.") {
        return Ok(Action::After(PODS_END));
    }
    if !findings.left.is_empty() {
        return Ok(Action::After(LOOK_AGAIN));
    }
    finalize(&context, &key.name).await?;
    Ok(Action::AwaitChange)
}

/// Deletes what is there, of every kind.
async fn empty_all(context: &Context, inventory: &Inventory, namespace: &str) -> Findings {
    let events = ApiResource::erase::<k8s_openapi::api::core::v1::Event>(&());
    let events_api = Api::namespaced_with(context.client.clone(), namespace, &events);
    // Pods first, and all of them: what they run must not outlive the policies and secrets around it.
    let pods = ApiResource::erase::<Pod>(&());
    let pods = (
        dotted(&pods),
        Api::namespaced_with(context.client.clone(), namespace, &pods),
    );
    let findings = look(vec![pods]).await;
    if findings != Findings::default() {
        return findings;
    }
    let mut kinds: Vec<(String, Api<DynamicObject>)> = inventory
        .kinds()
        .iter()
        .filter(|kind| kind.namespaced)
        .map(|kind| (dotted(&kind.resource), inventory.api(kind, namespace)))
        .collect();
    // Not in the inventory, and gone in one go.
    kinds.push((dotted(&events), events_api));
    look(kinds).await
}

/// Deletes what is there of some kinds.
async fn look(kinds: Vec<(String, Api<DynamicObject>)>) -> Findings {
    let looks: Vec<_> = kinds
        .into_iter()
        .map(|(name, api)| async move { (name, empty(&api).await) })
        .collect();
    let looks: Vec<_> = stream::iter(looks)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut findings = Findings::default();
    for (name, look) in looks {
        match look {
            Ok(left) if left.is_empty() => {}
            Ok(left) => {
                findings.left.insert(name, left.len());
                for finalizer in left.iter().flatten() {
                    *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
                }
            }
            Err(error) => findings.failures.push(format!("{name}: {error}")),
        }
    }
    findings
}

/// Deletes what is there; answers the finalizers of each object that is left.
async fn empty(api: &Api<DynamicObject>) -> Result<Vec<Vec<String>>, Error> {
    let all = ListParams::default();
    // A kind that is not served any more has no objects.
    let Some(list) = within_opt(api.list_metadata(&all)).await? else {
        return Ok(Vec::new());
    };
    if list.items.is_empty() {
        return Ok(Vec::new());
    }
    let stays = |object: &PartialObjectMeta<_>| object.metadata.deletion_timestamp.is_none();
    if list.items.iter().any(stays) {
        within_opt(api.delete_collection(&DeleteParams::background(), &all)).await?;
    }
    let list = within_opt(api.list_metadata(&all)).await?;
    let finalizers = list
        .map(|list| list.items)
        .unwrap_or_default()
        .into_iter()
        .map(|object| object.metadata.finalizers);
    Ok(finalizers.map(Option::unwrap_or_default).collect())
}

async fn finalize(context: &Context, name: &str) -> Result<(), Error> {
    let api: Api<DynamicObject> = Api::all_with(
        context.client.clone(),
        &ApiResource::erase::<Namespace>(&()),
    );
    let Some(mut live) = within_opt(api.get(name)).await? else {
        return Ok(());
    };
    if live.metadata.deletion_timestamp.is_none() {
        return Ok(());
    }
    let finalizers = live
        .data
        .pointer_mut("/spec/finalizers")
        .and_then(Value::as_array_mut);
    if let Some(finalizers) = finalizers {
        finalizers.retain(|finalizer| finalizer != "kubernetes");
    }
    within_opt(api.replace_subresource("finalize", name, &PostParams::default(), &live)).await?;
    Ok(())
}

/// Type, status, reason and message of each condition.
fn plan_conditions(discovery: Option<&str>, findings: &Findings) -> Vec<[String; 4]> {
    let condition = |kind: &str, bad: Option<(&str, String)>, good: (&str, &str)| {
        let (status, reason, message) = match bad {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", good.0, good.1.to_owned()),
        };
        [
            kind.to_owned(),
            status.to_owned(),
            reason.to_owned(),
            message,
        ]
    };
    let joined = |counts: &BTreeMap<String, usize>, verb: &str, noun: &str| {
        let parts = counts
            .iter()
            .map(|(name, count)| format!("{name} {verb} {count} {noun}"));
        parts.collect::<Vec<_>>().join(", ")
    };
    let undiscovered = discovery.map(|error| {
        let message = format!("Discovery failed for some groups: {error}");
        ("DiscoveryFailed", message)
    });
    let undeleted = (!findings.failures.is_empty()).then(|| {
        let (count, all) = (findings.failures.len(), findings.failures.join(", "));
        let message = format!("Failed to delete all resource types, {count} remaining: {all}");
        ("ContentDeletionFailed", message)
    });
    let left = (!findings.left.is_empty()).then(|| {
        let all = joined(&findings.left, "has", "resource instances");
        (
            "SomeResourcesRemain",
            format!("Some resources are remaining: {all}"),
        )
    });
    let finalized = (!findings.finalizers.is_empty()).then(|| {
        let all = joined(&findings.finalizers, "in", "resource instances");
        let message = format!("Some content in the namespace has finalizers remaining: {all}");
        ("SomeFinalizersRemain", message)
    });
    vec![
        condition(
            "NamespaceDeletionDiscoveryFailure",
            undiscovered,
            (
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
        ),
        condition(
            "NamespaceDeletionContentFailure",
            undeleted,
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        condition(
            "NamespaceContentRemaining",
            left,
            ("ContentRemoved", "All content successfully removed"),
        ),
        condition(
            "NamespaceFinalizersRemaining",
            finalized,
            (
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ),
    ]
}

/// Writes those conditions that differ; an untroubled deletion writes none.
async fn write_conditions(
    context: &Context,
    namespace: &Namespace,
    conditions: Vec<[String; 4]>,
) -> Result<(), Error> {
    let status = namespace.status.as_ref();
    let old = status
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    if old.is_empty() && conditions.iter().all(|[_, status, ..]| status == "False") {
        return Ok(());
    }
    let now = jiff::Timestamp::now();
    let mut changed = Vec::new();
    for [kind, status, reason, message] in conditions {
        let known = old.iter().find(|old| old.type_ == kind);
        let same = known
            .is_some_and(|old| old.status == status && old.message.as_deref() == Some(&message));
        if same {
            continue;
        }
        let moved = known.filter(|old| old.status == status);
        let since = moved.and_then(|old| old.last_transition_time.as_ref());
        changed.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since.map_or(now, |time| time.0),
        }));
    }
    if changed.is_empty() {
        return Ok(());
    }
    let api: Api<Namespace> = Api::all(context.client.clone());
    let patch = Patch::Strategic(json!({"status": {"conditions": changed}}));
    let params = PatchParams::default();
    let answer = within_opt(api.patch_status(&namespace.name_any(), &params, &patch)).await?;
    answer
        .into_iter()
        .for_each(|namespace| context.namespaces.apply(namespace));
    Ok(())
}

fn dotted(resource: &ApiResource) -> String {
    if resource.group.is_empty() {
        format!("{}.", resource.plural)
    } else {
        format!("{}.{}", resource.plural, resource.group)
    }
}

fn terminating(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

fn on_namespace(queue: &Queue<Key>) -> Listener<Namespace> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        // Our own writes to one that is going are no reason to look again.
        if let Some(new) = new.filter(|new| terminating(new))
            && !old.is_some_and(|old| terminating(old))
        {
            queue.add(Key::of(&**new));
        }
    })
}

/// The last object that goes out of a terminating namespace ends the wait; one that comes in
/// belatedly has to go too.
pub(crate) fn on_change(
    context: &Arc<Context>,
    queue: &Queue<Key>,
) -> Box<dyn Fn(&str) + Send + Sync> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |namespace| {
        let key = Key::new("", namespace);
        let found = context
            .upgrade()
            .and_then(|context| context.namespaces.get(&key));
        if found.is_some_and(|namespace| terminating(&namespace)) {
            queue.add(key);
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn conditions_say_what_is_left_and_why() {
        let findings = Findings {
            left: [("pods.".to_owned(), 2), ("deployments.apps".to_owned(), 1)].into(),
            finalizers: [("example.com/hold".to_owned(), 1)].into(),
            failures: Vec::new(),
        };
        let said = |findings: &Findings| {
            let conditions = plan_conditions(None, findings);
            conditions
                .iter()
                .map(|parts| parts.join(" | ") + "\n")
                .collect::<String>()
        };
        expect![[r#"
            NamespaceDeletionDiscoveryFailure | False | ResourcesDiscovered | All resources successfully discovered
            NamespaceDeletionContentFailure | False | ContentDeleted | All content successfully deleted, may be waiting on finalization
            NamespaceContentRemaining | True | SomeResourcesRemain | Some resources are remaining: deployments.apps has 1 resource instances, pods. has 2 resource instances
            NamespaceFinalizersRemaining | True | SomeFinalizersRemain | Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances
        "#]].assert_eq(&said(&findings));
    }
}
