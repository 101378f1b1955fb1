//! Keeps the Endpoints of each Service with a selector: what was there before EndpointSlices.
//!
//! Reads `Service`, `Pod` and `Endpoints`; creates, patches and deletes `Endpoints` and writes Events about them.
//! Never touches those of a Service without a selector, but goes with every Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cache::Listener;
use crate::context::Context;
use crate::endpointslice::{
    HEADLESS_LABEL, TRIGGERED, address, families, headless, hostname, on_pod, ports,
    publishes_unready, second, selected, selects, target, triggered,
};
use crate::error::{Error, within, within_opt};
use crate::events::Severity;
use crate::key::Key;
use crate::manager::{Manager, changed};
use crate::pod;
use crate::queue::{Action, Queue};

const COMPONENT: &str = "endpoint-controller";
const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// The most addresses of one object.
const MOST: usize = 1000;

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::costly("endpoint"));
    context.pods.listen(on_pod(context, &queue));
    context.services.listen(changed(&queue));
    context.endpoints.listen(on_endpoints(context, &queue));
    manager.work(queue, reconcile);
}

/// Works on the Endpoints of one Service.
async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let api: Api<Endpoints> = Api::namespaced(context.client.clone(), &key.namespace);
    let old = context.endpoints.get(&key);
    let Some(service) = context.services.get(&key) else {
        if let Some(old) = old.filter(|old| !old.annotations().contains_key(LEADER)) {
            within_opt(api.delete(&key.name, &DeleteParams::default())).await?;
            context.endpoints.remove(&old);
        }
        return Ok(Action::AwaitChange);
    };
    if service.metadata.deletion_timestamp.is_some() || !selected(&service) {
        return Ok(Action::AwaitChange);
    }
    let mut pods = context.pods.by("namespace", &key.namespace);
    pods.retain(|pod| selects(&service, pod));
    let mut subsets = subsets(&service, &pods);
    let truncated = truncate(&mut subsets);
    let labels = labels(&service);
    let over = |old: &Endpoints| old.annotations().contains_key(OVER_CAPACITY);
    let same = old.as_ref().is_some_and(|old| {
        old.subsets.as_deref().unwrap_or_default() == subsets
            && *old.labels() == labels
            && over(old) == truncated
    });
    if same {
        return Ok(Action::AwaitChange);
    }
    let since = pods.iter().filter_map(|pod| triggered(pod)).max();
    let since = since.max(service.creation_timestamp().map(|time| time.0));
    let mut annotations = json!({});
    if let Some(since) = since {
        annotations[TRIGGERED] = second(since).into();
    }
    if truncated {
        annotations[OVER_CAPACITY] = "truncated".into();
    }
    let mut wanted = json!({"metadata": {"labels": labels, "annotations": annotations},
        "subsets": subsets});
    let (written, reason) = if let Some(old) = old {
        wanted["metadata"]["uid"] = json!(old.uid());
        let gone = old
            .labels()
            .keys()
            .filter(|name| !labels.contains_key(*name));
        for name in gone {
            wanted["metadata"]["labels"][name] = Value::Null;
        }
        if !truncated && over(&old) {
            wanted["metadata"]["annotations"][OVER_CAPACITY] = Value::Null;
        }
        let patch = Patch::Merge(wanted);
        let written = within(api.patch(&key.name, &PatchParams::default(), &patch)).await;
        (written, "FailedToUpdateEndpoint")
    } else {
        wanted["metadata"]["name"] = key.name.clone().into();
        let new = serde_json::from_value(wanted)?;
        let written = within(api.create(&PostParams::default(), &new)).await;
        (written, "FailedToCreateEndpoint")
    };
    match written {
        Ok(endpoints) => context.endpoints.apply(endpoints),
        Err(error) => {
            if matches!(error, Error::Refused(_)) {
                tell(&context, &service, reason, &error);
            }
            return Err(error);
        }
    }
    Ok(Action::AwaitChange)
}

fn tell(context: &Context, service: &Service, reason: &'static str, error: &Error) {
    let key = Key::of(service);
    let message = if reason == "FailedToCreateEndpoint" {
        format!("Failed to create endpoint for service {key}: {error}")
    } else {
        format!("Failed to update endpoint {key}: {error}")
    };
    let recorder = context.recorder.named(COMPONENT);
    recorder.record_as(
        "v1",
        "Endpoints",
        service,
        Severity::Warning,
        reason,
        message,
    );
}

/// The addresses of a Service's pods, by their ports. Pure.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publishes = publishes_unready(service);
    let family = families(service)[0];
    let mut subsets: BTreeMap<Vec<(String, i32, String)>, EndpointSubset> = BTreeMap::new();
    for pod in pods {
        let going = pod.metadata.deletion_timestamp.is_some() && !publishes;
        let Some(ip) = address(pod, family).filter(|_| !going && !pod::ended(pod)) else {
            continue;
        };
        let ports: Vec<EndpointPort> = ports(service, pod)
            .into_iter()
            .map(|port| EndpointPort {
                name: port.name.filter(|name| !name.is_empty()),
                port: port.port.unwrap_or(0),
                protocol: port.protocol,
                app_protocol: port.app_protocol,
            })
            .collect();
        if ports.is_empty() && !headless(service) {
            continue;
        }
        let key = ports.iter().map(|port| {
            let protocol = port.protocol.clone().unwrap_or_default();
            (port.name.clone().unwrap_or_default(), port.port, protocol)
        });
        let mut key: Vec<_> = key.collect();
        key.sort();
        let subset = subsets.entry(key).or_insert_with(|| EndpointSubset {
            ports: Some(ports).filter(|ports| !ports.is_empty()),
            ..EndpointSubset::default()
        });
        let list = if publishes || pod::ready(pod) {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        list.get_or_insert_default().push(EndpointAddress {
            ip,
            hostname: hostname(service, pod),
            node_name: pod::node(pod).map(str::to_owned),
            target_ref: Some(target(pod)),
        });
    }
    let mut subsets: Vec<_> = subsets.into_values().collect();
    for subset in &mut subsets {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses] {
            list.iter_mut()
                .for_each(|list| list.sort_by(|a, b| a.ip.cmp(&b.ip)));
        }
    }
    subsets
}

