//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: expressions about writes.
//!
//! Expressions are kept as they are: nothing evaluates them yet.

use jiff::Timestamp;
use serde_json::Value;

use super::{FAILURE_POLICIES, GROUP, REINVOCATION_POLICIES, rule};
use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column, not_acted_on,
        value::{fill, find, items, part, present, text},
    },
    name, object as metadata,
};

/// Says whether a write may be.
pub(crate) struct ValidatingAdmissionPolicy;

/// Says what a write should be.
pub(crate) struct MutatingAdmissionPolicy;

static VALIDATING: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    short: &[],
    categories: &["api-extensions"],
    namespaced: false,
    definition: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
};

static MUTATING: Names = Names {
    kind: "MutatingAdmissionPolicy",
    plural: "mutatingadmissionpolicies",
    singular: "mutatingadmissionpolicy",
    definition: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
    ..VALIDATING
};

const PARAM_KIND: Column = column::shown("ParamKind", "The kind of its parameters");

const VALIDATING_COLUMNS: &[Column] = &[
    column::NAME,
    column::count("Validations", "How many rules it has"),
    PARAM_KIND,
    column::AGE,
];

const MUTATING_COLUMNS: &[Column] = &[
    column::NAME,
    column::count("Mutations", "How many changes it makes"),
    PARAM_KIND,
    column::AGE,
];

/// Audit annotations that one policy may have.
const ANNOTATIONS: usize = 20;
/// Bytes of the expression of one.
const ANNOTATION: usize = 5 * 1024;
/// Why a write may be refused.
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];

/// Words that no variable may be called.
const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

impl Kind for ValidatingAdmissionPolicy {
    fn names(&self) -> &Names {
        &VALIDATING
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        default_spec(object);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        validate_spec(&path, spec, errors);
        let validations = items(spec, "/validations");
        let annotations = items(spec, "/auditAnnotations");
        if validations.is_empty() && annotations.is_empty() {
            let detail = "validations or auditAnnotations must contain at least one item";
            errors.required(&path.field("validations"), detail);
            errors.required(&path.field("auditAnnotations"), detail);
        }
        for (index, validation) in validations.iter().enumerate() {
            validate_validation(&path.field("validations").index(index), validation, errors);
        }
        let path = path.field("auditAnnotations");
        if annotations.len() > ANNOTATIONS {
            let shown = part(spec, "/auditAnnotations").clone();
            let detail = format!("must not have more than {ANNOTATIONS} auditAnnotations");
            errors.invalid(&path, shown, detail);
        }
        let mut keys = check::Seen::new();
        for (index, annotation) in annotations.iter().enumerate() {
            let path = path.index(index);
            let key = text(annotation, "/key");
            let whole = format!("{}/{key}", metadata::name(object));
            let at = path.field("key");
            check::problems(&at, &whole, name::qualified_problems(&whole), errors);
            let expression = text(annotation, "/valueExpression").trim();
            let at = path.field("valueExpression");
            if expression.is_empty() {
                errors.required(&at, "valueExpression is not specified");
            } else if expression.len() > ANNOTATION {
                errors.required(&at, format!("must not exceed {ANNOTATION} bytes in length"));
            }
            check::unique(&path.field("key"), key, &mut keys, errors);
        }
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&VALIDATING)
    }

    fn columns(&self) -> &[Column] {
        VALIDATING_COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, "/spec/validations", now)
    }
}

impl Kind for MutatingAdmissionPolicy {
    fn names(&self) -> &Names {
        &MUTATING
    }

    fn counted(&self) -> &[&'static str] {
        &["spec"]
    }

    fn default(&self, object: &mut Value) {
        default_spec(object);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        validate_spec(&path, spec, errors);
        let at = path.field("reinvocationPolicy");
        match text(spec, "/reinvocationPolicy") {
            "" => errors.required(&at, ""),
            policy => check::one_of(&at, &policy.into(), REINVOCATION_POLICIES, errors),
        }
        let path = path.field("mutations");
        let mutations = items(spec, "/mutations");
        if mutations.is_empty() {
            errors.required(&path, "mutations must contain at least one item");
        }
        for (index, mutation) in mutations.iter().enumerate() {
            validate_mutation(&path.index(index), mutation, errors);
        }
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&MUTATING)
    }

    fn columns(&self) -> &[Column] {
        MUTATING_COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, "/spec/mutations", now)
    }
}

