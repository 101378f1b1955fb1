//! StatefulSet: pods with names and volumes of their own, made and replaced in order.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column, persistent_volume_claim,
        pod::template,
        value::{child, each, fill, fill_text, items, number, part, present, put, text},
    },
};

/// The kind.
pub(crate) struct StatefulSet;

static NAMES: Names = Names {
    group: "apps",
    version: "v1",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short: &["sts"],
    categories: &["all"],
    namespaced: true,
    definition: "io.k8s.api.apps.v1.StatefulSet",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown(
        "Ready",
        "How many pods are ready, of how many there should be",
    ),
    column::AGE,
    column::wide("Containers", "Names of the containers in the template"),
    column::wide("Images", "Images of the containers in the template"),
];

/// What of the spec may change.
const CHANGEABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

impl Kind for StatefulSet {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Scale, Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", self.new_status(&Value::Null));
        let Some(spec) = child(object, "spec") else {
            return;
        };
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        fill_text(spec, "podManagementPolicy", "OrderedReady");
        if let Some(strategy) = child(spec, "updateStrategy") {
            fill_text(strategy, "type", "RollingUpdate");
            if text(strategy, "/type") == "RollingUpdate"
                && let Some(rolling) = child(strategy, "rollingUpdate")
            {
                fill(rolling, "partition", 0);
            }
        }
        if let Some(policy) = child(spec, "persistentVolumeClaimRetentionPolicy") {
            fill_text(policy, "whenDeleted", "Retain");
            fill_text(policy, "whenScaled", "Retain");
        }
        for claim in each(spec, "volumeClaimTemplates") {
            put(claim, "apiVersion", "v1".into());
            put(claim, "kind", "PersistentVolumeClaim".into());
            persistent_volume_claim::default(claim);
        }
        template::default(spec);
    }

    fn new_status(&self, _object: &Value) -> Value {
        json!({ "replicas": 0, "availableReplicas": 0 })
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        let policy = text(spec, "/podManagementPolicy");
        if !["OrderedReady", "Parallel"].contains(&policy) {
            errors.invalid(
                &path.field("podManagementPolicy"),
                policy,
                "must be 'OrderedReady' or 'Parallel'",
            );
        }
        validate_strategy(&path.field("updateStrategy"), spec, errors);
        let retention = path.field("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            let given = part(spec, "/persistentVolumeClaimRetentionPolicy").get(field);
            let given = given.unwrap_or(&Value::Null);
            check::one_of(
                &retention.field(field),
                given,
                &["Delete", "Retain"],
                errors,
            );
        }
        check::counts(
            object,
            "spec",
            &["replicas", "minReadySeconds", "revisionHistoryLimit"],
            errors,
        );
        check::not_negative(
            &path.field("ordinals").field("start"),
            part(spec, "/ordinals/start"),
            errors,
        );
        template::validate(&with_claims(object), "statefulset", "StatefulSet", errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let mut wanted = part(object, "/spec").clone();
        for field in CHANGEABLE {
            let old = part(old, "/spec").get(field).cloned();
            put(&mut wanted, field, old.unwrap_or_default());
        }
        if &wanted != part(old, "/spec") {
            errors.forbidden(
                &Path::root("spec"),
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                 'minReadySeconds' are forbidden",
            );
        }
    }

    fn validate_status(&self, object: &Value, _old: &Value, errors: &mut FieldErrors) {
        check::replica_counts(
            object,
            &[
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
            ],
            errors,
        );
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(object)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = |pointer: &str| number(object, pointer).unwrap_or(0);
        let ready = format!(
            "{}/{}",
            count("/status/readyReplicas"),
            count("/spec/replicas")
        );
        let [containers, images] = column::containers(object);
        vec![
            column::name(object),
            ready.into(),
            column::age(object, now),
            containers,
            images,
        ]
    }
}

/// The set with volumes in its template for the claims that its pods get.
fn with_claims(object: &Value) -> Value {
    let mut object = object.clone();
    let names: Vec<_> = items(&object, "/spec/volumeClaimTemplates")
        .iter()
        .map(|claim| text(claim, "/metadata/name").to_owned())
        .collect();
    if let Some(pod) = object
        .pointer_mut("/spec/template/spec")
        .filter(|pod| pod.is_object())
    {
        fill(pod, "volumes", Vec::<Value>::new());
        for name in names {
            let known = items(pod, "/volumes")
                .iter()
                .any(|volume| text(volume, "/name") == name);
            if !known && let Some(volumes) = pod["volumes"].as_array_mut() {
                volumes.push(json!({
                    "name": name,
                    "persistentVolumeClaim": { "claimName": name },
                }));
            }
        }
    }
    object
}

