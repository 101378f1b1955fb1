//! HorizontalPodAutoscaler of autoscaling/v1, which knows a target for CPU only.
//!
//! Stored as v2; what is wrong with one is what is wrong with the v2 object that it says.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    conversion::{to_v1, to_v2},
    v2::{self, HorizontalPodAutoscaler as Stored},
};
use crate::{
    field::FieldErrors,
    kinds::{
        Column, Conversion, Kind, Names, Subresource,
        value::{child, fill},
    },
};

/// The kind.
pub(crate) struct HorizontalPodAutoscaler;

static NAMES: Names = Names {
    version: "v1",
    definition: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
    ..v2::NAMES
};

static CONVERSION: Conversion = Conversion {
    stored: &v2::NAMES,
    to_stored: to_v2,
    to_served: to_v1,
};

/// The v2 object that a v1 object says.
fn stored(object: &Value) -> Value {
    let mut stored = object.clone();
    CONVERSION.store(&mut stored);
    Stored.default(&mut stored);
    stored
}

impl Kind for HorizontalPodAutoscaler {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn conversion(&self) -> Option<&'static Conversion> {
        Some(&CONVERSION)
    }

    fn subresources(&self) -> &[Subresource] {
        Stored.subresources()
    }

    fn counted(&self) -> &[&'static str] {
        Stored.counted()
    }

    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            fill(spec, "minReplicas", 1);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        Stored.validate(&stored(object), errors);
    }

    fn validate_status(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        Stored.validate_status(object, old, errors);
    }

    fn columns(&self) -> &[Column] {
        Stored.columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        Stored.cells(&stored(object), now)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row};

    #[test]
    fn it_is_checked_and_shown_as_what_it_is_stored_as() {
        expect![[r#"
            spec.maxReplicas: Invalid value: 0: must be greater than 0
            spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`
            spec.scaleTargetRef.kind: Required value
            spec.metrics[0].resource.target.averageUtilization: Invalid value: -1: must be greater than 0
        "#]]
        .assert_eq(&errors(
            &HorizontalPodAutoscaler,
            "{spec: {scaleTargetRef: {name: web}, targetCPUUtilizationPercentage: -1}}",
        ));
        expect!["web|Deployment/web|cpu: 20%/50%|1|3|2|60m"].assert_eq(&row(
            &HorizontalPodAutoscaler,
            "{metadata: {name: web}, spec: {maxReplicas: 3, scaleTargetRef: {kind: Deployment, name: web}, \
             targetCPUUtilizationPercentage: 50}, status: {currentReplicas: 2, \
             currentCPUUtilizationPercentage: 20}}",
        ));
    }
}
