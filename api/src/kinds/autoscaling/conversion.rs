//! HorizontalPodAutoscaler between autoscaling/v2, which is stored, and autoscaling/v1.
//!
//! v1 knows a target for CPU utilization only. What else v2 says it carries in annotations, in the
//! forms that Kubernetes has there: metrics and conditions as v1's types, behavior with the field
//! names of Kubernetes' inner type, in capitals. Pure.

use serde_json::{Map, Value, json};

use crate::kinds::value::{child, items, part, present, put, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// The target for CPU utilization, in percent, where nothing else is said.
pub(super) const DEFAULT_CPU: i64 = 80;

/// A metric that says how much of the requested CPU is used.
pub(super) fn cpu_metric(percent: &Value) -> Value {
    json!({
        "type": "Resource",
        "resource": {
            "name": "cpu",
            "target": { "type": "Utilization", "averageUtilization": percent },
        },
    })
}

fn is_cpu(metric: &Value) -> bool {
    text(metric, "/type") == "Resource" && text(metric, "/resource/name") == "cpu"
}

/// Moves what v1 says in a v1 object to where v2 has it.
pub(super) fn to_v2(object: &mut Value) {
    let percent = take(object, "spec", "targetCPUUtilizationPercentage");
    let current = take(object, "status", "currentCPUUtilizationPercentage");
    let said = |object: &mut Value, annotation: &str| {
        let text = take_annotation(object, annotation)?;
        serde_json::from_str::<Value>(&text).ok()
    };
    let mut metrics = said(object, METRICS).map_or_else(Vec::new, |list| {
        list.as_array()
            .into_iter()
            .flatten()
            .map(|metric| map_metric(metric, TARGET, v2_source))
            .collect()
    });
    if !percent.is_null() {
        metrics.push(cpu_metric(&percent));
    }
    if metrics.is_empty() {
        metrics.push(cpu_metric(&DEFAULT_CPU.into()));
    }
    let behavior = said(object, BEHAVIOR).map(|behavior| recase(&behavior, str::to_lowercase));
    let seen = match said(object, CURRENT_METRICS) {
        Some(list) => items(&list, "")
            .iter()
            .map(|metric| map_metric(metric, CURRENT, v2_source))
            .collect(),
        None if current.is_null() => Vec::new(),
        None => vec![json!({
            "type": "Resource",
            "resource": { "name": "cpu", "current": { "averageUtilization": current } },
        })],
    };
    let conditions = said(object, CONDITIONS);
    if let Some(spec) = child(object, "spec") {
        put(spec, "metrics", metrics.into());
        if let Some(behavior) = behavior {
            put(spec, "behavior", behavior);
        }
    }
    if let Some(status) = child(object, "status") {
        if !seen.is_empty() {
            put(status, "currentMetrics", seen.into());
        }
        if let Some(conditions) = conditions {
            put(status, "conditions", conditions);
        }
    }
}

/// Moves what v2 says in a v2 object to where v1 has it.
pub(super) fn to_v1(object: &mut Value) {
    for annotation in [METRICS, CURRENT_METRICS, BEHAVIOR, CONDITIONS] {
        take_annotation(object, annotation);
    }
    let metrics = take(object, "spec", "metrics");
    let behavior = take(object, "spec", "behavior");
    let seen = take(object, "status", "currentMetrics");
    let conditions = take(object, "status", "conditions");
    if let Some(percent) = items(&metrics, "")
        .iter()
        .find(|metric| is_cpu(metric))
        .map(|metric| part(metric, "/resource/target/averageUtilization").clone())
        && let Some(spec) = child(object, "spec")
    {
        put(spec, "targetCPUUtilizationPercentage", percent);
    }
    let used = items(&seen, "")
        .iter()
        .rfind(|metric| is_cpu(metric) && present(metric, "/resource/current/averageUtilization"))
        .map(|metric| part(metric, "/resource/current/averageUtilization").clone());
    if let Some(used) = used
        && let Some(status) = child(object, "status")
    {
        put(status, "currentCPUUtilizationPercentage", used);
    }
    let others: Vec<_> = items(&metrics, "")
        .iter()
        .filter(|metric| {
            !(is_cpu(metric) && present(metric, "/resource/target/averageUtilization"))
        })
        .map(|metric| map_metric(metric, TARGET, v1_source))
        .collect();
    let seen: Vec<_> = items(&seen, "")
        .iter()
        .map(|metric| map_metric(metric, CURRENT, v1_source))
        .collect();
    annotate(object, METRICS, others.into());
    annotate(object, CURRENT_METRICS, seen.into());
    annotate(object, CONDITIONS, conditions);
    annotate(object, BEHAVIOR, recase(&behavior, str::to_uppercase));
}

/// Takes a field out of a part of an object.
fn take(object: &mut Value, part: &str, field: &str) -> Value {
    object
        .get_mut(part)
        .and_then(Value::as_object_mut)
        .and_then(|fields| fields.remove(field))
        .unwrap_or_default()
}

fn take_annotation(object: &mut Value, annotation: &str) -> Option<String> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let taken = annotations.remove(annotation);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    taken?.as_str().map(str::to_owned)
}

