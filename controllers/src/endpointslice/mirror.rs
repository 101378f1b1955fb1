//! Mirrors Endpoints that a user wrote for a Service without a selector to EndpointSlices.
//!
//! Reads `Service`, `Endpoints` and `EndpointSlice`; creates, patches and deletes `EndpointSlice`; writes Events
//! about Endpoints. Never mirrors what says that it should not be, nor what a leader election keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use serde_json::json;

use super::pack::{Pack, Plan, Wanted, pack};
use super::{MANAGED_BY_LABEL, SERVICE_LABEL, TRIGGERED, on_service, on_slice, owns, write};
use crate::context::Context;
use crate::error::Error;
use crate::events::Severity;
use crate::key::Key;
use crate::manager::{Manager, changed};
use crate::queue::{Action, Queue};

pub(super) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const COMPONENT: &str = "endpoint-slice-mirroring-controller";
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses of one subset that are mirrored, and that a slice may have.
const MOST: usize = 1000;

pub(super) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::costly("endpoint_slice_mirroring"));
    context.endpoints.listen(changed(&queue));
    context.services.listen(on_service(&queue));
    context.slices.listen(on_slice(MANAGER, &queue));
    manager.work(queue, reconcile);
}

/// Works on the Endpoints of one name.
async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let slices = context.slices.by("mirror", &key.to_string());
    let service = context.services.get(&key);
    let chooses = service.as_ref().is_none_or(|service| {
        let selector = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|labels| !labels.is_empty())
    });
    let endpoints = context.endpoints.get(&key);
    let endpoints = endpoints.filter(|endpoints| !chooses && mirrored(endpoints));
    let Some(endpoints) = endpoints else {
        let remove = slices.iter().map(|slice| slice.name_any()).collect();
        let gone = Plan {
            remove,
            ..Plan::default()
        };
        write(&context, &key, json!({}), gone).await?;
        return Ok(Action::AwaitChange);
    };
    let skipped = skipped(&endpoints);
    if skipped > 0 {
        let message = format!(
            "A max of {MOST} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were skipped"
        );
        let recorder = context.recorder.named(COMPONENT);
        let reason = "TooManyAddressesToMirror";
        recorder.record(&*endpoints, Severity::Warning, reason, message);
    }
    let (owner, labels) = (owner(&endpoints), labels(&endpoints));
    let annotations = annotations(&endpoints);
    let metadata =
        json!({"labels": labels, "annotations": annotations, "ownerReferences": [owner]});
    let fresh = |slice: &EndpointSlice| {
        let has = slice.annotations();
        slice.labels() == &labels
            && owns(&owner, slice)
            && annotations
                .iter()
                .all(|(name, value)| has.get(name) == Some(value))
    };
    write(&context, &key, metadata, plan(&endpoints, &slices, &fresh)).await?;
    Ok(Action::AwaitChange)
}

/// Decides what to write. Pure.
fn plan(
    endpoints: &Endpoints,
    slices: &[Arc<EndpointSlice>],
    fresh: &dyn Fn(&EndpointSlice) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    for family in ["IPv4", "IPv6"] {
        let subsets = endpoints.subsets.iter().flatten();
        let wanted: Vec<Wanted> = subsets
            .map(|subset| wanted(subset, family == "IPv6"))
            .filter(|wanted| !wanted.endpoints.is_empty())
            .collect();
        let of_family = slices.iter().filter(|slice| slice.address_type == family);
        let slices: Vec<_> = of_family.cloned().collect();
        if family == "IPv6" && wanted.is_empty() {
            plan.remove
                .extend(slices.iter().map(|slice| slice.name_any()));
            continue;
        }
        plan.extend(pack(&Pack {
            family,
            wanted,
            slices: &slices,
            size: MOST,
            fresh,
        }));
    }
    plan
}

fn mirrored(endpoints: &Endpoints) -> bool {
    let skipped = endpoints.labels().get(SKIP_LABEL);
    endpoints.metadata.deletion_timestamp.is_none()
        && skipped.is_none_or(|skipped| skipped != "true")
        && !endpoints.annotations().contains_key(LEADER)
}

/// The addresses of a subset, those that serve first.
fn addresses(subset: &EndpointSubset) -> impl Iterator<Item = (&EndpointAddress, bool)> {
    let ready = subset.addresses.iter().flatten().map(|of| (of, true));
    let others = subset.not_ready_addresses.iter().flatten();
    ready.chain(others.map(|of| (of, false)))
}

fn skipped(endpoints: &Endpoints) -> usize {
    let subsets = endpoints.subsets.iter().flatten();
    subsets
        .map(|subset| addresses(subset).count().saturating_sub(MOST))
        .sum()
}

fn wanted(subset: &EndpointSubset, six: bool) -> Wanted {
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: port.app_protocol.clone(),
    });
    let mut seen = BTreeSet::new();
    let of_family = addresses(subset)
        .take(MOST)
        .filter(|(address, _)| address.ip.contains(':') == six && seen.insert(address.ip.clone()));
    Wanted {
        endpoints: of_family
            .map(|(address, ready)| Endpoint {
                addresses: vec![address.ip.clone()],
                conditions: Some(EndpointConditions {
                    ready: Some(ready),
                    ..EndpointConditions::default()
                }),
                hostname: address.hostname.clone().filter(|name| !name.is_empty()),
                node_name: address.node_name.clone(),
                target_ref: address.target_ref.clone(),
                ..Endpoint::default()
            })
            .collect(),
        ports: ports.collect(),
    }
}

fn labels(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE_LABEL.into(), endpoints.name_any());
    labels.insert(MANAGED_BY_LABEL.into(), MANAGER.into());
    labels
}

fn annotations(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|name, _| ![LAST_APPLIED, TRIGGERED].contains(&name.as_str()));
    annotations
}

fn owner(endpoints: &Endpoints) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Endpoints".into(),
        name: endpoints.name_any(),
        uid: endpoints.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(addresses: usize) -> Endpoints {
        let addresses: Vec<_> = (0..addresses)
            .map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)}))
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "ns"},
            "subsets": [
                {"addresses": addresses, "ports": [{"port": 80}],
                    "notReadyAddresses": [{"ip": "fd00::1"}, {"ip": "10.0.0.0"}]},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn each_family_has_slices_of_its_own_and_an_address_is_there_once() {
        let plan = plan(&endpoints(2), &[], &|_| true);
        let told = plan.write.iter().map(|write| {
            let ready = |of: &Endpoint| of.conditions.as_ref().unwrap().ready.unwrap();
            let of = write.endpoints.iter();
            let of: Vec<_> = of.map(|of| (of.addresses[0].as_str(), ready(of))).collect();
            (write.family.as_str(), of)
        });
        let told: Vec<_> = told.collect();
        let four = vec![("10.0.0.0", true), ("10.0.0.1", true)];
        assert_eq!(told, [("IPv4", four), ("IPv6", vec![("fd00::1", false)])]);
    }

    #[test]
    fn a_thousand_addresses_of_a_subset_are_mirrored() {
        let plan = plan(&endpoints(1005), &[], &|_| true);
        assert_eq!(plan.write[0].endpoints.len(), 1000);
        assert_eq!(skipped(&endpoints(1005)), 7);
    }
}
