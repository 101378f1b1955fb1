//! Which writes a webhook is about: its rules and selectors. Pure.

use serde_json::Value;

use crate::{
    admission::Review,
    kinds::{
        Names,
        value::{entries, items, text},
    },
};

/// True if one of the rules is about the write, taken as one of this version of the resource.
pub(super) fn any(rules: &[Value], review: &Review<'_>, names: &Names) -> bool {
    let namespaced = names.namespaced && !review.call.namespace.is_empty();
    rules.iter().any(|rule| {
        names_one(rule, "/operations", review.operation.name())
            && names_one(rule, "/apiGroups", names.group)
            && names_one(rule, "/apiVersions", names.version)
            && of_resource(rule, names.plural, review.subresource)
            && in_scope(text(rule, "/scope"), namespaced)
    })
}

fn names_one(rule: &Value, pointer: &str, wanted: &str) -> bool {
    items(rule, pointer)
        .iter()
        .any(|value| value == "*" || value == wanted)
}

/// `pods`, `pods/status`, `pods/*`, `*`, `*/status` or `*/*`.
fn of_resource(rule: &Value, plural: &str, subresource: &str) -> bool {
    items(rule, "/resources")
        .iter()
        .filter_map(Value::as_str)
        .any(|value| {
            let (resource, part) = value.split_once('/').unwrap_or((value, ""));
            (resource == "*" || resource == plural) && (part == "*" || part == subresource)
        })
}

fn in_scope(scope: &str, namespaced: bool) -> bool {
    match scope {
        "Namespaced" => namespaced,
        "Cluster" => !namespaced,
        _ => true,
    }
}

/// True if a label selector requires nothing.
pub(super) fn is_everything(selector: &Value) -> bool {
    entries(selector, "/matchLabels").next().is_none()
        && items(selector, "/matchExpressions").is_empty()
}

/// True if a label selector chooses an object with these labels.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels[key].as_str();
    let all_labels = entries(selector, "/matchLabels").all(|(key, value)| {
        value
            .as_str()
            .is_some_and(|value| label(key) == Some(value))
    });
    let all_expressions = items(selector, "/matchExpressions")
        .iter()
        .all(|expression| {
            let own = label(text(expression, "/key"));
            let one_of = || {
                let values = items(expression, "/values");
                own.is_some_and(|own| values.iter().any(|value| value == own))
            };
            match text(expression, "/operator") {
                "In" => one_of(),
                "NotIn" => !one_of(),
                "Exists" => own.is_some(),
                "DoesNotExist" => own.is_none(),
                _ => false,
            }
        });
    all_labels && all_expressions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::tests::read;

    #[track_caller]
    fn check(resources: &str, plural: &str, subresource: &str, concerned: bool) {
        let rule = read(&format!("{{resources: [{resources}]}}"));
        assert_eq!(of_resource(&rule, plural, subresource), concerned);
    }

    #[test]
    fn resources_are_named_with_their_parts() {
        check("pods", "pods", "", true);
        check("pods", "pods", "status", false);
        check("'pods/*'", "pods", "status", true);
        check("'pods/*'", "pods", "", true);
        check("'*'", "pods", "", true);
        check("'*'", "pods", "status", false);
        check("'*/status'", "pods", "status", true);
        check("'*/*'", "nodes", "scale", true);
        check("services, 'pods/exec'", "pods", "exec", true);
    }

    #[test]
    fn a_scope_is_where_the_object_is() {
        assert!(in_scope("*", true) && in_scope("", false));
        assert!(in_scope("Namespaced", true) && !in_scope("Namespaced", false));
        assert!(in_scope("Cluster", false) && !in_scope("Cluster", true));
    }

    #[track_caller]
    fn check_selector(selector: &str, labels: &str, selected: bool) {
        assert_eq!(selects(&read(selector), &read(labels)), selected);
    }

    #[test]
    fn selectors_choose_by_labels() {
        check_selector("{}", "{}", true);
        check_selector("{matchLabels: {a: b}}", "{a: b, c: d}", true);
        check_selector("{matchLabels: {a: b}}", "{a: c}", false);
        for (expression, selected) in [
            ("{key: a, operator: In, values: [b]}", true),
            ("{key: a, operator: NotIn, values: [b]}", false),
            ("{key: z, operator: NotIn, values: [b]}", true),
            ("{key: a, operator: Exists}", true),
            ("{key: a, operator: DoesNotExist}", false),
            ("{key: a, operator: Sideways}", false),
        ] {
            check_selector(
                &format!("{{matchExpressions: [{expression}]}}"),
                "{a: b}",
                selected,
            );
        }
    }
}
