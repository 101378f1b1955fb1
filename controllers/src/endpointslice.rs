//! Keeps the EndpointSlices of each Service equal to the pods that it selects.
//!
//! Reads `Service`, `Pod` and `EndpointSlice`; creates, patches and deletes `EndpointSlice`. Never
//! touches a slice that someone else manages, nor Services without a selector.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within, within_opt};
use crate::key::Key;
use crate::manager::Manager;
use crate::pod;
use crate::queue::{Action, Queue};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Endpoints in one slice.
const SLICE_SIZE: usize = 100;

/// Slices to write; `None` as a name makes a new one.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    write: Vec<(Option<String>, Vec<EndpointPort>, Vec<Endpoint>)>,
    remove: Vec<String>,
}

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("endpointslice"));
    context.pods.listen(on_pod(context, &queue));
    context.services.listen(on_service(&queue));
    context.slices.listen(on_slice(&queue));
    manager.work(queue, reconcile);
}

/// Works on one Service.
async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(service) = context.services.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    if service.metadata.deletion_timestamp.is_some() || selector(&service).is_empty() {
        return Ok(Action::AwaitChange);
    }
    let pods = context.pods.by("namespace", &key.namespace);
    let plan = plan(
        &service,
        &pods,
        &context.slices.by("service", &key.to_string()),
    );
    let api: Api<EndpointSlice> = Api::namespaced(context.client.clone(), &key.namespace);
    for (name, ports, endpoints) in plan.write {
        let slice = match name {
            Some(name) => {
                let patch = json!({"endpoints": endpoints, "ports": ports});
                within(api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))).await?
            }
            None => {
                within(api.create(
                    &PostParams::default(),
                    &new_slice(&service, ports, endpoints)?,
                ))
                .await?
            }
        };
        context.slices.apply(slice);
    }
    for name in plan.remove {
        within_opt(api.delete(&name, &DeleteParams::default())).await?;
    }
    Ok(Action::AwaitChange)
}