/// Writes a value into an annotation, unless it says nothing.
fn annotate(object: &mut Value, annotation: &str, value: Value) {
    let says_nothing = match &value {
        Value::Array(list) => list.is_empty(),
        other => other.is_null(),
    };
    if !says_nothing
        && let Some(metadata) = child(object, "metadata")
        && let Some(annotations) = child(metadata, "annotations")
    {
        put(annotations, annotation, value.to_string().into());
    }
}

/// The same value with the first letter of every field's name in another case.
fn recase(value: &Value, case: fn(&str) -> String) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| {
                let first = name.chars().next().map_or(0, char::len_utf8);
                let name = format!("{}{}", case(&name[..first]), &name[first..]);
                (name, recase(value, case))
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(|value| recase(value, case)).collect(),
        other => other.clone(),
    }
}

/// Where v2 and v1 have the amounts of a wish (`target`) or of what was seen (`current`).
#[derive(Clone, Copy)]
struct Amounts {
    /// The field of v2 that holds them.
    field: &'static str,
    value: &'static str,
    average: &'static str,
    utilization: &'static str,
}

const TARGET: Amounts = Amounts {
    field: "target",
    value: "targetValue",
    average: "targetAverageValue",
    utilization: "targetAverageUtilization",
};

const CURRENT: Amounts = Amounts {
    field: "current",
    value: "currentValue",
    average: "currentAverageValue",
    utilization: "currentAverageUtilization",
};

/// A metric whose sources, each named by its kind, are changed.
fn map_metric(
    metric: &Value,
    amounts: Amounts,
    change: fn(&str, &Value, Amounts) -> Value,
) -> Value {
    let mut changed = Map::new();
    for (name, source) in metric.as_object().into_iter().flatten() {
        let source = match source {
            Value::Object(_) => change(name, source, amounts),
            other => other.clone(),
        };
        changed.insert(name.clone(), source);
    }
    changed.into()
}

/// v1's names of a source's selector and average, which differ from kind to kind.
fn v1_names(source: &str, amounts: Amounts) -> (&'static str, &'static str) {
    match source {
        "object" => ("selector", "averageValue"),
        "external" => ("metricSelector", amounts.average),
        _ => ("selector", amounts.average),
    }
}

fn v1_source(name: &str, source: &Value, amounts: Amounts) -> Value {
    let (selector, average) = v1_names(name, amounts);
    let own = part(source, "").get(amounts.field).unwrap_or(&Value::Null);
    let mut changed = json!({});
    for (field, value) in [
        ("name", part(source, "/name")),
        ("container", part(source, "/container")),
        ("metricName", part(source, "/metric/name")),
        (selector, part(source, "/metric/selector")),
        ("target", part(source, "/describedObject")),
        (amounts.value, part(own, "/value")),
        (average, part(own, "/averageValue")),
        (amounts.utilization, part(own, "/averageUtilization")),
    ] {
        put(&mut changed, field, value.clone());
    }
    // An object's value is no pointer in Go: it is always written.
    if name == "object" && !present(own, "/value") {
        put(&mut changed, amounts.value, "0".into());
    }
    changed
}

