//! What the metrics APIs tell, and what pods request, as numbers in thousandths. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use kube::ResourceExt;
use serde::Deserialize;

use super::calculate::{Usage, Usages};
use crate::quantity;

/// Over which time a metric counts that does not say so.
const WINDOW: i64 = 60;

/// A list of any of the metrics APIs.
#[derive(Clone, Deserialize, Debug)]
pub(super) struct List<T> {
    #[serde(default = "Vec::new")]
    pub(super) items: Vec<T>,
}

/// `metrics.k8s.io`: what a pod uses.
#[derive(Clone, Deserialize, Debug)]
pub(super) struct PodMetrics {
    metadata: Name,
    timestamp: Timestamp,
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Clone, Deserialize, Debug)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Name {
    name: String,
}

/// `custom.metrics.k8s.io`: a value that belongs to an object.
#[derive(Clone, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetricValue {
    described_object: Name,
    timestamp: Timestamp,
    window_seconds: Option<i64>,
    value: String,
}

/// `external.metrics.k8s.io`: a value that belongs to none.
#[derive(Clone, Deserialize, Debug)]
pub(super) struct ExternalValue {
    value: String,
}

/// What each pod uses of a resource, all containers together; a pod of which a container is not known is not.
pub(super) fn of_pods(listed: &[PodMetrics], resource: &str) -> Usages {
    let known = listed.iter().filter_map(|pod| {
        let of = |container: &ContainerMetrics| milli(container.usage.get(resource)?);
        let mut containers = pod.containers.iter().map(of);
        let first = containers.next()??;
        let value = containers.try_fold(first, |sum, value| Some(sum.saturating_add(value?)))?;
        Some((pod.metadata.name.clone(), pod.usage(value)))
    });
    known.collect()
}

/// What one container of each pod uses.
pub(super) fn of_containers(
    listed: &[PodMetrics],
    namespace: &str,
    resource: &str,
    container: &str,
) -> Result<Usages, String> {
    let mut usages = Usages::new();
    for pod in listed {
        let name = &pod.metadata.name;
        let mut containers = pod.containers.iter();
        let found = containers.find(|found| found.name == container);
        let found = found.ok_or_else(|| {
            format!(
                "failed to get container metrics: container {container} not present in metrics for pod \
                 {namespace}/{name}"
            )
        })?;
        if let Some(value) = found.usage.get(resource).and_then(milli) {
            usages.insert(name.clone(), pod.usage(value));
        }
    }
    Ok(usages)
}

impl PodMetrics {
    fn usage(&self, value: i64) -> Usage {
        Usage {
            value,
            at: self.timestamp,
            window: go_duration(&self.window).unwrap_or_default(),
        }
    }
}

/// The values that pods have.
pub(super) fn of_values(listed: &[MetricValue]) -> Usages {
    let known = listed.iter().filter_map(|metric| {
        let usage = Usage {
            value: milli(&metric.value)?,
            at: metric.timestamp,
            window: SignedDuration::from_secs(metric.window_seconds.unwrap_or(WINDOW)),
        };
        Some((metric.described_object.name.clone(), usage))
    });
    known.collect()
}

impl MetricValue {
    pub(super) fn milli(&self) -> Option<i64> {
        milli(&self.value)
    }
}

/// All the values of an external metric together.
pub(super) fn total(listed: &[ExternalValue]) -> i64 {
    let values = listed.iter().filter_map(|metric| milli(&metric.value));
    values.fold(0, i64::saturating_add)
}

/// What each pod requests of a resource: of the pod, of one container, or of all containers that run along.
pub(super) fn requests(
    pods: &[Arc<Pod>],
    resource: &str,
    container: Option<&str>,
) -> Result<BTreeMap<String, i64>, String> {
    let request = |pod: &Arc<Pod>| Ok((pod.name_any(), request(pod, resource, container)?));
    pods.iter().map(request).collect()
}

fn request(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let spec = pod.spec.as_ref();
    let containers = spec
        .into_iter()
        .flat_map(|spec| spec.containers.iter().chain(crate::pod::sidecars(spec)));
    let whole = spec.and_then(|spec| spec.resources.as_ref());
    if container.is_none() && whole.is_some_and(|whole| whole.requests.is_some()) {
        // The pod's own request goes before those of its containers.
        let own = of_container(whole, resource);
        let mut parts = containers.filter_map(|one| of_container(one.resources.as_ref(), resource));
        let request = own.or_else(|| {
            let first = parts.next()?;
            Some(parts.fold(first, i64::saturating_add))
        });
        return request.ok_or_else(|| {
            let name = pod.name_any();
            format!("missing pod-level request for {resource} in Pod {name}")
        });
    }
    let mut total: i64 = 0;
    let mut found = false;
    for one in containers.filter(|one| container.is_none_or(|wanted| one.name == wanted)) {
        let request = of_container(one.resources.as_ref(), resource).ok_or_else(|| {
            let (name, pod) = (&one.name, pod.name_any());
            format!("missing request for {resource} in container {name} of Pod {pod}")
        })?;
        total = total.saturating_add(request);
        found = true;
    }
    match container {
        Some(wanted) if !found => {
            let name = pod.name_any();
            Err(format!("container {wanted} not found in Pod {name}"))
        }
        _ => Ok(total),
    }
}