/// Decides what to write: endpoints stay in the slice they are in, and only slices that differ
/// are written. Pure.
fn plan(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Plan {
    // Pods may resolve a named port differently: each set of ports has slices of its own.
    let mut wanted: BTreeMap<String, (Vec<EndpointPort>, BTreeMap<String, Endpoint>)> =
        BTreeMap::new();
    for pod in pods.iter().filter(|pod| selects(service, pod)) {
        let Some(endpoint) = endpoint(service, pod) else {
            continue;
        };
        let ports = ports(service, Some(pod));
        wanted
            .entry(port_key(&ports))
            .or_insert_with(|| (ports, BTreeMap::new()))
            .1
            .insert(pod.uid().unwrap_or_default(), endpoint);
    }
    if wanted.is_empty() {
        let ports = ports(service, None);
        wanted.insert(port_key(&ports), (ports, BTreeMap::new()));
    }
    let mut plan = Plan::default();
    let mut by_ports: HashMap<String, Vec<&Arc<EndpointSlice>>> = HashMap::new();
    for slice in slices
        .iter()
        .filter(|slice| slice.metadata.deletion_timestamp.is_none())
    {
        by_ports
            .entry(port_key(slice.ports.as_deref().unwrap_or_default()))
            .or_default()
            .push(slice);
    }
    for (key, (ports, mut left)) in wanted {
        let have = by_ports.remove(&key).unwrap_or_default();
        let mut kept: Vec<(&EndpointSlice, Vec<Endpoint>)> = have
            .into_iter()
            .map(|slice| {
                (
                    &**slice,
                    slice
                        .endpoints
                        .iter()
                        .flatten()
                        .filter_map(|old| left.remove(&uid_of(old)?))
                        .collect(),
                )
            })
            .collect();
        let mut new: Vec<Endpoint> = left.into_values().collect();
        for (_, endpoints) in &mut kept {
            let room = SLICE_SIZE.saturating_sub(endpoints.len()).min(new.len());
            endpoints.extend(new.drain(..room));
        }
        let needed = kept.iter().any(|(_, endpoints)| !endpoints.is_empty()) || !new.is_empty();
        for (place, (slice, endpoints)) in kept.iter().enumerate() {
            if endpoints.is_empty() && (needed || place > 0) {
                plan.remove.push(slice.name_any());
            } else if slice.endpoints.as_deref().unwrap_or_default() != endpoints.as_slice() {
                plan.write
                    .push((Some(slice.name_any()), ports.clone(), endpoints.clone()));
            }
        }
        if kept.is_empty() && new.is_empty() {
            plan.write.push((None, ports.clone(), Vec::new()));
        }
        for chunk in new.chunks(SLICE_SIZE) {
            plan.write.push((None, ports.clone(), chunk.to_vec()));
        }
    }
    plan.remove.extend(
        by_ports
            .into_values()
            .flatten()
            .map(|slice| slice.name_any()),
    );
    plan.remove.sort();
    plan
}

fn uid_of(endpoint: &Endpoint) -> Option<String> {
    endpoint.target_ref.as_ref()?.uid.clone()
}

fn endpoint(service: &Service, pod: &Pod) -> Option<Endpoint> {
    let address = pod
        .status
        .as_ref()?
        .pod_ip
        .clone()
        .filter(|address| !address.is_empty())?;
    if matches!(pod::phase(pod), "Succeeded" | "Failed") {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let publish = service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or(false);
    let (serving, terminating) = (pod::ready(pod), pod.metadata.deletion_timestamp.is_some());
    let hostname = spec
        .hostname
        .clone()
        .filter(|name| !name.is_empty() && spec.subdomain == service.metadata.name);
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname,
        node_name: spec.node_name.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.namespace(),
            name: pod.metadata.name.clone(),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// The Service's ports as this pod has them; a name that it does not have is left out.
fn ports(service: &Service, pod: Option<&Pod>) -> Vec<EndpointPort> {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            let number = match &port.target_port {
                None => port.port,
                Some(IntOrString::Int(0)) => port.port,
                Some(IntOrString::Int(number)) => *number,
                Some(IntOrString::String(name)) => named_port(pod?, name, &protocol)?,
            };
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number),
                protocol: Some(protocol),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let containers = &pod.spec.as_ref()?.containers;
    let ports = containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten());
    ports
        .filter(|port| {
            port.name.as_deref() == Some(name)
                && port.protocol.as_deref().unwrap_or("TCP") == protocol
        })
        .map(|port| port.container_port)
        .next()
}

fn port_key(ports: &[EndpointPort]) -> String {
    let mut keys: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                "{:?}{:?}{:?}{:?}",
                port.name.as_deref().unwrap_or(""),
                port.port,
                port.protocol,
                port.app_protocol
            )
        })
        .collect();
    keys.sort();
    keys.join(",")
}

fn new_slice(
    service: &Service,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> Result<EndpointSlice, Error> {
    let name = service.name_any();
    let mut labels = service.labels().clone();
    labels.insert(SERVICE_LABEL.into(), name.clone());
    labels.insert(MANAGED_BY_LABEL.into(), MANAGER.into());
    if service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref())
        == Some("None")
    {
        labels.insert("service.kubernetes.io/headless".into(), String::new());
    }
    Ok(serde_json::from_value(json!({
        "metadata": {
            "generateName": format!("{name}-"), "labels": labels,
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": name, "uid": service.uid(),
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    }))?)
}

fn selector(service: &Service) -> BTreeMap<String, String> {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.clone())
        .unwrap_or_default()
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref())
    else {
        return false;
    };
    !selector.is_empty()
        && selector
            .iter()
            .all(|(name, value)| pod.labels().get(name) == Some(value))
}