fn validate_strategy(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let rolling = path.field("rollingUpdate");
    match text(spec, "/updateStrategy/type") {
        "" => errors.required(path, ""),
        "OnDelete" => {
            let given = part(spec, "/updateStrategy/rollingUpdate");
            if !given.is_null() {
                errors.invalid(
                    &rolling,
                    given.clone(),
                    "only allowed for updateStrategy 'RollingUpdate'",
                );
            }
        }
        "RollingUpdate" => {
            check::not_negative(
                &rolling.field("partition"),
                part(spec, "/updateStrategy/rollingUpdate/partition"),
                errors,
            );
            let most = part(spec, "/updateStrategy/rollingUpdate/maxUnavailable");
            let path = rolling.field("maxUnavailable");
            check::share(&path, most, errors);
            check::at_most_all(&path, most, errors);
            if present(spec, "/updateStrategy/rollingUpdate/maxUnavailable")
                && check::amount(most) == Some(0)
            {
                errors.invalid(&path, most.clone(), "cannot be 0");
            }
        }
        _ => errors.invalid(
            path,
            part(spec, "/updateStrategy").clone(),
            "must be 'RollingUpdate' or 'OnDelete'",
        ),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, read, row, update_errors};

    const WHOLE: &str = "selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, \
                         spec: {containers: [{name: a, image: i}]}}";

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        expect.assert_eq(&errors(
            &StatefulSet,
            &format!("{{spec: {{{spec}, {WHOLE}}}}}"),
        ));
    }

    #[track_caller]
    fn check_update(spec: &str, expect: Expect) {
        expect.assert_eq(&update_errors(
            &StatefulSet,
            &format!("{{spec: {{serviceName: a, {WHOLE}}}}}"),
            &format!("{{spec: {{{spec}, {WHOLE}}}}}"),
        ));
    }

    #[test]
    fn its_pods_come_in_order_and_its_claims_stay() {
        expect![[r#"{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Retain","whenScaled":"Retain"},"podManagementPolicy":"OrderedReady","replicas":1,"revisionHistoryLimit":10,"updateStrategy":{"rollingUpdate":{"partition":0},"type":"RollingUpdate"},"volumeClaimTemplates":[{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"d"},"spec":{"volumeMode":"Filesystem"},"status":{"phase":"Pending"}}]},"status":{"availableReplicas":0,"replicas":0}}"#]]
        .assert_eq(&defaulted(
            &StatefulSet,
            "{spec: {volumeClaimTemplates: [{metadata: {name: d}}]}}",
        ));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        check(
            "podManagementPolicy: x, replicas: -1, updateStrategy: {type: OnDelete, rollingUpdate: \
             {partition: 1}}, ordinals: {start: -1}, persistentVolumeClaimRetentionPolicy: {whenScaled: x}",
            expect![[r#"
                spec.podManagementPolicy: Invalid value: "x": must be 'OrderedReady' or 'Parallel'
                spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy 'RollingUpdate'
                spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "x": supported values: "Delete", "Retain"
                spec.replicas: Invalid value: -1: must be greater than or equal to 0
                spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0
            "#]],
        );
    }

    #[test]
    fn its_containers_mount_its_claims() {
        expect![[r#"
            spec.template.spec.containers[0].volumeMounts[1].name: Not found: "x"
        "#]]
        .assert_eq(&errors(
            &StatefulSet,
            "{spec: {selector: {matchLabels: {app: a}}, volumeClaimTemplates: [{metadata: {name: d}}], \
             template: {metadata: {labels: {app: a}}, spec: {containers: [{name: a, image: i, \
             volumeMounts: [{name: d, mountPath: /d}, {name: x, mountPath: /x}]}]}}}}",
        ));
    }

    #[test]
    fn its_name_and_its_claims_never_change() {
        check_update("serviceName: a, replicas: 5", expect![[""]]);
        check_update(
            "serviceName: b",
            expect![[r#"
                spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden
            "#]],
        );
    }

    #[test]
    fn a_status_counts_no_more_than_there_are() {
        let object = read("{status: {replicas: 1, readyReplicas: 2, currentReplicas: -1}}");
        let mut errors = FieldErrors::default();
        StatefulSet.validate_status(&object, &Value::Null, &mut errors);
        let lines: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
        expect![[r#"
            status.currentReplicas: Invalid value: -1: must be greater than or equal to 0
            status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_row_counts_pods() {
        expect!["db|1/3|60m|a|i"].assert_eq(&row(
            &StatefulSet,
            &format!(
                "{{metadata: {{name: db}}, spec: {{replicas: 3, {WHOLE}}}, status: {{readyReplicas: 1}}}}"
            ),
        ));
    }
}
