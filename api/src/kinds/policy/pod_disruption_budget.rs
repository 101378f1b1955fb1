//! PodDisruptionBudget: how many pods of a workload may be evicted at a time.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column,
        value::{fill, number, part, plain, present},
    },
};

/// The kind.
pub(crate) struct PodDisruptionBudget;

static NAMES: Names = Names {
    group: "policy",
    version: "v1",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short: &["pdb"],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.policy.v1.PodDisruptionBudget",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Min Available", "How many pods must stay healthy"),
    column::shown("Max Unavailable", "How many pods may be missing"),
    column::count("Allowed Disruptions", "How many pods may be evicted now"),
    column::AGE,
];

const COUNTS: &[&str] = &[
    "disruptionsAllowed",
    "currentHealthy",
    "desiredHealthy",
    "expectedPods",
];

impl Kind for PodDisruptionBudget {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", self.new_status(&Value::Null));
    }

    fn new_status(&self, _object: &Value) -> Value {
        json!({
            "currentHealthy": 0,
            "desiredHealthy": 0,
            "disruptionsAllowed": 0,
            "expectedPods": 0,
        })
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        if present(spec, "/minAvailable") && present(spec, "/maxUnavailable") {
            errors.invalid(
                &path,
                spec.clone(),
                "minAvailable and maxUnavailable cannot be both set",
            );
        }
        for field in ["minAvailable", "maxUnavailable"] {
            let given = spec.get(field).unwrap_or(&Value::Null);
            check::share(&path.field(field), given, errors);
            check::at_most_all(&path.field(field), given, errors);
        }
        check::selector(&path.field("selector"), part(spec, "/selector"), errors);
        check::one_of(
            &path.field("unhealthyPodEvictionPolicy"),
            part(spec, "/unhealthyPodEvictionPolicy"),
            &["AlwaysAllow", "IfHealthyBudget"],
            errors,
        );
    }

    fn validate_status(&self, object: &Value, _old: &Value, errors: &mut FieldErrors) {
        check::counts(object, "status", COUNTS, errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let share = |pointer: &str| match part(object, pointer) {
            Value::Null => "N/A".into(),
            value => plain(value).into(),
        };
        vec![
            column::name(object),
            share("/spec/minAvailable"),
            share("/spec/maxUnavailable"),
            number(object, "/status/disruptionsAllowed")
                .unwrap_or(0)
                .into(),
            column::age(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        let yaml = format!("{{spec: {{{spec}}}}}");
        expect.assert_eq(&errors(&PodDisruptionBudget, &yaml));
    }

    #[test]
    fn it_counts_one_way() {
        check("minAvailable: 50%, selector: {}", expect![[""]]);
        check(
            "minAvailable: -1, maxUnavailable: 101%, unhealthyPodEvictionPolicy: Never",
            expect![[r#"
                spec: Invalid value: {"maxUnavailable":"101%","minAvailable":-1,"unhealthyPodEvictionPolicy":"Never"}: minAvailable and maxUnavailable cannot be both set
                spec.minAvailable: Invalid value: -1: must be greater than or equal to 0
                spec.maxUnavailable: Invalid value: "101%": must not be greater than 100%
                spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: "AlwaysAllow", "IfHealthyBudget"
            "#]],
        );
    }

    #[test]
    fn a_row_says_how_many_may_go() {
        expect!["web|50%|N/A|1|60m"].assert_eq(&row(
            &PodDisruptionBudget,
            "{metadata: {name: web}, spec: {minAvailable: 50%}, status: {disruptionsAllowed: 1}}",
        ));
    }
}
