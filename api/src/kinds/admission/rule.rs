//! Which requests something is about: rules, selectors, conditions.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        value::{each, fill, items, part, plain, present, text},
    },
    name,
};

const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];
/// Conditions that one webhook or policy may have.
const CONDITIONS: usize = 64;

/// Completes selectors and the policy of matching, as webhooks and policies have them.
pub(super) fn default_selectors(owner: &mut Value) {
    fill(owner, "matchPolicy", "Equivalent");
    fill(owner, "namespaceSelector", json!({}));
    fill(owner, "objectSelector", json!({}));
}

/// Completes a list of rules.
pub(super) fn default_rules(owner: &mut Value, list: &str) {
    for rule in each(owner, list) {
        fill(rule, "scope", "*");
    }
}

/// Completes what a policy or binding matches.
pub(super) fn default_resources(owner: Option<&mut Value>) {
    if let Some(resources) = owner {
        default_selectors(resources);
        default_rules(resources, "resourceRules");
        default_rules(resources, "excludeResourceRules");
    }
}

/// What is wrong with selectors and the policy of matching.
pub(super) fn validate_selectors(path: &Path, owner: &Value, errors: &mut FieldErrors) {
    check::one_of(
        &path.field("matchPolicy"),
        part(owner, "/matchPolicy"),
        MATCH_POLICIES,
        errors,
    );
    for field in ["namespaceSelector", "objectSelector"] {
        let selector = part(owner, &format!("/{field}"));
        check::selector(&path.field(field), selector, errors);
    }
}

/// What is wrong with what a policy or binding matches.
pub(super) fn validate_resources(path: &Path, resources: &Value, errors: &mut FieldErrors) {
    validate_selectors(path, resources, errors);
    for list in ["resourceRules", "excludeResourceRules"] {
        for (index, rule) in items(resources, &format!("/{list}")).iter().enumerate() {
            let path = path.field(list).index(index);
            let mut seen = check::Seen::new();
            for (index, name) in items(rule, "/resourceNames").iter().map(plain).enumerate() {
                let path = path.field("resourceNames").index(index);
                check::problems(&path, &name, name::segment_problems(&name), errors);
                check::unique(&path, &name, &mut seen, errors);
            }
            validate(&path, rule, errors);
        }
    }
}

/// What is wrong with a rule.
pub(super) fn validate(path: &Path, rule: &Value, errors: &mut FieldErrors) {
    let operations = items(rule, "/operations");
    alone(&path.field("operations"), operations, "operations", errors);
    for (index, operation) in operations.iter().enumerate() {
        let path = path.field("operations").index(index);
        check::one_of(&path, operation, OPERATIONS, errors);
    }
    let groups = items(rule, "/apiGroups");
    alone(&path.field("apiGroups"), groups, "API groups", errors);
    let versions = items(rule, "/apiVersions");
    let at = path.field("apiVersions");
    alone(&at, versions, "API versions", errors);
    for (index, version) in versions.iter().enumerate() {
        if version == "" {
            errors.required(&at.index(index), "");
        }
    }
    validate_paths(&path.field("resources"), items(rule, "/resources"), errors);
    check::one_of(&path.field("scope"), part(rule, "/scope"), SCOPES, errors);
}

/// A list that must be there, and in which `*` stands for everything.
fn alone(path: &Path, list: &[Value], others: &str, errors: &mut FieldErrors) {
    if list.is_empty() {
        errors.required(path, "");
    }
    if list.len() > 1 && list.iter().any(|item| item == "*") {
        let detail = format!("if '*' is present, must not specify other {others}");
        errors.invalid(path, json!(list), detail);
    }
}

/// Resources with their subresources: `pods`, `pods/*`, `*/scale`, `*`, `*/*`.
fn validate_paths(path: &Path, resources: &[Value], errors: &mut FieldErrors) {
    if resources.is_empty() {
        errors.required(path, "");
    }
    let mut whole = HashSet::new();
    let mut everywhere = HashSet::new();
    let mut plainly = false;
    for (index, resource) in resources.iter().enumerate() {
        let resource = resource.as_str().unwrap_or_default();
        let path = path.index(index);
        if resource.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let Some((of, sub)) = resource.split_once('/') else {
            plainly |= resource != "*";
            continue;
        };
        let mut refuse = |present: String| {
            let detail = format!("if '{present}' is present, must not specify {resource}");
            errors.invalid(&path, resource, detail);
        };
        if whole.contains(of) {
            refuse(format!("{of}/*"));
        }
        if everywhere.contains(sub) {
            refuse(format!("*/{sub}"));
        }
        if sub == "*" {
            whole.insert(of);
        }
        if of == "*" {
            everywhere.insert(sub);
        }
    }
    let has = |all: &str| resources.iter().any(|resource| resource == all);
    if resources.len() > 1 && has("*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.invalid(path, json!(resources), detail);
    }
    if has("*") && plainly {
        errors.invalid(
            path,
            json!(resources),
            "if '*' is present, must not specify other resources without subresources",
        );
    }
}

/// What is wrong with conditions, but for what their expressions say.
pub(super) fn validate_conditions(path: &Path, owner: &Value, errors: &mut FieldErrors) {
    let path = path.field("matchConditions");
    let conditions = items(owner, "/matchConditions");
    if conditions.len() > CONDITIONS {
        check::too_many(&path, conditions.len(), CONDITIONS, errors);
    }
    let mut seen = check::Seen::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        if text(condition, "/expression").trim().is_empty() {
            errors.required(&path.field("expression"), "");
        }
        let own = text(condition, "/name");
        let path = path.field("name");
        if own.is_empty() {
            errors.required(&path, "");
            continue;
        }
        check::problems(&path, own, name::qualified_problems(own), errors);
        check::unique(&path, own, &mut seen, errors);
    }
}

/// What is wrong with the kind of a policy's parameters.
pub(super) fn validate_param_kind(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    if !present(spec, "/paramKind") {
        return;
    }
    let path = path.field("paramKind");
    let (at, given) = (
        path.field("apiVersion"),
        text(spec, "/paramKind/apiVersion"),
    );
    let (group, version) = given.split_once('/').unwrap_or(("", given));
    if given.is_empty() {
        errors.required(&at, "");
    } else if version.contains('/') {
        errors.invalid(
            &at,
            given,
            format!("unexpected GroupVersion string: {given}"),
        );
    } else {
        if !group.is_empty() {
            check::problems(&at, group, name::subdomain_problems(group), errors);
        }
        if version.is_empty() {
            errors.invalid(&at, given, "version must be specified");
        } else {
            check::problems(&at, version, name::letter_label_problems(version), errors);
        }
    }
    let (at, kind) = (path.field("kind"), text(spec, "/paramKind/kind"));
    if kind.is_empty() {
        errors.required(&at, "");
    }
    for problem in name::letter_label_problems(&kind.to_lowercase()) {
        if !kind.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {problem}");
            errors.invalid(&at, kind, detail);
        }
    }
}
