//! What a CustomResourceDefinition may be called, and where its kind may live.

use serde_json::Value;

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        value::{items, part, text},
    },
    name, object,
};

/// Whose groups are Kubernetes' own.
const PROTECTED: &[&str] = &["k8s.io", "kubernetes.io"];
const APPROVED: &str = "api-approved.kubernetes.io";

pub(super) fn validate(object: &Value, errors: &mut FieldErrors) {
    let spec = Path::root("spec");
    let group = text(object, "/spec/group");
    let path = spec.field("group");
    if group.is_empty() {
        errors.required(&path, "");
    } else {
        let problems = name::subdomain_problems(group);
        if problems.is_empty() && !group.contains('.') {
            errors.invalid(&path, group, "should be a domain with at least one dot");
        }
        check::problems(&path, group, problems, errors);
    }
    let plural = text(object, "/spec/names/plural");
    if object::name(object) != format!("{plural}.{group}") {
        errors.invalid(
            &Path::root("metadata").field("name"),
            object::name(object),
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    approval(object, group, errors);
    match text(object, "/spec/scope") {
        "" => errors.required(&spec.field("scope"), ""),
        "Cluster" | "Namespaced" => {}
        other => errors.not_supported(&spec.field("scope"), other, &["Cluster", "Namespaced"]),
    }
    if part(object, "/spec/preserveUnknownFields") == true {
        errors.invalid(
            &spec.field("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    validate_names(part(object, "/spec/names"), &spec.field("names"), errors);
}

/// Kubernetes' own groups are for what its API reviewers have seen.
fn approval(object: &Value, group: &str, errors: &mut FieldErrors) {
    let protected = PROTECTED
        .iter()
        .any(|own| group == *own || group.ends_with(&format!(".{own}")));
    if !protected {
        return;
    }
    let path = Path::root("metadata").field("annotations").key(APPROVED);
    let annotation = object::metadata(object)
        .and_then(|metadata| metadata.get("annotations")?.get(APPROVED)?.as_str())
        .unwrap_or_default();
    if annotation.is_empty() {
        errors.required(
            &path,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        );
    } else if !annotation.starts_with("unapproved") && !annotation.starts_with("https://") {
        errors.invalid(
            &path,
            annotation,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111",
        );
    }
}

fn validate_names(names: &Value, path: &Path, errors: &mut FieldErrors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let own = names[field].as_str().unwrap_or_default();
        let path = path.field(field);
        if own.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let cased = ["kind", "listKind"].contains(&field);
        for problem in name::letter_label_problems(&own.to_lowercase()) {
            let detail = if cased {
                format!("may have mixed case, but should otherwise match: {problem}")
            } else {
                problem
            };
            errors.invalid(&path, own, detail);
        }
        if !cased && own != own.to_lowercase() {
            check::problems(&path, own, name::letter_label_problems(own), errors);
        }
    }
    let kind = text(names, "/kind");
    if !kind.is_empty() && kind == text(names, "/listKind") {
        let detail = "kind and listKind may not be the same";
        errors.invalid(&path.field("listKind"), kind, detail);
    }
    for list in ["shortNames", "categories"] {
        for (index, own) in items(names, &format!("/{list}")).iter().enumerate() {
            let own = own.as_str().unwrap_or_default();
            let path = path.field(list).index(index);
            check::problems(&path, own, name::letter_label_problems(own), errors);
        }
    }
}
