//! What one object uses of what quotas limit. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    admission::pod_resources::{Amounts, amounts, total},
    kinds::value::{items, plain, text},
    object,
    quantity::Quantity,
    time,
};

/// How much is known of an object beyond that it is there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Pod,
    Service,
    Claim,
    /// Group and plural of what is only counted.
    Counted(String, String),
}

/// Kinds whose plural alone is a quota's resource.
const PLAIN: &[&str] = &[
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";

impl Kind {
    pub(super) fn of(group: &str, plural: &str) -> Self {
        match (group, plural) {
            ("", "pods") => Self::Pod,
            ("", "services") => Self::Service,
            ("", "persistentvolumeclaims") => Self::Claim,
            _ => Self::Counted(group.to_owned(), plural.to_owned()),
        }
    }

    /// The kind that a quota's resource is about.
    pub(super) fn of_resource(resource: &str) -> Self {
        if let Some(counted) = resource.strip_prefix("count/") {
            let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
            return Self::of(group, plural);
        }
        if resource == "requests.storage" || resource.contains(STORAGE_CLASS) {
            return Self::Claim;
        }
        match resource {
            "services" | "services.loadbalancers" | "services.nodeports" => Self::Service,
            "persistentvolumeclaims" => Self::Claim,
            plain if PLAIN.contains(&plain) => Self::of("", plain),
            _ => Self::Pod,
        }
    }

    /// Group and plural.
    pub(super) fn names(&self) -> (&str, &str) {
        match self {
            Self::Pod => ("", "pods"),
            Self::Service => ("", "services"),
            Self::Claim => ("", "persistentvolumeclaims"),
            Self::Counted(group, plural) => (group, plural),
        }
    }

    /// True if a change of an object may change what it uses.
    pub(super) fn is_measured_on_update(&self) -> bool {
        matches!(self, Self::Service | Self::Claim)
    }

    /// What an object uses at `now`, by resource.
    pub(super) fn usage(&self, object: &Value, now: Timestamp) -> Amounts {
        let mut used = self.counts();
        match self {
            Self::Pod => pod(object, now, &mut used),
            Self::Service => service(object, &mut used),
            Self::Claim => claim(object, &mut used),
            Self::Counted(..) => {}
        }
        used
    }

    /// What an object uses by being there.
    pub(super) fn counts(&self) -> Amounts {
        let (group, plural) = self.names();
        let mut used = BTreeMap::new();
        let count = if group.is_empty() {
            format!("count/{plural}")
        } else {
            format!("count/{plural}.{group}")
        };
        used.insert(count, Quantity::whole(1));
        if group.is_empty() && PLAIN.contains(&plural) {
            used.insert(plural.to_owned(), Quantity::whole(1));
        }
        used
    }
}

fn pod(pod: &Value, now: Timestamp, used: &mut Amounts) {
    // What has ended, or should have, holds nothing but its name.
    if matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") || is_overdue(pod, now) {
        return;
    }
    used.insert("pods".to_owned(), Quantity::whole(1));
    used.extend(compute(&total(pod, "requests"), &total(pod, "limits")));
}

fn is_overdue(pod: &Value, now: Timestamp) -> bool {
    let end = object::metadata(pod)
        .and_then(|metadata| metadata.get("deletionTimestamp"))
        .and_then(time::parse);
    let grace = object::deletion_grace_seconds(pod).map(SignedDuration::from_secs);
    let (Some(end), Some(grace)) = (end, grace) else {
        return false;
    };
    end.checked_add(grace).is_ok_and(|end| now > end)
}

/// Requests and limits under the names that quotas have for them.
pub(super) fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        let short = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
            || name.starts_with("hugepages-");
        if short {
            used.insert(name.clone(), *amount);
        }
        if short || name.contains('/') {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{name}"), *amount);
        }
    }
    used
}

fn service(service: &Value, used: &mut Amounts) {
    let mut set = |name: &str, number: usize| {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        used.insert(name.to_owned(), Quantity::whole(number));
    };
    let ports = items(service, "/spec/ports");
    let balanced = text(service, "/spec/type") == "LoadBalancer";
    let without = balanced && service["spec"]["allocateLoadBalancerNodePorts"] == false;
    let node_ports = match text(service, "/spec/type") {
        "LoadBalancer" if without => ports
            .iter()
            .filter(|port| port["nodePort"].as_i64().unwrap_or_default() != 0)
            .count(),
        "LoadBalancer" | "NodePort" => ports.len(),
        _ => 0,
    };
    set("services", 1);
    set("services.nodeports", node_ports);
    set("services.loadbalancers", usize::from(balanced));
}

