//! CSINode: the CSI drivers of a node.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{GROUP, validate_driver};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, check, column, not_acted_on,
        value::{items, part, plain, text},
    },
    name,
};

/// The kind.
pub(crate) struct CsiNode;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    short: &[],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.storage.v1.CSINode",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::count("Drivers", "How many drivers the node has"),
    column::AGE,
];

/// Characters that a driver's name for the node may have.
const NODE_ID: usize = 256;

impl Kind for CsiNode {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let mut names = check::Seen::new();
        for (index, driver) in items(object, "/spec/drivers").iter().enumerate() {
            let path = Path::root("spec").field("drivers").index(index);
            let own = text(driver, "/name");
            validate_driver(&path.field("name"), own, errors);
            let id = text(driver, "/nodeID");
            if id.is_empty() {
                errors.required(&path.field("nodeID"), "");
            } else if id.len() > NODE_ID {
                let detail = format!("must be {NODE_ID} characters or less");
                errors.invalid(&path.field("nodeID"), id, detail);
            }
            check::not_negative(
                &path.field("allocatable").field("count"),
                part(driver, "/allocatable/count"),
                errors,
            );
            check::unique(&path.field("name"), own, &mut names, errors);
            validate_topology(&path, driver, errors);
        }
    }

    /// A driver may come, go and say that it takes more or fewer volumes.
    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let without = |driver: &Value| -> Map<String, Value> {
            let mut driver = driver.as_object().cloned().unwrap_or_default();
            driver.remove("allocatable");
            driver
        };
        let had = items(old, "/spec/drivers");
        for driver in items(object, "/spec/drivers") {
            let was = had
                .iter()
                .find(|was| text(was, "/name") == text(driver, "/name"));
            if was.is_some_and(|was| without(was) != without(driver)) {
                let path = Path::root("spec").field("drivers");
                errors.invalid(&path, without(driver), "field is immutable");
            }
        }
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
            items(object, "/spec/drivers").len().into(),
            column::age(object, now),
        ]
    }
}

fn validate_topology(path: &Path, driver: &Value, errors: &mut FieldErrors) {
    let mut seen = check::Seen::new();
    for key in items(driver, "/topologyKeys").iter().map(plain) {
        if key.is_empty() {
            errors.required(path, "");
        }
        check::unique(path, &key, &mut seen, errors);
        check::problems(path, &key, name::qualified_problems(&key), errors);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[test]
    fn a_driver_is_named_once_and_knows_the_node() {
        expect![[r#"
            spec.drivers[0].nodeID: Required value
            spec.drivers[1].allocatable.count: Invalid value: -1: must be greater than or equal to 0
            spec.drivers[1].name: Duplicate value: "a"
            spec.drivers[1]: Duplicate value: "zone"
        "#]]
        .assert_eq(&errors(
            &CsiNode,
            "{spec: {drivers: [{name: a}, {name: a, nodeID: i, allocatable: {count: -1}, \
             topologyKeys: [zone, zone]}]}}",
        ));
    }

    #[test]
    fn a_driver_stays_what_it_is_but_for_its_capacity() {
        expect![[r#"
            spec.drivers: Invalid value: {"name":"a","nodeID":"m"}: field is immutable
        "#]]
        .assert_eq(&update_errors(
            &CsiNode,
            "{spec: {drivers: [{name: a, nodeID: i}]}}",
            "{spec: {drivers: [{name: a, nodeID: m, allocatable: {count: 1}}, {name: b, nodeID: i}]}}",
        ));
        expect!["n1|1|60m"].assert_eq(&row(
            &CsiNode,
            "{metadata: {name: n1}, spec: {drivers: [{name: a}]}}",
        ));
    }
}
