//! Secret: values that pods read and tables never show.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, check, column,
    config_map::too_large,
    value::{child, entries, fill_text, part, put, text},
};
use crate::{
    field::{FieldErrors, Path},
    name,
};

/// The kind.
pub(crate) struct Secret;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    short: &[],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.core.v1.Secret",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Type", "What its keys mean"),
    column::count("Data", "How many entries it has"),
    column::AGE,
];

/// Keys that a type of secret must have.
const REQUIRED: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

impl Kind for Secret {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn default(&self, object: &mut Value) {
        fill_text(object, "type", "Opaque");
        let plain = part(object, "/stringData").clone();
        put(object, "stringData", Value::Null);
        if entries(&plain, "").next().is_some()
            && let Some(data) = child(object, "data")
        {
            for (key, value) in entries(&plain, "") {
                let value = STANDARD.encode(value.as_str().unwrap_or_default());
                put(data, key, value.into());
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let data = Path::root("data");
        let mut bytes = 0;
        for (key, value) in entries(object, "/data") {
            let path = data.key(key);
            check::problems(&path, key, name::file_key_problems(key), errors);
            bytes += decoded_length(&path, value, errors);
        }
        too_large(bytes, errors);
        let has = |key: &str| part(object, "/data").get(key).is_some();
        let kind = text(object, "/type");
        for key in REQUIRED
            .iter()
            .filter(|(of, _)| *of == kind)
            .flat_map(|(_, keys)| *keys)
        {
            if !has(key) {
                errors.required(&data.key(key), "");
            } else if key.starts_with(".docker") && !is_json(part(object, "/data").get(key)) {
                errors.invalid(
                    &data.key(key),
                    "<secret contents redacted>",
                    "the value is not JSON",
                );
            }
        }
        if kind == "kubernetes.io/basic-auth" && !has("username") && !has("password") {
            errors.required(&data.key("username"), "");
            errors.required(&data.key("password"), "");
        }
        if kind == "kubernetes.io/service-account-token"
            && text(
                object,
                "/metadata/annotations/kubernetes.io~1service-account.name",
            )
            .is_empty()
        {
            let path = Path::root("metadata").field("annotations");
            errors.required(&path.key("kubernetes.io/service-account.name"), "");
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(&Path::root("type"), object, old, "/type", errors);
        check::frozen(object, old, &["data"], errors);
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("type", text(object, "/type").to_owned())]
    }

    fn field_names(&self) -> &[&'static str] {
        &["type"]
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            text(object, "/type").into(),
            entries(object, "/data").count().into(),
            column::age(object, now),
        ]
    }
}

/// Bytes that a base64 value stands for; reports one that is not base64 without showing it.
pub(crate) fn decoded_length(path: &Path, value: &Value, errors: &mut FieldErrors) -> usize {
    match STANDARD.decode(value.as_str().unwrap_or_default()) {
        Ok(bytes) => bytes.len(),
        Err(problem) => {
            errors.invalid(
                path,
                "<contents redacted>",
                format!("must be base64: {problem}"),
            );
            0
        }
    }
}

fn is_json(value: Option<&Value>) -> bool {
    let bytes = value
        .and_then(Value::as_str)
        .and_then(|text| STANDARD.decode(text).ok());
    bytes.is_some_and(|bytes| serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, update_errors};

    #[track_caller]
    fn check(yaml: &str, expect: Expect) {
        expect.assert_eq(&errors(&Secret, yaml));
    }

    #[test]
    fn plain_strings_become_data() {
        expect![[r#"{"data":{"a":"eA==","b":"eQ=="},"type":"Opaque"}"#]].assert_eq(&defaulted(
            &Secret,
            "{data: {a: YQ==, b: eQ==}, stringData: {a: x}}",
        ));
    }

    #[test]
    fn a_type_has_its_keys() {
        check(
            "{type: kubernetes.io/tls, data: {tls.crt: ''}}",
            expect![[r#"
                data[tls.key]: Required value
            "#]],
        );
        check(
            "{type: kubernetes.io/dockerconfigjson, data: {.dockerconfigjson: eA==}}",
            expect![[r#"
                data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": the value is not JSON
            "#]],
        );
    }

    #[test]
    fn the_type_never_changes() {
        expect![[r#"
            type: Invalid value: "b": field is immutable
        "#]]
        .assert_eq(&update_errors(&Secret, "{type: a}", "{type: b}"));
    }
}
