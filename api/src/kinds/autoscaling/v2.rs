//! HorizontalPodAutoscaler: how many replicas a workload has, by what they use.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    conversion::{DEFAULT_CPU, cpu_metric},
    metrics,
};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column,
        value::{child, fill, find, items, number, part, plain, put, text},
    },
    name,
    quantity::Quantity,
};

/// The kind, as it is stored.
pub(crate) struct HorizontalPodAutoscaler;

pub(super) static NAMES: Names = Names {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short: &["hpa"],
    categories: &["all"],
    namespaced: true,
    definition: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
};

pub(super) const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Reference", "What is scaled"),
    column::shown("Targets", "What each metric is, and what it should be"),
    column::shown("MinPods", "How few replicas there may be"),
    column::shown("MaxPods", "How many replicas there may be"),
    column::count("Replicas", "How many replicas there are"),
    column::AGE,
];

impl Kind for HorizontalPodAutoscaler {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn counted(&self) -> &[&'static str] {
        &[]
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else {
            return;
        };
        fill(spec, "minReplicas", 1);
        if items(spec, "/metrics").is_empty() {
            put(spec, "metrics", json!([cpu_metric(&DEFAULT_CPU.into())]));
        }
        if let Some(behavior) = find(spec, "behavior") {
            default_rules(
                behavior,
                "scaleUp",
                &json!({
                    "stabilizationWindowSeconds": 0,
                    "selectPolicy": "Max",
                    "policies": [
                        { "type": "Pods", "value": 4, "periodSeconds": 15 },
                        { "type": "Percent", "value": 100, "periodSeconds": 15 },
                    ],
                }),
            );
            default_rules(
                behavior,
                "scaleDown",
                &json!({
                    "selectPolicy": "Max",
                    "policies": [{ "type": "Percent", "value": 100, "periodSeconds": 15 }],
                }),
            );
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        let least = number(spec, "/minReplicas");
        let most = number(spec, "/maxReplicas").unwrap_or(0);
        if let Some(least) = least.filter(|least| *least < 1) {
            errors.invalid(
                &path.field("minReplicas"),
                least,
                "must be greater than or equal to 1",
            );
        }
        let most_path = path.field("maxReplicas");
        if most < 1 {
            errors.invalid(&most_path, most, "must be greater than 0");
        }
        if least.is_some_and(|least| most < least) {
            let detail = "must be greater than or equal to `minReplicas`";
            errors.invalid(&most_path, most, detail);
        }
        let target = part(spec, "/scaleTargetRef");
        metrics::reference(&path.field("scaleTargetRef"), target, errors);
        for (index, metric) in items(spec, "/metrics").iter().enumerate() {
            metrics::validate(&path.field("metrics").index(index), metric, errors);
        }
        for direction in ["scaleUp", "scaleDown"] {
            let rules = part(spec, &format!("/behavior/{direction}"));
            if !rules.is_null() {
                validate_rules(&path.field("behavior").field(direction), rules, errors);
            }
        }
    }

    fn validate_status(&self, object: &Value, _old: &Value, errors: &mut FieldErrors) {
        check::counts(
            object,
            "status",
            &["currentReplicas", "desiredReplicas"],
            errors,
        );
    }

    fn name_problems(&self, name: &str) -> Vec<String> {
        name::subdomain_problems(name)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let least = part(object, "/spec/minReplicas");
        vec![
            column::name(object),
            format!(
                "{}/{}",
                text(object, "/spec/scaleTargetRef/kind"),
                text(object, "/spec/scaleTargetRef/name")
            )
            .into(),
            metrics::shown(object).into(),
            if least.is_null() {
                "<unset>".into()
            } else {
                plain(least).into()
            },
            number(object, "/spec/maxReplicas")
                .unwrap_or(0)
                .to_string()
                .into(),
            number(object, "/status/currentReplicas")
                .unwrap_or(0)
                .into(),
            column::age(object, now),
        ]
    }
}

fn default_rules(behavior: &mut Value, direction: &str, defaults: &Value) {
    if let Some(rules) = child(behavior, direction) {
        for (field, value) in defaults.as_object().into_iter().flatten() {
            fill(rules, field, value.clone());
        }
    }
}

fn validate_rules(path: &Path, rules: &Value, errors: &mut FieldErrors) {
    const LONGEST_WINDOW: i64 = 3600;
    const LONGEST_PERIOD: i64 = 1800;
    let window_path = path.field("stabilizationWindowSeconds");
    match number(rules, "/stabilizationWindowSeconds") {
        Some(window) if window < 0 => {
            errors.invalid(
                &window_path,
                window,
                "must be greater than or equal to zero",
            );
        }
        Some(window) if window > LONGEST_WINDOW => errors.invalid(
            &window_path,
            window,
            format!("must be less than or equal to {LONGEST_WINDOW}"),
        ),
        _ => {}
    }
    check::one_of(
        &path.field("selectPolicy"),
        part(rules, "/selectPolicy"),
        &["Disabled", "Max", "Min"],
        errors,
    );
    let tolerance = part(rules, "/tolerance");
    if plain(tolerance)
        .parse::<Quantity>()
        .is_ok_and(|amount| amount.nanos() < 0)
    {
        errors.invalid(
            &path.field("tolerance"),
            plain(tolerance),
            "must be greater than or equal to 0",
        );
    }
    if items(rules, "/policies").is_empty() {
        errors.required(&path.field("policies"), "must specify at least one Policy");
    }
    for (index, policy) in items(rules, "/policies").iter().enumerate() {
        let path = path.field("policies").index(index);
        let kind = text(policy, "/type");
        if !["Percent", "Pods"].contains(&kind) {
            errors.not_supported(&path.field("type"), kind, &["Percent", "Pods"]);
        }
        for field in ["value", "periodSeconds"] {
            let given = number(policy, &format!("/{field}")).unwrap_or(0);
            if given <= 0 {
                errors.invalid(&path.field(field), given, "must be greater than zero");
            } else if field == "periodSeconds" && given > LONGEST_PERIOD {
                let detail = format!("must be less than or equal to {LONGEST_PERIOD}");
                errors.invalid(&path.field(field), given, detail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row};

    const WHOLE: &str = "maxReplicas: 3, scaleTargetRef: {kind: Deployment, name: web}";

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        expect.assert_eq(&errors(
            &HorizontalPodAutoscaler,
            &format!("{{spec: {{{spec}}}}}"),
        ));
    }

    #[track_caller]
    fn check_row(spec: &str, status: &str, expect: Expect) {
        let yaml =
            format!("{{metadata: {{name: web}}, spec: {{{WHOLE}, {spec}}}, status: {{{status}}}}}");
        expect.assert_eq(&row(&HorizontalPodAutoscaler, &yaml));
    }

    #[test]
    fn cpu_at_eighty_percent_is_wanted() {
        expect![[r#"{"spec":{"behavior":{"scaleDown":{"policies":[{"periodSeconds":15,"type":"Percent","value":100}],"selectPolicy":"Max"},"scaleUp":{"policies":[{"periodSeconds":15,"type":"Pods","value":4},{"periodSeconds":15,"type":"Percent","value":100}],"selectPolicy":"Max","stabilizationWindowSeconds":0}},"metrics":[{"resource":{"name":"cpu","target":{"averageUtilization":80,"type":"Utilization"}},"type":"Resource"}],"minReplicas":1}}"#]]
        .assert_eq(&defaulted(
            &HorizontalPodAutoscaler,
            "{spec: {behavior: {}}}",
        ));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        check(
            "minReplicas: 0, maxReplicas: -1, behavior: {scaleUp: {stabilizationWindowSeconds: 4000, \
             selectPolicy: x, policies: [{type: z, value: 0, periodSeconds: 2000}]}}",
            expect![[r#"
                spec.minReplicas: Invalid value: 0: must be greater than or equal to 1
                spec.maxReplicas: Invalid value: -1: must be greater than 0
                spec.maxReplicas: Invalid value: -1: must be greater than or equal to `minReplicas`
                spec.scaleTargetRef.kind: Required value
                spec.scaleTargetRef.name: Required value
                spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600
                spec.behavior.scaleUp.selectPolicy: Unsupported value: "x": supported values: "Disabled", "Max", "Min"
                spec.behavior.scaleUp.policies[0].type: Unsupported value: "z": supported values: "Percent", "Pods"
                spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero
                spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 2000: must be less than or equal to 1800
            "#]],
        );
    }

    #[test]
    fn a_metric_has_the_source_that_its_type_says() {
        check(
            &format!(
                "{WHOLE}, metrics: [{{type: x}}, {{type: Pods, resource: {{target: {{type: Utilization, \
                 averageUtilization: 0}}}}}}, {{type: External, external: {{metric: {{}}, target: {{value: \
                 0, averageValue: 1}}}}}}]"
            ),
            expect![[r#"
                spec.metrics[0].type: Unsupported value: "x": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"
                spec.metrics[1].resource.name: Required value: must specify a resource name
                spec.metrics[1].resource.target.averageUtilization: Invalid value: 0: must be greater than 0
                spec.metrics[1].pods: Required value: must populate information for the given metric source
                spec.metrics[1].resource: Forbidden: must populate the given metric source only
                spec.metrics[2].external.metric.name: Required value: must specify a metric name
                spec.metrics[2].external.target.type: Required value: must specify a metric target type
                spec.metrics[2].external.target.type: Invalid value: "": must be either Utilization, Value, or AverageValue
                spec.metrics[2].external.target.value: Invalid value: "0": must be positive
                spec.metrics[2].external.target.value: Forbidden: may not set both a target value for metric and a per-pod target
            "#]],
        );
    }

    #[test]
    fn a_row_says_what_is_and_what_should_be() {
        check_row(
            "minReplicas: 2",
            "currentReplicas: 2",
            expect!["web|Deployment/web|cpu: <unknown>/80%|2|3|2|60m"],
        );
        check_row(
            "metrics: [{type: Resource, resource: {name: cpu, target: {averageUtilization: 50}}}, {type: \
             External, external: {target: {averageValue: 5}}}, {type: Pods, pods: {}}]",
            "currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageUtilization: 7}}}]",
            expect!["web|Deployment/web|cpu: 7%/50%, <unknown>/5 (avg) + 1 more...|1|3|0|60m"],
        );
    }
}
