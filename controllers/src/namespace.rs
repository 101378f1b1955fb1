//! Empties a namespace that is being deleted, then lets it go.
//!
//! Reads `Namespace` and lists everything in it; deletes it all, and takes the `kubernetes`
//! finalizer away through the `finalize` subresource. Never touches a namespace that stays.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within, within_opt};
use crate::inventory::Inventory;
use crate::key::Key;
use crate::queue::{Action, Queue};

/// Removals wake us; this is for what a lost watch did not tell.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Works on one Namespace.
pub(crate) async fn reconcile(
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
    if inventory.kinds().is_empty() {
        return Ok(Action::After(Duration::from_millis(100)));
    }
    let mut left: Vec<String> = Vec::new();
    for kind in inventory.kinds().into_iter().filter(|kind| kind.namespaced) {
        let remaining = empty(&inventory.api(&kind, &key.name)).await?;
        if remaining > 0 {
            left.push(format!(
                "{} has {remaining} resource instances",
                dotted(&kind.resource)
            ));
        }
    }
    // Not in the inventory, and gone in one go.
    let events = ApiResource::erase::<k8s_openapi::api::core::v1::Event>(&());
    empty(&Api::namespaced_with(
        context.client.clone(),
        &key.name,
        &events,
    ))
    .await?;
    write_condition(&context, &namespace, &left).await?;
    if !left.is_empty() {
        return Ok(Action::After(LOOK_AGAIN));
    }
    finalize(&context, &key.name).await?;
    Ok(Action::AwaitChange)
}

/// Deletes what is there; says how much is left.
async fn empty(api: &Api<DynamicObject>) -> Result<usize, Error> {
    let list = within(api.list_metadata(&ListParams::default())).await?;
    for object in list
        .items
        .iter()
        .filter(|object| object.metadata.deletion_timestamp.is_none())
    {
        within_opt(api.delete(&object.name_any(), &DeleteParams::background())).await?;
    }
    if list.items.is_empty() {
        return Ok(0);
    }
    Ok(within(api.list_metadata(&ListParams::default()))
        .await?
        .items
        .len())
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

async fn write_condition(
    context: &Context,
    namespace: &Namespace,
    left: &[String],
) -> Result<(), Error> {
    let (status, reason, message) = if left.is_empty() {
        (
            "False",
            "ContentRemoved",
            "All content successfully removed".to_owned(),
        )
    } else {
        (
            "True",
            "SomeResourcesRemain",
            format!("Some resources are remaining: {}", left.join(", ")),
        )
    };
    let conditions = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let old = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "NamespaceContentRemaining");
    if old.map_or(left.is_empty(), |old| {
        old.message.as_deref() == Some(&message)
    }) {
        return Ok(());
    }
    let api: Api<Namespace> = Api::all(context.client.clone());
    let patch = json!({"status": {"conditions": [{
        "type": "NamespaceContentRemaining", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": jiff::Timestamp::now(),
    }]}});
    let answer = within_opt(api.patch_status(
        &namespace.name_any(),
        &PatchParams::default(),
        &Patch::Strategic(patch),
    ))
    .await?;
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

pub(crate) fn on_namespace(queue: &Queue<Key>) -> Listener<Namespace> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        new.into_iter()
            .filter(|new| terminating(new))
            .for_each(|new| queue.add(Key::of(&**new)));
    })
}

/// The last object that goes out of a terminating namespace ends the wait.
pub(crate) fn on_removal(
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