fn cells(object: &Value, list: &str, now: Timestamp) -> Vec<Value> {
    let kind = part(object, "/spec/paramKind");
    let kind = if kind.is_null() {
        "<unset>".to_owned()
    } else {
        format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind"))
    };
    vec![
        column::name(object),
        items(object, list).len().into(),
        kind.into(),
        column::age(object, now),
    ]
}

fn default_spec(object: &mut Value) {
    if let Some(spec) = find(object, "spec") {
        fill(spec, "failurePolicy", "Fail");
        rule::default_resources(find(spec, "matchConstraints"));
    }
}

/// What both kinds have.
fn validate_spec(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    check::one_of(
        &path.field("failurePolicy"),
        part(spec, "/failurePolicy"),
        FAILURE_POLICIES,
        errors,
    );
    rule::validate_param_kind(path, spec, errors);
    let at = path.field("matchConstraints");
    if present(spec, "/matchConstraints") {
        let constraints = part(spec, "/matchConstraints");
        rule::validate_resources(&at, constraints, errors);
        if items(constraints, "/resourceRules").is_empty() {
            errors.required(&at.field("resourceRules"), "");
        }
    } else {
        errors.required(&at, "");
    }
    rule::validate_conditions(path, spec, errors);
    for (index, variable) in items(spec, "/variables").iter().enumerate() {
        let path = path.field("variables").index(index);
        let own = text(variable, "/name");
        if own.trim().is_empty() {
            errors.required(&path.field("name"), "name is not specified");
        } else if !is_identifier(own) {
            errors.invalid(
                &path.field("name"),
                own,
                "name is not a valid CEL identifier",
            );
        }
        validate_expression(&path, variable, errors);
    }
}

fn is_identifier(text: &str) -> bool {
    let first = |c: char| c == '_' || c.is_ascii_alphabetic();
    text.starts_with(first)
        && text.chars().all(|c| first(c) || c.is_ascii_digit())
        && !RESERVED.contains(&text)
}

fn validate_expression(path: &Path, owner: &Value, errors: &mut FieldErrors) {
    if text(owner, "/expression").trim().is_empty() {
        errors.required(&path.field("expression"), "expression is not specified");
    }
}

