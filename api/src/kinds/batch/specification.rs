//! What a Job should do: defaults and what is wrong with it, in a Job and in a CronJob's template.

use serde_json::Value;

use super::failure_policy;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        pod::template,
        value::{each, fill_text, find, items, number, part, present, text},
    },
    name,
};

/// How many indexes a Job may have, and run at once.
const MOST_INDEXES: i64 = 100_000;

/// Fills in what is inside: the template and the rules.
pub(super) fn default(spec: &mut Value) {
    if let Some(policy) = find(spec, "podFailurePolicy") {
        for rule in each(policy, "rules") {
            for pattern in each(rule, "onPodConditions") {
                fill_text(pattern, "status", "True");
            }
        }
    }
    template::default(spec);
}

/// Checks a specification that stands at `path`.
pub(super) fn validate(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        let given = spec.get(field).unwrap_or(&Value::Null);
        check::not_negative(&path.field(field), given, errors);
    }
    validate_indexes(path, spec, errors);
    if present(spec, "/podFailurePolicy") {
        failure_policy::validate(path, spec, errors);
    }
    if present(spec, "/successPolicy") {
        validate_success(&path.field("successPolicy"), spec, errors);
    }
    let replacement = text(spec, "/podReplacementPolicy");
    let supported: &[&str] = if present(spec, "/podFailurePolicy") {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    if !replacement.is_empty() && !supported.contains(&replacement) {
        errors.not_supported(&path.field("podReplacementPolicy"), replacement, supported);
    }
    let manager = text(spec, "/managedBy");
    if !manager.is_empty() {
        validate_manager(&path.field("managedBy"), manager, errors);
    }
    let template = part(spec, "/template");
    template::validate_template(&path.field("template"), template, errors);
    let policy = text(template, "/spec/restartPolicy");
    if !["OnFailure", "Never"].contains(&policy) {
        errors.required(
            &path.field("template").field("spec").field("restartPolicy"),
            "valid values: \"OnFailure\", \"Never\"",
        );
    }
}

