//! VolumeAttachment: a volume that is to be attached to a node.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{GROUP, validate_driver};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column, not_acted_on,
        value::{entries, fill, part, plain, present, text, truth},
    },
    name,
};

/// The kind.
pub(crate) struct VolumeAttachment;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    short: &[],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.storage.v1.VolumeAttachment",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    Column {
        format: "name",
        ..column::shown("Attacher", "The driver that attaches it")
    },
    column::shown("PV", "The volume"),
    column::shown("Node", "The node"),
    column::truth("Attached", "Whether it is attached"),
    column::AGE,
];

/// Bytes of all that a driver says of an attached volume.
const METADATA: usize = 256 * 1024;
/// Bytes of what it says of a failure.
const MESSAGE: usize = 1024;

impl Kind for VolumeAttachment {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn counted(&self) -> &[&'static str] {
        &[]
    }

    fn new_status(&self, _object: &Value) -> Value {
        json!({ "attached": false })
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", self.new_status(&Value::Null));
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        validate_driver(
            &path.field("attacher"),
            text(object, "/spec/attacher"),
            errors,
        );
        let source = path.field("source");
        let named = part(object, "/spec/source/persistentVolumeName").as_str();
        let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        match (named, present(object, "/spec/source/inlineVolumeSpec")) {
            (None, false) => errors.required(&source, one),
            (Some(_), true) => errors.forbidden(&source, one),
            (Some(""), false) => errors.required(
                &source.field("persistentVolumeName"),
                "must specify non empty persistentVolumeName",
            ),
            (Some(volume), false) => {
                let problems = name::subdomain_problems(volume);
                check::problems(
                    &source.field("persistentVolumeName"),
                    volume,
                    problems,
                    errors,
                );
            }
            (None, true) => {}
        }
        let node = text(object, "/spec/nodeName");
        let problems = name::subdomain_problems(node);
        check::problems(&path.field("nodeName"), node, problems, errors);
        validate_report(object, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(&Path::root("spec"), object, old, "/spec", errors);
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
            text(object, "/spec/attacher").into(),
            text(object, "/spec/source/persistentVolumeName").into(),
            text(object, "/spec/nodeName").into(),
            truth(object, "/status/attached").into(),
            column::age(object, now),
        ]
    }
}

/// What the driver said.
fn validate_report(object: &Value, errors: &mut FieldErrors) {
    let path = Path::root("status");
    let bytes: usize = entries(object, "/status/attachmentMetadata")
        .map(|(key, value)| key.len() + plain(value).len())
        .sum();
    if bytes > METADATA {
        check::too_long(&path.field("attachmentMetadata"), METADATA, errors);
    }
    for field in ["attachError", "detachError"] {
        let error = part(object, &format!("/status/{field}"));
        let path = path.field(field);
        if text(error, "/message").len() > MESSAGE {
            check::too_long(&path.field("message"), MESSAGE, errors);
        }
        let code = part(error, "/errorCode");
        if code.as_i64().is_some_and(|code| code < 0) {
            let detail = "must be between 0 and 2147483647, inclusive";
            errors.invalid(&path.field("errorCode"), code.clone(), detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[test]
    fn it_attaches_one_volume_to_a_node() {
        expect![[r#"
            spec.attacher: Required value
            spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName
            spec.nodeName: Invalid value: "N1": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "#]]
        .assert_eq(&errors(&VolumeAttachment, "{spec: {nodeName: N1}}"));
        expect![[r#"
            status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive
        "#]]
        .assert_eq(&errors(
            &VolumeAttachment,
            "{spec: {attacher: a, nodeName: n1, source: {persistentVolumeName: v}}, status: \
             {attachError: {errorCode: -1}}}",
        ));
    }

    #[test]
    fn what_is_attached_where_never_changes() {
        expect![[r#"
            spec: Invalid value: {"attacher":"b"}: field is immutable
        "#]]
        .assert_eq(&update_errors(
            &VolumeAttachment,
            "{spec: {attacher: a}}",
            "{spec: {attacher: b}}",
        ));
    }

    #[test]
    fn a_row_says_whether_it_is_attached() {
        expect!["x|a|v|n1|true|60m"].assert_eq(&row(
            &VolumeAttachment,
            "{metadata: {name: x}, spec: {attacher: a, nodeName: n1, source: {persistentVolumeName: \
             v}}, status: {attached: true}}",
        ));
    }
}
