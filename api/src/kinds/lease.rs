//! Lease: a heartbeat, or the claim of a leader.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, check, column,
    value::{part, text},
};
use crate::field::{FieldErrors, Path};

/// The kind.
pub(crate) struct Lease;

static NAMES: Names = Names {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    short: &[],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.coordination.v1.Lease",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Holder", "Who holds it"),
    column::AGE,
];

impl Kind for Lease {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = Path::root("spec");
        let seconds = part(object, "/spec/leaseDurationSeconds");
        if seconds.as_i64().is_some_and(|seconds| seconds <= 0) {
            let path = spec.field("leaseDurationSeconds");
            errors.invalid(&path, seconds.clone(), "must be greater than 0");
        }
        check::not_negative(
            &spec.field("leaseTransitions"),
            part(object, "/spec/leaseTransitions"),
            errors,
        );
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            text(object, "/spec/holderIdentity").into(),
            column::age(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::errors;

    #[test]
    fn durations_are_above_zero() {
        expect![[r#"
            spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
            spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0
        "#]]
        .assert_eq(&errors(
            &Lease,
            "{spec: {leaseDurationSeconds: 0, leaseTransitions: -1}}",
        ));
    }
}