fn validate_validation(path: &Path, validation: &Value, errors: &mut FieldErrors) {
    validate_expression(path, validation, errors);
    let blank = |field: &str| {
        let given = text(validation, field);
        !given.is_empty() && given.trim().is_empty()
    };
    if blank("/messageExpression") {
        let shown = part(validation, "/messageExpression").clone();
        let path = path.field("messageExpression");
        errors.invalid(&path, shown, "must be non-empty if specified");
    }
    let message = text(validation, "/message");
    let at = path.field("message");
    if blank("/message") {
        errors.invalid(&at, message, "message must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(&at, message, "message must not contain line breaks");
    }
    let reason = part(validation, "/reason");
    check::one_of(&path.field("reason"), reason, REASONS, errors);
}

fn validate_mutation(path: &Path, mutation: &Value, errors: &mut FieldErrors) {
    let (own, other) = match text(mutation, "/patchType") {
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "" => return errors.required(&path.field("patchType"), ""),
        unknown => {
            return errors.not_supported(
                &path.field("patchType"),
                unknown,
                &["ApplyConfiguration", "JSONPatch"],
            );
        }
    };
    let kind = text(mutation, "/patchType");
    let at = path.field(own);
    if present(mutation, &format!("/{own}")) {
        validate_expression(&at, part(mutation, &format!("/{own}")), errors);
    } else {
        errors.required(&at, format!("must be specified when patchType is {kind}"));
    }
    if present(mutation, &format!("/{other}")) {
        let shown = part(mutation, &format!("/{other}")).clone();
        let detail = format!("must not be set when patchType is {kind}");
        errors.push(&path.field(other), Cause::Invalid, shown, detail);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row};

    #[track_caller]
    fn check(kind: &dyn Kind, spec: &str, expect: Expect) {
        let yaml = format!("{{metadata: {{name: p.example.com}}, spec: {{{spec}}}}}");
        expect.assert_eq(&errors(kind, &yaml));
    }

    const MATCH: &str = "matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [''], \
                         apiVersions: [v1], resources: [pods]}]}";

    #[test]
    fn what_it_matches_is_complete() {
        expect![[r#"{"spec":{"failurePolicy":"Fail","matchConstraints":{"matchPolicy":"Equivalent","namespaceSelector":{},"objectSelector":{},"resourceRules":[{"scope":"*"}]}}}"#]]
            .assert_eq(&defaulted(
                &ValidatingAdmissionPolicy,
                "{spec: {matchConstraints: {resourceRules: [{}]}}}",
            ));
    }

    #[test]
    fn a_policy_matches_something_and_says_something_about_it() {
        let good = format!("{MATCH}, validations: [{{expression: 'true'}}]");
        check(&ValidatingAdmissionPolicy, &good, expect![""]);
        check(
            &ValidatingAdmissionPolicy,
            "",
            expect![[r#"
                spec.matchConstraints: Required value
                spec.validations: Required value: validations or auditAnnotations must contain at least one item
                spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item
            "#]],
        );
        check(
            &ValidatingAdmissionPolicy,
            "matchConstraints: {}, paramKind: {apiVersion: a/b/c}, variables: [{name: for, expression: x}, \
             {}], validations: [{message: ' ', reason: Bad}], auditAnnotations: [{key: a, \
             valueExpression: x}, {key: a}]",
            expect![[r#"
                spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c
                spec.paramKind.kind: Required value
                spec.matchConstraints.resourceRules: Required value
                spec.variables[0].name: Invalid value: "for": name is not a valid CEL identifier
                spec.variables[1].name: Required value: name is not specified
                spec.variables[1].expression: Required value: expression is not specified
                spec.validations[0].expression: Required value: expression is not specified
                spec.validations[0].message: Invalid value: " ": message must be non-empty if specified
                spec.validations[0].reason: Unsupported value: "Bad": supported values: "Forbidden", "Invalid", "RequestEntityTooLarge"
                spec.auditAnnotations[1].valueExpression: Required value: valueExpression is not specified
                spec.auditAnnotations[1].key: Duplicate value: "a"
            "#]],
        );
    }

    #[test]
    fn a_mutation_is_a_patch_of_its_type() {
        let good = format!(
            "{MATCH}, reinvocationPolicy: Never, mutations: [{{patchType: JSONPatch, jsonPatch: {{expression: \
             '[]'}}}}]"
        );
        check(&MutatingAdmissionPolicy, &good, expect![""]);
        let bad = format!(
            "{MATCH}, mutations: [{{patchType: JSONPatch, applyConfiguration: {{}}}}, {{}}, {{patchType: x}}]"
        );
        check(
            &MutatingAdmissionPolicy,
            &bad,
            expect![[r#"
                spec.reinvocationPolicy: Required value
                spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch
                spec.mutations[0].applyConfiguration: Invalid value: {}: must not be set when patchType is JSONPatch
                spec.mutations[1].patchType: Required value
                spec.mutations[2].patchType: Unsupported value: "x": supported values: "ApplyConfiguration", "JSONPatch"
            "#]],
        );
    }

    #[test]
    fn a_row_shows_the_kind_of_its_parameters() {
        expect!["p|1|v1/ConfigMap|60m"].assert_eq(&row(
            &ValidatingAdmissionPolicy,
            "{metadata: {name: p}, spec: {validations: [{}], paramKind: {apiVersion: v1, kind: \
             ConfigMap}}}",
        ));
        expect!["p|0|<unset>|60m"].assert_eq(&row(
            &MutatingAdmissionPolicy,
            "{metadata: {name: p}, spec: {}}",
        ));
    }
}
