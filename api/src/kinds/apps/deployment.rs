//! Deployment: pods that are replaced step by step when their template changes.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column,
        pod::template,
        value::{child, fill, fill_text, number, part, present, text},
        write,
    },
};

/// The kind.
pub(crate) struct Deployment;

static NAMES: Names = Names {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short: &["deploy"],
    categories: &["all"],
    namespaced: true,
    definition: "io.k8s.api.apps.v1.Deployment",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown(
        "Ready",
        "How many pods are ready, of how many there should be",
    ),
    column::count("Up-to-date", "How many pods have the newest template"),
    column::count("Available", "How many pods have been ready for long enough"),
    column::AGE,
    column::wide("Containers", "Names of the containers in the template"),
    column::wide("Images", "Images of the containers in the template"),
    column::wide("Selector", "Labels of its pods"),
];

impl Kind for Deployment {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Scale, Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", write::empty());
        let Some(spec) = child(object, "spec") else {
            return;
        };
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        fill(spec, "progressDeadlineSeconds", 600);
        if let Some(strategy) = child(spec, "strategy") {
            fill_text(strategy, "type", "RollingUpdate");
            if text(strategy, "/type") == "RollingUpdate"
                && let Some(rolling) = child(strategy, "rollingUpdate")
            {
                fill(rolling, "maxUnavailable", "25%");
                fill(rolling, "maxSurge", "25%");
            }
        }
        template::default(spec);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
            let value = part(object, "/spec").get(field).unwrap_or(&Value::Null);
            check::not_negative(&path.field(field), value, errors);
        }
        let deadline = part(object, "/spec/progressDeadlineSeconds");
        let deadline_path = path.field("progressDeadlineSeconds");
        check::not_negative(&deadline_path, deadline, errors);
        if deadline
            .as_i64()
            .is_some_and(|seconds| seconds <= number(object, "/spec/minReadySeconds").unwrap_or(0))
        {
            errors.invalid(
                &deadline_path,
                deadline.clone(),
                "must be greater than minReadySeconds",
            );
        }
        validate_strategy(
            &path.field("strategy"),
            part(object, "/spec/strategy"),
            errors,
        );
        template::validate(object, "deployment", "ReplicaSet", errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec").field("selector");
        check::immutable(&path, object, old, "/spec/selector", errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(object)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = |pointer: &str| number(object, pointer).unwrap_or(0);
        let [containers, images] = column::containers(object);
        let ready = format!(
            "{}/{}",
            count("/status/readyReplicas"),
            count("/spec/replicas")
        );
        vec![
            column::name(object),
            ready.into(),
            count("/status/updatedReplicas").into(),
            count("/status/availableReplicas").into(),
            column::age(object, now),
            containers,
            images,
            column::selector(part(object, "/spec/selector")),
        ]
    }
}

fn validate_strategy(path: &Path, strategy: &Value, errors: &mut FieldErrors) {
    let rolling = path.field("rollingUpdate");
    match text(strategy, "/type") {
        "Recreate" => {
            if present(strategy, "/rollingUpdate") {
                errors.forbidden(
                    &rolling,
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
        }
        "RollingUpdate" => {
            let unavailable = part(strategy, "/rollingUpdate/maxUnavailable");
            let surge = part(strategy, "/rollingUpdate/maxSurge");
            check::share(&rolling.field("maxUnavailable"), unavailable, errors);
            check::share(&rolling.field("maxSurge"), surge, errors);
            if check::amount(unavailable) == Some(0) && check::amount(surge) == Some(0) {
                errors.invalid(
                    &rolling.field("maxUnavailable"),
                    unavailable.clone(),
                    "may not be 0 when `maxSurge` is 0",
                );
            }
            check::at_most_all(&rolling.field("maxUnavailable"), unavailable, errors);
        }
        other => {
            errors.not_supported(&path.field("type"), other, &["Recreate", "RollingUpdate"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::kinds::tests::{defaulted, errors, read, row, update_errors};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        let yaml = format!(
            "{{spec: {{{spec}, selector: {{matchLabels: {{app: a}}}}, template: {{metadata: \
             {{labels: {{app: a}}}}, spec: {{containers: [{{name: a, image: i}}]}}}}}}}}"
        );
        expect.assert_eq(&errors(&Deployment, &yaml));
    }

    #[test]
    fn a_template_is_enough() {
        expect![[r#"{"spec":{"progressDeadlineSeconds":600,"replicas":1,"revisionHistoryLimit":10,"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"},"template":{"metadata":{},"spec":{"containers":[{"image":"i:1","imagePullPolicy":"IfNotPresent","name":"a","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}},"status":{}}"#]]
        .assert_eq(&defaulted(
            &Deployment,
            "{spec: {template: {spec: {containers: [{name: a, image: 'i:1'}]}}}}",
        ));
    }

    #[test]
    fn a_rolling_update_can_move() {
        check(
            "strategy: {rollingUpdate: {maxUnavailable: 1}}",
            expect![[""]],
        );
        check(
            "strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 0%}}, replicas: -1",
            expect![[r#"
                spec.replicas: Invalid value: -1: must be greater than or equal to 0
                spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0
            "#]],
        );
        check(
            "strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}, minReadySeconds: 600",
            expect![[r#"
                spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds
                spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'
            "#]],
        );
    }

    #[test]
    fn everything_wrong_with_the_template_is_said_at_once() {
        expect![[r#"
            spec.selector: Required value
            spec.template.spec.containers[0].image: Required value
            spec.template.spec.containers[1].name: Duplicate value: "a"
            spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
        "#]]
        .assert_eq(&errors(
            &Deployment,
            "{spec: {template: {spec: {restartPolicy: Never, containers: [{name: a}, {name: a, \
             image: i}]}}}}",
        ));
    }

    #[test]
    fn the_selector_never_changes() {
        expect![[r#"
            spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable
        "#]]
        .assert_eq(&update_errors(
            &Deployment,
            "{spec: {selector: {matchLabels: {app: a}}}}",
            "{spec: {selector: {matchLabels: {app: b}}}}",
        ));
    }

    #[test]
    fn only_a_changed_spec_raises_the_generation_and_only_status_writes_change_status() {
        let old = read("{metadata: {generation: 3}, spec: {replicas: 1}, status: {replicas: 1}}");
        let mut same = read("{metadata: {}, spec: {replicas: 1}, status: {replicas: 9}}");
        Deployment.prepare_update(&mut same, &old);
        assert_eq!(same, old);
        let mut other = read("{spec: {replicas: 2}}");
        Deployment.prepare_update(&mut other, &old);
        assert_eq!(other["metadata"]["generation"], json!(4));
        let mut status = read("{spec: {replicas: 2}, status: {replicas: 9}}");
        Deployment.prepare_status(&mut status, &old);
        assert_eq!(status["spec"]["replicas"], json!(1));
        assert_eq!(status["status"]["replicas"], json!(9));
    }

    #[test]
    fn a_row_counts_pods() {
        expect!["web|1/2|2|1|60m|a|i|app=web"].assert_eq(&row(
            &Deployment,
            "{metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, \
             template: {spec: {containers: [{name: a, image: i}]}}}, status: {readyReplicas: 1, \
             updatedReplicas: 2, availableReplicas: 1}}",
        ));
    }
}
