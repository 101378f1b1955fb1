//! Job: pods that run until enough of them succeeded.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::specification;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column,
        pod::template,
        value::{child, entries, fill, fill_text, items, number, part, present, put, text, truth},
        write,
    },
    object,
    time::{human, parse},
};

/// The kind.
pub(crate) struct Job;

static NAMES: Names = Names {
    group: "batch",
    version: "v1",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    short: &[],
    categories: &["all"],
    namespaced: true,
    definition: "io.k8s.api.batch.v1.Job",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Status", "How it is, in one word"),
    column::shown("Completions", "How many pods succeeded, of how many must"),
    column::shown("Duration", "How long it has run"),
    column::AGE,
    column::wide("Containers", "Names of the containers in the template"),
    column::wide("Images", "Images of the containers in the template"),
    column::wide("Selector", "Labels of its pods"),
];

/// Labels of a Job's pods: the Job's uid and name, under newer and older keys.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// What of a suspended Job's template may change: where its pods go and what they get.
const CHANGEABLE_METADATA: &[&str] = &["annotations", "labels"];
const CHANGEABLE_SPEC: &[&str] = &["affinity", "nodeSelector", "schedulingGates", "tolerations"];

impl Kind for Job {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", write::empty());
        label_as_template(object);
        let Some(spec) = child(object, "spec") else {
            return;
        };
        if !present(spec, "/completions") && !present(spec, "/parallelism") {
            fill(spec, "completions", 1);
        }
        fill(spec, "parallelism", 1);
        let attempts = if present(spec, "/backoffLimitPerIndex") {
            i32::MAX
        } else {
            6
        };
        fill(spec, "backoffLimit", attempts);
        fill_text(spec, "completionMode", "NonIndexed");
        fill(spec, "suspend", false);
        fill(spec, "manualSelector", false);
        let replaced = if present(spec, "/podFailurePolicy") {
            "Failed"
        } else {
            "TerminatingOrFailed"
        };
        fill_text(spec, "podReplacementPolicy", replaced);
        specification::default(spec);
    }

    fn prepare_create(&self, object: &mut Value) {
        put(object, "status", write::empty());
        write::start_generation(object);
        if !truth(object, "/spec/manualSelector") {
            generate_selector(object);
        }
        label_as_template(object);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = part(object, "/spec");
        specification::validate(&Path::root("spec"), spec, errors);
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec").field("selector");
        let selector = part(object, "/spec/selector");
        if selector.is_null() {
            errors.required(&path, "");
        } else if truth(object, "/spec/manualSelector") {
            check::selector(&path, selector, errors);
        } else {
            let generated = json!({ "matchLabels": { UID_LABELS[0]: object::uid(object) } });
            if selector != &generated {
                errors.invalid(&path, selector.clone(), "`selector` not auto-generated");
            }
        }
        let labels = part(object, "/spec/template/metadata/labels");
        if !selector.is_null() && !check::selects(selector, labels) {
            let path = Path::root("spec").field("template").field("metadata");
            errors.invalid(
                &path.field("labels"),
                labels.clone(),
                "`selector` does not match template `labels`",
            );
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        validate_completions(object, old, errors);
        check::immutable(
            &path.field("selector"),
            object,
            old,
            "/spec/selector",
            errors,
        );
        let template = part(object, "/spec/template");
        if frozen(template, old) != frozen(part(old, "/spec/template"), old) {
            errors.invalid(
                &path.field("template"),
                template.clone(),
                "field is immutable",
            );
        }
        for field in [
            "completionMode",
            "podFailurePolicy",
            "backoffLimitPerIndex",
            "managedBy",
            "successPolicy",
        ] {
            let pointer = format!("/spec/{field}");
            check::immutable(&path.field(field), object, old, &pointer, errors);
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(object)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let succeeded = number(object, "/status/succeeded").unwrap_or(0);
        vec![("status.successful", succeeded.to_string())]
    }

    fn field_names(&self) -> &[&'static str] {
        &["status.successful"]
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [containers, images] = column::containers(object);
        vec![
            column::name(object),
            status(object).into(),
            completions(object).into(),
            duration(object, now).into(),
            column::age(object, now),
            containers,
            images,
            column::selector(part(object, "/spec/selector")),
        ]
    }
}

/// A Job without labels of its own has those of its pods, the generated ones too.
fn label_as_template(object: &mut Value) {
    let labels = part(object, "/spec/template/metadata/labels").clone();
    if entries(object, "/metadata/labels").next().is_none()
        && entries(&labels, "").next().is_some()
        && let Some(metadata) = child(object, "metadata")
    {
        put(metadata, "labels", labels);
    }
}

/// Gives the pods labels that no other Job's pods have, and selects by them.
fn generate_selector(object: &mut Value) {
    let (uid, name) = (
        object::uid(object).to_owned(),
        object::name(object).to_owned(),
    );
    let Some(spec) = child(object, "spec") else {
        return;
    };
    if let Some(labels) = child(spec, "template")
        .and_then(|template| child(template, "metadata"))
        .and_then(|metadata| child(metadata, "labels"))
    {
        for (keys, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
            // Whoever sets the older label is told that it is not the right one.
            if labels.get(keys[1]).is_none() {
                for key in keys {
                    put(labels, key, value.as_str().into());
                }
            }
        }
    }
    if let Some(labels) =
        child(spec, "selector").and_then(|selector| child(selector, "matchLabels"))
    {
        fill(labels, UID_LABELS[0], uid);
    }
}

/// The template without what a Job that has not begun may still change.
fn frozen(template: &Value, old: &Value) -> Value {
    let mut template = template.clone();
    let held = items(old, "/status/conditions").iter().any(|condition| {
        text(condition, "/type") == "Suspended" && text(condition, "/status") == "True"
    });
    let changeable = truth(old, "/spec/suspend") && (!present(old, "/status/startTime") || held);
    if changeable {
        for (owner, fields) in [("metadata", CHANGEABLE_METADATA), ("spec", CHANGEABLE_SPEC)] {
            if let Some(owner) = child(&mut template, owner) {
                for field in fields {
                    put(owner, field, Value::Null);
                }
            }
        }
        for list in ["containers", "initContainers"] {
            let containers = template["spec"].get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                put(container, "resources", Value::Null);
            }
        }
    }
    template
}

