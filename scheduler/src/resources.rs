//! Amounts of resources: what a node offers, and what a pod asks for in all.
//!
//! Pure. Sums follow Kubernetes: containers run together, init containers one after another beside
//! the restartable ones (sidecars) started before them, and the pod's overhead comes on top.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

/// CPU a container without a request is taken to need when nodes are scored.
const SCORED_CPU_MILLIS: i64 = 100;
/// Memory a container without a request is taken to need when nodes are scored.
const SCORED_MEMORY: i64 = 200 << 20;

/// Amounts by resource. `pods` is not among them: it is counted, not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// In thousandths of a core.
    pub cpu_millis: i64,
    /// In bytes.
    pub memory: i64,
    /// In bytes.
    pub ephemeral_storage: i64,
    /// Every other resource by its name, in units.
    pub extended: BTreeMap<String, i64>,
}

impl Resources {
    /// Reads a list of quantities as the API has it.
    pub(crate) fn parse(list: &BTreeMap<String, Quantity>) -> Self {
        let mut resources = Self::default();
        for (name, Quantity(text)) in list {
            let units = || quantity::units(text).unwrap_or_default();
            match name.as_str() {
                "cpu" => resources.cpu_millis = quantity::millis(text).unwrap_or_default(),
                "memory" => resources.memory = units(),
                "ephemeral-storage" => resources.ephemeral_storage = units(),
                "pods" => {}
                _ => {
                    resources.extended.insert(name.clone(), units());
                }
            }
        }
        resources
    }

    /// What a pod asks for.
    pub(crate) fn requested(spec: &PodSpec) -> Self {
        total(spec, Self::parse)
    }

    /// What a pod is taken to need when nodes are scored: containers that ask for nothing count too.
    pub(crate) fn scored(spec: &PodSpec) -> Self {
        total(spec, |requests| {
            let mut resources = Self::parse(requests);
            if !requests.contains_key("cpu") {
                resources.cpu_millis = SCORED_CPU_MILLIS;
            }
            if !requests.contains_key("memory") {
                resources.memory = SCORED_MEMORY;
            }
            resources
        })
    }

    /// The amount of a resource.
    pub(crate) fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu_millis,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            name => self.extended.get(name).copied().unwrap_or_default(),
        }
    }

    /// Whether it is one of those that count only for pods that ask for it.
    pub(crate) fn is_scalar(name: &str) -> bool {
        !matches!(name, "cpu" | "memory" | "ephemeral-storage")
    }

    fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.cpu_millis = with(self.cpu_millis, other.cpu_millis);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.extended {
            match self.extended.get_mut(name) {
                Some(own) => *own = with(*own, *amount),
                None => {
                    self.extended.insert(name.clone(), with(0, *amount));
                }
            }
        }
    }
}

/// Sums over many pods: exact, so that what was added can be taken away again whatever else was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) cpu_millis: i128,
    pub(crate) memory: i128,
    pub(crate) ephemeral_storage: i128,
    /// None is zero.
    extended: BTreeMap<String, i128>,
}

impl Total {
    pub(crate) fn add(&mut self, part: &Resources) {
        self.change(part, 1);
    }

    pub(crate) fn subtract(&mut self, part: &Resources) {
        self.change(part, -1);
    }

    /// The sum of a resource, or the largest amount that there can be.
    pub(crate) fn get(&self, name: &str) -> i64 {
        let sum = match name {
            "cpu" => self.cpu_millis,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            name => self.extended.get(name).copied().unwrap_or_default(),
        };
        i64::try_from(sum).unwrap_or(i64::MAX)
    }

    fn change(&mut self, part: &Resources, sign: i128) {
        self.cpu_millis += sign * i128::from(part.cpu_millis);
        self.memory += sign * i128::from(part.memory);
        self.ephemeral_storage += sign * i128::from(part.ephemeral_storage);
        for (name, amount) in &part.extended {
            let change = sign * i128::from(*amount);
            match self.extended.get_mut(name) {
                Some(sum) if *sum + change == 0 => {
                    self.extended.remove(name);
                }
                Some(sum) => *sum += change,
                None if change == 0 => {}
                None => {
                    self.extended.insert(name.clone(), change);
                }
            }
        }
    }
}

