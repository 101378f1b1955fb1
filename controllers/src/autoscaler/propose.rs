//! What one metric of an autoscaler asks for, with the words that Kubernetes has for it. Pure.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, MetricIdentifier, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus,
    ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::calculate::{Outcome, Scene, Usages};
use super::usage;
use crate::quantity;
use crate::selector;

/// What the metrics APIs told of a metric.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// Of each pod.
    Pods(Usages),
    /// Of something that all share.
    Total(i64),
}

/// So many replicas, because of this.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// What the metric is called in the reason for a change.
    pub(super) metric: String,
    pub(super) status: MetricStatus,
}

/// Why a metric asks for nothing.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Failure {
    /// Of the Event and of ScalingActive.
    pub(super) reason: &'static str,
    pub(super) cause: String,
    /// The cause, and whose it is.
    pub(super) error: String,
}

/// What all metrics together ask for.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// How many, and for which metric. None: there is no knowing.
    pub(super) replicas: Option<(i32, String)>,
    pub(super) statuses: Vec<MetricStatus>,
    pub(super) failures: Vec<Failure>,
}

impl Verdict {
    /// The most of what the metrics ask for; one that is not known keeps the others from going down.
    pub(super) fn of(wanted: i32, proposals: Vec<Result<Proposal, Failure>>) -> Self {
        let count = proposals.len();
        let (mut best, mut statuses, mut failures) = (None, Vec::new(), Vec::new());
        for proposal in proposals {
            match proposal {
                Ok(proposal) => {
                    let more =
                        |(replicas, _): &(i32, _)| *replicas == 0 || proposal.replicas > *replicas;
                    if best.as_ref().is_none_or(more) {
                        best = Some((proposal.replicas, proposal.metric));
                    }
                    statuses.push(proposal.status);
                }
                Err(failure) => {
                    failures.push(failure);
                    statuses.push(MetricStatus::default());
                }
            }
        }
        let lower = best
            .as_ref()
            .is_some_and(|(replicas, _)| *replicas < wanted);
        let replicas = best.filter(|_| failures.len() < count && (failures.is_empty() || !lower));
        Self {
            replicas,
            statuses,
            failures,
        }
    }

    /// What went wrong, in one sentence.
    pub(super) fn error(&self) -> Option<String> {
        let first = self.failures.first()?;
        let (bad, all) = (self.failures.len(), self.statuses.len());
        let error = &first.error;
        Some(format!(
            "invalid metrics ({bad} invalid out of {all}), first error is: {error}"
        ))
    }
}

