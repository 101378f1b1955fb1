//! ReplicationController: a number of equal pods, as it was before ReplicaSets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Column, Kind, Names, Subresource, check, column,
    pod::template,
    value::{child, entries, fill, number, part, plain, put},
};
use crate::field::{FieldErrors, Path};

/// The kind.
pub(crate) struct ReplicationController;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short: &["rc"],
    categories: &["all"],
    namespaced: true,
    definition: "io.k8s.api.core.v1.ReplicationController",
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

impl Kind for ReplicationController {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Scale, Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        let labels = part(object, "/spec/template/metadata/labels").clone();
        let says_something = entries(&labels, "").next().is_some();
        if says_something
            && entries(object, "/metadata/labels").next().is_none()
            && let Some(metadata) = child(object, "metadata")
        {
            put(metadata, "labels", labels.clone());
        }
        if let Some(spec) = child(object, "spec") {
            if says_something && entries(spec, "/selector").next().is_none() {
                put(spec, "selector", labels);
            }
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
        check::counts(object, "spec", &["minReadySeconds"], errors);
        if entries(object, "/spec/selector").next().is_none() {
            errors.required(&path.field("selector"), "");
        }
        check::counts(object, "spec", &["replicas"], errors);
        let path = path.field("template");
        let template = part(object, "/spec/template");
        if template.is_null() {
            errors.required(&path, "");
            return;
        }
        let labels = part(template, "/metadata/labels");
        let selects =
            entries(object, "/spec/selector").all(|(key, value)| labels.get(key) == Some(value));
        if !selects {
            errors.invalid(
                &path.field("metadata").field("labels"),
                labels.clone(),
                "`selector` does not match template `labels`",
            );
        }
        template::validate_template(&path, template, errors);
        template::validate_endless(&path, template, "ReplicationController", errors);
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
        let selector: Vec<_> = entries(object, "/spec/selector")
            .map(|(key, value)| format!("{key}={}", plain(value)))
            .collect();
        vec![
            column::name(object),
            count("/spec/replicas"),
            count("/status/replicas"),
            count("/status/readyReplicas"),
            column::age(object, now),
            containers,
            images,
            column::or_none(&selector.join(",")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row};

    #[test]
    fn its_template_says_what_it_selects() {
        expect![[r#"{"metadata":{"labels":{"app":"a"}},"spec":{"replicas":1,"selector":{"app":"a"},"template":{"metadata":{"labels":{"app":"a"}},"spec":{"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}},"status":{"replicas":0}}"#]]
        .assert_eq(&defaulted(
            &ReplicationController,
            "{metadata: {}, spec: {template: {metadata: {labels: {app: a}}}}}",
        ));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        expect![[r#"
            spec.selector: Required value
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.template: Required value
        "#]]
        .assert_eq(&errors(&ReplicationController, "{spec: {replicas: -1}}"));
        expect![[r#"
            spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not match template `labels`
            spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
        "#]]
        .assert_eq(&errors(
            &ReplicationController,
            "{spec: {selector: {app: b}, template: {metadata: {labels: {app: a}}, spec: {restartPolicy: \
             Never, containers: [{name: a, image: i}]}}}}",
        ));
    }

    #[test]
    fn a_row_counts_pods() {
        expect!["web|2|1|0|60m|a|i|app=a"].assert_eq(&row(
            &ReplicationController,
            "{metadata: {name: web}, spec: {replicas: 2, template: {metadata: {labels: {app: a}}, spec: \
             {containers: [{name: a, image: i}]}}}, status: {replicas: 1}}",
        ));
    }
}
