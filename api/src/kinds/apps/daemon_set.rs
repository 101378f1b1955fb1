//! DaemonSet: a pod on every node that fits.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column,
        pod::template,
        value::{child, entries, fill, fill_text, number, part, plain, put, text},
        write,
    },
};

/// The kind.
pub(crate) struct DaemonSet;

static NAMES: Names = Names {
    group: "apps",
    version: "v1",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short: &["ds"],
    categories: &["all"],
    namespaced: true,
    definition: "io.k8s.api.apps.v1.DaemonSet",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::count("Desired", "How many nodes should run its pod"),
    column::count("Current", "How many nodes run its pod"),
    column::count("Ready", "On how many nodes the pod is ready"),
    column::count("Up-to-date", "How many pods have the newest template"),
    column::count("Available", "How many pods have been ready for long enough"),
    column::shown("Node Selector", "Labels of the nodes that it is for"),
    column::AGE,
    column::wide("Containers", "Names of the containers in the template"),
    column::wide("Images", "Images of the containers in the template"),
    column::wide("Selector", "Labels of its pods"),
];

const COUNTS: &[&str] = &[
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
];

/// Counts the templates that a DaemonSet has had; the server writes it.
const TEMPLATES: &str = "deprecated.daemonset.template.generation";

impl Kind for DaemonSet {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", self.new_status(&Value::Null));
        let Some(spec) = child(object, "spec") else {
            return;
        };
        fill(spec, "revisionHistoryLimit", 10);
        if let Some(strategy) = child(spec, "updateStrategy") {
            fill_text(strategy, "type", "RollingUpdate");
            if text(strategy, "/type") == "RollingUpdate"
                && let Some(rolling) = child(strategy, "rollingUpdate")
            {
                fill(rolling, "maxUnavailable", 1);
                fill(rolling, "maxSurge", 0);
            }
        }
        template::default(spec);
    }

    fn new_status(&self, _object: &Value) -> Value {
        json!({
            "currentNumberScheduled": 0,
            "desiredNumberScheduled": 0,
            "numberMisscheduled": 0,
            "numberReady": 0,
        })
    }

    fn prepare_create(&self, object: &mut Value) {
        put(object, "status", self.new_status(object));
        write::start_generation(object);
        count_templates(object, templates(object).max(1));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        write::keep_status(object, old);
        write::count_generation(object, old, self.counted());
        let another = part(object, "/spec/template") != part(old, "/spec/template");
        count_templates(object, templates(old).max(1) + i64::from(another));
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        template::validate(object, "daemonset", "DaemonSet", errors);
        check::counts(
            object,
            "spec",
            &["minReadySeconds", "revisionHistoryLimit"],
            errors,
        );
        let path = Path::root("spec").field("updateStrategy");
        validate_strategy(&path, part(object, "/spec/updateStrategy"), errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec").field("selector");
        check::immutable(&path, object, old, "/spec/selector", errors);
    }

    fn validate_status(&self, object: &Value, _old: &Value, errors: &mut FieldErrors) {
        check::counts(object, "status", COUNTS, errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(object)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = |pointer: &str| Value::from(number(object, pointer).unwrap_or(0));
        let nodes: Vec<_> = entries(object, "/spec/template/spec/nodeSelector")
            .map(|(key, value)| format!("{key}={}", plain(value)))
            .collect();
        let [containers, images] = column::containers(object);
        vec![
            column::name(object),
            count("/status/desiredNumberScheduled"),
            count("/status/currentNumberScheduled"),
            count("/status/numberReady"),
            count("/status/updatedNumberScheduled"),
            count("/status/numberAvailable"),
            column::or_none(&nodes.join(",")),
            column::age(object, now),
            containers,
            images,
            column::selector(part(object, "/spec/selector")),
        ]
    }
}

fn templates(object: &Value) -> i64 {
    let annotation = part(object, "/metadata/annotations").get(TEMPLATES);
    let number = annotation.and_then(Value::as_str);
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn count_templates(object: &mut Value, number: i64) {
    if let Some(metadata) = child(object, "metadata") {
        if !metadata["annotations"].is_object() {
            put(metadata, "annotations", json!({}));
        }
        metadata["annotations"][TEMPLATES] = number.to_string().into();
    }
}

fn validate_strategy(path: &Path, strategy: &Value, errors: &mut FieldErrors) {
    match text(strategy, "/type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let path = path.field("rollingUpdate");
            let unavailable = part(strategy, "/rollingUpdate/maxUnavailable");
            let surge = part(strategy, "/rollingUpdate/maxSurge");
            for (field, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
                check::share(&path.field(field), value, errors);
                check::at_most_all(&path.field(field), value, errors);
            }
            let some = |value| check::amount(value).unwrap_or(0) != 0;
            match (some(unavailable), some(surge)) {
                (true, true) => errors.invalid(
                    &path.field("maxSurge"),
                    surge.clone(),
                    "may not be set when maxUnavailable is non-zero",
                ),
                (false, false) => errors.required(
                    &path.field("maxUnavailable"),
                    "cannot be 0 when maxSurge is 0",
                ),
                _ => {}
            }
        }
        _ => errors.not_supported(path, strategy.clone(), &["RollingUpdate", "OnDelete"]),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    const WHOLE: &str = "selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, \
                         spec: {nodeSelector: {b: c}, containers: [{name: a, image: i}]}}";

    #[track_caller]
    fn check(strategy: &str, expect: Expect) {
        let yaml = format!("{{spec: {{updateStrategy: {{{strategy}}}, {WHOLE}}}}}");
        expect.assert_eq(&errors(&DaemonSet, &yaml));
    }

    #[test]
    fn an_update_goes_one_way() {
        check("", expect![[""]]);
        check("type: OnDelete", expect![[""]]);
        check(
            "type: x",
            expect![[r#"
                spec.updateStrategy: Unsupported value: {"type":"x"}: supported values: "RollingUpdate", "OnDelete"
            "#]],
        );
        check(
            "rollingUpdate: {maxSurge: 1}",
            expect![[r#"
                spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero
            "#]],
        );
        check(
            "rollingUpdate: {maxUnavailable: 0}",
            expect![[r#"
                spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0
            "#]],
        );
    }

    #[test]
    fn its_selector_never_changes() {
        expect![[r#"
            spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable
        "#]]
        .assert_eq(&update_errors(
            &DaemonSet,
            "{spec: {selector: {matchLabels: {app: a}}}}",
            "{spec: {selector: {matchLabels: {app: b}}}}",
        ));
    }

    #[test]
    fn its_templates_are_counted() {
        let set = |image: &str, number: &str| {
            let annotations = json!({TEMPLATES: number, "mine": "1"});
            json!({"metadata": {"annotations": annotations}, "spec": {"template": {"image": image}}})
        };
        let mut new = json!({"metadata": {"name": "a"}});
        DaemonSet.prepare_create(&mut new);
        assert_eq!(templates(&new), 1);
        let updated = |image: &str, number: &str| {
            let mut new = set(image, number);
            DaemonSet.prepare_update(&mut new, &set("a", "3"));
            assert_eq!(new["metadata"]["annotations"]["mine"], "1");
            templates(&new)
        };
        assert_eq!((updated("a", "9"), updated("b", "x")), (3, 4));
    }

    #[test]
    fn a_row_counts_nodes() {
        expect!["logs|3|2|1|0|1|b=c|60m|a|i|app=a"].assert_eq(&row(
            &DaemonSet,
            &format!(
                "{{metadata: {{name: logs}}, spec: {{{WHOLE}}}, status: {{desiredNumberScheduled: 3, \
                 currentNumberScheduled: 2, numberReady: 1, numberAvailable: 1}}}}"
            ),
        ));
    }
}
