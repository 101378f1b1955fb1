//! Where a pod would be: affinity to nodes and pods, spread over domains, and what is wrong with it.

use serde_json::Value;

use super::label_keys;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        value::{items, number, part, text},
    },
    name,
};

pub(super) const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
pub(super) const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks the affinity of a spec that stands at `path`.
pub(super) fn validate(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let affinity = part(spec, "/affinity");
    let path = path.field("affinity");
    validate_nodes(
        &path.field("nodeAffinity"),
        part(affinity, "/nodeAffinity"),
        errors,
    );
    for field in ["podAffinity", "podAntiAffinity"] {
        let path = path.field(field);
        let pods = affinity.get(field).unwrap_or(&Value::Null);
        for (index, term) in items(&pods[REQUIRED], "").iter().enumerate() {
            validate_pods(&path.field(REQUIRED).index(index), term, errors);
        }
        for (index, term) in items(&pods[PREFERRED], "").iter().enumerate() {
            let path = path.field(PREFERRED).index(index);
            validate_weight(&path, term, errors);
            let term = part(term, "/podAffinityTerm");
            validate_pods(&path.field("podAffinityTerm"), term, errors);
        }
    }
}

fn validate_nodes(path: &Path, nodes: &Value, errors: &mut FieldErrors) {
    if !nodes[REQUIRED].is_null() {
        let path = path.field(REQUIRED);
        let terms = items(&nodes[REQUIRED], "/nodeSelectorTerms");
        if terms.is_empty() {
            errors.required(
                &path.field("nodeSelectorTerms"),
                "must have at least one node selector term",
            );
        }
        for (index, term) in terms.iter().enumerate() {
            validate_term(&path.field("nodeSelectorTerms").index(index), term, errors);
        }
    }
    for (index, term) in items(&nodes[PREFERRED], "").iter().enumerate() {
        let path = path.field(PREFERRED).index(index);
        validate_weight(&path, term, errors);
        validate_term(&path.field("preference"), part(term, "/preference"), errors);
    }
}

fn validate_weight(path: &Path, term: &Value, errors: &mut FieldErrors) {
    let weight = number(term, "/weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.field("weight"), weight, "must be in the range 1-100");
    }
}