/// What a metric asks for, as it was seen, or as there was nothing to be seen.
pub(super) fn propose(
    spec: &MetricSpec,
    seen: Result<Seen, String>,
    scene: &Scene<'_>,
) -> Result<Proposal, Failure> {
    let mut status = MetricStatus {
        type_: spec.type_.clone(),
        ..MetricStatus::default()
    };
    if let Some(source) = &spec.resource {
        let name = &source.name;
        let (outcome, metric) =
            of_resource(name, None, &source.target, seen, scene).map_err(|cause| {
                let error = format!("failed to get {name} resource metric value: {cause}");
                failure("FailedGetResourceMetric", cause, error)
            })?;
        status.resource = Some(ResourceMetricStatus {
            current: average(outcome),
            name: name.clone(),
        });
        return Ok(proposal(outcome, metric, status));
    }
    if let Some(source) = &spec.container_resource {
        let (name, container) = (&source.name, &source.container);
        let (outcome, metric) = of_resource(name, Some(container), &source.target, seen, scene)
            .map_err(|cause| {
                let error = format!("failed to get {container} container metric value: {cause}");
                failure("FailedGetContainerResourceMetric", cause, error)
            })?;
        status.container_resource = Some(ContainerResourceMetricStatus {
            container: container.clone(),
            current: average(outcome),
            name: name.clone(),
        });
        return Ok(proposal(outcome, metric, status));
    }
    if let Some(source) = &spec.pods {
        let name = &source.metric.name;
        let outcome = of_pods(name, &source.target, seen, scene).map_err(|cause| {
            let error = format!("failed to get pods metric value: {cause}");
            failure("FailedGetPodsMetric", cause, error)
        })?;
        status.pods = Some(PodsMetricStatus {
            current: average(outcome),
            metric: source.metric.clone(),
        });
        return Ok(proposal(outcome, format!("pods metric {name}"), status));
    }
    if let Some(source) = &spec.object {
        let described = &source.described_object;
        let (outcome, current) =
            of_total(&source.target, "object", seen, scene).map_err(|cause| {
                let name = &source.metric.name;
                let whose = match source.target.average_value {
                    Some(_) => format!("failed to get {name} object metric: "),
                    None => String::new(),
                };
                let error = format!("failed to get object metric value: {whose}{cause}");
                failure("FailedGetObjectMetric", cause, error)
            })?;
        let metric = if current.value.is_some() {
            format!("{} metric {}", described.kind, source.metric.name)
        } else {
            external(&source.metric)
        };
        status.object = Some(ObjectMetricStatus {
            current,
            described_object: described.clone(),
            metric: source.metric.clone(),
        });
        return Ok(proposal(outcome, metric, status));
    }
    if let Some(source) = &spec.external {
        let name = &source.metric.name;
        let (outcome, current) =
            of_total(&source.target, "external", seen, scene).map_err(|cause| {
                let whose = match source.target.average_value {
                    Some(_) => format!("failed to get {name} external metric"),
                    None => format!("failed to get external metric {name}"),
                };
                let error = format!("failed to get {name} external metric value: {whose}: {cause}");
                failure("FailedGetExternalMetric", cause, error)
            })?;
        status.external = Some(ExternalMetricStatus {
            current,
            metric: source.metric.clone(),
        });
        return Ok(proposal(outcome, external(&source.metric), status));
    }
    let cause = format!("unknown metric source type {:?}", spec.type_);
    Err(failure("InvalidMetricSourceType", cause.clone(), cause))
}

fn proposal(outcome: Outcome, metric: String, status: MetricStatus) -> Proposal {
    Proposal {
        replicas: outcome.replicas,
        metric,
        status,
    }
}

fn failure(reason: &'static str, cause: String, error: String) -> Failure {
    Failure {
        reason,
        cause,
        error,
    }
}

fn external(metric: &MetricIdentifier) -> String {
    format!(
        "external metric {}({})",
        metric.name,
        selector::as_go(metric.selector.as_ref())
    )
}

fn of_resource(
    name: &str,
    container: Option<&str>,
    target: &MetricTarget,
    seen: Result<Seen, String>,
    scene: &Scene<'_>,
) -> Result<(Outcome, String), String> {
    let usages =
        usages(seen).map_err(|error| format!("unable to get metrics for resource {name}: {error}"));
    if let Some(value) = milli(target.average_value.as_ref()) {
        let outcome = usages.and_then(|usages| scene.by_average(name == "cpu", &usages, value));
        let outcome = outcome.map_err(|error| format!("failed to get {name} usage: {error}"))?;
        return Ok((outcome, format!("{name} resource")));
    }
    let Some(percent) = target.average_utilization else {
        let text = "invalid resource metric source: neither an average utilization target nor an \
                    average value (usage) target was set";
        return Err(text.to_owned());
    };
    let requests = || usage::requests(scene.pods, name, container);
    let outcome =
        usages.and_then(|usages| scene.by_utilization(name == "cpu", &usages, requests, percent));
    let outcome = outcome.map_err(|error| format!("failed to get {name} utilization: {error}"))?;
    let of = if container.is_some() {
        " container"
    } else {
        ""
    };
    let metric = format!("{name}{of} resource utilization (percentage of request)");
    Ok((outcome, metric))
}

fn of_pods(
    name: &str,
    target: &MetricTarget,
    seen: Result<Seen, String>,
    scene: &Scene<'_>,
) -> Result<Outcome, String> {
    let usages = usages(seen).map_err(|error| format!("unable to get metric {name}: {error}"))?;
    let Some(target) = milli(target.average_value.as_ref()) else {
        return Err("invalid pods metric source: no average value target was set".to_owned());
    };
    scene.by_average(false, &usages, target)
}

