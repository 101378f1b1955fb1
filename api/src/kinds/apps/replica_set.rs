//! ReplicaSet: a number of equal pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column,
        pod::template,
        value::{child, fill, number, part},
    },
};

/// The kind.
pub(crate) struct ReplicaSet;

static NAMES: Names = Names {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short: &["rs"],
    categories: &["all"],
    namespaced: true,
    definition: "io.k8s.api.apps.v1.ReplicaSet",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::count("Desired", "How many pods there should be"),
    column::count("Current", "How many pods there are"),
    column::count("Ready", "How many pods are ready"),
    column::AGE,
    column::wide("Containers", "Names of the containers in the template"),
    column::wide("Images", "Images of the containers in the template"),
    column::wide("Selector", "Labels of its pods"),
];

impl Kind for ReplicaSet {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Scale, Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            fill(spec, "replicas", 1);
            template::default(spec);
        }
        fill(object, "status", json!({ "replicas": 0 }));
    }

    fn new_status(&self, _object: &Value) -> Value {
        json!({ "replicas": 0 })
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        check::not_negative(
            &path.field("replicas"),
            part(object, "/spec/replicas"),
            errors,
        );
        check::not_negative(
            &path.field("minReadySeconds"),
            part(object, "/spec/minReadySeconds"),
            errors,
        );
        template::validate(object, "replicaset", "ReplicaSet", errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec").field("selector");
        check::immutable(&path, object, old, "/spec/selector", errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(object)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let replicas = number(object, "/status/replicas").unwrap_or(0);
        vec![("status.replicas", replicas.to_string())]
    }

    fn field_names(&self) -> &[&'static str] {
        &["status.replicas"]
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = |pointer: &str| Value::from(number(object, pointer).unwrap_or(0));
        let [containers, images] = column::containers(object);
        vec![
            column::name(object),
            count("/spec/replicas"),
            count("/status/replicas"),
            count("/status/readyReplicas"),
            column::age(object, now),
            containers,
            images,
            column::selector(part(object, "/spec/selector")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row};

    #[test]
    fn a_selector_matches_its_template() {
        expect![[r#"
            spec.template.metadata.labels: Invalid value: {"app":"b"}: `selector` does not match template `labels`
        "#]]
        .assert_eq(&errors(
            &ReplicaSet,
            "{spec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: b}}, \
             spec: {containers: [{name: a, image: i}]}}}}",
        ));
    }

    #[test]
    fn a_row_counts_pods() {
        expect!["web|3|2|1|60m|a,b|i:1,j|app=web,tier in (b,c)"].assert_eq(&row(
            &ReplicaSet,
            "{metadata: {name: web}, spec: {replicas: 3, selector: {matchLabels: {app: web}, \
             matchExpressions: [{key: tier, operator: In, values: [b, c]}]}, template: {spec: \
             {containers: [{name: a, image: 'i:1'}, {name: b, image: j}]}}}, status: {replicas: 2, \
             readyReplicas: 1}}",
        ));
    }
}
