//! Volumes of pods and sources of PersistentVolumes: their defaults, and what is wrong with them.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::environment;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check, persistent_volume_claim,
        value::{
            child, each, entries, fill, fill_text, find, items, number, part, present, put, text,
        },
    },
    name,
    quantity::Quantity,
};

/// The mode of files that are made of objects.
const MODE: i64 = 0o644;

/// What a source must say, where there is nothing else to check.
const REQUIRED: &[(&str, &[&str])] = &[
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cephfs", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("csi", &["driver"]),
    ("flexVolume", &["driver"]),
    ("gcePersistentDisk", &["pdName"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("hostPath", &["path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("local", &["path"]),
    ("nfs", &["server", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("quobyte", &["registry", "volume"]),
    ("rbd", &["monitors", "image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("secret", &["secretName"]),
    ("vsphereVolume", &["volumePath"]),
];

const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// The sources that a volume names.
fn sources(volume: &Value) -> Vec<(&String, &Value)> {
    entries(volume, "")
        .filter(|(field, value)| *field != "name" && !value.is_null())
        .collect()
}

/// Fills in a pod's volume; one that says nothing is an empty directory.
pub(crate) fn default(volume: &mut Value) {
    if sources(volume).is_empty() {
        put(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = find(volume, source) {
            fill(source, "defaultMode", MODE);
        }
    }
    default_source(volume);
    if let Some(projected) = find(volume, "projected") {
        for source in each(projected, "sources") {
            if let Some(token) = find(source, "serviceAccountToken") {
                fill(token, "expirationSeconds", 3600);
            }
            if let Some(api) = find(source, "downwardAPI") {
                default_field_refs(api);
            }
        }
    }
    if let Some(api) = find(volume, "downwardAPI") {
        default_field_refs(api);
    }
    if let Some(claim) = find(volume, "ephemeral")
        .and_then(|ephemeral| find(ephemeral, "volumeClaimTemplate"))
        .and_then(|template| child(template, "spec"))
    {
        persistent_volume_claim::default_spec(claim);
    }
}

/// Fills in the sources that pods' volumes and PersistentVolumes share.
pub(crate) fn default_source(owner: &mut Value) {
    if let Some(path) = find(owner, "hostPath") {
        fill(path, "type", "");
    }
    if let Some(target) = find(owner, "iscsi") {
        fill_text(target, "iscsiInterface", "default");
    }
    if let Some(disk) = find(owner, "azureDisk") {
        fill_text(disk, "cachingMode", "ReadWrite");
        fill_text(disk, "kind", "Shared");
        fill_text(disk, "fsType", "ext4");
        fill(disk, "readOnly", false);
    }
    if let Some(image) = find(owner, "rbd") {
        fill_text(image, "pool", "rbd");
        fill_text(image, "user", "admin");
        fill_text(image, "keyring", "/etc/ceph/keyring");
    }
    if let Some(volume) = find(owner, "scaleIO") {
        fill_text(volume, "storageMode", "ThinProvisioned");
        fill_text(volume, "fsType", "xfs");
    }
}

fn default_field_refs(api: &mut Value) {
    for item in each(api, "items") {
        if let Some(field) = find(item, "fieldRef") {
            fill_text(field, "apiVersion", "v1");
        }
    }
}

/// Checks a pod's volumes and gives their names.
pub(super) fn validate<'a>(
    path: &Path,
    volumes: &'a [Value],
    errors: &mut FieldErrors,
) -> HashSet<&'a str> {
    let mut seen = check::Seen::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let sources = sources(volume);
        if sources.is_empty() {
            errors.required(&path, "must specify a volume type");
        }
        for (index, (kind, source)) in sources.iter().enumerate() {
            let path = path.field(kind);
            if index > 0 {
                errors.forbidden(&path, "may not specify more than 1 volume type");
            } else {
                validate_source(&path, kind, source, errors);
            }
        }
        let given = text(volume, "/name");
        let path = path.field("name");
        if given.is_empty() {
            errors.required(&path, "");
        } else {
            check::problems(&path, given, name::label_problems(given), errors);
            check::unique(&path, given, &mut seen, errors);
        }
    }
    volumes.iter().map(|volume| text(volume, "/name")).collect()
}

/// Checks a source of some kind that stands at `path`.
pub(crate) fn validate_source(path: &Path, kind: &str, source: &Value, errors: &mut FieldErrors) {
    let required = REQUIRED.iter().find(|(known, _)| *known == kind);
    for field in required.into_iter().flat_map(|(_, fields)| *fields) {
        let missing = match &source[*field] {
            Value::Array(list) => list.is_empty(),
            Value::String(text) => text.is_empty(),
            other => other.is_null(),
        };
        if missing {
            errors.required(&path.field(field), "");
        }
    }
    match kind {
        "hostPath" => {
            no_steps_back(&path.field("path"), text(source, "/path"), errors);
            let of = part(source, "/type");
            check::one_of(&path.field("type"), of, HOST_PATH_TYPES, errors);
        }
        "local" => no_steps_back(&path.field("path"), text(source, "/path"), errors),
        "nfs" => {
            let given = text(source, "/path");
            if !given.is_empty() && !given.starts_with('/') {
                errors.invalid(&path.field("path"), given, "must be an absolute path");
            }
        }
        "emptyDir" => {
            let limit = part(source, "/sizeLimit");
            if crate::kinds::value::plain(limit)
                .parse::<Quantity>()
                .is_ok_and(|limit| limit.nanos() < 0)
            {
                errors.forbidden(
                    &path.field("sizeLimit"),
                    "SizeLimit field must be a valid resource quantity",
                );
            }
        }
        "iscsi" => {
            let lun = number(source, "/lun").unwrap_or(0);
            if !(0..=255).contains(&lun) {
                let detail = "must be between 0 and 255, inclusive";
                errors.invalid(&path.field("lun"), lun, detail);
            }
        }
        "gitRepo" => {
            let given = text(source, "/directory");
            validate_file(&path.field("directory"), given, false, errors);
        }
        "secret" | "configMap" => {
            if kind == "configMap" && text(source, "/name").is_empty() {
                errors.required(&path.field("name"), "");
            }
            validate_mode(path, "defaultMode", source, errors);
            validate_keys(path, source, errors);
        }
        "downwardAPI" => {
            validate_mode(path, "defaultMode", source, errors);
            validate_downward(path, source, errors);
        }
        "projected" => validate_projected(path, source, errors),
        "ephemeral" => {
            let path = path.field("volumeClaimTemplate");
            if present(source, "/volumeClaimTemplate") {
                let spec = part(source, "/volumeClaimTemplate/spec");
                persistent_volume_claim::validate_spec(&path.field("spec"), spec, errors);
            } else {
                errors.required(&path, "");
            }
        }
        _ => {}
    }
}

fn validate_projected(path: &Path, source: &Value, errors: &mut FieldErrors) {
    validate_mode(path, "defaultMode", source, errors);
    let mut files = HashSet::new();
    for (index, one) in items(source, "/sources").iter().enumerate() {
        let path = path.field("sources").index(index);
        let sources = sources(one);
        for (index, (kind, source)) in sources.iter().enumerate() {
            let path = path.field(kind);
            if index > 0 {
                errors.forbidden(&path, "may not specify more than 1 volume type per source");
                continue;
            }
            match kind.as_str() {
                "secret" | "configMap" => {
                    if text(source, "/name").is_empty() {
                        errors.required(&path.field("name"), "");
                    }
                    validate_keys(&path, source, errors);
                }
                "downwardAPI" => validate_downward(&path, source, errors),
                "serviceAccountToken" => validate_token(&path, source, errors),
                _ => {}
            }
            let own = text(source, "/path");
            let items = items(source, "/items").iter();
            let paths = items.map(|item| text(item, "/path"));
            for file in paths.chain([own]).filter(|file| !file.is_empty()) {
                if !files.insert(file.to_owned()) {
                    errors.invalid(&path, file, "conflicting duplicate paths");
                }
            }
        }
    }
}

fn validate_token(path: &Path, token: &Value, errors: &mut FieldErrors) {
    const SHORTEST: i64 = 600;
    const LONGEST: i64 = 1 << 32;
    let seconds = number(token, "/expirationSeconds").unwrap_or(SHORTEST);
    let seconds_path = path.field("expirationSeconds");
    if seconds < SHORTEST {
        let detail = "may not specify a duration less than 10 minutes";
        errors.invalid(&seconds_path, seconds, detail);
    }
    if seconds > LONGEST {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.invalid(&seconds_path, seconds, detail);
    }
    let given = text(token, "/path");
    if given.is_empty() {
        errors.required(&path.field("path"), "");
    }
    validate_file(&path.field("path"), given, true, errors);
}

fn validate_keys(path: &Path, source: &Value, errors: &mut FieldErrors) {
    for (index, item) in items(source, "/items").iter().enumerate() {
        let path = path.field("items").index(index);
        for (field, pointer) in [("key", "/key"), ("path", "/path")] {
            if text(item, pointer).is_empty() {
                errors.required(&path.field(field), "");
            }
        }
        validate_file(&path.field("path"), text(item, "/path"), true, errors);
        validate_mode(&path, "mode", item, errors);
    }
}

fn validate_downward(path: &Path, source: &Value, errors: &mut FieldErrors) {
    for (index, item) in items(source, "/items").iter().enumerate() {
        let path = path.field("items").index(index);
        let given = text(item, "/path");
        if given.is_empty() {
            errors.required(&path.field("path"), "");
        }
        validate_file(&path.field("path"), given, true, errors);
        match (
            present(item, "/fieldRef"),
            present(item, "/resourceFieldRef"),
        ) {
            (true, true) => errors.invalid(
                &path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (true, false) => environment::validate_field(
                &path.field("fieldRef"),
                part(item, "/fieldRef"),
                environment::FILE_FIELDS,
                errors,
            ),
            (false, true) => environment::validate_resource(
                &path.field("resourceFieldRef"),
                part(item, "/resourceFieldRef"),
                true,
                errors,
            ),
            (false, false) => {
                errors.required(&path, "one of fieldRef and resourceFieldRef is required");
            }
        }
        validate_mode(&path, "mode", item, errors);
    }
}

fn validate_mode(path: &Path, field: &str, owner: &Value, errors: &mut FieldErrors) {
    let mode = owner.get(field).unwrap_or(&Value::Null);
    if mode
        .as_i64()
        .is_some_and(|mode| !(0..=0o777).contains(&mode))
    {
        errors.invalid(
            &path.field(field),
            mode.clone(),
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

/// A path below some directory; `reserved`: names that start with two dots are the volume's own.
pub(super) fn validate_file(path: &Path, given: &str, reserved: bool, errors: &mut FieldErrors) {
    if given.starts_with('/') {
        errors.invalid(path, given, "must be a relative path");
    }
    no_steps_back(path, given, errors);
    if reserved && given.starts_with("..") && !given.starts_with("../") && given != ".." {
        errors.invalid(path, given, "must not start with '..'");
    }
}

/// A path that stays below where it starts.
fn no_steps_back(path: &Path, given: &str, errors: &mut FieldErrors) {
    if given.split('/').any(|step| step == "..") {
        errors.invalid(path, given, "must not contain '..'");
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::kinds::{pod::Pod, tests::errors};

    #[track_caller]
    fn check(volume: &str, expect: Expect) {
        let yaml = format!(
            "{{spec: {{containers: [{{name: a, image: i}}], volumes: [{{name: v, {volume}}}]}}}}"
        );
        expect.assert_eq(&errors(&Pod, &yaml));
    }

    #[test]
    fn a_source_says_where_it_is() {
        check("hostPath: {path: /a, type: Directory}", expect![[""]]);
        check(
            "hostPath: {path: /a/../b, type: Tape}",
            expect![[r#"
                spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..'
                spec.volumes[0].hostPath.type: Unsupported value: "Tape": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
            "#]],
        );
        check(
            "nfs: {path: a}",
            expect![[r#"
                spec.volumes[0].nfs.server: Required value
                spec.volumes[0].nfs.path: Invalid value: "a": must be an absolute path
            "#]],
        );
        check(
            "persistentVolumeClaim: {}, secret: {}",
            expect![[r#"
                spec.volumes[0].persistentVolumeClaim.claimName: Required value
                spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type
            "#]],
        );
    }

    #[test]
    fn files_of_objects_stay_in_their_volume() {
        check(
            "configMap: {name: m, defaultMode: 1000, items: [{key: a, path: ../a}, {path: /b}]}",
            expect![[r#"
                spec.volumes[0].configMap.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive
                spec.volumes[0].configMap.items[0].path: Invalid value: "../a": must not contain '..'
                spec.volumes[0].configMap.items[1].key: Required value
                spec.volumes[0].configMap.items[1].path: Invalid value: "/b": must be a relative path
            "#]],
        );
        check(
            "downwardAPI: {items: [{path: a}, {path: b, fieldRef: {fieldPath: spec.nodeName}}]}",
            expect![[r#"
                spec.volumes[0].downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required
                spec.volumes[0].downwardAPI.items[1].fieldRef.fieldPath: Unsupported value: "spec.nodeName": supported values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"
            "#]],
        );
    }

    #[test]
    fn a_projection_writes_each_file_once() {
        check(
            "projected: {sources: [{secret: {name: s, items: [{key: a, path: a}]}}, {serviceAccountToken: \
             {path: a, expirationSeconds: 1}}, {secret: {}, configMap: {}}]}",
            expect![[r#"
                spec.volumes[0].projected.sources[1].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes
                spec.volumes[0].projected.sources[1].serviceAccountToken: Invalid value: "a": conflicting duplicate paths
                spec.volumes[0].projected.sources[2].configMap.name: Required value
                spec.volumes[0].projected.sources[2].secret: Forbidden: may not specify more than 1 volume type per source
            "#]],
        );
    }

    #[test]
    fn a_claim_of_the_pods_own_is_a_claim() {
        check(
            "ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}",
            expect![[r#"
                spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value
            "#]],
        );
    }
}