/// A term of a node selector.
pub(crate) fn validate_term(path: &Path, term: &Value, errors: &mut FieldErrors) {
    for (index, rule) in items(term, "/matchExpressions").iter().enumerate() {
        let path = path.field("matchExpressions").index(index);
        let values = items(rule, "/values");
        match text(rule, "/operator") {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &path.field("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
                &path.field("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "Gt" | "Lt" if values.len() != 1 => errors.required(
                &path.field("values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.invalid(
                &path.field("operator"),
                other,
                "not a valid selector operator",
            ),
        }
        let key = text(rule, "/key");
        check::problems(
            &path.field("key"),
            key,
            name::qualified_problems(key),
            errors,
        );
        for (index, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            check::problems(
                &path.field("values").index(index),
                value,
                name::label_value_problems(value),
                errors,
            );
        }
    }
    for (index, rule) in items(term, "/matchFields").iter().enumerate() {
        let path = path.field("matchFields").index(index);
        match text(rule, "/operator") {
            "In" | "NotIn" => {
                if items(rule, "/values").len() != 1 {
                    errors.required(
                        &path.field("values"),
                        "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                    );
                }
            }
            other => errors.invalid(
                &path.field("operator"),
                other,
                "not a valid selector operator",
            ),
        }
        let key = text(rule, "/key");
        if key != "metadata.name" {
            errors.invalid(&path.field("key"), key, "not a valid field selector key");
        }
    }
}

fn validate_pods(path: &Path, term: &Value, errors: &mut FieldErrors) {
    for field in ["labelSelector", "namespaceSelector"] {
        let selector = term.get(field).unwrap_or(&Value::Null);
        check::selector(&path.field(field), selector, errors);
    }
    for (index, namespace) in items(term, "/namespaces").iter().enumerate() {
        let namespace = namespace.as_str().unwrap_or_default();
        check::problems(
            &path.field("namespaces").index(index),
            namespace,
            name::label_problems(namespace),
            errors,
        );
    }
    label_keys::validate(path, term, errors);
    validate_domain(&path.field("topologyKey"), term, errors);
}

fn validate_domain(path: &Path, owner: &Value, errors: &mut FieldErrors) {
    match text(owner, "/topologyKey") {
        "" => errors.required(path, "can not be empty"),
        key => check::problems(path, key, name::qualified_problems(key), errors),
    }
}

/// Checks how a pod and its like are spread.
pub(super) fn validate_spread(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let mut seen = check::Seen::new();
    for (index, rule) in items(spec, "/topologySpreadConstraints").iter().enumerate() {
        let path = path.field("topologySpreadConstraints").index(index);
        let skew = number(rule, "/maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&path.field("maxSkew"), skew, "must be greater than zero");
        }
        validate_domain(&path.field("topologyKey"), rule, errors);
        let otherwise = text(rule, "/whenUnsatisfiable");
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&otherwise) {
            errors.not_supported(
                &path.field("whenUnsatisfiable"),
                otherwise,
                &["DoNotSchedule", "ScheduleAnyway"],
            );
        }
        let both = format!("{{{}, {otherwise}}}", text(rule, "/topologyKey"));
        let pair = path.field("{topologyKey, whenUnsatisfiable}");
        check::unique(&pair, &both, &mut seen, errors);
        validate_domains(&path, rule, errors);
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let given = rule.get(field).unwrap_or(&Value::Null);
            check::one_of(&path.field(field), given, &["Honor", "Ignore"], errors);
        }
        check::selector(
            &path.field("labelSelector"),
            part(rule, "/labelSelector"),
            errors,
        );
        label_keys::validate(&path, rule, errors);
    }
}

fn validate_domains(path: &Path, rule: &Value, errors: &mut FieldErrors) {
    let Some(least) = number(rule, "/minDomains") else {
        return;
    };
    let path = path.field("minDomains");
    if least <= 0 {
        errors.invalid(&path, least, "must be greater than zero");
    }
    let otherwise = text(rule, "/whenUnsatisfiable");
    if otherwise != "DoNotSchedule" {
        errors.invalid(
            &path,
            least,
            format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {otherwise}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::kinds::{pod::Pod, tests::errors};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        expect.assert_eq(&errors(
            &Pod,
            &format!("{{spec: {{containers: [{{name: a, image: i}}], {spec}}}}}"),
        ));
    }

    #[test]
    fn a_node_is_chosen_by_rules() {
        check(
            "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
             [{matchExpressions: [{key: a, operator: In}, {key: b, operator: Gt, values: ['1', '2']}, {key: c, \
             operator: Is}], matchFields: [{key: spec.x, operator: In, values: [a]}]}]}, \
             preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101}]}}",
            expect![[r#"
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[2].operator: Invalid value: "Is": not a valid selector operator
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key: Invalid value: "spec.x": not a valid field selector key
                spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100
            "#]],
        );
    }

    #[test]
    fn pods_are_near_or_far_in_a_domain() {
        check(
            "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: \
             {matchExpressions: [{key: a, operator: In}]}}]}}",
            expect![[r#"
                spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
                spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
            "#]],
        );
    }

    #[test]
    fn a_spread_has_a_bound_and_a_domain() {
        check(
            "topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule}, \
             {maxSkew: 0, topologyKey: z, whenUnsatisfiable: DoNotSchedule}, {maxSkew: 1, \
             whenUnsatisfiable: ScheduleAnyway, minDomains: 2, nodeTaintsPolicy: x}]",
            expect![[r#"
                spec.topologySpreadConstraints[1].maxSkew: Invalid value: 0: must be greater than zero
                spec.topologySpreadConstraints[1].{topologyKey, whenUnsatisfiable}: Duplicate value: "{z, DoNotSchedule}"
                spec.topologySpreadConstraints[2].topologyKey: Required value: can not be empty
                spec.topologySpreadConstraints[2].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway
                spec.topologySpreadConstraints[2].nodeTaintsPolicy: Unsupported value: "x": supported values: "Honor", "Ignore"
            "#]],
        );
    }
}
