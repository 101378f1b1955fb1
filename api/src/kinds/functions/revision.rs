//! FunctionRevision: what a Function was at one time. All of its spec but `replicas` is immutable.

use std::{borrow::Cow, collections::BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, function::readiness, template};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, ScalePaths, Subresource, check, column,
        value::{child, entries, fill, items, number, part, text, truth},
        write,
    },
    name,
};

/// The kind.
pub(crate) struct FunctionRevision;

static NAMES: Names = Names {
    group: GROUP,
    version: function_kinds::VERSION,
    kind: "FunctionRevision",
    plural: "functionrevisions",
    singular: "functionrevision",
    short: &["fnrev"],
    categories: &["all"],
    namespaced: true,
    definition: "dev.wk.functions.v1.FunctionRevision",
};

static SCALE: ScalePaths = ScalePaths {
    spec_replicas: Cow::Borrowed("/spec/replicas"),
    status_replicas: Cow::Borrowed("/status/replicas"),
    selector: Cow::Borrowed(""),
};

/// The one field of the spec that may change.
const REPLICAS: &str = "replicas";

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Function", "Whose revision it is"),
    column::shown("Ready", "Whether it can serve"),
    column::shown("Reason", "Why not"),
    column::shown("Runtime", "What runs the image"),
    column::shown(
        "Nodes",
        "Nodes that are ready to serve it, of those that looked",
    ),
    column::count("Replicas", "Pods of a container that there are"),
    column::AGE,
    column::wide("Image", "What it was made of"),
    column::wide("Digest", "What that meant, and runs"),
];

impl Kind for FunctionRevision {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Log, Subresource::Scale, Subresource::Status]
    }

    fn scale_paths(&self) -> &ScalePaths {
        &SCALE
    }

    /// A Service of the same name leads to its pods.
    fn name_problems(&self, given: &str) -> Vec<String> {
        name::letter_label_problems(given)
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", write::empty());
        if let Some(spec) = child(object, "spec") {
            template::default(spec);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        template::validate(&Path::root("spec"), part(object, "/spec"), errors);
        check::counts(object, "spec", &[REPLICAS], errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let fields: BTreeSet<&String> = [object, old]
            .into_iter()
            .flat_map(|object| entries(object, "/spec"))
            .map(|(field, _)| field)
            .filter(|field| *field != REPLICAS)
            .collect();
        for field in fields {
            let path = Path::root("spec").field(field);
            check::immutable(&path, object, old, &format!("/spec/{field}"), errors);
        }
    }

    fn validate_status(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        check::replica_counts(object, &["readyReplicas"], errors);
        if !text(old, "/status/digest").is_empty() {
            let path = Path::root("status").field("digest");
            check::immutable(&path, object, old, "/status/digest", errors);
        }
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [ready, reason] = readiness(object);
        let label = &object["metadata"]["labels"][function_kinds::FUNCTION_LABEL];
        let nodes = items(object, "/status/nodes");
        let able = nodes.iter().filter(|node| truth(node, "/ready")).count();
        vec![
            column::name(object),
            column::or_none(label.as_str().unwrap_or_default()),
            ready,
            reason,
            column::or_none(text(object, "/status/runtime")),
            format!("{able}/{}", nodes.len()).into(),
            number(object, "/status/replicas").unwrap_or(0).into(),
            column::age(object, now),
            text(object, "/spec/image").into(),
            column::or_none(text(object, "/status/digest")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{row, status_update_errors, update_errors};

    #[test]
    fn only_the_number_of_pods_may_change() {
        let old = "{spec: {image: a, env: [{name: A, value: b}]}}";
        let new = "{spec: {image: a, env: [{name: A, value: b}], replicas: 3}}";
        assert_eq!(update_errors(&FunctionRevision, old, new), "");
        expect![[r#"
            spec.env: Invalid value: null: field is immutable
            spec.image: Invalid value: "b": field is immutable
            spec.port: Invalid value: 80: field is immutable
            spec.scale: Invalid value: {"idleSeconds":60,"max":10,"min":0}: field is immutable
        "#]]
        .assert_eq(&update_errors(
            &FunctionRevision,
            old,
            "{spec: {image: b, port: 80}}",
        ));
    }

    #[test]
    fn what_its_image_means_is_said_once() {
        let [none, one, two] = ["{}", "{digest: 'sha256:1'}", "{digest: 'sha256:2'}"]
            .map(|status| format!("{{spec: {{image: a}}, status: {status}}}"));
        let check = |old: &str, new: &str| status_update_errors(&FunctionRevision, old, new);
        assert_eq!(check(&none, &one), "");
        assert_eq!(check(&one, &one), "");
        expect![[r#"
            status.digest: Invalid value: "sha256:2": field is immutable
        "#]]
        .assert_eq(&check(&one, &two));
    }

    #[test]
    fn a_row_counts_nodes_and_pods() {
        expect!["hello-00001|hello|True||wasm|1/2|0|60m|i|sha256:0"].assert_eq(&row(
            &FunctionRevision,
            "{metadata: {name: hello-00001, labels: {functions.wk.dev/function: hello}}, spec: {image: i}, status: \
             {runtime: wasm, digest: 'sha256:0', nodes: [{name: a, ready: true}, {name: b, ready: false}], conditions: [{type: Ready, \
             status: 'True', reason: Compiled}]}}",
        ));
    }
}
