//! CSIStorageCapacity: how much a driver has left for a class, and where.

use jiff::Timestamp;
use serde_json::Value;

use super::GROUP;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, check, column, not_acted_on,
        value::{part, plain, present, text},
    },
    name,
};

/// The kind.
pub(crate) struct CsiStorageCapacity;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    short: &[],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.storage.v1.CSIStorageCapacity",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("StorageClassName", "The class whose capacity it is"),
    column::shown("Capacity", "How much there is"),
];

impl Kind for CsiStorageCapacity {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        if present(object, "/nodeTopology") {
            let path = Path::root("nodeTopology");
            check::selector(&path, part(object, "/nodeTopology"), errors);
        }
        let class = text(object, "/storageClassName");
        let path = Path::root("storageClassName");
        check::problems(&path, class, name::subdomain_problems(class), errors);
        if present(object, "/capacity") {
            check::quantity(&Path::root("capacity"), part(object, "/capacity"), errors);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        for field in ["nodeTopology", "storageClassName"] {
            let pointer = format!("/{field}");
            check::immutable(&Path::root(field), object, old, &pointer, errors);
        }
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&NAMES)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let capacity = match plain(part(object, "/capacity")) {
            none if none.is_empty() => "<unset>".to_owned(),
            capacity => capacity,
        };
        vec![
            column::name(object),
            text(object, "/storageClassName").into(),
            capacity.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[test]
    fn it_is_about_a_class_at_a_place_for_good() {
        expect![[r#"
            nodeTopology.matchExpressions[0].operator: Invalid value: "Near": not a valid selector operator
            storageClassName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            capacity: Invalid value: "-1": must be greater than or equal to 0
        "#]]
        .assert_eq(&errors(
            &CsiStorageCapacity,
            "{storageClassName: A, capacity: '-1', nodeTopology: {matchExpressions: [{key: zone, \
             operator: Near}]}}",
        ));
        expect![[r#"
            storageClassName: Invalid value: "b": field is immutable
        "#]]
        .assert_eq(&update_errors(
            &CsiStorageCapacity,
            "{storageClassName: a}",
            "{storageClassName: b, capacity: 1Gi}",
        ));
    }

    #[test]
    fn a_row_shows_the_capacity() {
        let yaml = "{metadata: {name: c}, storageClassName: a, capacity: 1Gi}";
        expect!["c|a|1Gi"].assert_eq(&row(&CsiStorageCapacity, yaml));
    }
}