fn validate_completions(object: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::root("spec").field("completions");
    let (new, before) = (
        part(object, "/spec/completions"),
        part(old, "/spec/completions"),
    );
    if new == before {
        return;
    }
    if text(object, "/spec/completionMode") != "Indexed" || new.is_null() || before.is_null() {
        errors.invalid(&path, new.clone(), "field is immutable");
    } else if new != part(object, "/spec/parallelism") {
        errors.invalid(
            &path,
            new.clone(),
            "can only be modified in tandem with parallelism",
        );
    }
}

fn status(object: &Value) -> &'static str {
    let holds = |kind: &str| {
        items(object, "/status/conditions").iter().any(|condition| {
            text(condition, "/type") == kind && text(condition, "/status") == "True"
        })
    };
    if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if object::deleting(object) {
        "Terminating"
    } else if holds("Suspended") {
        "Suspended"
    } else if holds("FailureTarget") {
        "FailureTarget"
    } else if holds("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(object: &Value) -> String {
    let succeeded = number(object, "/status/succeeded").unwrap_or(0);
    let parallel = number(object, "/spec/parallelism").unwrap_or(0);
    match number(object, "/spec/completions") {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        None => format!("{succeeded}/1"),
    }
}

fn duration(object: &Value, now: Timestamp) -> String {
    let Some(start) = parse(part(object, "/status/startTime")) else {
        return String::new();
    };
    let end = parse(part(object, "/status/completionTime")).unwrap_or(now);
    human(end.duration_since(start).as_secs())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{create_errors, defaulted, errors, read, row, update_errors};

    const TEMPLATE: &str =
        "template: {spec: {restartPolicy: Never, containers: [{name: a, image: i}]}}";

    #[track_caller]
    fn check_update(old: &str, new: &str, expect: Expect) {
        let job = |spec: &str| format!("{{metadata: {{}}, spec: {{{spec}}}}}");
        expect.assert_eq(&update_errors(&Job, &job(old), &job(new)));
    }

    #[test]
    fn one_pod_must_succeed_in_seven_attempts() {
        expect![[r#"{"spec":{"backoffLimit":6,"completionMode":"NonIndexed","completions":1,"manualSelector":false,"parallelism":1,"podReplacementPolicy":"TerminatingOrFailed","suspend":false},"status":{}}"#]]
            .assert_eq(&defaulted(&Job, "{spec: {}}"));
        expect![[r#"{"spec":{"backoffLimit":2147483647,"backoffLimitPerIndex":1,"completionMode":"NonIndexed","manualSelector":false,"parallelism":3,"podFailurePolicy":{"rules":[{"onPodConditions":[{"status":"True","type":"a"}]}]},"podReplacementPolicy":"Failed","suspend":false},"status":{}}"#]]
            .assert_eq(&defaulted(
                &Job,
                "{spec: {parallelism: 3, backoffLimitPerIndex: 1, podFailurePolicy: {rules: \
                 [{onPodConditions: [{type: a}]}]}}}",
            ));
    }

    #[test]
    fn its_pods_are_told_from_others_by_its_uid() {
        let mut job = read(&format!(
            "{{metadata: {{name: a, uid: u}}, spec: {{{TEMPLATE}}}}}"
        ));
        Job.default(&mut job);
        Job.prepare_create(&mut job);
        expect![[r#"{"matchLabels":{"batch.kubernetes.io/controller-uid":"u"}}"#]]
            .assert_eq(&job["spec"]["selector"].to_string());
        expect![[r#"{"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"a","controller-uid":"u","job-name":"a"}"#]]
            .assert_eq(&job["spec"]["template"]["metadata"]["labels"].to_string());
        assert_eq!(
            job["metadata"]["labels"],
            job["spec"]["template"]["metadata"]["labels"]
        );
    }

    #[test]
    fn a_selector_is_generated_or_asked_for() {
        expect![[r#"
            spec.selector: Invalid value: {"matchLabels":{"a":"b","batch.kubernetes.io/controller-uid":"u"}}: `selector` not auto-generated
            spec.template.metadata.labels: Invalid value: {"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"a","controller-uid":"u","job-name":"a"}: `selector` does not match template `labels`
        "#]]
        .assert_eq(&create_errors(
            &Job,
            &format!(
                "{{metadata: {{name: a, uid: u}}, spec: {{selector: {{matchLabels: {{a: b}}}}, {TEMPLATE}}}}}"
            ),
        ));
        expect![[r#"
            spec.selector: Required value
        "#]]
        .assert_eq(&create_errors(
            &Job,
            &format!("{{metadata: {{name: a}}, spec: {{manualSelector: true, {TEMPLATE}}}}}"),
        ));
    }

    #[test]
    fn its_pods_end() {
        expect![[r#"
            spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        "#]]
        .assert_eq(&errors(
            &Job,
            "{spec: {template: {spec: {containers: [{name: a, image: i}]}}}}",
        ));
    }

    #[test]
    fn what_it_does_never_changes_once_it_began() {
        let image = "template: {spec: {restartPolicy: Never, nodeSelector: {a: b}, containers: [{name: a, \
                     image: j}]}}";
        check_update(
            TEMPLATE,
            &format!("{TEMPLATE}, parallelism: 5, completions: 1"),
            expect![[""]],
        );
        check_update(
            &format!("{TEMPLATE}, suspend: true"),
            "suspend: false, template: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, \
             nodeSelector: {a: b}, containers: [{name: a, image: i}]}}",
            expect![[""]],
        );
        check_update(
            &format!("{TEMPLATE}, completions: 1"),
            &format!("{image}, completions: 2, completionMode: Indexed"),
            expect![[r#"
                spec.completions: Invalid value: 2: can only be modified in tandem with parallelism
                spec.template: Invalid value: {"metadata":{},"spec":{"containers":[{"image":"j","imagePullPolicy":"Always","name":"a","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","nodeSelector":{"a":"b"},"restartPolicy":"Never","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}: field is immutable
                spec.completionMode: Invalid value: "Indexed": field is immutable
            "#]],
        );
    }

    #[test]
    fn a_row_says_how_far_it_is() {
        expect!["a|Complete|1/1|5s|60m|a|i|a=b"].assert_eq(&row(
            &Job,
            &format!(
                "{{metadata: {{name: a}}, spec: {{selector: {{matchLabels: {{a: b}}}}, {TEMPLATE}}}, status: \
                 {{succeeded: 1, conditions: [{{type: Complete, status: 'True'}}], startTime: \
                 '2026-01-01T00:00:00Z', completionTime: '2026-01-01T00:00:05Z'}}}}"
            ),
        ));
        expect!["a|Running|0/1 of 2||60m|a|i|<none>"].assert_eq(&row(
            &Job,
            &format!("{{metadata: {{name: a}}, spec: {{parallelism: 2, {TEMPLATE}}}}}"),
        ));
    }
}
