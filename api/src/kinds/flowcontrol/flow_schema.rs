//! FlowSchema: which requests are of which priority level.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{GROUP, validate_conditions};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column, not_acted_on,
        value::{fill, find, items, number, part, plain, present, text, truth},
        write,
    },
    name, object as metadata,
};

/// The kind.
pub(crate) struct FlowSchema;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    short: &[],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.flowcontrol.v1.FlowSchema",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("PriorityLevel", "The level of its requests"),
    column::shown("MatchingPrecedence", "Which schema is asked first"),
    column::shown("DistinguisherMethod", "What makes flows of its requests"),
    column::AGE,
    column::shown("MissingPL", "Whether its level is not there"),
];

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

/// The last precedence.
const LAST: i64 = 10_000;

impl Kind for FlowSchema {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", write::empty());
        if let Some(spec) = find(object, "spec")
            && number(spec, "/matchingPrecedence").unwrap_or_default() == 0
        {
            spec["matchingPrecedence"] = 1000.into();
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        validate_precedence(&path.field("matchingPrecedence"), object, errors);
        if present(spec, "/distinguisherMethod") {
            check::one_of(
                &path.field("distinguisherMethod").field("type"),
                &text(spec, "/distinguisherMethod/type").into(),
                &["ByNamespace", "ByUser"],
                errors,
            );
        }
        let at = path.field("priorityLevelConfiguration").field("name");
        match text(spec, "/priorityLevelConfiguration/name") {
            "" => errors.required(&at, "must reference a priority level"),
            level => check::problems(&at, level, name::subdomain_problems(level), errors),
        }
        for (index, rule) in items(spec, "/rules").iter().enumerate() {
            validate_rule(&path.field("rules").index(index), rule, errors);
        }
        validate_conditions(object, errors);
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&NAMES)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let dangling = items(object, "/status/conditions")
            .iter()
            .find(|condition| text(condition, "/type") == "Dangling")
            .map_or("?", |condition| text(condition, "/status"));
        vec![
            column::name(object),
            text(object, "/spec/priorityLevelConfiguration/name").into(),
            number(object, "/spec/matchingPrecedence")
                .unwrap_or_default()
                .into(),
            column::or_none(text(object, "/spec/distinguisherMethod/type")),
            column::age(object, now),
            dangling.into(),
        ]
    }
}

fn validate_precedence(path: &Path, object: &Value, errors: &mut FieldErrors) {
    let precedence = number(object, "/spec/matchingPrecedence").unwrap_or_default();
    if precedence <= 0 {
        errors.invalid(path, precedence, "must be a positive value");
    }
    if precedence > LAST {
        errors.invalid(path, precedence, format!("must not be greater than {LAST}"));
    }
    if precedence == 1 && metadata::name(object) != "exempt" {
        errors.invalid(
            path,
            precedence,
            "only the schema named 'exempt' may have matchingPrecedence 1",
        );
    }
}

fn validate_rule(path: &Path, rule: &Value, errors: &mut FieldErrors) {
    let subjects = items(rule, "/subjects");
    if subjects.is_empty() {
        errors.required(
            &path.field("subjects"),
            "subjects must contain at least one value",
        );
    }
    for (index, subject) in subjects.iter().enumerate() {
        validate_subject(&path.field("subjects").index(index), subject, errors);
    }
    let (resources, urls) = (
        items(rule, "/resourceRules"),
        items(rule, "/nonResourceRules"),
    );
    if resources.is_empty() && urls.is_empty() {
        errors.required(
            path,
            "at least one of resourceRules and nonResourceRules has to be non-empty",
        );
    }
    for (index, one) in resources.iter().enumerate() {
        validate_resources(&path.field("resourceRules").index(index), one, errors);
    }
    for (index, one) in urls.iter().enumerate() {
        validate_urls(&path.field("nonResourceRules").index(index), one, errors);
    }
}

fn validate_subject(path: &Path, subject: &Value, errors: &mut FieldErrors) {
    const KINDS: &[(&str, &str)] = &[
        ("Group", "group"),
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
    ];
    let kind = text(subject, "/kind");
    let Some((_, own)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let kinds: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).collect();
        errors.not_supported(&path.field("kind"), kind, &kinds);
        return;
    };
    let at = path.field(own);
    let value = part(subject, &format!("/{own}"));
    if value.is_null() {
        let detail = format!("{own} is required when subject kind is '{kind}'");
        errors.required(&at, detail);
    } else {
        validate_name(&at, kind, value, errors);
    }
    for (other, field) in KINDS.iter().filter(|(other, _)| *other != kind) {
        if present(subject, &format!("/{field}")) {
            let detail = format!("{field} is forbidden when subject kind is not '{other}'");
            errors.forbidden(&path.field(field), detail);
        }
    }
}

fn validate_name(path: &Path, kind: &str, subject: &Value, errors: &mut FieldErrors) {
    let own = text(subject, "/name");
    if own.is_empty() {
        errors.required(&path.field("name"), "");
    } else if kind == "ServiceAccount" && own != "*" {
        let problems = name::subdomain_problems(own);
        check::problems(&path.field("name"), own, problems, errors);
    }
    if kind != "ServiceAccount" {
        return;
    }
    let at = path.field("namespace");
    match text(subject, "/namespace") {
        "" => errors.required(&at, "must specify namespace for service account"),
        namespace => check::problems(&at, namespace, name::label_problems(namespace), errors),
    }
}