/// Of an object or external metric, whose errors say already what could not be had.
fn of_total(
    target: &MetricTarget,
    of: &str,
    seen: Result<Seen, String>,
    scene: &Scene<'_>,
) -> Result<(Outcome, MetricValueStatus), String> {
    let (value, each) = (
        milli(target.value.as_ref()),
        milli(target.average_value.as_ref()),
    );
    if value.is_none() && each.is_none() {
        return Err(format!(
            "invalid {of} metric source: neither a value target nor an average value target was set"
        ));
    }
    let total = match seen? {
        Seen::Total(total) => total,
        Seen::Pods(_) => return Err("the metrics API told of pods".to_owned()),
    };
    if let Some(each) = each {
        let outcome = scene.by_share(total, each);
        return Ok((outcome, average(outcome)));
    }
    let outcome = scene.by_total(total, value.unwrap_or_default())?;
    let current = MetricValueStatus {
        value: Some(Quantity(quantity::from_milli(total))),
        ..MetricValueStatus::default()
    };
    Ok((outcome, current))
}

fn usages(seen: Result<Seen, String>) -> Result<Usages, String> {
    match seen? {
        Seen::Pods(usages) => Ok(usages),
        Seen::Total(_) => Err("the metrics API told of no pods".to_owned()),
    }
}

fn average(outcome: Outcome) -> MetricValueStatus {
    MetricValueStatus {
        average_utilization: outcome.percent,
        average_value: Some(Quantity(quantity::from_milli(outcome.value))),
        value: None,
    }
}

