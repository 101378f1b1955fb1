//! PersistentVolume: storage that outlives the pods that use it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Column, Kind, Names, Subresource, access_mode, check, column, local_volume, not_acted_on,
    persistent_volume_claim::{phase, storage_class},
    pod::volume,
    value::{child, entries, fill_text, items, part, plain, present, text},
};
use crate::{
    field::{FieldErrors, Path},
    name,
};

/// The kind.
pub(crate) struct PersistentVolume;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short: &["pv"],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.core.v1.PersistentVolume",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Capacity", "How much storage there is"),
    column::shown("Access Modes", "How it may be mounted"),
    column::shown("Reclaim Policy", "What happens to it once it is released"),
    column::shown("Status", "Pending, Available, Bound, Released or Failed"),
    column::shown("Claim", "The claim that it is bound to"),
    column::shown("StorageClass", "What kind of storage it is"),
    column::shown("VolumeAttributesClass", "Which attributes it has"),
    column::shown("Reason", "Why it is as it is"),
    column::AGE,
    column::wide("VolumeMode", "A file system or a block device"),
];

/// Fields of the spec that say something else than where the storage is.
const NOT_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// Where the storage is: the sources that a spec names.
fn sources(spec: &Value) -> Vec<(&String, &Value)> {
    entries(spec, "")
        .filter(|(field, value)| !NOT_SOURCES.contains(&field.as_str()) && !value.is_null())
        .collect()
}

impl Kind for PersistentVolume {
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
        if let Some(status) = child(object, "status") {
            fill_text(status, "phase", "Pending");
        }
        if let Some(spec) = child(object, "spec") {
            fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
            fill_text(spec, "volumeMode", "Filesystem");
            volume::default_source(spec);
        }
    }

    fn new_status(&self, _object: &Value) -> Value {
        json!({ "phase": "Pending" })
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        access_mode::validate(&path, spec, "", errors);
        validate_capacity(&path.field("capacity"), part(spec, "/capacity"), errors);
        check::one_of(
            &path.field("persistentVolumeReclaimPolicy"),
            part(spec, "/persistentVolumeReclaimPolicy"),
            &["Delete", "Recycle", "Retain"],
            errors,
        );
        let sources = sources(spec);
        if sources.is_empty() {
            errors.required(&path, "must specify a volume type");
        }
        for (index, (kind, source)) in sources.iter().enumerate() {
            if index > 0 {
                errors.forbidden(&path.field(kind), "may not specify more than 1 volume type");
            } else {
                volume::validate_source(&path.field(kind), kind, source, errors);
            }
        }
        if present(spec, "/local") && !present(spec, "/nodeAffinity") {
            errors.required(
                &path.field("nodeAffinity"),
                "Local volume requires node affinity",
            );
        }
        if text(spec, "/hostPath/path") == "/"
            && text(spec, "/persistentVolumeReclaimPolicy") == "Recycle"
        {
            errors.forbidden(
                &path.field("persistentVolumeReclaimPolicy"),
                "may not be 'recycle' for a hostPath mount of '/'",
            );
        }
        let class = text(spec, "/storageClassName");
        if !class.is_empty() {
            let path = path.field("storageClassName");
            check::problems(&path, class, name::subdomain_problems(class), errors);
        }
        check::one_of(
            &path.field("volumeMode"),
            part(spec, "/volumeMode"),
            &["Block", "Filesystem"],
            errors,
        );
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        if sources(part(object, "/spec")) != sources(part(old, "/spec")) {
            errors.forbidden(
                &path.field("persistentvolumesource"),
                "spec.persistentvolumesource is immutable after creation",
            );
        }
        check::immutable(
            &path.field("volumeMode"),
            object,
            old,
            "/spec/volumeMode",
            errors,
        );
        if present(old, "/spec/nodeAffinity") {
            check::immutable(
                &path.field("nodeAffinity"),
                object,
                old,
                "/spec/nodeAffinity",
                errors,
            );
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut warnings = not_acted_on::warnings("", object, not_acted_on::PERSISTENT_VOLUME);
        if text(object, "/spec/persistentVolumeReclaimPolicy") == "Recycle" {
            warnings.push(
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."
                    .to_owned(),
            );
        }
        warnings
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![(
            local_volume::NODE_FIELD,
            local_volume::maker(object).to_owned(),
        )]
    }

    fn field_names(&self) -> &[&'static str] {
        &[local_volume::NODE_FIELD]
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let claim = match text(object, "/spec/claimRef/name") {
            "" => String::new(),
            name => format!("{}/{name}", text(object, "/spec/claimRef/namespace")),
        };
        let or_unset = |pointer: &str| match part(object, pointer) {
            Value::Null => "<unset>".to_owned(),
            value => plain(value),
        };
        vec![
            column::name(object),
            plain(part(object, "/spec/capacity/storage")).into(),
            access_mode::shown(items(object, "/spec/accessModes")).into(),
            text(object, "/spec/persistentVolumeReclaimPolicy").into(),
            phase(object).into(),
            claim.into(),
            storage_class(object).into(),
            or_unset("/spec/volumeAttributesClassName").into(),
            text(object, "/status/reason").into(),
            column::age(object, now),
            or_unset("/spec/volumeMode").into(),
        ]
    }
}

fn validate_capacity(path: &Path, capacity: &Value, errors: &mut FieldErrors) {
    let count = entries(capacity, "").count();
    if count == 0 {
        errors.required(path, "");
    }
    if !present(capacity, "/storage") || count > 1 {
        errors.not_supported(path, capacity.clone(), &["storage"]);
    }
    for (resource, amount) in entries(capacity, "") {
        if !check::is_positive(amount) {
            errors.invalid(
                &path.key(resource),
                plain(amount),
                "must be greater than zero",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        expect.assert_eq(&errors(&PersistentVolume, &format!("{{spec: {{{spec}}}}}")));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        check(
            "accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /a}",
            expect![[""]],
        );
        check(
            "capacity: {storage: 0}, persistentVolumeReclaimPolicy: x, local: {path: ''}, nfs: {server: \
             a, path: /b}",
            expect![[r#"
                spec.accessModes: Required value
                spec.capacity[storage]: Invalid value: "0": must be greater than zero
                spec.persistentVolumeReclaimPolicy: Unsupported value: "x": supported values: "Delete", "Recycle", "Retain"
                spec.local.path: Required value
                spec.nfs: Forbidden: may not specify more than 1 volume type
                spec.nodeAffinity: Required value: Local volume requires node affinity
            "#]],
        );
        check(
            "accessModes: [ReadWriteOnce]",
            expect![[r#"
                spec.capacity: Required value
                spec.capacity: Unsupported value: null: supported values: "storage"
                spec: Required value: must specify a volume type
            "#]],
        );
    }

    #[test]
    fn where_it_is_never_changes() {
        expect![[r#"
            spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation
            spec.volumeMode: Invalid value: "Block": field is immutable
        "#]]
        .assert_eq(&update_errors(
            &PersistentVolume,
            "{spec: {hostPath: {path: /a}, capacity: {storage: 1Gi}}}",
            "{spec: {hostPath: {path: /b}, capacity: {storage: 2Gi}, volumeMode: Block}}",
        ));
    }

    #[test]
    fn a_row_says_whose_it_is() {
        expect!["v|1Gi|RWO|Retain|Bound|a/data|fast|<unset>||60m|Filesystem"].assert_eq(&row(
            &PersistentVolume,
            "{metadata: {name: v}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], \
             storageClassName: fast, claimRef: {namespace: a, name: data}}, status: {phase: Bound}}",
        ));
    }
}
