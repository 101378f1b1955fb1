//! PriorityClass: a name for how important pods are.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, check, column,
    value::{fill, number, part, text, truth},
};
use crate::{
    field::{FieldErrors, Path},
    object as metadata,
};

/// The kind.
pub(crate) struct PriorityClass;

static NAMES: Names = Names {
    group: "scheduling.k8s.io",
    version: "v1",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short: &["pc"],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.scheduling.v1.PriorityClass",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::count("Value", "The priority of its pods"),
    column::truth(
        "Global-Default",
        "Whether pods that name no class are of it",
    ),
    column::AGE,
    column::shown("PreemptionPolicy", "Whether its pods drive others away"),
];

/// The classes of the system itself: no other name begins with `system-`.
pub(crate) const SYSTEM: &[(&str, i64, &str)] = &[
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// The highest value that is not of the system.
const HIGHEST: i64 = 1_000_000_000;

impl Kind for PriorityClass {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn counted(&self) -> &[&'static str] {
        &["value"]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "value", 0);
        fill(object, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let name = metadata::name(object);
        let value = number(object, "/value").unwrap_or_default();
        if name.starts_with("system-") {
            if let Err(problem) = is_of_the_system(name, value, truth(object, "/globalDefault")) {
                errors.forbidden(
                    &Path::root("metadata").field("name"),
                    format!(
                        "priority class names with 'system-' prefix are reserved for system use only. error: {problem}"
                    ),
                );
            }
        } else if value > HIGHEST {
            errors.forbidden(
                &Path::root("value"),
                format!("maximum allowed value of a user defined priority is {HIGHEST}"),
            );
        }
        check::one_of(
            &Path::root("preemptionPolicy"),
            part(object, "/preemptionPolicy"),
            &["PreemptLowerPriority", "Never"],
            errors,
        );
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        if part(object, "/value") != part(old, "/value") {
            errors.forbidden(&Path::root("value"), "may not be changed in an update.");
        }
        let path = Path::root("preemptionPolicy");
        check::immutable(&path, object, old, "/preemptionPolicy", errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            number(object, "/value").unwrap_or_default().into(),
            truth(object, "/globalDefault").into(),
            column::age(object, now),
            text(object, "/preemptionPolicy").into(),
        ]
    }
}

fn is_of_the_system(name: &str, value: i64, default: bool) -> Result<(), String> {
    let Some((_, own, _)) = SYSTEM.iter().find(|(known, _, _)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if value != *own {
        return Err(format!("value of {name} PriorityClass must be {own}"));
    }
    if default {
        return Err(format!(
            "globalDefault of {name} PriorityClass must be false"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[track_caller]
    fn check(yaml: &str, expect: Expect) {
        expect.assert_eq(&errors(&PriorityClass, yaml));
    }

    #[test]
    fn the_highest_are_of_the_system() {
        check("{metadata: {name: a}, value: 1000000000}", expect![""]);
        check(
            "{metadata: {name: a}, value: 1000000001, preemptionPolicy: Always}",
            expect![[r#"
                value: Forbidden: maximum allowed value of a user defined priority is 1000000000
                preemptionPolicy: Unsupported value: "Always": supported values: "PreemptLowerPriority", "Never"
            "#]],
        );
        check(
            "{metadata: {name: system-node-critical}, value: 2000001000}",
            expect![""],
        );
        check(
            "{metadata: {name: system-node-critical}, value: 1}",
            expect![[r#"
                metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000
            "#]],
        );
        check(
            "{metadata: {name: system-mine}}",
            expect![[r#"
                metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class
            "#]],
        );
    }

    #[test]
    fn what_pods_got_from_it_never_changes() {
        expect![[r#"
            value: Forbidden: may not be changed in an update.
            preemptionPolicy: Invalid value: "Never": field is immutable
        "#]]
        .assert_eq(&update_errors(
            &PriorityClass,
            "{value: 1}",
            "{value: 2, preemptionPolicy: Never, globalDefault: true}",
        ));
    }

    #[test]
    fn a_row_shows_value_and_policy() {
        expect!["a|7|true|60m|PreemptLowerPriority"].assert_eq(&row(
            &PriorityClass,
            "{metadata: {name: a}, value: 7, globalDefault: true}",
        ));
    }
}