fn claim(claim: &Value, used: &mut Amounts) {
    let one = Quantity::whole(1);
    let class = match text(claim, "/spec/storageClassName") {
        "" => claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"]
            .as_str()
            .unwrap_or_default(),
        class => class,
    };
    used.insert("persistentvolumeclaims".to_owned(), one);
    if !class.is_empty() {
        used.insert(format!("{class}{STORAGE_CLASS}persistentvolumeclaims"), one);
    }
    let asked = plain(&claim["spec"]["resources"]["requests"]["storage"]);
    if let Ok(asked) = asked.parse() {
        used.insert("requests.storage".to_owned(), asked);
        if !class.is_empty() {
            used.insert(format!("{class}{STORAGE_CLASS}requests.storage"), asked);
        }
    }
}

/// The resources that every container must say for a quota to count it, with the containers that do
/// not: `cpu for: a,b; memory for: a`.
pub(super) fn missing<'h>(pod: &Value, hard: impl Iterator<Item = &'h String>) -> Option<String> {
    const REQUIRED: &[&str] = &[
        "cpu",
        "memory",
        "requests.cpu",
        "requests.memory",
        "limits.cpu",
        "limits.memory",
    ];
    let containers: Vec<(&str, Amounts)> = items(pod, "/spec/containers")
        .iter()
        .chain(items(pod, "/spec/initContainers"))
        .map(|container| {
            let requests = amounts(container, "/resources/requests");
            let limits = amounts(container, "/resources/limits");
            (text(container, "/name"), compute(&requests, &limits))
        })
        .collect();
    let of_pod = compute(
        &amounts(pod, "/spec/resources/requests"),
        &amounts(pod, "/spec/resources/limits"),
    );
    let lines: Vec<String> = hard
        .filter(|resource| REQUIRED.contains(&resource.as_str()))
        .filter(|resource| !of_pod.contains_key(*resource))
        .filter_map(|resource| {
            let mut silent: Vec<&str> = containers
                .iter()
                .filter(|(_, says)| !says.contains_key(resource))
                .map(|(name, _)| *name)
                .collect();
            silent.sort_unstable();
            silent.dedup();
            (!silent.is_empty()).then(|| format!("{resource} for: {}", silent.join(",")))
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::read;

    #[track_caller]
    fn check(group: &str, plural: &str, yaml: &str, expected: Expect) {
        let used = Kind::of(group, plural).usage(&read(yaml), Timestamp::UNIX_EPOCH);
        let texts: Vec<String> = used
            .iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect();
        expected.assert_eq(&texts.join(","));
    }

    #[test]
    fn a_pod_uses_what_it_requests_and_is_limited_to() {
        let containers = "containers: [{name: c, resources: {requests: {cpu: 100m, example.com/gpu: 2}, limits: {cpu: 200m, memory: 1Gi}}}]";
        check(
            "",
            "pods",
            &format!("{{spec: {{{containers}}}}}"),
            expect![
                "count/pods=1,cpu=100m,limits.cpu=200m,limits.memory=1Gi,pods=1,requests.cpu=100m,requests.example.com/gpu=2"
            ],
        );
        check(
            "",
            "pods",
            &format!("{{spec: {{{containers}}}, status: {{phase: Failed}}}}"),
            expect!["count/pods=1"],
        );
    }

    #[test]
    fn services_and_claims_use_more_than_their_number() {
        check(
            "",
            "services",
            "{spec: {type: NodePort, ports: [{port: 1}, {port: 2}]}}",
            expect!["count/services=1,services=1,services.loadbalancers=0,services.nodeports=2"],
        );
        check(
            "",
            "persistentvolumeclaims",
            "{spec: {storageClassName: fast, resources: {requests: {storage: 1Gi}}}}",
            expect![
                "count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"
            ],
        );
    }

    #[test]
    fn everything_else_is_counted() {
        check(
            "apps",
            "deployments",
            "{}",
            expect!["count/deployments.apps=1"],
        );
        check("", "secrets", "{}", expect!["count/secrets=1,secrets=1"]);
    }

    #[test]
    fn a_resource_says_what_it_is_about() {
        for (resource, kind) in [
            ("count/pods", Kind::Pod),
            ("requests.cpu", Kind::Pod),
            ("requests.storage", Kind::Claim),
            (
                "gold.storageclass.storage.k8s.io/requests.storage",
                Kind::Claim,
            ),
            ("services.nodeports", Kind::Service),
            (
                "count/widgets.example.com",
                Kind::of("example.com", "widgets"),
            ),
            ("configmaps", Kind::of("", "configmaps")),
        ] {
            assert_eq!(Kind::of_resource(resource), kind, "{resource}");
        }
    }

    #[test]
    fn containers_that_say_too_little_are_named() {
        let pod =
            read("{spec: {containers: [{name: b}, {name: a, resources: {limits: {cpu: 1}}}]}}");
        let hard = [
            "limits.cpu".to_owned(),
            "memory".to_owned(),
            "pods".to_owned(),
        ];
        expect!["limits.cpu for: b; memory for: a,b"]
            .assert_eq(&missing(&pod, hard.iter()).unwrap_or_default());
    }
}
