//! VolumeAttributesClass: attributes of volumes that may change while they are used.

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, refuse_changes, validate_parameters, validate_provisioner};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, column, not_acted_on,
        value::{entries, text},
    },
};

/// The kind.
pub(crate) struct VolumeAttributesClass;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short: &["vac"],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.storage.v1.VolumeAttributesClass",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("DriverName", "The driver that knows the attributes"),
    column::AGE,
];

impl Kind for VolumeAttributesClass {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate_provisioner(
            &Path::root("driverName"),
            text(object, "/driverName"),
            errors,
        );
        validate_parameters(object, errors);
        if entries(object, "/parameters").next().is_none() {
            let path = Path::root("parameters");
            errors.required(&path, "must contain at least one key/value pair");
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        refuse_changes(&["driverName", "parameters"], object, old, errors);
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&NAMES)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            text(object, "/driverName").into(),
            column::age(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[test]
    fn it_has_a_driver_and_parameters_for_good() {
        expect![[r#"
            driverName: Required value
            parameters: Required value: must contain at least one key/value pair
        "#]]
        .assert_eq(&errors(&VolumeAttributesClass, "{}"));
        expect![[r#"
            driverName: Forbidden: updates to driverName are forbidden.
            parameters: Forbidden: updates to parameters are forbidden.
        "#]]
        .assert_eq(&update_errors(
            &VolumeAttributesClass,
            "{driverName: a, parameters: {a: b}}",
            "{driverName: b, parameters: {a: c}}",
        ));
        expect!["gold|a|60m"].assert_eq(&row(
            &VolumeAttributesClass,
            "{metadata: {name: gold}, driverName: a}",
        ));
    }
}
