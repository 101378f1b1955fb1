//! LimitRange: what pods, containers and claims of a namespace may ask for, and get if they don't say.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, check, column,
    value::{child, each, entries, fill, items, part, plain, text},
};
use crate::{
    field::{FieldErrors, Path},
    name,
    quantity::Quantity,
};

/// The kind.
pub(crate) struct LimitRange;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short: &["limits"],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.core.v1.LimitRange",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Created At", "When it was made"),
];

/// Pairs of amounts where the first may not be more than the second, and what is said if it is.
const ORDERED: &[(&str, &str, &str, &str)] = &[
    (
        "min",
        "max",
        "min",
        "min value {0} is greater than max value {1}",
    ),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "min value {0} is greater than default request value {1}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "default request value {0} is greater than max value {1}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "default request value {0} is greater than default limit value {1}",
    ),
    (
        "min",
        "default",
        "default",
        "min value {0} is greater than default value {1}",
    ),
    (
        "default",
        "max",
        "default",
        "default value {0} is greater than max value {1}",
    ),
];

impl Kind for LimitRange {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else {
            return;
        };
        for item in each(spec, "limits") {
            if text(item, "/type") == "Container" {
                fill_from(item, "default", "max");
                fill_from(item, "defaultRequest", "default");
                fill_from(item, "defaultRequest", "min");
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let mut seen = check::Seen::new();
        for (index, item) in items(object, "/spec/limits").iter().enumerate() {
            let path = Path::root("spec").field("limits").index(index);
            let kind = text(item, "/type");
            let kind_path = path.field("type");
            if kind.is_empty() {
                errors.required(&kind_path, "");
            } else {
                check::problems(&kind_path, kind, name::qualified_problems(kind), errors);
                if !kind.contains('/')
                    && !["Container", "Pod", "PersistentVolumeClaim"].contains(&kind)
                {
                    let detail = "must be a standard limit type or fully qualified";
                    errors.invalid(&kind_path, kind, detail);
                }
            }
            check::unique(&kind_path, kind, &mut seen, errors);
            validate_item(&path, item, errors);
        }
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            text(object, "/metadata/creationTimestamp").into(),
        ]
    }
}

/// Takes over the amounts that one list lacks from another.
fn fill_from(item: &mut Value, field: &str, source: &str) {
    let source = part(item, "").get(source).cloned().unwrap_or_default();
    if entries(&source, "").next().is_some()
        && let Some(own) = child(item, field)
    {
        for (resource, amount) in entries(&source, "") {
            fill(own, resource, amount.clone());
        }
    }
}

fn amount(value: &Value) -> Option<Quantity> {
    plain(value).parse().ok()
}

fn validate_item(path: &Path, item: &Value, errors: &mut FieldErrors) {
    let kind = text(item, "/type");
    if kind == "Pod" {
        for field in ["default", "defaultRequest"] {
            if entries(&item[field], "").next().is_some() {
                errors.forbidden(
                    &path.field(field),
                    "may not be specified when `type` is 'Pod'",
                );
            }
        }
    }
    let storage = |list: &str| !item[list]["storage"].is_null();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        errors.required(
            path,
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
    for list in [
        "max",
        "min",
        "default",
        "defaultRequest",
        "maxLimitRequestRatio",
    ] {
        for (resource, given) in entries(&item[list], "") {
            let path = path.field(list).key(resource);
            check::problems(&path, resource, name::qualified_problems(resource), errors);
            if amount(given).is_none_or(|amount| amount.nanos() < 0) {
                let detail = "must be greater than or equal to 0";
                errors.invalid(&path, plain(given), detail);
            }
        }
    }
    for (less, more, at, detail) in ORDERED {
        for (resource, small) in entries(&item[*less], "") {
            let Some(large) = item[*more].get(resource) else {
                continue;
            };
            if let (Some(low), Some(high)) = (amount(small), amount(large))
                && low > high
            {
                let detail = detail
                    .replace("{0}", &plain(small))
                    .replace("{1}", &plain(large));
                errors.invalid(
                    &path.field(at).key(resource),
                    plain(&item[*at][resource]),
                    detail,
                );
            }
        }
    }
    validate_ratios(&path.field("maxLimitRequestRatio"), item, errors);
}

fn validate_ratios(path: &Path, item: &Value, errors: &mut FieldErrors) {
    for (resource, given) in entries(item, "/maxLimitRequestRatio") {
        let Some(ratio) = amount(given) else {
            continue;
        };
        let path = path.key(resource);
        if ratio.millis() < 1000 {
            let detail = format!("ratio {} is less than 1", plain(given));
            errors.invalid(&path, plain(given), detail);
        }
        let bound = |list: &str| item[list].get(resource).and_then(amount);
        if let (Some(least), Some(most)) = (bound("min"), bound("max"))
            && least.nanos() > 0
        {
            #[expect(
                clippy::cast_precision_loss,
                reason = "the ratio is compared and shown with six digits"
            )]
            let bound = most.nanos() as f64 / least.nanos() as f64;
            #[expect(
                clippy::cast_precision_loss,
                reason = "the ratio is compared and shown with six digits"
            )]
            let wanted = ratio.nanos() as f64 / 1e9;
            if wanted > bound {
                errors.invalid(
                    &path,
                    plain(given),
                    format!(
                        "ratio {} is greater than max/min = {bound:.6}",
                        plain(given)
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row};

    #[track_caller]
    fn check(item: &str, expect: Expect) {
        let yaml = format!("{{spec: {{limits: [{item}]}}}}");
        expect.assert_eq(&errors(&LimitRange, &yaml));
    }

    #[test]
    fn a_container_that_does_not_say_gets_the_most() {
        expect![[r#"{"spec":{"limits":[{"default":{"cpu":2},"defaultRequest":{"cpu":2,"memory":"1Mi"},"max":{"cpu":2},"min":{"cpu":1,"memory":"1Mi"},"type":"Container"},{"max":{"cpu":1},"type":"Pod"}]}}"#]]
        .assert_eq(&defaulted(
            &LimitRange,
            "{spec: {limits: [{type: Container, max: {cpu: 2}, min: {cpu: 1, memory: 1Mi}}, {type: Pod, max: \
             {cpu: 1}}]}}",
        ));
    }

    #[test]
    fn less_is_not_more() {
        check(
            "{type: Container, min: {cpu: 2}, max: {cpu: 1}, default: {cpu: 3}, defaultRequest: {cpu: 4}, \
             maxLimitRequestRatio: {cpu: 500m}}",
            expect![[r#"
                spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1
                spec.limits[0].defaultRequest[cpu]: Invalid value: "4": default request value 4 is greater than max value 1
                spec.limits[0].defaultRequest[cpu]: Invalid value: "4": default request value 4 is greater than default limit value 3
                spec.limits[0].default[cpu]: Invalid value: "3": default value 3 is greater than max value 1
                spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1
            "#]],
        );
        check(
            "{type: Pod, default: {cpu: 1}}, {type: Pod}, {type: PersistentVolumeClaim}, {type: Node}",
            expect![[r#"
                spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'
                spec.limits[1].type: Duplicate value: "Pod"
                spec.limits[2]: Required value: either minimum or maximum storage value is required, but neither was provided
                spec.limits[3].type: Invalid value: "Node": must be a standard limit type or fully qualified
            "#]],
        );
    }

    #[test]
    fn a_row_says_when_it_was_made() {
        expect!["l|2026-01-01T00:00:00Z"].assert_eq(&row(&LimitRange, "{metadata: {name: l}}"));
    }
}
