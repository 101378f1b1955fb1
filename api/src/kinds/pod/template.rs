//! The pod template that ReplicaSets and Deployments make pods from.

use serde_json::Value;

use super::{defaults, validation};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        not_acted_on::{self, POD_SPEC},
        value::{child, find, part, present, text},
    },
};

/// Fills in the template of an owner's spec.
pub(crate) fn default(spec: &mut Value) {
    let Some(template) = find(spec, "template") else {
        return;
    };
    child(template, "metadata");
    if let Some(spec) = child(template, "spec") {
        defaults::pod_spec(spec);
    }
}

/// What is wrong with the selector and the template of an owner.
pub(crate) fn validate(object: &Value, owner: &str, errors: &mut FieldErrors) {
    let spec = Path::root("spec");
    let selector = part(object, "/spec/selector");
    let path = spec.field("selector");
    if selector.is_null() {
        errors.required(&path, "");
    } else if check::is_empty_selector(selector) {
        let detail = format!("empty selector is invalid for {owner}");
        errors.invalid(&path, selector.clone(), detail);
    } else {
        check::selector(&path, selector, errors);
    }
    let template = spec.field("template");
    let metadata = template.field("metadata");
    let labels = part(object, "/spec/template/metadata/labels");
    if !check::is_empty_selector(selector) && !check::selects(selector, labels) {
        errors.invalid(
            &metadata.field("labels"),
            labels.clone(),
            "`selector` does not match template `labels`",
        );
    }
    check::labels(
        &metadata.field("labels"),
        object,
        "/spec/template/metadata/labels",
        errors,
    );
    let pod = part(object, "/spec/template/spec");
    let path = template.field("spec");
    validation::spec(&path, pod, errors);
    let policy = text(pod, "/restartPolicy");
    if !matches!(policy, "Always" | "") {
        errors.not_supported(&path.field("restartPolicy"), policy, &["Always"]);
    }
    if present(pod, "/activeDeadlineSeconds") {
        errors.forbidden(
            &path.field("activeDeadlineSeconds"),
            format!("activeDeadlineSeconds in {owner} is not Supported"),
        );
    }
}

/// Fields of the template that are not acted on.
pub(crate) fn warnings(object: &Value) -> Vec<String> {
    let spec = part(object, "/spec/template/spec");
    not_acted_on::warnings("spec.template.spec", spec, POD_SPEC)
}
