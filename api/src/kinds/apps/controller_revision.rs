//! ControllerRevision: what a StatefulSet or DaemonSet once was, to go back to.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, check, column,
        value::{items, number, part, present, text, truth},
    },
};

/// The kind.
pub(crate) struct ControllerRevision;

static NAMES: Names = Names {
    group: "apps",
    version: "v1",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    short: &[],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.apps.v1.ControllerRevision",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Controller", "Whose revision it is"),
    column::count("Revision", "Which of its revisions, counted"),
    column::AGE,
];

impl Kind for ControllerRevision {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        if !present(object, "/data") {
            errors.required(&Path::root("data"), "data is mandatory");
        }
        check::not_negative(&Path::root("revision"), part(object, "/revision"), errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(&Path::root("data"), object, old, "/data", errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            column::or_none(&controller(object)),
            number(object, "/revision").unwrap_or(0).into(),
            column::age(object, now),
        ]
    }
}

/// The controlling owner: `statefulset.apps/db`.
fn controller(object: &Value) -> String {
    let owner = items(object, "/metadata/ownerReferences")
        .iter()
        .find(|owner| truth(owner, "/controller"));
    owner.map_or_else(String::new, |owner| {
        let kind = text(owner, "/kind").to_lowercase();
        match text(owner, "/apiVersion").split_once('/') {
            Some((group, _)) => format!("{kind}.{group}/{}", text(owner, "/name")),
            None => format!("{kind}/{}", text(owner, "/name")),
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[test]
    fn its_data_is_there_and_stays() {
        expect![[r#"
            data: Required value: data is mandatory
            revision: Invalid value: -1: must be greater than or equal to 0
        "#]]
        .assert_eq(&errors(&ControllerRevision, "{revision: -1}"));
        expect![[r#"
            data: Invalid value: {"a":2}: field is immutable
        "#]]
        .assert_eq(&update_errors(
            &ControllerRevision,
            "{data: {a: 1}, revision: 1}",
            "{data: {a: 2}, revision: 2}",
        ));
    }

    #[test]
    fn a_row_names_its_controller() {
        expect!["db-1|statefulset.apps/db|3|60m"].assert_eq(&row(
            &ControllerRevision,
            "{metadata: {name: db-1, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db, \
             controller: true}]}, revision: 3}",
        ));
    }
}