/// Cuts what is beyond the most, in proportion to the subsets, those that are not ready first; whether it did.
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|of| count(&of.addresses)).sum();
    let unready: usize = subsets
        .iter()
        .map(|of| count(&of.not_ready_addresses))
        .sum();
    if ready + unready <= MOST {
        return false;
    }
    let cuts_ready = ready > MOST;
    let (room, total) = if cuts_ready {
        (MOST, ready)
    } else {
        (MOST - ready, unready)
    };
    let mut left = room;
    for subset in subsets {
        let list = if cuts_ready {
            subset.not_ready_addresses = None;
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        let part = (count(list) * room).div_ceil(total).min(left);
        left -= part;
        if let Some(addresses) = list {
            addresses.truncate(part);
        }
        if part == 0 {
            *list = None;
        }
    }
    true
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS_LABEL);
    if headless(service) {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    }
    labels.insert(MANAGED_BY_LABEL.into(), COMPONENT.into());
    labels
}

/// Endpoints wake the Service of their name; those of ours whose Service is gone go.
fn on_endpoints(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<Endpoints> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let (Some(context), Some(endpoints)) = (context.upgrade(), new.or(old)) else {
            return;
        };
        let key = Key::of(&**endpoints);
        let manager = endpoints.labels().get(MANAGED_BY_LABEL);
        let ours = manager.is_some_and(|manager| manager == COMPONENT);
        if ours || context.services.get(&key).is_some() {
            queue.add(key);
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// `1+` is a ready pod of address 10.0.0.1, `1-` one that is not ready, `1~` one that is going.
    fn pod(text: &str) -> Arc<Pod> {
        let (name, state) = text.split_at(1);
        let going = (state == "~").then_some("2026-01-01T00:00:00Z");
        let ready = if state == "+" { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "ns", "uid": name, "deletionTimestamp": going},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [
                    {"name": "web", "containerPort": if name == "9" { 90 } else { 80 }}]}]},
                "status": {"podIP": format!("10.0.0.{name}"),
                    "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    #[track_caller]
    fn check(spec: Value, pods: &str, expect: Expect) {
        let service = json!({"metadata": {"name": "s", "namespace": "ns"}, "spec": spec});
        let service = serde_json::from_value(service).unwrap();
        let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
        let mut said = String::new();
        for subset in subsets(&service, &pods) {
            let of = |list: &Option<Vec<EndpointAddress>>| {
                let of = list.iter().flatten().map(|address| address.ip.clone());
                of.collect::<Vec<_>>().join(" ")
            };
            let ports = subset.ports.iter().flatten();
            let ports: Vec<String> = ports.map(|port| port.port.to_string()).collect();
            said.push_str(&format!(
                "{}: {} | {}\n",
                ports.join(","),
                of(&subset.addresses),
                of(&subset.not_ready_addresses)
            ));
        }
        expect.assert_eq(&said);
    }

    #[test]
    fn addresses_stand_by_their_ports_and_their_order() {
        let ports = json!([{"port": 1, "targetPort": "web"}]);
        check(
            json!({"ports": ports}),
            "2+ 1+ 3- 4~ 9+",
            expect![[r#"
                80: 10.0.0.1 10.0.0.2 | 10.0.0.3
                90: 10.0.0.9 | 
            "#]],
        );
    }

    #[test]
    fn a_headless_service_needs_no_ports() {
        check(
            json!({"clusterIP": "None", "publishNotReadyAddresses": true}),
            "1+ 3- 4~",
            expect![[r#"
                : 10.0.0.1 10.0.0.3 10.0.0.4 | 
            "#]],
        );
        check(json!({}), "1+", expect![""]);
    }

    #[test]
    fn more_than_a_thousand_addresses_are_cut_the_unready_first() {
        let list = |count: usize| Some(vec![EndpointAddress::default(); count]);
        let mut subsets = [(900, 0), (300, 300)].map(|(ready, unready)| EndpointSubset {
            addresses: list(ready),
            not_ready_addresses: list(unready),
            ..EndpointSubset::default()
        });
        assert!(truncate(&mut subsets));
        let counts = subsets.each_ref().map(|subset| {
            let count = |list: &Option<Vec<_>>| list.as_ref().map_or(0, Vec::len);
            (count(&subset.addresses), count(&subset.not_ready_addresses))
        });
        assert_eq!(counts, [(750, 0), (250, 0)]);
        assert!(!truncate(&mut subsets));
    }
}
