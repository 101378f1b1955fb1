//! Keeps the EndpointSlices of each Service equal to the pods that it selects, and those of a Service without a
//! selector equal to the Endpoints of its name.
//!
//! Reads `Service`, `Pod`, `Node`, `Endpoints` and `EndpointSlice`; creates, patches and deletes `EndpointSlice`.
//! Never touches a slice that someone else manages.

mod mirror;
mod pack;
mod pods;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cache::Listener;
use crate::context::{Context, controller};
use crate::error::{Error, within, within_opt};
use crate::key::Key;
use crate::manager::Manager;
use crate::queue::{Action, Queue};

use pack::{Pack, Write, pack};
pub(crate) use pods::{
    address, families, headless, hostname, ports, publishes_unready, selected, selects, target,
    triggered,
};

pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(crate) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
pub(crate) const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Endpoints in one slice.
const SLICE_SIZE: usize = 100;

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::costly("endpointslice"));
    context.pods.listen(on_pod(context, &queue));
    context.nodes.listen(on_node(context, &queue));
    context.services.listen(on_service(&queue));
    context.slices.listen(on_slice(MANAGER, &queue));
    manager.work(queue, reconcile);
    mirror::start(manager);
}

/// Works on one Service.
async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(service) = context.services.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    if service.metadata.deletion_timestamp.is_some() || !selected(&service) {
        return Ok(Action::AwaitChange);
    }
    let mut pods = context.pods.by("namespace", &key.namespace);
    pods.retain(|pod| selects(&service, pod));
    let slices = context.slices.by("service", &key.to_string());
    let zones = |node: &str| Some(zone(&*context.nodes.get(&Key::new("", node))?));
    let owner = owner(&service);
    let labels = labels(&service);
    let mut plan = pack::Plan::default();
    let families = families(&service);
    for family in &families {
        let of_family = slices.iter().filter(|slice| slice.address_type == *family);
        let slices: Vec<_> = of_family.cloned().collect();
        plan.extend(pack(&Pack {
            family,
            wanted: pods::wanted(&service, &pods, family, &zones),
            slices: &slices,
            size: SLICE_SIZE,
            fresh: &|slice| slice.labels() == &labels && owns(&owner, slice),
        }));
    }
    let strangers = slices
        .iter()
        .filter(|slice| !families.contains(&slice.address_type.as_str()));
    plan.remove.extend(strangers.map(|slice| slice.name_any()));
    let since = pods.iter().filter_map(|pod| triggered(pod)).max();
    let since = since.max(service.creation_timestamp().map(|time| time.0));
    let metadata = json!({
        "labels": labels, "ownerReferences": [owner],
        "annotations": since.map(|since| json!({TRIGGERED: second(since)})),
    });
    write(&context, &key, metadata, plan).await?;
    Ok(Action::AwaitChange)
}

/// Writes the slices of a Service; `metadata` is that of each.
async fn write(
    context: &Context,
    key: &Key,
    metadata: Value,
    plan: pack::Plan,
) -> Result<(), Error> {
    let api: Api<EndpointSlice> = Api::namespaced(context.client.clone(), &key.namespace);
    for Write {
        name,
        family,
        ports,
        endpoints,
    } in plan.write
    {
        let mut slice = json!({"metadata": metadata, "endpoints": endpoints, "ports": ports});
        let written = match name {
            Some(name) => {
                // Labels that are the Service's no more go too.
                if let Some(old) = context.slices.get(&Key::new(&key.namespace, &name)) {
                    for label in old.labels().keys() {
                        if metadata["labels"][label].is_null() {
                            slice["metadata"]["labels"][label] = Value::Null;
                        }
                    }
                }
                within(api.patch(&name, &PatchParams::default(), &Patch::Merge(slice))).await?
            }
            None => {
                slice["metadata"]["generateName"] = format!("{}-", key.name).into();
                slice["addressType"] = family.into();
                let slice = serde_json::from_value(slice)?;
                within(api.create(&PostParams::default(), &slice)).await?
            }
        };
        context.slices.apply(written);
    }
    for name in plan.remove {
        let gone = within_opt(api.delete(&name, &DeleteParams::default())).await?;
        if gone.is_some()
            && let Some(slice) = context.slices.get(&Key::new(&key.namespace, &name))
        {
            context.slices.remove(&slice);
        }
    }
    Ok(())
}

