//! StorageClass: how volumes that claims ask for are made.

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, refuse_changes, validate_parameters, validate_provisioner};
use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        Column, Kind, Names, check, column,
        value::{fill, items, part, plain, text, truth},
    },
    name, object as metadata,
};

/// The kind.
pub(crate) struct StorageClass;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short: &["sc"],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.storage.v1.StorageClass",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Provisioner", "What makes its volumes"),
    column::shown("ReclaimPolicy", "What becomes of a volume without a claim"),
    column::shown("VolumeBindingMode", "When a volume is made for a claim"),
    column::truth("AllowVolumeExpansion", "Whether its volumes may grow"),
    column::AGE,
];

/// The annotations that make a class the one of claims that name none.
const DEFAULT: &[&str] = &[
    "/metadata/annotations/storageclass.kubernetes.io~1is-default-class",
    "/metadata/annotations/storageclass.beta.kubernetes.io~1is-default-class",
];

impl Kind for StorageClass {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn default(&self, object: &mut Value) {
        fill(object, "reclaimPolicy", "Delete");
        fill(object, "volumeBindingMode", "Immediate");
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate_provisioner(
            &Path::root("provisioner"),
            text(object, "/provisioner"),
            errors,
        );
        validate_parameters(object, errors);
        check::one_of(
            &Path::root("reclaimPolicy"),
            part(object, "/reclaimPolicy"),
            &["Delete", "Retain"],
            errors,
        );
        check::one_of(
            &Path::root("volumeBindingMode"),
            part(object, "/volumeBindingMode"),
            &["Immediate", "WaitForFirstConsumer"],
            errors,
        );
        let terms = items(object, "/allowedTopologies");
        for (index, term) in terms.iter().enumerate() {
            let path = Path::root("allowedTopologies").index(index);
            validate_topology(&path, term, errors);
            if terms[..index].contains(term) {
                let path = path.field("matchLabelExpressions");
                errors.push(&path, Cause::Duplicate, "".into(), "");
            }
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let fields = &["parameters", "provisioner", "reclaimPolicy"];
        refuse_changes(fields, object, old, errors);
        let path = Path::root("volumeBindingMode");
        check::immutable(&path, object, old, "/volumeBindingMode", errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut name = metadata::name(object).to_owned();
        if DEFAULT
            .iter()
            .any(|pointer| text(object, pointer) == "true")
        {
            name.push_str(" (default)");
        }
        vec![
            name.into(),
            text(object, "/provisioner").into(),
            text(object, "/reclaimPolicy").into(),
            text(object, "/volumeBindingMode").into(),
            truth(object, "/allowVolumeExpansion").into(),
            column::age(object, now),
        ]
    }
}

fn validate_topology(path: &Path, term: &Value, errors: &mut FieldErrors) {
    let path = path.field("matchLabelExpressions");
    let mut keys = check::Seen::new();
    for (index, rule) in items(term, "/matchLabelExpressions").iter().enumerate() {
        let path = path.index(index);
        let key = text(rule, "/key");
        let values = items(rule, "/values");
        if values.is_empty() {
            errors.required(&path.field("values"), "");
        }
        let mut seen = check::Seen::new();
        for (index, value) in values.iter().map(plain).enumerate() {
            check::unique(
                &path.field("values").index(index),
                &value,
                &mut seen,
                errors,
            );
        }
        let problems = name::qualified_problems(key);
        check::problems(&path.field("key"), key, problems, errors);
        check::unique(&path.field("key"), key, &mut keys, errors);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[track_caller]
    fn check(yaml: &str, expect: Expect) {
        expect.assert_eq(&errors(&StorageClass, yaml));
    }

    #[test]
    fn it_has_a_provisioner_and_known_policies() {
        check("{provisioner: Example.com/disk}", expect![""]);
        check(
            "{reclaimPolicy: Recycle, volumeBindingMode: Later, parameters: {'': x}}",
            expect![[r#"
                provisioner: Required value
                parameters: Invalid value: "": field can not be empty.
                reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"
                volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"
            "#]],
        );
        check(
            "{provisioner: a, allowedTopologies: [{matchLabelExpressions: [{key: zone}, {key: zone, \
             values: [a, a]}]}, {}, {}]}",
            expect![[r#"
                allowedTopologies[0].matchLabelExpressions[0].values: Required value
                allowedTopologies[0].matchLabelExpressions[1].values[1]: Duplicate value: "a"
                allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "zone"
                allowedTopologies[2].matchLabelExpressions: Duplicate value: ""
            "#]],
        );
    }

    #[test]
    fn what_its_volumes_are_never_changes() {
        expect![[r#"
            parameters: Forbidden: updates to parameters are forbidden.
            provisioner: Forbidden: updates to provisioner are forbidden.
            reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.
            volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable
        "#]]
        .assert_eq(&update_errors(
            &StorageClass,
            "{provisioner: a, parameters: {a: b}}",
            "{provisioner: b, reclaimPolicy: Retain, volumeBindingMode: WaitForFirstConsumer, \
             allowVolumeExpansion: true}",
        ));
        expect![""].assert_eq(&update_errors(
            &StorageClass,
            "{provisioner: a, parameters: {}}",
            "{provisioner: a, allowVolumeExpansion: true}",
        ));
    }

    #[test]
    fn a_row_says_which_is_the_default() {
        expect!["fast (default)|a|Delete|Immediate|false|60m"].assert_eq(&row(
            &StorageClass,
            "{metadata: {name: fast, annotations: {storageclass.kubernetes.io/is-default-class: \
             'true'}}, provisioner: a}",
        ));
    }
}
