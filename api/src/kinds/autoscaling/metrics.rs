//! The metrics of a HorizontalPodAutoscaler (v2): what is wrong with them, and how they are shown.

use serde_json::Value;

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        value::{items, number, part, plain, present, text},
    },
    name,
};

/// The types of metrics and the fields that describe them.
const SOURCES: &[(&str, &str)] = &[
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

/// How many metrics a table shows.
const SHOWN: usize = 2;

/// Checks a metric that stands at `path`.
pub(super) fn validate(path: &Path, metric: &Value, errors: &mut FieldErrors) {
    let kind = text(metric, "/type");
    if kind.is_empty() {
        errors.required(&path.field("type"), "must specify a metric source type");
    }
    let expected = SOURCES.iter().find(|(known, _)| *known == kind);
    if expected.is_none() {
        let known: Vec<_> = SOURCES.iter().map(|(known, _)| *known).collect();
        errors.not_supported(&path.field("type"), kind, &known);
    }
    let given: Vec<_> = SOURCES
        .iter()
        .map(|(_, field)| *field)
        .filter(|field| metric.get(field).is_some_and(|source| !source.is_null()))
        .collect();
    if let Some(first) = given.first() {
        validate_source(first, &path.field(first), &metric[*first], errors);
    }
    let Some((_, expected)) = expected else {
        return;
    };
    if !given.contains(expected) {
        errors.required(
            &path.field(expected),
            "must populate information for the given metric source",
        );
    }
    for other in given.iter().filter(|given| *given != expected) {
        errors.forbidden(
            &path.field(other),
            "must populate the given metric source only",
        );
    }
}

fn validate_source(kind: &str, path: &Path, source: &Value, errors: &mut FieldErrors) {
    let own = path.field("target");
    let has = |field: &str| present(source, &format!("/target/{field}"));
    match kind {
        "object" | "external" => {
            if kind == "object" {
                let described = part(source, "/describedObject");
                reference(&path.field("describedObject"), described, errors);
            }
            validate_name(&path.field("metric"), source, errors);
            validate_target(&own, source, errors);
            if !has("value") && !has("averageValue") {
                errors.required(
                    &own.field("averageValue"),
                    "must set either a target value for metric or a per-pod target",
                );
            }
            if kind == "external" && has("value") && has("averageValue") {
                errors.forbidden(
                    &own.field("value"),
                    "may not set both a target value for metric and a per-pod target",
                );
            }
        }
        "pods" => {
            validate_name(&path.field("metric"), source, errors);
            validate_target(&own, source, errors);
            if !has("averageValue") || !check::is_positive(part(source, "/target/averageValue")) {
                errors.required(
                    &own.field("averageValue"),
                    "must specify a positive target averageValue",
                );
            }
        }
        _ => {
            if text(source, "/name").is_empty() {
                errors.required(&path.field("name"), "must specify a resource name");
            }
            if kind == "containerResource" && text(source, "/container").is_empty() {
                errors.required(&path.field("container"), "must specify a container");
            }
            validate_target(&own, source, errors);
            if !has("averageUtilization") && !has("averageValue") {
                errors.required(
                    &own.field("averageUtilization"),
                    "must set either a target raw value or a target utilization",
                );
            }
            if has("averageUtilization") && has("averageValue") {
                errors.forbidden(
                    &own.field("averageValue"),
                    "may not set both a target raw value and a target utilization",
                );
            }
        }
    }
}

fn validate_name(path: &Path, source: &Value, errors: &mut FieldErrors) {
    let path = path.field("name");
    let given = text(source, "/metric/name");
    if given.is_empty() {
        errors.required(&path, "must specify a metric name");
    } else {
        check::problems(&path, given, name::segment_problems(given), errors);
    }
}

fn validate_target(path: &Path, source: &Value, errors: &mut FieldErrors) {
    let kind = text(source, "/target/type");
    if kind.is_empty() {
        errors.required(&path.field("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        errors.invalid(
            &path.field("type"),
            kind,
            "must be either Utilization, Value, or AverageValue",
        );
    }
    for field in ["value", "averageValue"] {
        let amount = part(source, "/target").get(field).unwrap_or(&Value::Null);
        if !amount.is_null() && !check::is_positive(amount) {
            errors.invalid(&path.field(field), plain(amount), "must be positive");
        }
    }
    let utilization = part(source, "/target/averageUtilization");
    if utilization.as_i64().is_some_and(|percent| percent < 1) {
        errors.invalid(
            &path.field("averageUtilization"),
            utilization.clone(),
            "must be greater than 0",
        );
    }
}

/// Checks a reference to an object of some kind and version.
pub(super) fn reference(path: &Path, given: &Value, errors: &mut FieldErrors) {
    for field in ["kind", "name"] {
        let path = path.field(field);
        let given = part(given, "").get(field).and_then(Value::as_str);
        match given.unwrap_or_default() {
            "" => errors.required(&path, ""),
            given => check::problems(&path, given, name::segment_problems(given), errors),
        }
    }
}

/// What is seen of each metric, and what is wanted: `cpu: 10%/80%, 5/1k (avg)`.
pub(super) fn shown(object: &Value) -> String {
    let metrics = items(object, "/spec/metrics");
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let seen = items(object, "/status/currentMetrics");
    let mut list: Vec<_> = metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| show(metric, seen.get(index).unwrap_or(&Value::Null)))
        .collect();
    let more = list.len().saturating_sub(SHOWN);
    list.truncate(SHOWN);
    let list = list.join(", ");
    if more > 0 {
        format!("{list} + {more} more...")
    } else {
        list
    }
}

fn show(metric: &Value, seen: &Value) -> String {
    let kind = text(metric, "/type");
    let Some((_, field)) = SOURCES.iter().find(|(known, _)| *known == kind) else {
        return "<unknown type>".to_owned();
    };
    let wanted = part(metric, &format!("/{field}/target")).clone();
    let current = |amount: &str, unit: &str| {
        let amount = part(seen, &format!("/{field}/current/{amount}"));
        match amount {
            Value::Null => "<unknown>".to_owned(),
            amount => format!("{}{unit}", plain(amount)),
        }
    };
    let average = plain(part(&wanted, "/averageValue"));
    let is_average = !average.is_empty();
    match kind {
        "Resource" | "ContainerResource" => {
            let resource = text(metric, &format!("/{field}/name"));
            if is_average {
                return format!("{resource}: {}/{average}", current("averageValue", ""));
            }
            let percent = number(&wanted, "/averageUtilization")
                .map_or_else(|| "<auto>".to_owned(), |percent| format!("{percent}%"));
            format!(
                "{resource}: {}/{percent}",
                current("averageUtilization", "%")
            )
        }
        "Pods" => format!("{}/{average}", current("averageValue", "")),
        _ if is_average => format!("{}/{average} (avg)", current("averageValue", "")),
        _ => format!(
            "{}/{}",
            current("value", ""),
            plain(part(&wanted, "/value"))
        ),
    }
}
