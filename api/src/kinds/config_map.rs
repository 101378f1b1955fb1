//! ConfigMap: settings that pods read.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Kind, Names, check, column, value::entries};
use crate::{
    field::{Cause, FieldErrors, Path},
    name,
};

/// The kind.
pub(crate) struct ConfigMap;

/// What all values together may weigh, in bytes.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short: &["cm"],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.core.v1.ConfigMap",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::count("Data", "How many entries it has"),
    column::AGE,
];

impl Kind for ConfigMap {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let mut bytes = 0;
        for (key, value) in entries(object, "/data") {
            let path = Path::root("data").key(key);
            check::problems(&path, key, name::file_key_problems(key), errors);
            if object
                .get("binaryData")
                .is_some_and(|data| data.get(key).is_some())
            {
                errors.invalid(
                    &path,
                    key.as_str(),
                    "duplicate of key present in binaryData",
                );
            }
            bytes += value.as_str().map_or(0, str::len);
        }
        for (key, value) in entries(object, "/binaryData") {
            let path = Path::root("binaryData").key(key);
            check::problems(&path, key, name::file_key_problems(key), errors);
            bytes += super::secret::decoded_length(&path, value, errors);
        }
        too_large(bytes, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        check::frozen(object, old, &["data", "binaryData"], errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = entries(object, "/data").count() + entries(object, "/binaryData").count();
        vec![column::name(object), count.into(), column::age(object, now)]
    }
}

/// Reports values that weigh more than [`MAX_BYTES`].
pub(crate) fn too_large(bytes: usize, errors: &mut FieldErrors) {
    if bytes > MAX_BYTES {
        errors.push(
            &Path::default().key(""),
            Cause::TooLong,
            Value::Null,
            format!("may not be more than {MAX_BYTES} bytes"),
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, update_errors};

    #[track_caller]
    fn check(yaml: &str, expect: Expect) {
        expect.assert_eq(&errors(&ConfigMap, yaml));
    }

    #[test]
    fn keys_are_file_names_and_do_not_repeat() {
        check("{data: {a: x}, binaryData: {b: eA==}}", expect![[""]]);
        check(
            "{data: {a: x, 'b/c': x}, binaryData: {a: eA==}}",
            expect![[r#"
                data[a]: Invalid value: "a": duplicate of key present in binaryData
                data[b/c]: Invalid value: "b/c": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            "#]],
        );
    }

    #[test]
    fn more_than_a_mebibyte_is_refused() {
        let big = "x".repeat(MAX_BYTES + 1);
        check(
            &format!("{{data: {{a: {big}}}}}"),
            expect![[r#"
                []: Too long: may not be more than 1048576 bytes
            "#]],
        );
    }

    #[test]
    fn an_immutable_one_keeps_its_data() {
        expect![[r#"
            immutable: Forbidden: field is immutable when `immutable` is set
            data: Forbidden: field is immutable when `immutable` is set
        "#]]
        .assert_eq(&update_errors(
            &ConfigMap,
            "{data: {a: x}, immutable: true}",
            "{data: {a: y}}",
        ));
    }
}