fn validate_manager(path: &Path, manager: &str, errors: &mut FieldErrors) {
    const LONGEST: usize = 63;
    match manager.split_once('/') {
        Some((domain, rest)) if !rest.is_empty() => {
            check::problems(path, manager, name::subdomain_problems(domain), errors);
        }
        _ => errors.invalid(
            path,
            manager,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
    }
    if manager.len() > LONGEST {
        let cause = crate::field::Cause::TooLong;
        let detail = format!("may not be more than {LONGEST} bytes");
        errors.push(path, cause, manager.into(), detail);
    }
}

fn validate_indexes(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let mode = text(spec, "/completionMode");
    let indexed = mode == "Indexed";
    if !["", "NonIndexed", "Indexed"].contains(&mode) {
        let supported = &["NonIndexed", "Indexed"];
        errors.not_supported(&path.field("completionMode"), mode, supported);
    }
    let completions = number(spec, "/completions");
    if indexed {
        if completions.is_none() {
            errors.required(
                &path.field("completions"),
                "when completion mode is Indexed",
            );
        }
        let parallel = number(spec, "/parallelism").unwrap_or(0);
        if parallel > MOST_INDEXES {
            errors.invalid(
                &path.field("parallelism"),
                parallel,
                format!(
                    "must be less than or equal to {MOST_INDEXES} when completion mode is Indexed"
                ),
            );
        }
    }
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        let given = spec.get(field).unwrap_or(&Value::Null);
        if !given.is_null() && !indexed {
            errors.invalid(
                &path.field(field),
                given.clone(),
                "requires indexed completion mode",
            );
        }
    }
    let Some(failed) = number(spec, "/maxFailedIndexes") else {
        return;
    };
    let failed_path = path.field("maxFailedIndexes");
    if completions.is_some_and(|completions| failed > completions) {
        let detail = "must be less than or equal to completions";
        errors.invalid(&failed_path, failed, detail);
    }
    if failed > MOST_INDEXES {
        let detail = format!("must be less than or equal to {MOST_INDEXES}");
        errors.invalid(&failed_path, failed, detail);
    }
    if !present(spec, "/backoffLimitPerIndex") {
        errors.required(
            &path.field("backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        );
    }
}

fn validate_success(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    const MOST: usize = 20;
    if text(spec, "/completionMode") != "Indexed" {
        errors.invalid(
            path,
            part(spec, "/successPolicy").clone(),
            "requires indexed completion mode",
        );
        return;
    }
    let rules = items(spec, "/successPolicy/rules");
    let path = path.field("rules");
    if rules.is_empty() {
        errors.required(
            &path,
            "at least one rules must be specified when the successPolicy is specified",
        );
    }
    if rules.len() > MOST {
        let cause = crate::field::Cause::TooMany;
        let detail = format!("{}: must have at most {MOST} items", rules.len());
        errors.push(&path, cause, Value::Null, detail);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        if !present(rule, "/succeededIndexes") && !present(rule, "/succeededCount") {
            errors.required(
                &path,
                "at least one of succeededCount or succeededIndexes must be specified",
            );
        }
        let count = part(rule, "/succeededCount");
        check::not_negative(&path.field("succeededCount"), count, errors);
        if let (Some(count), Some(all)) = (count.as_i64(), number(spec, "/completions"))
            && count > all
        {
            errors.invalid(
                &path.field("succeededCount"),
                count,
                format!(
                    "must be less than or equal to {all} (the number of specified completions)"
                ),
            );
        }
        let indexes = text(rule, "/succeededIndexes");
        if let Some(problem) = indexes_problem(indexes) {
            errors.invalid(&path.field("succeededIndexes"), indexes, problem);
        }
    }
}

/// What is wrong with a list of indexes like `1,3-5,7`.
fn indexes_problem(indexes: &str) -> Option<String> {
    if indexes.is_empty() {
        return None;
    }
    let mut least = -1;
    for interval in indexes.split(',') {
        let (first, last) = interval.split_once('-').unwrap_or((interval, interval));
        let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) else {
            return Some(format!(
                "error parsing succeededIndexes: cannot convert string to integer for index: {interval:?}"
            ));
        };
        if first <= least || last < first {
            return Some(format!(
                "error parsing succeededIndexes: non-increasing order, previous: {least}, current: {interval}"
            ));
        }
        least = last;
    }
    None
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::kinds::{batch::Job, tests::errors};

    const TEMPLATE: &str =
        "template: {spec: {restartPolicy: Never, containers: [{name: a, image: i}]}}";

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        expect.assert_eq(&errors(&Job, &format!("{{spec: {{{spec}, {TEMPLATE}}}}}")));
    }

    #[test]
    fn numbers_are_in_their_ranges() {
        check(
            "parallelism: -1, completionMode: x, managedBy: me, podReplacementPolicy: y1",
            expect![[r#"
                spec.parallelism: Invalid value: -1: must be greater than or equal to 0
                spec.completionMode: Unsupported value: "x": supported values: "NonIndexed", "Indexed"
                spec.podReplacementPolicy: Unsupported value: "y1": supported values: "Failed", "TerminatingOrFailed"
                spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")
            "#]],
        );
    }

    #[test]
    fn indexes_are_of_an_indexed_job() {
        check(
            "completionMode: Indexed, parallelism: 200000, maxFailedIndexes: 1",
            expect![[r#"
                spec.completions: Required value: when completion mode is Indexed
                spec.parallelism: Invalid value: 200000: must be less than or equal to 100000 when completion mode is Indexed
                spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified
            "#]],
        );
        check(
            "backoffLimitPerIndex: 1, successPolicy: {rules: []}",
            expect![[r#"
                spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode
                spec.successPolicy: Invalid value: {"rules":[]}: requires indexed completion mode
            "#]],
        );
        check(
            "completionMode: Indexed, completions: 3, successPolicy: {rules: [{}, {succeededIndexes: '2,1', \
             succeededCount: 9}]}",
            expect![[r#"
                spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified
                spec.successPolicy.rules[1].succeededCount: Invalid value: 9: must be less than or equal to 3 (the number of specified completions)
                spec.successPolicy.rules[1].succeededIndexes: Invalid value: "2,1": error parsing succeededIndexes: non-increasing order, previous: 2, current: 1
            "#]],
        );
    }
}
