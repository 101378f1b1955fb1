//! What a Service says of its pods: who belongs, under which address and ports. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::pack::{Wanted, port_key};
use crate::pod;

/// The endpoints of a Service in one family of addresses, by their ports: pods may resolve a named port
/// differently. `zones` knows the zone, if any, of each node that there is.
pub(super) fn wanted(
    service: &Service,
    pods: &[Arc<Pod>],
    family: &str,
    zones: &dyn Fn(&str) -> Option<Option<String>>,
) -> Vec<Wanted> {
    let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
    for pod in pods {
        let Some(endpoint) = endpoint(service, pod, family, zones) else {
            continue;
        };
        let ports = ports(service, pod);
        let group = wanted.entry(port_key(&ports));
        let group = group.or_insert_with(|| Wanted {
            ports,
            endpoints: Vec::new(),
        });
        group.endpoints.push(endpoint);
    }
    wanted.into_values().collect()
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    family: &str,
    zones: &dyn Fn(&str) -> Option<Option<String>>,
) -> Option<Endpoint> {
    let address = address(pod, family).filter(|_| !pod::ended(pod))?;
    let publishes = publishes_unready(service);
    let node = pod::node(pod);
    // A pod of a node that is gone serves nobody; it comes back with its node.
    let zone = match node.map(zones) {
        Some(None) if !publishes => return None,
        Some(zone) => zone.flatten(),
        None => None,
    };
    let (serving, terminating) = (pod::ready(pod), pod.metadata.deletion_timestamp.is_some());
    let ready = publishes || (serving && !terminating);
    let hints = hints(service, zone.as_deref(), node).filter(|_| ready);
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints,
        hostname: hostname(service, pod),
        node_name: node.map(str::to_owned),
        target_ref: Some(target(pod)),
        zone,
        ..Endpoint::default()
    })
}

/// For whom an endpoint is, where `trafficDistribution` asks for near ones.
fn hints(service: &Service, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let spec = service.spec.as_ref()?;
    let nodes = match spec.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => None,
        "PreferSameNode" => node,
        _ => return None,
    };
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.into() }]);
    let for_nodes = nodes.map(|node| vec![ForNode { name: node.into() }]);
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints {
        for_nodes,
        for_zones,
    })
}

/// The families of a Service's addresses, as slices name them.
pub(crate) fn families(service: &Service) -> Vec<&'static str> {
    let families = service
        .spec
        .iter()
        .flat_map(|spec| spec.ip_families.iter().flatten());
    let mut families: Vec<_> = families
        .map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" })
        .collect();
    if families.is_empty() {
        families.push("IPv4");
    }
    families
}

/// The pod's address of a family.
pub(crate) fn address(pod: &Pod, family: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|address| &address.ip);
    let mut all = status.pod_ip.iter().chain(all);
    all.find(|address| !address.is_empty() && address.contains(':') == (family == "IPv6"))
        .cloned()
}

/// The name that the pod has in the Service's domain.
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let name = spec.hostname.clone().filter(|name| !name.is_empty());
    name.filter(|_| spec.subdomain == service.metadata.name)
}

/// The reference to the pod that an address belongs to.
pub(crate) fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.namespace(),
        name: pod.metadata.name.clone(),
        uid: pod.uid(),
        ..ObjectReference::default()
    }
}

/// When the pod last became ready, or ceased to be.
pub(crate) fn triggered(pod: &Pod) -> Option<Timestamp> {
    let condition = pod::condition(pod, "Ready")?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether two versions of a pod have the same endpoints.
pub(super) fn alike(old: &Pod, new: &Pod) -> bool {
    let seen = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        (
            pod.uid(),
            pod::ended(pod),
            pod::ready(pod),
            triggered(pod),
            pod.metadata.deletion_timestamp.is_some(),
            spec.map(|spec| {
                (
                    spec.node_name.clone(),
                    spec.hostname.clone(),
                    spec.subdomain.clone(),
                )
            }),
            address(pod, "IPv4"),
            address(pod, "IPv6"),
        )
    };
    old.labels() == new.labels() && seen(old) == seen(new)
}

/// The Service's ports as this pod has them; a name that it does not have is left out.
pub(crate) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number(port, pod, &protocol)?),
                protocol: Some(protocol),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn number(port: &ServicePort, pod: &Pod, protocol: &str) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.is_some());
    let mut containers = spec.containers.iter().chain(sidecars);
    containers.find_map(|container| named(container, name, protocol))
}

fn named(container: &Container, name: &str, protocol: &str) -> Option<i32> {
    let mut ports = container.ports.iter().flatten();
    let port = ports.find(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    })?;
    Some(port.container_port)
}

pub(crate) fn headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

pub(crate) fn publishes_unready(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true)
}

/// Whether the Service has endpoints of its own choice.
pub(crate) fn selected(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() != Some("ExternalName")
            && spec
                .selector
                .as_ref()
                .is_some_and(|labels| !labels.is_empty())
    })
}

pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        let mut wanted = selector.iter();
        !selector.is_empty() && wanted.all(|(name, value)| pod.labels().get(name) == Some(value))
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    /// `a+` is a ready pod on node `n` of zone `z`, `a-` one that is not ready, `a~` ready and going, `a!` ended,
    /// `a?` on a node that is not there.
    fn pod(text: &str) -> Arc<Pod> {
        let (name, state) = text.split_at(1);
        let ready = if "+~?".contains(state) {
            "True"
        } else {
            "False"
        };
        let going = (state == "~").then_some("2026-01-01T00:00:00Z");
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "x"},
                    "deletionTimestamp": going},
                "spec": {
                    "nodeName": if state == "?" { "gone" } else { "n" },
                    "hostname": name, "subdomain": "s",
                    "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}],
                    "initContainers": [{"name": "i", "restartPolicy": "Always",
                        "ports": [{"name": "side", "containerPort": 9090}]}],
                },
                "status": {
                    "phase": if state == "!" { "Succeeded" } else { "Running" },
                    "podIP": "10.64.0.1", "podIPs": [{"ip": "10.64.0.1"}, {"ip": "fd00::1"}],
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            }))
            .unwrap(),
        )
    }

    #[track_caller]
    fn check(spec: Value, pods: &str, family: &str, expect: Expect) {
        let service = json!({"metadata": {"name": "s", "namespace": "ns"}, "spec": spec});
        let service = serde_json::from_value(service).unwrap();
        let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
        let zones = |node: &str| (node == "n").then(|| Some("z".to_owned()));
        let mut said = String::new();
        for group in wanted(&service, &pods, family, &zones) {
            for port in &group.ports {
                let name = port.name.as_deref().unwrap();
                said.push_str(&format!("{name}:{} ", port.port.unwrap()));
            }
            for endpoint in group.endpoints {
                let of = endpoint.conditions.unwrap();
                let flag = |on: Option<bool>, letter| if on == Some(true) { letter } else { "-" };
                let hints = endpoint.hints.map(|hints| {
                    format!(
                        " for{}{}",
                        hints.for_zones.map_or("", |_| " zone"),
                        hints.for_nodes.map_or("", |_| " node")
                    )
                });
                said.push_str(&format!(
                    "{} {}{}{} {}{}\n",
                    endpoint.addresses[0],
                    flag(of.ready, "r"),
                    flag(of.serving, "s"),
                    flag(of.terminating, "t"),
                    endpoint.zone.unwrap_or_default(),
                    hints.unwrap_or_default(),
                ));
            }
        }
        expect.assert_eq(&said);
    }

    fn web() -> Value {
        json!([{"name": "http", "port": 80, "targetPort": "web"}])
    }

    #[test]
    fn pods_that_are_going_serve_but_are_not_ready() {
        check(
            json!({"ports": web()}),
            "a+ b- c~ d!",
            "IPv4",
            expect![[r#"
                http:8080 10.64.0.1 rs- z
                10.64.0.1 --- z
                10.64.0.1 -st z
            "#]],
        );
    }

    #[test]
    fn addresses_may_be_published_before_they_are_ready() {
        check(
            json!({"ports": web(), "publishNotReadyAddresses": true}),
            "b- c~ e?",
            "IPv6",
            expect![[r#"
                http:8080 fd00::1 r-- z
                fd00::1 rst z
                fd00::1 rs- 
            "#]],
        );
        check(json!({"ports": web()}), "e?", "IPv4", expect![""]);
    }

    #[test]
    fn ports_are_found_by_their_names_in_containers_and_sidecars() {
        let ports = json!([
            {"name": "a", "port": 80, "targetPort": "side"},
            {"name": "b", "port": 81, "targetPort": 5},
            {"name": "c", "port": 82},
            {"name": "d", "port": 83, "targetPort": "none"},
        ]);
        check(
            json!({"ports": ports}),
            "a+",
            "IPv4",
            expect![[r#"
                a:9090 b:5 c:82 10.64.0.1 rs- z
            "#]],
        );
    }

    #[test]
    fn near_endpoints_are_hinted_at_where_that_is_asked_for() {
        for (asked, hinted) in [
            ("PreferClose", " for zone"),
            ("PreferSameZone", " for zone"),
            ("PreferSameNode", " for zone node"),
        ] {
            let service = json!({"spec": {"trafficDistribution": asked},
                "metadata": {"name": "s", "namespace": "ns"}});
            let service = serde_json::from_value(service).unwrap();
            let hints = hints(&service, Some("z"), Some("n")).unwrap();
            let said = format!(
                " for{}{}",
                hints.for_zones.map_or("", |_| " zone"),
                hints.for_nodes.map_or("", |_| " node")
            );
            assert_eq!(said, hinted, "{asked}");
        }
        check(
            json!({"trafficDistribution": "PreferClose"}),
            "a+ b-",
            "IPv4",
            expect![[r#"
                10.64.0.1 rs- z for zone
                10.64.0.1 --- z
            "#]],
        );
    }
}
