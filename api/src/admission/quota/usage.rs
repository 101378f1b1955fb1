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
    /// A FunctionRevision: a component needs no pod.
    Revision,
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
            (function_kinds::GROUP, "functionrevisions") => Self::Revision,
            _ => Self::Counted(group.to_owned(), plural.to_owned()),
        }
    }

    /// The kinds that a quota's resource is about.
    pub(super) fn all_of_resource(resource: &str) -> Vec<Self> {
        let kind = Self::of_resource(resource);
        // What pods need, components of Functions need too.
        if kind == Self::Pod && !matches!(resource, "pods" | "count/pods") {
            return vec![kind, Self::Revision];
        }
        vec![kind]
    }

    fn of_resource(resource: &str) -> Self {
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
            Self::Revision => (function_kinds::GROUP, "functionrevisions"),
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
            Self::Revision => revision(object, &mut used),
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

/// A revision uses what all of its instances may: nobody is asked again when a request starts one. One that no request
/// reaches has none, and those of a container are pods.
fn revision(revision: &Value, used: &mut Amounts) {
    let mut conditions = items(revision, "/status/conditions").iter();
    let idle = conditions.any(|condition| {
        text(condition, "/type") == "Active" && text(condition, "/status") == "False"
    });
    let Some(instance) = instance(revision).filter(|_| !idle) else {
        return;
    };
    let most = revision["spec"]["scale"]["max"].as_u64().unwrap_or(1);
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let all = |list: &str| -> Amounts {
        let own = total(&instance, list).into_iter();
        own.map(|(name, amount)| (name, amount.times(most)))
            .collect()
    };
    used.extend(compute(&all("requests"), &all("limits")));
}

/// One instance of a revision as a pod would say it, unless its instances are pods: what it does not request is what it
/// is limited to.
pub(super) fn instance(revision: &Value) -> Option<Value> {
    let spec = &revision["spec"];
    let runtime = match text(revision, "/status/runtime") {
        "" => text(spec, "/runtimeClassName"),
        runtime => runtime,
    };
    if runtime == "oci" || !spec["port"].is_null() {
        return None;
    }
    let mut resources = spec["resources"].clone();
    let limits = resources["limits"].as_object().cloned().unwrap_or_default();
    for (name, amount) in limits {
        if resources["requests"][&name].is_null() {
            resources["requests"][&name] = amount;
        }
    }
    let container = serde_json::json!({"name": object::name(revision), "resources": resources});
    Some(serde_json::json!({"spec": {"containers": [container]}}))
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
            assert_eq!(Kind::all_of_resource(resource)[0], kind, "{resource}");
        }
    }

    #[test]
    fn a_revision_uses_what_its_instances_may() {
        let check_revision = |more: &str, expected: Expect| {
            let spec = "spec: {scale: {max: 4}, resources: {requests: {cpu: 100m}, limits: {cpu: 1, memory: 64Mi}}";
            check(
                "functions.wk.dev",
                "functionrevisions",
                &format!("{{{spec}{more}"),
                expected,
            );
        };
        check_revision(
            "}}",
            expect![
                "count/functionrevisions.functions.wk.dev=1,cpu=400m,limits.cpu=4,limits.memory=256Mi,memory=256Mi,requests.cpu=400m,requests.memory=256Mi"
            ],
        );
        let counted = "count/functionrevisions.functions.wk.dev=1";
        for more in [
            ", port: 80}}",
            "}, status: {runtime: oci}}",
            "}, status: {conditions: [{type: Active, status: 'False'}]}}",
        ] {
            let used = Kind::Revision;
            let spec = "spec: {scale: {max: 4}, resources: {limits: {cpu: 1}}";
            let used = used.usage(&read(&format!("{{{spec}{more}")), Timestamp::UNIX_EPOCH);
            assert_eq!(
                used.into_keys().collect::<Vec<_>>(),
                [&counted[..counted.len() - 2]]
            );
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