fn milli(quantity: Option<&Quantity>) -> Option<i64> {
    usage::milli(&quantity?.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::super::Timing;
    use super::super::calculate::{Tolerance, Usage};
    use super::*;

    /// Two ready pods that request half a CPU each.
    fn pods() -> Vec<Arc<Pod>> {
        let pod = |name| {
            let pod = json!({
                "metadata": {"name": name},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]},
                "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z",
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            });
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        };
        vec![pod("a"), pod("b")]
    }

    fn used(value: i64) -> Result<Seen, String> {
        let at = "2026-01-01T01:00:00Z".parse().expect("a time");
        let usage = Usage {
            value,
            at,
            window: SignedDuration::ZERO,
        };
        Ok(Seen::Pods(
            ["a", "b"].map(|pod| (pod.to_owned(), usage)).into(),
        ))
    }

    fn ask(spec: Value, seen: Result<Seen, String>) -> Result<Proposal, Failure> {
        let (pods, spec) = (pods(), serde_json::from_value(spec).expect("a metric"));
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        let scene = Scene {
            wanted: 2,
            present: 2,
            pods: &pods,
            tolerance: Tolerance { down: 0.1, up: 0.1 },
            timing: Timing::default(),
            now,
        };
        propose(&spec, seen, &scene)
    }

    #[track_caller]
    fn check(spec: Value, seen: Result<Seen, String>, expect: Expect) {
        expect.assert_eq(&match ask(spec, seen) {
            Ok(proposal) => {
                let status = serde_json::to_value(&proposal.status).expect("a value");
                format!("{} by {}: {status}", proposal.replicas, proposal.metric)
            }
            Err(failure) => format!("{}: {}", failure.reason, failure.error),
        });
    }

    fn cpu(target: Value) -> Value {
        json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    }

    #[test]
    fn a_resource_is_measured_in_percent_or_absolutely() {
        let percent = json!({"type": "Utilization", "averageUtilization": 50});
        check(
            cpu(percent.clone()),
            used(500),
            expect![[
                r#"4 by cpu resource utilization (percentage of request): {"resource":{"current":{"averageUtilization":100,"averageValue":"500m"},"name":"cpu"},"type":"Resource"}"#
            ]],
        );
        check(
            cpu(json!({"type": "AverageValue", "averageValue": "250m"})),
            used(500),
            expect![[
                r#"4 by cpu resource: {"resource":{"current":{"averageValue":"500m"},"name":"cpu"},"type":"Resource"}"#
            ]],
        );
        check(
            json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": percent}}),
            used(500),
            expect![[
                r#"4 by cpu container resource utilization (percentage of request): {"containerResource":{"container":"c","current":{"averageUtilization":100,"averageValue":"500m"},"name":"cpu"},"type":"ContainerResource"}"#
            ]],
        );
    }

    #[test]
    fn what_is_not_known_is_said_as_in_kubernetes() {
        let percent = json!({"type": "Utilization", "averageUtilization": 50});
        check(
            cpu(percent.clone()),
            Err("no metrics returned from resource metrics API".to_owned()),
            expect![
                "FailedGetResourceMetric: failed to get cpu resource metric value: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API"
            ],
        );
        check(
            json!({"type": "Resource", "resource": {"name": "memory", "target": percent}}),
            used(500),
            expect![
                "FailedGetResourceMetric: failed to get memory resource metric value: failed to get memory utilization: missing request for memory in container c of Pod a"
            ],
        );
        check(
            json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "d", "target": percent}}),
            used(500),
            expect![
                "FailedGetContainerResourceMetric: failed to get d container metric value: failed to get cpu utilization: container d not found in Pod a"
            ],
        );
        check(
            json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}}}),
            Err("unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered".to_owned()),
            expect!["FailedGetPodsMetric: failed to get pods metric value: unable to get metric m: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"],
        );
    }

    #[test]
    fn what_all_share_has_a_value_or_one_for_each() {
        let object = json!({"kind": "Service", "name": "s", "apiVersion": "v1"});
        check(
            json!({"type": "Object", "object": {"metric": {"name": "hits"}, "describedObject": object,
                "target": {"type": "Value", "value": "10"}}}),
            Ok(Seen::Total(25_000)),
            expect![[
                r#"5 by Service metric hits: {"object":{"current":{"value":"25"},"describedObject":{"apiVersion":"v1","kind":"Service","name":"s"},"metric":{"name":"hits"}},"type":"Object"}"#
            ]],
        );
        check(
            json!({"type": "External", "external": {
                "metric": {"name": "queue", "selector": {"matchLabels": {"q": "a", "r": "b"}}},
                "target": {"type": "AverageValue", "averageValue": "10"}}}),
            Ok(Seen::Total(25_000)),
            expect![[
                r#"3 by external metric queue(&LabelSelector{MatchLabels:map[string]string{q: a,r: b,},MatchExpressions:[]LabelSelectorRequirement{},}): {"external":{"current":{"averageValue":"12500m"},"metric":{"name":"queue","selector":{"matchLabels":{"q":"a","r":"b"}}}},"type":"External"}"#
            ]],
        );
    }

    #[track_caller]
    fn check_verdict(wanted: i32, proposals: &[i32], expect: Expect) {
        let proposals = proposals.iter().enumerate().map(|(index, replicas)| {
            if *replicas < 0 {
                return Err(failure("R", "c".to_owned(), "e".to_owned()));
            }
            Ok(Proposal {
                replicas: *replicas,
                metric: format!("m{index}"),
                status: MetricStatus::default(),
            })
        });
        let verdict = Verdict::of(wanted, proposals.collect());
        let replicas = match &verdict.replicas {
            Some((replicas, metric)) => format!("{replicas} by {metric}"),
            None => "unknown".to_owned(),
        };
        let error = verdict.error().unwrap_or_default();
        expect.assert_eq(format!("{replicas} {error}").trim_end());
    }

    #[test]
    fn the_metric_that_asks_for_most_wins_and_an_unknown_one_forbids_going_down() {
        check_verdict(3, &[2, 5, 4], expect!["5 by m1"]);
        check_verdict(3, &[2, 1], expect!["2 by m0"]);
        check_verdict(
            3,
            &[5, -1],
            expect!["5 by m0 invalid metrics (1 invalid out of 2), first error is: e"],
        );
        check_verdict(
            3,
            &[2, -1],
            expect!["unknown invalid metrics (1 invalid out of 2), first error is: e"],
        );
        check_verdict(
            3,
            &[-1, -1],
            expect!["unknown invalid metrics (2 invalid out of 2), first error is: e"],
        );
    }
}
