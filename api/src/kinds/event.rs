//! Event: something that happened to an object, for people to read.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, check, column,
    value::{number, part, present, text},
};
use crate::{
    field::{FieldErrors, Path},
    name, object,
    time::since,
};

/// The kind.
pub(crate) struct Event;

pub(crate) static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &["ev"],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.core.v1.Event",
};

const COLUMNS: &[Column] = &[
    column::shown("Last Seen", "Time since it was last seen"),
    column::shown("Type", "Normal or Warning"),
    column::shown("Reason", "One word for why"),
    column::shown("Object", "What it happened to"),
    column::wide("Subobject", "The part of the object"),
    column::wide("Source", "Who reports it"),
    column::shown("Message", "What happened, in words"),
    column::wide("First Seen", "Time since it was first seen"),
    Column {
        priority: 1,
        ..column::count("Count", "How often it was seen")
    },
    Column {
        priority: 1,
        ..column::NAME
    },
];

const FIELDS: &[(&str, &str)] = &[
    ("involvedObject.kind", "/involvedObject/kind"),
    ("involvedObject.namespace", "/involvedObject/namespace"),
    ("involvedObject.name", "/involvedObject/name"),
    ("involvedObject.uid", "/involvedObject/uid"),
    ("involvedObject.apiVersion", "/involvedObject/apiVersion"),
    (
        "involvedObject.resourceVersion",
        "/involvedObject/resourceVersion",
    ),
    ("involvedObject.fieldPath", "/involvedObject/fieldPath"),
    ("reason", "/reason"),
    ("reportingComponent", "/reportingComponent"),
    ("source", "/source/component"),
    ("type", "/type"),
];

impl Kind for Event {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate(object, "reportingComponent", errors);
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        FIELDS
            .iter()
            .map(|(field, pointer)| {
                let value = match (*field, text(object, pointer)) {
                    ("source", "") => text(object, "/reportingComponent"),
                    (_, value) => value,
                };
                (*field, value.to_owned())
            })
            .collect()
    }

    fn field_names(&self) -> &[&'static str] {
        const NAMES: [&str; FIELDS.len()] = {
            let mut names = [""; FIELDS.len()];
            let mut index = 0;
            while index < names.len() {
                names[index] = FIELDS[index].0;
                index += 1;
            }
            names
        };
        &NAMES
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let first_of = |pointers: &[&str]| {
            let found = pointers.iter().find(|pointer| present(object, pointer));
            found.map_or(&Value::Null, |pointer| part(object, pointer))
        };
        let first = first_of(&["/firstTimestamp", "/eventTime"]);
        let last = first_of(&[
            "/series/lastObservedTime",
            "/lastTimestamp",
            "/firstTimestamp",
            "/eventTime",
        ]);
        let count = number(object, "/series/count")
            .or_else(|| number(object, "/count").filter(|count| *count > 0))
            .unwrap_or(1);
        let kind = text(object, "/involvedObject/kind").to_lowercase();
        let about = match text(object, "/involvedObject/name") {
            "" => kind,
            name => format!("{kind}/{name}"),
        };
        vec![
            since(last, now).into(),
            text(object, "/type").into(),
            text(object, "/reason").into(),
            about.into(),
            text(object, "/involvedObject/fieldPath").into(),
            source(object).into(),
            text(object, "/message").trim().into(),
            since(first, now).into(),
            count.into(),
            column::name(object),
        ]
    }
}

/// What is wrong with an event; `reporter` is what its version calls `reportingComponent`.
pub(crate) fn validate(object: &Value, reporter: &str, errors: &mut FieldErrors) {
    let (of, own) = (
        text(object, "/involvedObject/namespace"),
        object::namespace(object),
    );
    let is_new = present(object, "/eventTime");
    // Events about cluster-scoped objects live in `default`.
    let fits = match (of, is_new) {
        ("", false) => ["", "default"].contains(&own),
        ("", true) => ["default", "kube-system"].contains(&own),
        (of, false) => of == own,
        (_, true) => true,
    };
    if !fits {
        let path = Path::root("involvedObject").field("namespace");
        errors.invalid(&path, of, "does not match event.namespace");
    }
    if !is_new {
        return;
    }
    let component = text(object, "/reportingComponent");
    let path = Path::root(reporter);
    if component.is_empty() {
        errors.required(&path, "");
    }
    check::problems(
        &path,
        component,
        name::qualified_problems(component),
        errors,
    );
    for (field, required, most) in [
        ("reportingInstance", true, 128),
        ("action", true, 128),
        ("reason", true, 128),
        ("message", false, 1024),
    ] {
        let given = object[field].as_str().unwrap_or_default();
        if given.is_empty() && required {
            errors.required(&Path::root(field), "");
        }
        if given.len() > most {
            let detail = format!("can have at most {most} characters");
            errors.invalid(&Path::root(field), "", detail);
        }
    }
}

/// The component that reports, and where it runs.
fn source(object: &Value) -> String {
    let either = |old: &str, new: &str| match text(object, old) {
        "" => text(object, new).to_owned(),
        text => text.to_owned(),
    };
    let component = either("/source/component", "/reportingComponent");
    let host = either("/source/host", "/reportingInstance");
    [component, host]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row};

    #[test]
    fn a_row_says_what_happened_to_what() {
        expect!["5m|Normal|Pulled|pod/web|spec.containers{a}|kubelet, n1|got it|60m|3|web.1"]
            .assert_eq(&row(
                &Event,
                "{metadata: {name: web.1}, type: Normal, reason: Pulled, message: got it, count: 3, \
                 involvedObject: {kind: Pod, name: web, fieldPath: 'spec.containers{a}'}, \
                 source: {component: kubelet, host: n1}, \
                 firstTimestamp: '2026-01-01T00:00:00Z', lastTimestamp: '2026-01-01T00:55:00Z'}",
            ));
    }

    #[test]
    fn it_lives_beside_its_object() {
        expect![[r#"
            involvedObject.namespace: Invalid value: "b": does not match event.namespace
        "#]]
        .assert_eq(&errors(
            &Event,
            "{metadata: {namespace: a}, involvedObject: {namespace: b}}",
        ));
    }
}