/// What every slice of a Service carries: the Service's own labels, and those that say what it is.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS_LABEL);
    if headless(service) {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    }
    labels.insert(SERVICE_LABEL.into(), service.name_any());
    labels.insert(MANAGED_BY_LABEL.into(), MANAGER.into());
    labels
}

fn owner(service: &Service) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Service".into(),
        name: service.name_any(),
        uid: service.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether the slice is this very object's, and not that of one of the same name before it.
fn owns(owner: &OwnerReference, slice: &EndpointSlice) -> bool {
    controller(slice).is_some_and(|found| found.uid == owner.uid)
}

/// A time in whole seconds, as conditions have it.
pub(crate) fn second(time: Timestamp) -> String {
    let second = Timestamp::from_second(time.as_second());
    second.unwrap_or(time).to_string()
}

fn zone(node: &Node) -> Option<String> {
    let zone = node.labels().get("topology.kubernetes.io/zone");
    zone.filter(|zone| !zone.is_empty()).cloned()
}

/// `namespace/name` of the Service whose slice of ours this is, for an index.
pub(crate) fn service_of(slice: &EndpointSlice) -> Vec<String> {
    managed_of(MANAGER, slice)
}

/// The same for slices that mirror Endpoints.
pub(crate) fn mirror_of(slice: &EndpointSlice) -> Vec<String> {
    managed_of(mirror::MANAGER, slice)
}

fn managed_of(manager: &str, slice: &EndpointSlice) -> Vec<String> {
    let ours = slice.labels().get(MANAGED_BY_LABEL);
    let service = slice.labels().get(SERVICE_LABEL);
    service
        .filter(|_| ours.is_some_and(|ours| ours == manager))
        .map(|name| Key::new(&slice.namespace().unwrap_or_default(), name).to_string())
        .into_iter()
        .collect()
}

/// A pod wakes the Services that select it, before or after a change that an endpoint could show.
pub(crate) fn on_pod(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<Pod> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let Some(context) = context.upgrade() else {
            return;
        };
        let Some(pod) = new.or(old) else { return };
        if let (Some(old), Some(new)) = (old, new)
            && pods::alike(old, new)
        {
            return;
        }
        for service in context
            .services
            .by("namespace", &pod.namespace().unwrap_or_default())
        {
            if old.into_iter().chain(new).any(|pod| selects(&service, pod)) {
                queue.add(Key::of(&*service));
            }
        }
    })
}

/// A node that comes, or changes its zone, wakes the Services of its pods.
fn on_node(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<Node> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let (Some(context), Some(node)) = (context.upgrade(), new) else {
            return;
        };
        if old.is_some_and(|old| zone(old) == zone(node)) {
            return;
        }
        let pods = context.pods.by("node", &node.name_any());
        for pod in pods {
            let namespace = pod.namespace().unwrap_or_default();
            let services = context.services.by("namespace", &namespace).into_iter();
            for service in services.filter(|service| selects(service, &pod)) {
                queue.add(Key::of(&*service));
            }
        }
    })
}

fn on_service(queue: &Queue<Key>) -> Listener<Service> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        new.into_iter()
            .for_each(|service| queue.add(Key::of(&**service)));
    })
}

/// A slice wakes the Service that it was, or is, of.
fn on_slice(manager: &'static str, queue: &Queue<Key>) -> Listener<EndpointSlice> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        for slice in old.into_iter().chain(new) {
            let name = slice.labels().get(SERVICE_LABEL);
            if let Some(name) = name.filter(|_| !managed_of(manager, slice).is_empty()) {
                queue.add(Key::new(&slice.namespace().unwrap_or_default(), name));
            }
        }
    })
}

/// What tells endpoints apart: one whose key stays is updated where it is.
fn key_of(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref();
    let uid = target.and_then(|target| target.uid.as_deref());
    format!("{} {}", uid.unwrap_or(""), endpoint.addresses.join(","))
}
