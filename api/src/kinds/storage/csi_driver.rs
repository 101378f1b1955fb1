//! CSIDriver: what a CSI driver can and wants.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::GROUP;
use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        Column, Kind, Names, check, column, not_acted_on,
        value::{fill, find, items, number, part, plain, present, text, truth},
    },
};

/// The kind.
pub(crate) struct CsiDriver;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    short: &[],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.storage.v1.CSIDriver",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::truth("AttachRequired", "Whether volumes are attached to nodes"),
    column::truth("PodInfoOnMount", "Whether it is told of pods"),
    column::truth("StorageCapacity", "Whether pods wait for its capacity"),
    column::shown("TokenRequests", "Audiences of the tokens that it gets"),
    column::truth("RequiresRepublish", "Whether it is called again and again"),
    column::shown("Modes", "What volumes it makes"),
    column::AGE,
];

/// Seconds within which a token may live.
const TOKEN_SECONDS: (i64, i64) = (600, 1 << 32);

impl Kind for CsiDriver {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = find(object, "spec") else {
            return;
        };
        fill(spec, "attachRequired", true);
        fill(spec, "podInfoOnMount", false);
        fill(spec, "storageCapacity", false);
        fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if items(spec, "/volumeLifecycleModes").is_empty() {
            spec["volumeLifecycleModes"] = json!(["Persistent"]);
        }
        fill(spec, "requiresRepublish", false);
        fill(spec, "seLinuxMount", false);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        check::one_of(
            &path.field("fsGroupPolicy"),
            part(object, "/spec/fsGroupPolicy"),
            &["File", "None", "ReadWriteOnceWithFSType"],
            errors,
        );
        validate_tokens(&path.field("tokenRequests"), object, errors);
        for mode in items(object, "/spec/volumeLifecycleModes") {
            let path = path.field("volumeLifecycleModes");
            check::one_of(&path, mode, &["Persistent", "Ephemeral"], errors);
        }
        let period = part(object, "/spec/nodeAllocatableUpdatePeriodSeconds");
        if period.as_i64().is_some_and(|seconds| seconds < 10) {
            errors.invalid(
                &path.field("nodeAllocatableUpdatePeriodSeconds"),
                period.clone(),
                "must be greater than or equal to 10 seconds",
            );
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let spec = Path::root("spec");
        // The first is what Kubernetes calls it.
        for (shown, field) in [
            ("attachedRequired", "attachRequired"),
            ("volumeLifecycleModes", "volumeLifecycleModes"),
        ] {
            let pointer = format!("/spec/{field}");
            check::immutable(&spec.field(shown), object, old, &pointer, errors);
        }
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&NAMES)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let list = |pointer: &str, item: fn(&Value) -> String| {
            let all: Vec<_> = items(object, pointer).iter().map(item).collect();
            Value::from(all.join(","))
        };
        let tokens = if present(object, "/spec/tokenRequests") {
            list("/spec/tokenRequests", |one| {
                text(one, "/audience").to_owned()
            })
        } else {
            "<unset>".into()
        };
        vec![
            column::name(object),
            truth(object, "/spec/attachRequired").into(),
            truth(object, "/spec/podInfoOnMount").into(),
            truth(object, "/spec/storageCapacity").into(),
            tokens,
            truth(object, "/spec/requiresRepublish").into(),
            list("/spec/volumeLifecycleModes", plain),
            column::age(object, now),
        ]
    }
}

fn validate_tokens(path: &Path, object: &Value, errors: &mut FieldErrors) {
    let mut audiences = HashSet::new();
    for (index, request) in items(object, "/spec/tokenRequests").iter().enumerate() {
        let path = path.index(index);
        let audience = text(request, "/audience");
        if !audiences.insert(audience) {
            errors.push(
                &path.field("audience"),
                Cause::Duplicate,
                audience.into(),
                "",
            );
            continue;
        }
        let path = path.field("expirationSeconds");
        let (least, most) = TOKEN_SECONDS;
        match number(request, "/expirationSeconds") {
            Some(seconds) if seconds < least => {
                errors.invalid(
                    &path,
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            }
            Some(seconds) if seconds > most => errors.invalid(
                &path,
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            ),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row, update_errors};

    #[test]
    fn an_empty_one_is_complete() {
        expect![[r#"{"spec":{"attachRequired":true,"fsGroupPolicy":"ReadWriteOnceWithFSType","podInfoOnMount":false,"requiresRepublish":false,"seLinuxMount":false,"storageCapacity":false,"volumeLifecycleModes":["Persistent"]}}"#]]
            .assert_eq(&defaulted(&CsiDriver, "{spec: {}}"));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        expect![[r#"
            spec.fsGroupPolicy: Unsupported value: "x": supported values: "File", "None", "ReadWriteOnceWithFSType"
            spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes
            spec.tokenRequests[1].audience: Duplicate value: ""
            spec.volumeLifecycleModes: Unsupported value: "z": supported values: "Persistent", "Ephemeral"
            spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds
        "#]]
        .assert_eq(&errors(
            &CsiDriver,
            "{spec: {fsGroupPolicy: x, volumeLifecycleModes: [z], tokenRequests: [{audience: '', \
             expirationSeconds: 1}, {audience: ''}], nodeAllocatableUpdatePeriodSeconds: 9}}",
        ));
    }

    #[test]
    fn how_volumes_are_attached_never_changes() {
        expect![[r#"
            spec.attachedRequired: Invalid value: false: field is immutable
        "#]]
        .assert_eq(&update_errors(
            &CsiDriver,
            "{spec: {}}",
            "{spec: {attachRequired: false}}",
        ));
    }

    #[test]
    fn a_row_shows_what_it_wants() {
        expect!["d|true|false|false|<unset>|false|Persistent|60m"]
            .assert_eq(&row(&CsiDriver, "{metadata: {name: d}, spec: {}}"));
        expect!["d|true|false|false|a,b|false|Persistent|60m"].assert_eq(&row(
            &CsiDriver,
            "{metadata: {name: d}, spec: {tokenRequests: [{audience: a}, {audience: b}]}}",
        ));
    }
}