fn total(spec: &PodSpec, read: impl Fn(&BTreeMap<String, Quantity>) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&read(&requests(container.resources.as_ref())));
    }
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let own = read(&requests(container.resources.as_ref()));
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&own);
            sidecars.add(&own);
            peak.raise_to(&sidecars);
        } else {
            let mut step = sidecars.clone();
            step.add(&own);
            peak.raise_to(&step);
        }
    }
    running.raise_to(&peak);
    let whole_pod = requests(spec.resources.as_ref());
    if !whole_pod.is_empty() {
        replace(&mut running, &whole_pod);
    }
    if let Some(overhead) = &spec.overhead {
        running.add(&Resources::parse(overhead));
    }
    running
}

/// What a pod asks for as a whole stands in place of the sum over its containers.
fn replace(sum: &mut Resources, whole_pod: &BTreeMap<String, Quantity>) {
    let whole = Resources::parse(whole_pod);
    if whole_pod.contains_key("cpu") {
        sum.cpu_millis = whole.cpu_millis;
    }
    if whole_pod.contains_key("memory") {
        sum.memory = whole.memory;
    }
    sum.extended.extend(whole.extended);
}

/// Requests, and limits where there is no request.
fn requests(resources: Option<&ResourceRequirements>) -> BTreeMap<String, Quantity> {
    let Some(resources) = resources else {
        return BTreeMap::new();
    };
    let mut requests = resources.limits.clone().unwrap_or_default();
    requests.extend(resources.requests.clone().unwrap_or_default());
    requests
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Each word is a container: `c` runs, `i` initialises, `s` is a sidecar, `o` the overhead,
    /// `p` the whole pod; then its CPU.
    #[track_caller]
    fn check(containers: &str, expected: Expect) {
        let mut spec = serde_json::json!({ "containers": [], "initContainers": [] });
        for word in containers.split_whitespace() {
            let (kind, cpu) = word.split_at(1);
            let requests = match cpu {
                "" => serde_json::json!({}),
                cpu => serde_json::json!({ "cpu": cpu }),
            };
            let container =
                serde_json::json!({ "name": "x", "resources": { "requests": requests } });
            let mut push = |list: &str, container| {
                spec[list].as_array_mut().unwrap().push(container);
            };
            match kind {
                "c" => push("containers", container),
                "i" => push("initContainers", container),
                "s" => {
                    let mut sidecar = container;
                    sidecar["restartPolicy"] = "Always".into();
                    push("initContainers", sidecar);
                }
                "o" => spec["overhead"] = requests,
                "p" => spec["resources"] = serde_json::json!({ "requests": requests }),
                _ => unreachable!("{word}"),
            }
        }
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let (asked, scored) = (Resources::requested(&spec), Resources::scored(&spec));
        expected.assert_eq(&format!(
            "{}m, scored {}m",
            asked.cpu_millis, scored.cpu_millis
        ));
    }

    #[test]
    fn a_pod_needs_the_larger_of_running_and_initialising() {
        check("c1 c500m", expect!["1500m, scored 1500m"]);
        check("c1 i3 i2", expect!["3000m, scored 3000m"]);
        check("c1 s1 i2", expect!["3000m, scored 3000m"]);
        check("c1 i2 s1", expect!["2000m, scored 2000m"]);
        check("c1 o250m", expect!["1250m, scored 1250m"]);
        check("c1 c1 p1500m o250m", expect!["1750m, scored 1750m"]);
    }

    #[test]
    fn a_container_without_a_request_counts_in_the_score_only() {
        check("c c", expect!["0m, scored 200m"]);
        check("c0", expect!["0m, scored 0m"]);
    }

    #[test]
    fn a_sum_forgets_nothing_when_more_than_there_can_be_is_taken_away() {
        let part = |amount: &str| {
            let names = ["cpu", "memory", "ephemeral-storage", "example.com/gpu"];
            let amounts = names.map(|name| (name.to_owned(), Quantity(amount.to_owned())));
            Resources::parse(&amounts.into())
        };
        let mut sum = Total::default();
        sum.add(&part("2"));
        let before = sum.clone();
        sum.add(&part("8Ei"));
        sum.add(&part("8Ei"));
        assert_eq!(sum.get("memory"), i64::MAX);
        sum.subtract(&part("8Ei"));
        sum.subtract(&part("8Ei"));
        assert_eq!(sum, before);
        sum.subtract(&part("2"));
        assert_eq!(sum, Total::default());
    }

    #[test]
    fn a_limit_without_a_request_is_the_request() {
        let spec = serde_json::json!({ "containers": [
            { "name": "a", "resources": { "limits": { "cpu": "2", "memory": "1Gi" }, "requests": { "cpu": "1" } } },
        ] });
        let asked = Resources::requested(&serde_json::from_value(spec).unwrap());
        assert_eq!((asked.cpu_millis, asked.memory), (1000, 1 << 30));
    }
}
