//! Which objects a quota is about: its scopes and its scope selector. Pure.

use serde_json::Value;

use super::usage::Kind;
use crate::kinds::{
    pod::qos,
    value::{items, number, part, text},
};

/// True if all of a quota's scopes hold for an object.
pub(super) fn matches(quota: &Value, kind: &Kind, object: &Value) -> bool {
    let plain = items(quota, "/spec/scopes")
        .iter()
        .filter_map(Value::as_str)
        .all(|scope| holds(scope, "Exists", &[], kind, object));
    let selected = items(quota, "/spec/scopeSelector/matchExpressions")
        .iter()
        .all(|expression| {
            holds(
                text(expression, "/scopeName"),
                text(expression, "/operator"),
                items(expression, "/values"),
                kind,
                object,
            )
        });
    plain && selected
}

fn holds(scope: &str, operator: &str, values: &[Value], kind: &Kind, object: &Value) -> bool {
    let one_of = |text: &str| values.iter().any(|value| value == text);
    let named = |text: &str| match operator {
        "Exists" => !text.is_empty(),
        "DoesNotExist" => text.is_empty(),
        "In" => one_of(text),
        "NotIn" => !one_of(text),
        _ => false,
    };
    let spec = part(object, "/spec");
    let ends = || number(spec, "/activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0);
    let best_effort = || qos::class(spec) == "BestEffort";
    match (kind, scope) {
        (Kind::Pod, "Terminating") => ends(),
        (Kind::Pod, "NotTerminating") => !ends(),
        (Kind::Pod, "BestEffort") => best_effort(),
        (Kind::Pod, "NotBestEffort") => !best_effort(),
        (Kind::Pod, "PriorityClass") => named(text(spec, "/priorityClassName")),
        (Kind::Pod, "CrossNamespacePodAffinity") => reaches_other_namespaces(spec),
        (Kind::Claim, "VolumeAttributesClass") => named(text(spec, "/volumeAttributesClassName")),
        _ => false,
    }
}

/// True if a pod's affinity looks at pods of other namespaces.
fn reaches_other_namespaces(spec: &Value) -> bool {
    let reaches = |term: &Value| {
        !items(term, "/namespaces").is_empty() || !part(term, "/namespaceSelector").is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|affinity| {
        let affinity = &spec["affinity"][affinity];
        let required = items(affinity, "/requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = items(affinity, "/preferredDuringSchedulingIgnoredDuringExecution");
        required.iter().any(reaches)
            || preferred
                .iter()
                .any(|term| reaches(part(term, "/podAffinityTerm")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::tests::read;

    #[track_caller]
    fn check(quota: &str, pod: &str, matched: bool) {
        let (quota, pod) = (
            read(&format!("{{spec: {{{quota}}}}}")),
            read(&format!("{{spec: {{{pod}}}}}")),
        );
        assert_eq!(matches(&quota, &Kind::Pod, &pod), matched);
    }

    #[test]
    fn all_scopes_must_hold() {
        check("hard: {}", "containers: []", true);
        check("scopes: [BestEffort]", "containers: [{}]", true);
        check("scopes: [NotBestEffort]", "containers: [{}]", false);
        check(
            "scopes: [BestEffort, Terminating]",
            "containers: [{}]",
            false,
        );
        check(
            "scopes: [BestEffort, Terminating]",
            "activeDeadlineSeconds: 5, containers: [{}]",
            true,
        );
        check(
            "scopes: [NotTerminating]",
            "activeDeadlineSeconds: 5",
            false,
        );
    }

    #[test]
    fn priority_classes_are_selected_by_name() {
        let quota = |operator: &str| {
            format!(
                "scopeSelector: {{matchExpressions: [{{scopeName: PriorityClass, operator: {operator}, values: [high]}}]}}"
            )
        };
        check(&quota("In"), "priorityClassName: high", true);
        check(&quota("In"), "priorityClassName: low", false);
        check(&quota("NotIn"), "priorityClassName: low", true);
        check(&quota("Exists"), "containers: []", false);
        check(&quota("DoesNotExist"), "containers: []", true);
    }

    #[test]
    fn a_scoped_quota_is_about_nothing_without_scopes() {
        let quota = read("{spec: {scopes: [BestEffort]}}");
        assert!(!matches(&quota, &Kind::Service, &read("{}")));
    }
}
