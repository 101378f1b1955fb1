//! What a Job does about pods that failed: what is wrong with its rules.

use serde_json::Value;

use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        check,
        value::{items, part, present, text},
    },
    name,
};

const MOST_RULES: usize = 20;
const MOST_VALUES: usize = 255;
const MOST_PATTERNS: usize = 20;

/// Checks the policy of a specification that stands at `path`.
pub(super) fn validate(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let policy = text(spec, "/template/spec/restartPolicy");
    if policy != "Never" {
        errors.invalid(
            &path.field("template").field("spec").field("restartPolicy"),
            policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        );
    }
    let containers: Vec<_> = ["/template/spec/containers", "/template/spec/initContainers"]
        .iter()
        .flat_map(|list| items(spec, list))
        .map(|container| text(container, "/name"))
        .collect();
    let path = path.field("podFailurePolicy").field("rules");
    let rules = items(spec, "/podFailurePolicy/rules");
    too_many(&path, rules.len(), MOST_RULES, errors);
    for (index, rule) in rules.iter().enumerate() {
        validate_rule(&path.index(index), rule, spec, &containers, errors);
    }
}

fn too_many(path: &Path, count: usize, most: usize, errors: &mut FieldErrors) {
    if count > most {
        let detail = format!("{count}: must have at most {most} items");
        errors.push(path, Cause::TooMany, Value::Null, detail);
    }
}

fn validate_rule(
    path: &Path,
    rule: &Value,
    spec: &Value,
    containers: &[&str],
    errors: &mut FieldErrors,
) {
    const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
    let action = text(rule, "/action");
    let action_path = path.field("action");
    if action.is_empty() {
        errors.required(
            &action_path,
            "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
        );
    } else if !ACTIONS.contains(&action) {
        errors.not_supported(&action_path, action, ACTIONS);
    } else if action == "FailIndex" && !present(spec, "/backoffLimitPerIndex") {
        errors.invalid(
            &action_path,
            action,
            "requires the backoffLimitPerIndex to be set",
        );
    }
    let patterns = items(rule, "/onPodConditions");
    too_many(
        &path.field("onPodConditions"),
        patterns.len(),
        MOST_PATTERNS,
        errors,
    );
    for (index, pattern) in patterns.iter().enumerate() {
        let path = path.field("onPodConditions").index(index);
        let kind = text(pattern, "/type");
        check::problems(
            &path.field("type"),
            kind,
            name::qualified_problems(kind),
            errors,
        );
        check::one_of(
            &path.field("status"),
            part(pattern, "/status"),
            &["False", "True", "Unknown"],
            errors,
        );
    }
    let codes = part(rule, "/onExitCodes");
    match (codes.is_null(), patterns.is_empty()) {
        (false, false) => errors.invalid(
            path,
            rule.clone(),
            "specifying both OnExitCodes and OnPodConditions is not supported",
        ),
        (true, true) => errors.invalid(
            path,
            rule.clone(),
            "specifying one of OnExitCodes and OnPodConditions is required",
        ),
        (false, true) => validate_codes(&path.field("onExitCodes"), codes, containers, errors),
        (true, false) => {}
    }
}

fn validate_codes(path: &Path, rule: &Value, containers: &[&str], errors: &mut FieldErrors) {
    let operator = text(rule, "/operator");
    if !["In", "NotIn"].contains(&operator) {
        errors.not_supported(&path.field("operator"), operator, &["In", "NotIn"]);
    }
    let container = part(rule, "/containerName");
    if let Some(container) = container.as_str()
        && !containers.contains(&container)
    {
        errors.invalid(
            &path.field("containerName"),
            container,
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let path = path.field("values");
    let values = items(rule, "/values");
    if values.is_empty() {
        errors.invalid(&path, Value::from(values), "at least one value is required");
    }
    too_many(&path, values.len(), MOST_VALUES, errors);
    let mut ordered = true;
    for (index, value) in values.iter().enumerate() {
        let path = path.index(index);
        if operator == "In" && value == 0 {
            errors.invalid(&path, 0, "must not be 0 for the In operator");
        }
        if values[..index].contains(value) {
            errors.push(&path, Cause::Duplicate, value.clone(), "");
        }
        ordered &= index == 0 || values[index - 1].as_i64() <= value.as_i64();
    }
    if !ordered {
        errors.invalid(&path, Value::from(values), "must be ordered");
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::kinds::{batch::Job, tests::errors};

    #[test]
    fn a_rule_is_about_codes_or_conditions() {
        expect![[r#"
            spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified
            spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set
            spec.podFailurePolicy.rules[0].onExitCodes.operator: Unsupported value: "Is": supported values: "In", "NotIn"
            spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "b": must be one of the container or initContainer names in the pod template
            spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 2
            spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,1,2]: must be ordered
            spec.podFailurePolicy.rules[1]: Invalid value: {"action":"Ignore"}: specifying one of OnExitCodes and OnPodConditions is required
            spec.podFailurePolicy.rules[2].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator
        "#]]
        .assert_eq(&errors(
            &Job,
            "{spec: {template: {spec: {restartPolicy: OnFailure, containers: [{name: a, image: i}]}}, \
             podFailurePolicy: {rules: [{action: FailIndex, onExitCodes: {operator: Is, containerName: b, \
             values: [2, 1, 2]}}, {action: Ignore}, {action: Count, onExitCodes: {operator: In, values: \
             [0]}}]}}}",
        ));
    }
}
