//! Keys that stand for the pod's own labels: `matchLabelKeys` and `mismatchLabelKeys` of affinity and spread.
//!
//! When a pod is made, the value of each key is written into the selector beside it, so that whoever reads the
//! selector later need not know the keys. A template keeps its keys: its pods have the values.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        value::{each, entries, find, items, part, present, text},
    },
    name,
};

/// Writes the values of a new pod's keys into its selectors.
pub(super) fn merge(pod: &mut Value) {
    let Some(labels) = part(pod, "/metadata/labels").as_object().cloned() else {
        return;
    };
    let Some(spec) = find(pod, "spec") else {
        return;
    };
    for rule in each(spec, "topologySpreadConstraints") {
        merge_term(rule, &labels);
    }
    let Some(affinity) = find(spec, "affinity") else {
        return;
    };
    for field in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = find(affinity, field) else {
            continue;
        };
        for term in each(pods, super::affinity::REQUIRED) {
            merge_term(term, &labels);
        }
        for weighted in each(pods, super::affinity::PREFERRED) {
            if let Some(term) = find(weighted, "podAffinityTerm") {
                merge_term(term, &labels);
            }
        }
    }
}

/// A term without a selector selects nothing, whatever its keys are.
fn merge_term(term: &mut Value, labels: &Map<String, Value>) {
    let rules = |pointer: &str, operator: &str| -> Vec<Value> {
        let keys = items(term, pointer).iter().filter_map(Value::as_str);
        keys.filter_map(|key| {
            let value = labels.get(key)?;
            Some(json!({ "key": key, "operator": operator, "values": [value] }))
        })
        .collect()
    };
    let mut added = rules("/matchLabelKeys", "In");
    added.extend(rules("/mismatchLabelKeys", "NotIn"));
    let Some(selector) = find(term, "labelSelector").and_then(Value::as_object_mut) else {
        return;
    };
    if added.is_empty() {
        return;
    }
    match selector.get_mut("matchExpressions") {
        Some(Value::Array(list)) => list.extend(added),
        _ => {
            selector.insert("matchExpressions".to_owned(), added.into());
        }
    }
}

/// Checks the keys of a term or rule that stands at `path`. What [`merge`] has written is no mistake; a selector
/// that names such a key besides is.
pub(super) fn validate(path: &Path, term: &Value, errors: &mut FieldErrors) {
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        validate_names(&path.field(field), term, &format!("/{field}"), errors);
    }
    let keys = items(term, "/matchLabelKeys");
    let mut selected: HashSet<&str> = entries(term, "/labelSelector/matchLabels")
        .map(|(key, _)| key.as_str())
        .collect();
    for rule in items(term, "/labelSelector/matchExpressions") {
        let key = text(rule, "/key");
        let twice = !selected.insert(key);
        if let Some(index) = keys.iter().rposition(|own| own == key).filter(|_| twice) {
            errors.invalid(
                &path.index(index),
                key,
                "exists in both matchLabelKeys and labelSelector",
            );
        }
    }
    for (index, key) in keys.iter().enumerate() {
        if items(term, "/mismatchLabelKeys").contains(key) {
            errors.invalid(
                &path.field("matchLabelKeys").index(index),
                key.clone(),
                "exists in both matchLabelKeys and mismatchLabelKeys",
            );
        }
    }
}

fn validate_names(path: &Path, term: &Value, pointer: &str, errors: &mut FieldErrors) {
    let keys = items(term, pointer);
    if !keys.is_empty() && !present(term, "/labelSelector") {
        errors.forbidden(path, "must not be specified when labelSelector is not set");
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        let key = key.as_str().unwrap_or_default();
        let problems = name::qualified_problems(key);
        check::problems(&path.index(index), key, problems, errors);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::{
        Kind,
        pod::Pod,
        tests::{create_errors, read},
    };

    /// A pod with the labels `app: a` and `hash: h` and this term of required anti-affinity.
    fn pod(term: &str) -> String {
        format!(
            "{{metadata: {{labels: {{app: a, hash: h}}}}, spec: {{containers: [{{name: c, image: i}}], affinity: \
             {{podAntiAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{{topologyKey: z, {term}}}]}}}}}}}}"
        )
    }

    #[track_caller]
    fn check(term: &str, expect: Expect) {
        let mut pod = read(&pod(term));
        Pod.prepare_create(&mut pod);
        let terms =
            "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0";
        expect.assert_eq(&part(&pod, terms)["labelSelector"].to_string());
    }

    #[track_caller]
    fn check_errors(term: &str, expect: Expect) {
        expect.assert_eq(&create_errors(&Pod, &pod(term)));
    }

    #[test]
    fn a_new_pods_keys_become_rules_of_its_selector() {
        check(
            "labelSelector: {matchLabels: {app: a}}, matchLabelKeys: [hash, none]",
            expect![[
                r#"{"matchExpressions":[{"key":"hash","operator":"In","values":["h"]}],"matchLabels":{"app":"a"}}"#
            ]],
        );
        check(
            "labelSelector: {matchExpressions: [{key: app, operator: Exists}]}, mismatchLabelKeys: [hash]",
            expect![[
                r#"{"matchExpressions":[{"key":"app","operator":"Exists"},{"key":"hash","operator":"NotIn","values":["h"]}]}"#
            ]],
        );
        check("matchLabelKeys: [hash]", expect!["null"]);
    }

    #[test]
    fn a_spreads_keys_become_rules_too() {
        let mut pod = read(
            "{metadata: {labels: {hash: h}}, spec: {topologySpreadConstraints: [{labelSelector: {}, matchLabelKeys: \
             [hash]}]}}",
        );
        merge(&mut pod);
        expect![[
            r#"[{"labelSelector":{"matchExpressions":[{"key":"hash","operator":"In","values":["h"]}]},"matchLabelKeys":["hash"]}]"#
        ]]
        .assert_eq(&pod["spec"]["topologySpreadConstraints"].to_string());
    }

    #[test]
    fn a_key_is_named_once_and_beside_a_selector() {
        check_errors(
            "labelSelector: {matchLabels: {app: a}}, matchLabelKeys: [hash]",
            expect![[""]],
        );
        check_errors(
            "matchLabelKeys: [hash], mismatchLabelKeys: ['?']",
            expect![[r#"
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set
            spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].mismatchLabelKeys: Forbidden: must not be specified when labelSelector is not set
        "#]],
        );
        check_errors(
            "labelSelector: {matchLabels: {hash: h}}, matchLabelKeys: [hash]",
            expect![[r#"
                spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0][0]: Invalid value: "hash": exists in both matchLabelKeys and labelSelector
            "#]],
        );
        check_errors(
            "labelSelector: {}, matchLabelKeys: [hash], mismatchLabelKeys: [hash]",
            expect![[r#"
                spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0][0]: Invalid value: "hash": exists in both matchLabelKeys and labelSelector
                spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys[0]: Invalid value: "hash": exists in both matchLabelKeys and mismatchLabelKeys
            "#]],
        );
    }
}