/// A list that must be there, and in which `*` stands for everything.
fn alone(path: &Path, list: &[Value], missing: &str, others: &str, errors: &mut FieldErrors) {
    if list.is_empty() {
        errors.required(path, missing);
    } else if list.len() > 1 && list.iter().any(|item| item == "*") {
        let detail = format!("if '*' is present, must not specify other {others}");
        errors.invalid(path, json!(list), detail);
    }
}

fn validate_verbs(path: &Path, rule: &Value, errors: &mut FieldErrors) {
    let path = path.field("verbs");
    let verbs = items(rule, "/verbs");
    alone(
        &path,
        verbs,
        "verbs must contain at least one value",
        "verbs",
        errors,
    );
    let known = |verb: &Value| verb.as_str().is_some_and(|verb| VERBS.contains(&verb));
    if !verbs.iter().any(|verb| verb == "*") && !verbs.iter().all(known) {
        errors.not_supported(&path, json!(verbs), VERBS);
    }
}

fn validate_resources(path: &Path, rule: &Value, errors: &mut FieldErrors) {
    validate_verbs(path, rule, errors);
    for (field, one, others) in [
        ("apiGroups", "api group", "api groups"),
        ("resources", "resource", "resources"),
    ] {
        let missing = format!("resource rules must supply at least one {one}");
        let list = items(rule, &format!("/{field}"));
        alone(&path.field(field), list, &missing, others, errors);
    }
    let namespaces = items(rule, "/namespaces");
    let path = path.field("namespaces");
    if !namespaces.is_empty() || !truth(rule, "/clusterScope") {
        let missing =
            "resource rules that are not cluster scoped must supply at least one namespace";
        alone(&path, namespaces, missing, "namespaces", errors);
    }
    if namespaces.iter().any(|namespace| namespace == "*") {
        return;
    }
    for (index, namespace) in namespaces.iter().map(plain).enumerate() {
        for problem in name::label_problems(&namespace) {
            let detail =
                format!("each member of this list must be '*' or a DNS-1123 label; {problem}");
            errors.invalid(&path.index(index), namespace.as_str(), detail);
        }
    }
}

fn validate_urls(path: &Path, rule: &Value, errors: &mut FieldErrors) {
    validate_verbs(path, rule, errors);
    let path = path.field("nonResourceURLs");
    let urls = items(rule, "/nonResourceURLs");
    let missing = "nonResourceURLs must contain at least one value";
    alone(&path, urls, missing, "non-resource URLs", errors);
    if urls.iter().any(|url| url == "*") {
        return;
    }
    for (index, url) in urls.iter().map(plain).enumerate() {
        let stars = url.matches('*').count();
        let problem = match url.as_str() {
            "" => "must not be empty",
            "/" => continue,
            url if !url.starts_with('/') => "must start with slash",
            url if url.contains(' ') => "must not contain white-space",
            url if url.contains("//") => "must not contain double slash",
            url if stars > 1 || (stars == 1 && !url.ends_with("/*")) => {
                "wildcard can only do suffix matching"
            }
            _ => continue,
        };
        errors.invalid(&path.index(index), url.as_str(), problem);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        let yaml = format!("{{spec: {{priorityLevelConfiguration: {{name: l}}, {spec}}}}}");
        expect.assert_eq(&errors(&FlowSchema, &yaml));
    }

    #[test]
    fn it_has_a_level_and_a_precedence() {
        expect![[r#"
            spec.priorityLevelConfiguration.name: Required value: must reference a priority level
        "#]]
        .assert_eq(&errors(&FlowSchema, "{spec: {}}"));
        check(
            "matchingPrecedence: 1, distinguisherMethod: {type: ByMood}",
            expect![[r#"
                spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1
                spec.distinguisherMethod.type: Unsupported value: "ByMood": supported values: "ByNamespace", "ByUser"
            "#]],
        );
    }

    #[test]
    fn a_rule_says_who_does_what() {
        check(
            "rules: [{}, {subjects: [{kind: User, group: {name: g}}, {kind: ServiceAccount, serviceAccount: \
             {name: '*'}}, {kind: Robot}], resourceRules: [{verbs: [get, fly], apiGroups: ['*', a]}], \
             nonResourceRules: [{verbs: ['*'], nonResourceURLs: [a, //, /*/b]}]}]",
            expect![[r#"
                spec.rules[0].subjects: Required value: subjects must contain at least one value
                spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty
                spec.rules[1].subjects[0].user: Required value: user is required when subject kind is 'User'
                spec.rules[1].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'
                spec.rules[1].subjects[1].serviceAccount.namespace: Required value: must specify namespace for service account
                spec.rules[1].subjects[2].kind: Unsupported value: "Robot": supported values: "Group", "ServiceAccount", "User"
                spec.rules[1].resourceRules[0].verbs: Unsupported value: ["get","fly"]: supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"
                spec.rules[1].resourceRules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other api groups
                spec.rules[1].resourceRules[0].resources: Required value: resource rules must supply at least one resource
                spec.rules[1].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace
                spec.rules[1].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "a": must start with slash
                spec.rules[1].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "//": must not contain double slash
                spec.rules[1].nonResourceRules[0].nonResourceURLs[2]: Invalid value: "/*/b": wildcard can only do suffix matching
            "#]],
        );
    }

    #[test]
    fn a_row_shows_the_level() {
        expect!["f|l|1000|ByUser|60m|?"].assert_eq(&row(
            &FlowSchema,
            "{metadata: {name: f}, spec: {priorityLevelConfiguration: {name: l}, distinguisherMethod: \
             {type: ByUser}}}",
        ));
    }
}
