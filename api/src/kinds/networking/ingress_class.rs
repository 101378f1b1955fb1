//! IngressClass: which controller acts on the Ingresses that name it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{GROUP, validate_reference};
use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        Column, Kind, Names, check, column,
        value::{fill, find, part, present, text},
    },
    name,
};

/// The kind.
pub(crate) struct IngressClass;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    short: &[],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.networking.v1.IngressClass",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Controller", "The controller that acts on its Ingresses"),
    column::shown("Parameters", "The object that configures the controller"),
    column::AGE,
];

/// Bytes that a controller's name may have.
const CONTROLLER: usize = 250;

impl Kind for IngressClass {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn counted(&self) -> &[&'static str] {
        &["spec"]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "spec", json!({}));
        if let Some(parameters) = find(object, "spec").and_then(|spec| find(spec, "parameters")) {
            fill(parameters, "scope", "Cluster");
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let controller = text(object, "/spec/controller");
        let at = path.field("controller");
        if controller.len() > CONTROLLER {
            errors.push(
                &at,
                Cause::TooLong,
                Value::Null,
                format!("may not be more than {CONTROLLER} bytes"),
            );
        }
        check::domain_path(&at, controller, errors);
        let parameters = part(object, "/spec/parameters");
        if !parameters.is_null() {
            validate_parameters(&path.field("parameters"), parameters, errors);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec").field("controller");
        check::immutable(&path, object, old, "/spec/controller", errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let parameters = part(object, "/spec/parameters");
        let shown = match (text(parameters, "/kind"), text(parameters, "/apiGroup")) {
            _ if parameters.is_null() => String::new(),
            (kind, "") => format!("{kind}/{}", text(parameters, "/name")),
            (kind, group) => format!("{kind}.{group}/{}", text(parameters, "/name")),
        };
        vec![
            column::name(object),
            text(object, "/spec/controller").into(),
            column::or_none(&shown),
            column::age(object, now),
        ]
    }
}

fn validate_parameters(path: &Path, parameters: &Value, errors: &mut FieldErrors) {
    validate_reference(path, parameters, errors);
    let namespace = path.field("namespace");
    match text(parameters, "/scope") {
        "Namespace" => match part(parameters, "/namespace").as_str() {
            None => errors.required(&namespace, "`parameters.scope` is set to 'Namespace'"),
            Some(given) => check::problems(&namespace, given, name::label_problems(given), errors),
        },
        "Cluster" => {
            if present(parameters, "/namespace") {
                errors.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'");
            }
        }
        other => errors.not_supported(&path.field("scope"), other, &["Cluster", "Namespace"]),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[track_caller]
    fn check(yaml: &str, expect: Expect) {
        expect.assert_eq(&errors(&IngressClass, yaml));
    }

    #[test]
    fn a_controller_has_a_domain_and_a_path() {
        check("{spec: {controller: example.com/ingress}}", expect![""]);
        check(
            "{spec: {controller: ingress}}",
            expect![[r#"
                spec.controller: Invalid value: "ingress": must be a domain-prefixed path (such as "acme.io/foo")
            "#]],
        );
        check(
            "{}",
            expect![[r#"
            spec.controller: Required value
        "#]],
        );
    }

    #[test]
    fn parameters_are_in_a_namespace_or_in_none() {
        check(
            "{spec: {controller: a.b/c, parameters: {kind: K, name: p, namespace: x}}}",
            expect![[r#"
                spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'
            "#]],
        );
        check(
            "{spec: {controller: a.b/c, parameters: {scope: Namespace}}}",
            expect![[r#"
                spec.parameters.kind: Required value: kind is required
                spec.parameters.name: Required value: name is required
                spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'
            "#]],
        );
    }

    #[test]
    fn the_controller_never_changes() {
        expect![[r#"
            spec.controller: Invalid value: "b.c/d": field is immutable
        "#]]
        .assert_eq(&update_errors(
            &IngressClass,
            "{spec: {controller: a.b/c}}",
            "{spec: {controller: b.c/d}}",
        ));
    }

    #[test]
    fn a_row_shows_the_parameters() {
        expect!["nginx|a.b/c|K.example.com/p|60m"].assert_eq(&row(
            &IngressClass,
            "{metadata: {name: nginx}, spec: {controller: a.b/c, parameters: {kind: K, apiGroup: \
             example.com, name: p}}}",
        ));
    }
}