fn v2_source(name: &str, source: &Value, amounts: Amounts) -> Value {
    let (selector, average) = v1_names(name, amounts);
    let given = |field: &str| source.get(field).cloned().unwrap_or_default();
    let mut own = json!({});
    put(&mut own, "averageValue", given(average));
    put(&mut own, "averageUtilization", given(amounts.utilization));
    let hollow = name == "object" && present(&own, "/averageValue") && given(amounts.value) == "0";
    if !hollow {
        put(&mut own, "value", given(amounts.value));
    }
    if amounts.field == "target" {
        let kind = match (
            present(&own, "/averageUtilization"),
            present(&own, "/averageValue"),
        ) {
            (true, _) => "Utilization",
            (_, true) => "AverageValue",
            _ => "Value",
        };
        put(&mut own, "type", kind.into());
    }
    let mut changed = json!({});
    put(&mut changed, amounts.field, own);
    put(&mut changed, "name", given("name"));
    put(&mut changed, "container", given("container"));
    put(&mut changed, "describedObject", given("target"));
    if matches!(name, "object" | "pods" | "external") {
        let mut metric = json!({});
        put(&mut metric, "name", given("metricName"));
        put(&mut metric, "selector", given(selector));
        put(&mut changed, "metric", metric);
    }
    changed
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::read;

    const OTHERS: &str = "
        - {type: Object, object: {describedObject: {kind: Service, name: s}, metric: {name: m}, target: \
            {type: Value, value: 5}}}
        - {type: Pods, pods: {metric: {name: m, selector: {matchLabels: {a: b}}}, target: {type: \
            AverageValue, averageValue: 10m}}}
        - {type: External, external: {metric: {name: m, selector: {}}, target: {type: Value, value: 1k}}}
        - {type: ContainerResource, containerResource: {container: c, name: memory, target: {type: \
            Utilization, averageUtilization: 5}}}
        - {type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}}";

    #[test]
    fn cpu_is_a_field_of_v1() {
        let mut object =
            read("{metadata: {}, spec: {maxReplicas: 3, targetCPUUtilizationPercentage: 50}}");
        let v1 = object.clone();
        to_v2(&mut object);
        expect![[r#"{"metadata":{},"spec":{"maxReplicas":3,"metrics":[{"resource":{"name":"cpu","target":{"averageUtilization":50,"type":"Utilization"}},"type":"Resource"}]},"status":{}}"#]]
            .assert_eq(&object.to_string());
        to_v1(&mut object);
        assert_eq!(object["spec"], v1["spec"]);
    }

    #[test]
    fn a_target_that_is_not_said_is_eighty_percent() {
        let mut object = read("{metadata: {}, spec: {maxReplicas: 3}}");
        to_v2(&mut object);
        assert_eq!(object["spec"]["metrics"], json!([cpu_metric(&json!(80))]));
    }

    #[test]
    fn what_v1_has_no_fields_for_is_in_its_annotations() {
        let mut object = read(
            "{metadata: {annotations: {a: b}}, spec: {metrics: [{type: Pods, pods: {metric: {name: m}, \
             target: {type: AverageValue, averageValue: 1}}}], behavior: {scaleUp: \
             {stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 4, periodSeconds: 15}]}}}, \
             status: {conditions: [{type: AbleToScale, status: 'True'}], currentMetrics: [{type: \
             Resource, resource: {name: cpu, current: {averageUtilization: 7, averageValue: 7m}}}]}}",
        );
        to_v1(&mut object);
        expect![[r#"
            {
              "metadata": {
                "annotations": {
                  "a": "b",
                  "autoscaling.alpha.kubernetes.io/behavior": "{\"ScaleUp\":{\"Policies\":[{\"PeriodSeconds\":15,\"Type\":\"Pods\",\"Value\":4}],\"StabilizationWindowSeconds\":0}}",
                  "autoscaling.alpha.kubernetes.io/conditions": "[{\"status\":\"True\",\"type\":\"AbleToScale\"}]",
                  "autoscaling.alpha.kubernetes.io/current-metrics": "[{\"resource\":{\"currentAverageUtilization\":7,\"currentAverageValue\":\"7m\",\"name\":\"cpu\"},\"type\":\"Resource\"}]",
                  "autoscaling.alpha.kubernetes.io/metrics": "[{\"pods\":{\"metricName\":\"m\",\"targetAverageValue\":1},\"type\":\"Pods\"}]"
                }
              },
              "spec": {},
              "status": {
                "currentCPUUtilizationPercentage": 7
              }
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&object).expect("JSON"));
    }

    #[test]
    fn nothing_is_lost_on_the_way_through_v1() {
        let metrics = read(OTHERS);
        let mut object = json!({
            "metadata": { "name": "a" },
            "spec": { "maxReplicas": 3, "metrics": metrics, "behavior": { "scaleDown": { "selectPolicy": "Max" } } },
            "status": { "currentReplicas": 1, "conditions": [{ "type": "a" }] },
        });
        let before = object.clone();
        to_v1(&mut object);
        assert_ne!(object, before);
        to_v2(&mut object);
        assert_eq!(object, before);
    }
}
