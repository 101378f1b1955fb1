//! ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding: where a policy holds, and with
//! which parameters.

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, rule};
use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        Column, Kind, Names, check, column, not_acted_on,
        value::{fill, find, items, part, present, text},
    },
    name,
};

/// Of a validating policy.
pub(crate) struct ValidatingAdmissionPolicyBinding;

/// Of a mutating policy.
pub(crate) struct MutatingAdmissionPolicyBinding;

static VALIDATING: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    short: &[],
    categories: &["api-extensions"],
    namespaced: false,
    definition: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
};

static MUTATING: Names = Names {
    kind: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    definition: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
    ..VALIDATING
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("PolicyName", "The policy that holds"),
    column::shown("ParamRef", "Its parameters"),
    column::AGE,
];

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];

impl Kind for ValidatingAdmissionPolicyBinding {
    fn names(&self) -> &Names {
        &VALIDATING
    }

    fn counted(&self) -> &[&'static str] {
        &["spec"]
    }

    fn default(&self, object: &mut Value) {
        default_spec(object);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate_spec(object, errors);
        let path = Path::root("spec").field("validationActions");
        let actions = items(object, "/spec/validationActions");
        for (index, action) in actions.iter().enumerate() {
            let path = path.index(index);
            check::one_of(&path, action, ACTIONS, errors);
            if actions[..index].contains(action) {
                errors.push(&path, Cause::Duplicate, action.clone(), "");
            }
        }
        let has = |action: &str| actions.iter().any(|own| own == action);
        if has("Deny") && has("Warn") {
            let shown = part(object, "/spec/validationActions").clone();
            errors.invalid(
                &path,
                shown,
                "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
            );
        }
        if actions.is_empty() {
            errors.required(&path, "at least one validation action is required");
        }
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&VALIDATING)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, now)
    }
}

impl Kind for MutatingAdmissionPolicyBinding {
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
        validate_spec(object, errors);
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&MUTATING)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, now)
    }
}

fn default_spec(object: &mut Value) {
    if let Some(spec) = find(object, "spec") {
        rule::default_resources(find(spec, "matchResources"));
        if let Some(reference) = find(spec, "paramRef") {
            fill(reference, "parameterNotFoundAction", "Deny");
        }
    }
}

fn validate_spec(object: &Value, errors: &mut FieldErrors) {
    let path = Path::root("spec");
    let spec = part(object, "/spec");
    let at = path.field("policyName");
    match text(spec, "/policyName") {
        "" => errors.required(&at, ""),
        policy => check::problems(&at, policy, name::subdomain_problems(policy), errors),
    }
    if present(spec, "/paramRef") {
        validate_reference(&path.field("paramRef"), part(spec, "/paramRef"), errors);
    }
    if present(spec, "/matchResources") {
        let resources = part(spec, "/matchResources");
        rule::validate_resources(&path.field("matchResources"), resources, errors);
    }
}

fn validate_reference(path: &Path, reference: &Value, errors: &mut FieldErrors) {
    const EITHER: &str = "name and selector are mutually exclusive";
    let own = text(reference, "/name");
    let selects = present(reference, "/selector");
    if !own.is_empty() {
        let path = path.field("name");
        check::problems(&path, own, name::segment_problems(own), errors);
        if selects {
            errors.forbidden(&path, EITHER);
        }
    }
    if selects {
        let path = path.field("selector");
        check::selector(&path, part(reference, "/selector"), errors);
        if !own.is_empty() {
            errors.forbidden(&path, EITHER);
        }
    } else if own.is_empty() {
        errors.required(path, "one of name or selector must be specified");
    }
    check::one_of(
        &path.field("parameterNotFoundAction"),
        part(reference, "/parameterNotFoundAction"),
        &["Deny", "Allow"],
        errors,
    );
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let reference = part(object, "/spec/paramRef");
    let shown = match (text(reference, "/name"), text(reference, "/namespace")) {
        ("", _) if present(reference, "/selector") => {
            column::selector(part(reference, "/selector"))
        }
        ("", _) => "<unset>".into(),
        // Whether its kind has namespaces is not said here.
        (name, "") => format!("*/{name}").into(),
        (name, namespace) => format!("{namespace}/{name}").into(),
    };
    vec![
        column::name(object),
        text(object, "/spec/policyName").into(),
        shown,
        column::age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        let yaml = format!("{{spec: {{{spec}}}}}");
        expect.assert_eq(&errors(&ValidatingAdmissionPolicyBinding, &yaml));
    }

    #[test]
    fn it_names_a_policy_and_what_happens() {
        check(
            "policyName: p, validationActions: [Deny, Audit]",
            expect![""],
        );
        check(
            "",
            expect![[r#"
            spec.policyName: Required value
            spec.validationActions: Required value: at least one validation action is required
        "#]],
        );
        check(
            "policyName: p, validationActions: [Deny, Warn, Warn, Stop]",
            expect![[r#"
                spec.validationActions[2]: Duplicate value: "Warn"
                spec.validationActions[3]: Unsupported value: "Stop": supported values: "Audit", "Deny", "Warn"
                spec.validationActions: Invalid value: ["Deny","Warn","Warn","Stop"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)
            "#]],
        );
    }

    #[test]
    fn its_parameters_are_named_or_selected() {
        let reference = |reference: &str| {
            format!("policyName: p, validationActions: [Deny], paramRef: {{{reference}}}")
        };
        check(&reference("name: a"), expect![""]);
        check(
            &reference("name: a, selector: {}, parameterNotFoundAction: Ask"),
            expect![[r#"
                spec.paramRef.name: Forbidden: name and selector are mutually exclusive
                spec.paramRef.selector: Forbidden: name and selector are mutually exclusive
                spec.paramRef.parameterNotFoundAction: Unsupported value: "Ask": supported values: "Deny", "Allow"
            "#]],
        );
        check(
            &reference(""),
            expect![[r#"
                spec.paramRef: Required value: one of name or selector must be specified
            "#]],
        );
    }

    #[test]
    fn a_row_shows_policy_and_parameters() {
        let shown = |reference: &str| {
            let yaml = format!("{{metadata: {{name: b}}, spec: {{policyName: p{reference}}}}}");
            row(&MutatingAdmissionPolicyBinding, &yaml)
        };
        expect!["b|p|<unset>|60m"].assert_eq(&shown(""));
        expect!["b|p|*/a|60m"].assert_eq(&shown(", paramRef: {name: a}"));
        expect!["b|p|d/a|60m"].assert_eq(&shown(", paramRef: {name: a, namespace: d}"));
    }
}