/// `namespace/name` of the Service whose slice of ours this is, for an index.
pub(crate) fn service_of(slice: &EndpointSlice) -> Vec<String> {
    let ours = slice
        .labels()
        .get(MANAGED_BY_LABEL)
        .is_some_and(|manager| manager == MANAGER);
    let service = slice.labels().get(SERVICE_LABEL).filter(|_| ours);
    service
        .map(|name| Key::new(&slice.namespace().unwrap_or_default(), name).to_string())
        .into_iter()
        .collect()
}

/// A pod wakes the Services that select it, before or after the change.
fn on_pod(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<Pod> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let Some(context) = context.upgrade() else {
            return;
        };
        let Some(pod) = new.or(old) else { return };
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

fn on_service(queue: &Queue<Key>) -> Listener<Service> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        new.into_iter()
            .for_each(|service| queue.add(Key::of(&**service)));
    })
}

fn on_slice(queue: &Queue<Key>) -> Listener<EndpointSlice> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        for slice in old.into_iter().chain(new) {
            if let (Some(name), false) = (
                slice.labels().get(SERVICE_LABEL),
                service_of(slice).is_empty(),
            ) {
                queue.add(Key::new(&slice.namespace().unwrap_or_default(), name));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "ns", "uid": "s"},
            "spec": {
                "selector": {"app": "x"},
                "ports": [{"name": "http", "port": 80, "targetPort": "web"}],
            },
        }))
        .unwrap()
    }

    fn pod(text: &str) -> Arc<Pod> {
        let (name, state) = text.split_at(text.len() - 1);
        let ready = if state == "+" { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "x"}},
                "spec": {"containers": [
                    {"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
                "status": {"podIP": "10.64.0.1",
                    "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    fn slice(name: &str, pods: &str) -> Arc<EndpointSlice> {
        let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
        let endpoints = pods
            .iter()
            .filter_map(|pod| endpoint(&service(), pod))
            .collect();
        let mut slice =
            new_slice(&service(), ports(&service(), Some(&pod("p+"))), endpoints).unwrap();
        slice.metadata.name = Some(name.into());
        Arc::new(slice)
    }

    #[track_caller]
    fn check(pods: &str, slices: &[(&str, &str)], expect: Expect) {
        let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
        let slices: Vec<_> = slices
            .iter()
            .map(|(name, pods)| slice(name, pods))
            .collect();
        let plan = plan(&service(), &pods, &slices);
        let mut said = Vec::new();
        for (name, _, endpoints) in &plan.write {
            let names: Vec<String> = endpoints
                .iter()
                .map(|endpoint| {
                    let ready = endpoint.conditions.as_ref().unwrap().ready == Some(true);
                    format!(
                        "{}{}",
                        uid_of(endpoint).unwrap(),
                        if ready { "+" } else { "-" }
                    )
                })
                .collect();
            let what = if names.len() > 5 {
                format!("{} endpoints", names.len())
            } else {
                names.join(" ")
            };
            said.push(format!("{}: {what}", name.as_deref().unwrap_or("new")));
        }
        said.extend(plan.remove.iter().map(|name| format!("remove {name}")));
        expect.assert_eq(&said.join(", "));
    }

    #[test]
    fn a_pod_that_stops_being_ready_changes_its_slice_only() {
        check("a+ b-", &[("one", "a+ b+")], expect!["one: a+ b-"]);
        check("a+ b-", &[("one", "a+"), ("two", "b+")], expect!["two: b-"]);
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        check("a+ b+", &[("one", "b+ a+")], expect![""]);
    }

    #[test]
    fn a_slice_without_endpoints_goes_unless_it_is_the_last() {
        check("a+", &[("one", "a+"), ("two", "b+")], expect!["remove two"]);
        let plan = plan(&service(), &[], &[slice("one", "a+")]);
        assert_eq!(plan.remove, ["one"]); // its ports, resolved from a pod, no longer hold
    }

    #[test]
    fn a_hundred_endpoints_fill_a_slice() {
        let pods: Vec<String> = (0..120).map(|n| format!("p{n}+")).collect();
        check(
            &pods.join(" "),
            &[],
            expect!["new: 100 endpoints, new: 20 endpoints"],
        );
    }
}
