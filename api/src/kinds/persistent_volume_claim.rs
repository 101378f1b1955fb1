//! PersistentVolumeClaim: storage that a pod asks for.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Column, Kind, Names, Subresource, access_mode, check, column, local_volume, not_acted_on,
    value::{child, fill, fill_text, items, part, plain, present, put, text},
};
use crate::{
    field::{FieldErrors, Path},
    name, object,
    quantity::Quantity,
};

/// The kind.
pub(crate) struct PersistentVolumeClaim;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short: &["pvc"],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.core.v1.PersistentVolumeClaim",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Status", "Pending, Bound or Lost"),
    column::shown("Volume", "The volume that it is bound to"),
    column::shown("Capacity", "How much storage there is"),
    column::shown("Access Modes", "How the volume may be mounted"),
    column::shown("StorageClass", "What kind of storage is wanted"),
    column::shown("VolumeAttributesClass", "Which attributes are wanted"),
    column::AGE,
    column::wide("VolumeMode", "A file system or a block device"),
];

/// An older place for the storage class.
pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

impl Kind for PersistentVolumeClaim {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn counted(&self) -> &[&'static str] {
        &[]
    }

    fn default(&self, object: &mut Value) {
        default(object);
    }

    fn new_status(&self, _object: &Value) -> Value {
        json!({ "phase": "Pending" })
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate_spec(&Path::root("spec"), part(object, "/spec"), errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let mut wanted = part(object, "/spec").clone();
        let before = part(old, "/spec");
        if text(before, "/volumeName").is_empty() {
            put(
                &mut wanted,
                "volumeName",
                part(before, "/volumeName").clone(),
            );
        }
        let keep = |wanted: &mut Value, field: &str| {
            put(
                wanted,
                field,
                before.get(field).cloned().unwrap_or_default(),
            );
        };
        keep(&mut wanted, "volumeAttributesClassName");
        // A default class that comes after the claim is filled in.
        if !present(before, "/storageClassName") {
            keep(&mut wanted, "storageClassName");
        }
        let storage = "/resources/requests/storage";
        if text(old, "/status/phase") == "Bound"
            && let Some(storage_now) = wanted.pointer_mut(storage)
        {
            *storage_now = part(before, storage).clone();
        }
        if &wanted != before {
            errors.forbidden(
                &path,
                "spec is immutable after creation except resources.requests and \
                 volumeAttributesClassName for bound claims",
            );
        }
        let size = |object: &Value, pointer: &str| plain(part(object, pointer)).parse().ok();
        let sizes: [Option<Quantity>; 3] = [
            size(object, "/spec/resources/requests/storage"),
            size(old, "/spec/resources/requests/storage"),
            size(old, "/status/capacity/storage"),
        ];
        if let [Some(now), Some(before), had] = sizes
            && now < before
            && had.is_none_or(|had| now <= had)
        {
            errors.forbidden(
                &path.field("resources").field("requests").field("storage"),
                "field can not be less than status.capacity",
            );
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        not_acted_on::warnings("", object, not_acted_on::PERSISTENT_VOLUME_CLAIM)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![(
            local_volume::NODE_FIELD,
            local_volume::asked(object).to_owned(),
        )]
    }

    fn field_names(&self) -> &[&'static str] {
        &[local_volume::NODE_FIELD]
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let bound = !text(object, "/spec/volumeName").is_empty();
        let when_bound = |shown: String| if bound { shown } else { String::new() };
        let or_unset = |value: &Value| match value {
            Value::Null => "<unset>".to_owned(),
            value => plain(value),
        };
        vec![
            column::name(object),
            phase(object).into(),
            text(object, "/spec/volumeName").into(),
            when_bound(plain(part(object, "/status/capacity/storage"))).into(),
            when_bound(access_mode::shown(items(object, "/status/accessModes"))).into(),
            storage_class(object).into(),
            or_unset(part(object, "/spec/volumeAttributesClassName")).into(),
            column::age(object, now),
            or_unset(part(object, "/spec/volumeMode")).into(),
        ]
    }
}

/// How a claim or a volume is, in one word.
pub(crate) fn phase(object: &Value) -> &str {
    if object::deleting(object) {
        "Terminating"
    } else {
        text(object, "/status/phase")
    }
}

/// The storage class of a claim or a volume.
pub(crate) fn storage_class(object: &Value) -> &str {
    part(object, "/metadata/annotations")
        .get(CLASS_ANNOTATION)
        .and_then(Value::as_str)
        .unwrap_or_else(|| text(object, "/spec/storageClassName"))
}

/// Fills in a claim, or the template of one.
pub(crate) fn default(claim: &mut Value) {
    if let Some(status) = child(claim, "status") {
        fill_text(status, "phase", "Pending");
    }
    if let Some(spec) = child(claim, "spec") {
        default_spec(spec);
    }
}

/// Fills in what a claim asks for.
pub(crate) fn default_spec(spec: &mut Value) {
    fill_text(spec, "volumeMode", "Filesystem");
    // The older name of the field, which can name less.
    let local = |source: &Value| !present(source, "/namespace");
    for (from, to) in [
        ("/dataSource", "dataSourceRef"),
        ("/dataSourceRef", "dataSource"),
    ] {
        let source = part(spec, from).clone();
        if source.is_object() && local(&source) {
            fill(spec, to, source);
        }
    }
}

/// Checks what a claim asks for.
pub(crate) fn validate_spec(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    access_mode::validate(path, spec, "at least 1 access mode is required", errors);
    check::selector(&path.field("selector"), part(spec, "/selector"), errors);
    let storage = part(spec, "/resources/requests/storage");
    let storage_path = path.field("resources").key("storage");
    if storage.is_null() {
        errors.required(&storage_path, "");
    } else if !check::is_positive(storage) {
        errors.invalid(&storage_path, plain(storage), "must be greater than zero");
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let given = part(spec, "").get(field).and_then(Value::as_str);
        if let Some(given) = given.filter(|given| !given.is_empty()) {
            check::problems(
                &path.field(field),
                given,
                name::subdomain_problems(given),
                errors,
            );
        }
    }
    check::one_of(
        &path.field("volumeMode"),
        part(spec, "/volumeMode"),
        &["Block", "Filesystem"],
        errors,
    );
    for field in ["dataSource", "dataSourceRef"] {
        let source = part(spec, "").get(field).unwrap_or(&Value::Null);
        if !source.is_null() {
            validate_source(&path.field(field), source, errors);
        }
    }
}

fn validate_source(path: &Path, source: &Value, errors: &mut FieldErrors) {
    for (field, pointer) in [("name", "/name"), ("kind", "/kind")] {
        if text(source, pointer).is_empty() {
            errors.required(&path.field(field), "");
        }
    }
    let kind = text(source, "/kind");
    if text(source, "/apiGroup").is_empty() && kind != "PersistentVolumeClaim" {
        errors.invalid(
            path,
            kind,
            "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    const OLD: &str = "accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}";

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        expect.assert_eq(&errors(
            &PersistentVolumeClaim,
            &format!("{{spec: {{{spec}}}}}"),
        ));
    }

    #[track_caller]
    fn check_update(status: &str, spec: &str, expect: Expect) {
        expect.assert_eq(&update_errors(
            &PersistentVolumeClaim,
            &format!("{{spec: {{{OLD}}}, status: {{{status}}}}}"),
            &format!("{{spec: {{{spec}}}}}"),
        ));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        check(
            "",
            expect![[r#"
                spec.accessModes: Required value: at least 1 access mode is required
                spec.resources[storage]: Required value
            "#]],
        );
        check(
            "accessModes: [ReadWriteOncePod, Often], resources: {requests: {storage: 0}}, \
             storageClassName: A_, volumeMode: Tape, dataSource: {kind: Snapshot}",
            expect![[r#"
                spec.accessModes: Unsupported value: "Often": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
                spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes
                spec.resources[storage]: Invalid value: "0": must be greater than zero
                spec.storageClassName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"
                spec.dataSource.name: Required value
                spec.dataSource: Invalid value: "Snapshot": must be 'PersistentVolumeClaim' when referencing the default apiGroup
                spec.dataSourceRef.name: Required value
                spec.dataSourceRef: Invalid value: "Snapshot": must be 'PersistentVolumeClaim' when referencing the default apiGroup
            "#]],
        );
    }

    #[test]
    fn a_bound_claim_may_grow() {
        let grown =
            "accessModes: [ReadWriteOnce], volumeName: v, resources: {requests: {storage: 3Gi}}";
        check_update("phase: Bound", grown, expect![[""]]);
        check_update(
            "phase: Pending",
            grown,
            expect![[r#"
                spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
            "#]],
        );
        check_update(
            "phase: Bound, capacity: {storage: 2Gi}",
            "accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}",
            expect![[r#"
                spec.resources.requests.storage: Forbidden: field can not be less than status.capacity
            "#]],
        );
    }

    #[test]
    fn a_row_says_what_it_got() {
        expect!["data|Pending||||fast|<unset>|60m|Filesystem"].assert_eq(&row(
            &PersistentVolumeClaim,
            "{metadata: {name: data}, spec: {storageClassName: fast}, status: {capacity: {storage: 1Gi}}}",
        ));
        expect!["data|Bound|v|1Gi|RWO,RWX||<unset>|60m|Block"].assert_eq(&row(
            &PersistentVolumeClaim,
            "{metadata: {name: data}, spec: {volumeName: v, volumeMode: Block}, status: {phase: Bound, \
             accessModes: [ReadWriteMany, ReadWriteOnce], capacity: {storage: 1Gi}}}",
        ));
    }
}
