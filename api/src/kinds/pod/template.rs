//! The pod template of everything that makes pods: its defaults, and what is wrong with it.

use serde_json::Value;

use super::{defaults, validation};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check, not_acted_on,
        value::{child, find, part, present, text},
    },
    name,
};

/// Fills in the template of an owner's spec.
pub(crate) fn default(spec: &mut Value) {
    if let Some(template) = find(spec, "template") {
        default_template(template);
    }
}

/// Fills in a template.
pub(crate) fn default_template(template: &mut Value) {
    child(template, "metadata");
    if let Some(spec) = child(template, "spec") {
        defaults::pod_spec(spec);
    }
}

/// What is wrong with the selector and the template of an owner whose pods run for ever; `owner` is what
/// messages about the selector call it, `maker` what messages about the template do.
pub(crate) fn validate(object: &Value, owner: &str, maker: &str, errors: &mut FieldErrors) {
    let path = Path::root("spec");
    validate_selector(object, owner, errors);
    let selector = part(object, "/spec/selector");
    let path = path.field("template");
    let labels = part(object, "/spec/template/metadata/labels");
    if !check::is_empty_selector(selector) && !check::selects(selector, labels) {
        errors.invalid(
            &path.field("metadata").field("labels"),
            labels.clone(),
            "`selector` does not match template `labels`",
        );
    }
    let template = part(object, "/spec/template");
    validate_template(&path, template, errors);
    validate_endless(&path, template, maker, errors);
}

/// What is wrong with a selector that there must be.
fn validate_selector(object: &Value, owner: &str, errors: &mut FieldErrors) {
    let selector = part(object, "/spec/selector");
    let path = Path::root("spec").field("selector");
    if selector.is_null() {
        errors.required(&path, "");
    } else if check::is_empty_selector(selector) {
        let detail = format!("empty selector is invalid for {owner}");
        errors.invalid(&path, selector.clone(), detail);
    } else {
        check::selector(&path, selector, errors);
    }
}

/// What is wrong with a template that stands at `path`.
pub(crate) fn validate_template(path: &Path, template: &Value, errors: &mut FieldErrors) {
    let metadata = path.field("metadata");
    check::labels(
        &metadata.field("labels"),
        template,
        "/metadata/labels",
        errors,
    );
    let annotations = metadata.field("annotations");
    for (key, _) in crate::kinds::value::entries(template, "/metadata/annotations") {
        let lower = key.to_lowercase();
        check::problems(&annotations, key, name::qualified_problems(&lower), errors);
    }
    validation::template(&path.field("spec"), part(template, "/spec"), errors);
}

/// Pods that are replaced whenever they end may not end by their own will.
pub(crate) fn validate_endless(
    path: &Path,
    template: &Value,
    maker: &str,
    errors: &mut FieldErrors,
) {
    let path = path.field("spec");
    let policy = text(template, "/spec/restartPolicy");
    if !matches!(policy, "Always" | "") {
        errors.not_supported(&path.field("restartPolicy"), policy, &["Always"]);
    }
    if present(template, "/spec/activeDeadlineSeconds") {
        errors.forbidden(
            &path.field("activeDeadlineSeconds"),
            format!("activeDeadlineSeconds in {maker} is not Supported"),
        );
    }
}

/// Fields of the template that are not acted on.
pub(crate) fn warnings(object: &Value) -> Vec<String> {
    let spec = part(object, "/spec/template/spec");
    not_acted_on::of_pod_spec("spec.template.spec", spec)
}