fn of_container(resources: Option<&ResourceRequirements>, resource: &str) -> Option<i64> {
    milli(&resources?.requests.as_ref()?.get(resource)?.0)
}

pub(super) fn milli(text: impl AsRef<str>) -> Option<i64> {
    quantity::milli(text.as_ref())
}

/// Reads a duration as Go writes it: `1m5.25s`.
fn go_duration(text: &str) -> Option<SignedDuration> {
    let (mut rest, mut total) = (text, SignedDuration::ZERO);
    while !rest.is_empty() {
        let number = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (amount, tail) = rest.split_at(number);
        let unit = tail
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let amount: f64 = amount.parse().ok()?;
        let part = SignedDuration::try_from_secs_f64(amount * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn listed() -> Vec<PodMetrics> {
        serde_json::from_value(json!([
            {"metadata": {"name": "a"}, "timestamp": "2026-01-01T00:00:00Z", "window": "15s", "containers": [
                {"name": "c", "usage": {"cpu": "1500u", "memory": "2Mi"}},
                {"name": "d", "usage": {"cpu": "1"}}]},
            {"metadata": {"name": "b"}, "timestamp": "2026-01-01T00:00:00Z", "window": "15s",
                "containers": [{"name": "c", "usage": {"cpu": "3"}}]},
            {"metadata": {"name": "none"}, "timestamp": "2026-01-01T00:00:00Z", "window": "15s"},
        ]))
        .expect("metrics")
    }

    fn show(usages: &Usages) -> String {
        let one = |(name, usage): (&String, &Usage)| format!("{name} {}", usage.value);
        usages.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_pod_uses_what_its_containers_use_if_all_are_known() {
        expect!["a 1002, b 3000"].assert_eq(&show(&of_pods(&listed(), "cpu")));
        expect![""].assert_eq(&show(&of_pods(&listed(), "memory")));
        let of_c = of_containers(&listed()[..2], "ns", "memory", "c");
        expect!["a 2097152000"].assert_eq(&show(&of_c.expect("usages")));
        expect!["failed to get container metrics: container d not present in metrics for pod ns/b"]
            .assert_eq(&of_containers(&listed(), "ns", "cpu", "d").expect_err("none"));
    }

    #[track_caller]
    fn check(spec: Value, container: Option<&str>, expect: Expect) {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec});
        let mut pod: Pod = serde_json::from_value(pod).expect("a pod");
        crate::pod::strip(&mut pod);
        let requests = requests(&[Arc::new(pod)], "cpu", container);
        expect.assert_eq(&requests.map_or_else(|error| error, |found| found["p"].to_string()));
    }

    #[test]
    fn a_pod_requests_what_runs_along_requests() {
        let container =
            |name, cpu: &str| json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("s", "10m");
        sidecar["restartPolicy"] = "Always".into();
        let spec = json!({
            "containers": [container("c", "100m"), container("d", "1")],
            "initContainers": [container("i", "7"), sidecar],
        });
        check(spec.clone(), None, expect!["1110"]);
        check(spec.clone(), Some("s"), expect!["10"]);
        check(
            spec.clone(),
            Some("i"),
            expect!["container i not found in Pod p"],
        );
        let mut whole = spec;
        whole["resources"] = json!({"requests": {"cpu": "3"}});
        check(whole.clone(), None, expect!["3000"]);
        check(whole.clone(), Some("c"), expect!["100"]);
        whole["resources"] = json!({"requests": {"memory": "3"}});
        check(whole, None, expect!["1110"]);
        check(
            json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1"}}}]}),
            None,
            expect!["missing request for cpu in container c of Pod p"],
        );
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [
            ("15s", 15_000),
            ("1m5.25s", 65_250),
            ("10.068s", 10_068),
            ("0s", 0),
            ("500ms", 500),
        ] {
            assert_eq!(
                go_duration(text).expect("a duration").as_millis(),
                millis,
                "{text}"
            );
        }
        assert_eq!(go_duration("s5"), None);
    }
}
