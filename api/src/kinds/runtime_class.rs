//! RuntimeClass: which runtime runs a pod, what it costs and where it is.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, check, column,
    pod::validation::validate_toleration,
    value::{entries, items, text},
};
use crate::{
    field::{Cause, FieldErrors, Path},
    name,
};

/// The kind.
pub(crate) struct RuntimeClass;

static NAMES: Names = Names {
    group: "node.k8s.io",
    version: "v1",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    short: &[],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.node.v1.RuntimeClass",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Handler", "The runtime as the node knows it"),
    column::AGE,
];

impl Kind for RuntimeClass {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let handler = text(object, "/handler");
        let problems = name::label_problems(handler);
        check::problems(&Path::root("handler"), handler, problems, errors);
        for (resource, amount) in entries(object, "/overhead/podFixed") {
            let path = Path::root("overhead").field("limits").key(resource);
            check::quantity(&path, amount, errors);
        }
        let path = Path::root("scheduling");
        let selector = path.field("nodeSelector");
        check::labels(&selector, object, "/scheduling/nodeSelector", errors);
        let tolerations = items(object, "/scheduling/tolerations");
        let mut seen = HashSet::new();
        for (index, toleration) in tolerations.iter().enumerate() {
            let path = path.field("tolerations").index(index);
            validate_toleration(&path, toleration, errors);
            let own =
                ["/key", "/operator", "/value", "/effect"].map(|field| text(toleration, field));
            if !seen.insert(own) {
                errors.push(&path, Cause::Duplicate, toleration.clone(), "");
            }
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(&Path::root("handler"), object, old, "/handler", errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            text(object, "/handler").into(),
            column::age(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[test]
    fn everything_wrong_is_said_at_once() {
        expect![[r#"
            handler: Invalid value: "W": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0
            scheduling.tolerations[1]: Duplicate value: {"key":"a","operator":"Exists"}
            scheduling.tolerations[2].operator: Unsupported value: "Near": supported values: "Equal", "Exists"
        "#]]
        .assert_eq(&errors(
            &RuntimeClass,
            "{handler: W, overhead: {podFixed: {cpu: '-1', memory: 1Mi}}, scheduling: {tolerations: \
             [{key: a, operator: Exists}, {key: a, operator: Exists}, {key: a, operator: Near}]}}",
        ));
    }

    #[test]
    fn the_handler_never_changes() {
        expect![[r#"
            handler: Invalid value: "oci": field is immutable
        "#]]
        .assert_eq(&update_errors(
            &RuntimeClass,
            "{handler: wasm}",
            "{handler: oci}",
        ));
        expect!["w|wasm|60m"]
            .assert_eq(&row(&RuntimeClass, "{metadata: {name: w}, handler: wasm}"));
    }
}
