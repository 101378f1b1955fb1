//! Event of events.k8s.io: the objects of the core group's Event, under newer names.
//!
//! It is stored as the core group's. What is written here must be a new event: the older fields, now
//! `deprecated…`, are kept of events that were written there, and may not be set here.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Conversion, Kind, Names,
        conversion::rename,
        event::{self, Event as CoreEvent},
        value::{fill, number, part, present, put, text},
    },
};

/// The kind.
pub(crate) struct Event;

static NAMES: Names = Names {
    group: "events.k8s.io",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &["ev"],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.events.v1.Event",
};

static CONVERSION: Conversion = Conversion {
    stored: &event::NAMES,
    to_stored,
    to_served,
};

/// A field's name here and in the core group.
const RENAMED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn to_stored(object: &mut Value) {
    for (here, core) in RENAMED {
        rename(object, here, core);
    }
    fill(object, "involvedObject", serde_json::Map::new());
    if !present(object, "/eventTime") {
        put(object, "eventTime", Value::Null);
    }
}

fn to_served(object: &mut Value) {
    for (here, core) in RENAMED {
        rename(object, core, here);
    }
    // Required by the schema, unknown of older events.
    if let Some(fields) = object.as_object_mut() {
        fields.entry("eventTime").or_insert(Value::Null);
    }
}

/// A selectable field's name here and where the stored object has it.
const FIELDS: &[(&str, &str)] = &[
    ("reason", "/reason"),
    ("regarding.kind", "/involvedObject/kind"),
    ("regarding.namespace", "/involvedObject/namespace"),
    ("regarding.name", "/involvedObject/name"),
    ("regarding.uid", "/involvedObject/uid"),
    ("regarding.apiVersion", "/involvedObject/apiVersion"),
    (
        "regarding.resourceVersion",
        "/involvedObject/resourceVersion",
    ),
    ("regarding.fieldPath", "/involvedObject/fieldPath"),
    ("reportingController", "/reportingComponent"),
    ("type", "/type"),
];

const FIELD_NAMES: [&str; FIELDS.len()] = {
    let mut names = [""; FIELDS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = FIELDS[index].0;
        index += 1;
    }
    names
};

/// What must be as it was; only the series may go on.
const FROZEN: &[&str] = &[
    "regarding",
    "reason",
    "note",
    "deprecatedSource",
    "deprecatedFirstTimestamp",
    "deprecatedLastTimestamp",
    "deprecatedCount",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingController",
    "reportingInstance",
];

impl Kind for Event {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn conversion(&self) -> Option<&'static Conversion> {
        Some(&CONVERSION)
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let mut stored = object.clone();
        CONVERSION.store(&mut stored);
        event::validate(&stored, "reportingController", errors);
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        validate_series(part(object, "/series"), errors);
        if !present(object, "/eventTime") {
            errors.required(&Path::root("eventTime"), "");
        }
        let kind = text(object, "/type");
        if !["Normal", "Warning"].contains(&kind) {
            errors.invalid(
                &Path::root("type"),
                "",
                format!("has invalid value: {kind}"),
            );
        }
        for (field, core) in RENAMED {
            let set = match part(object, "").get(field) {
                None | Some(Value::Null) => false,
                Some(Value::Object(fields)) => !fields.is_empty(),
                Some(value) => value != 0,
            };
            if field.starts_with("deprecated") && set {
                errors.invalid(&Path::root(core), "", "needs to be unset");
            }
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        if part(object, "/series") != part(old, "/series") {
            validate_series(part(object, "/series"), errors);
        }
        for field in FROZEN {
            let (new, old) = (&object[*field], &old[*field]);
            if new != old {
                errors.invalid(&Path::root(field), new.clone(), "field is immutable");
            }
        }
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        FIELDS
            .iter()
            .map(|(field, pointer)| (*field, text(object, pointer).to_owned()))
            .collect()
    }

    fn field_names(&self) -> &[&'static str] {
        &FIELD_NAMES
    }

    fn columns(&self) -> &[Column] {
        CoreEvent.columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut stored = object.clone();
        CONVERSION.store(&mut stored);
        CoreEvent.cells(&stored, now)
    }
}

fn validate_series(series: &Value, errors: &mut FieldErrors) {
    if series.is_null() {
        return;
    }
    if number(series, "/count").unwrap_or(0) < 2 {
        errors.invalid(&Path::root("series.count"), "", "should be at least 2");
    }
    if !present(series, "/lastObservedTime") {
        errors.required(&Path::root("series.lastObservedTime"), "");
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{create_errors, read, row, update_errors};

    const NEW: &str = "metadata: {namespace: a}, regarding: {namespace: a}, eventTime: \
                       '2026-01-01T00:00:00.000000Z', type: Normal, reason: R, action: A, \
                       reportingController: c.io/x, reportingInstance: i";

    #[track_caller]
    fn check(event: &str, expect: Expect) {
        expect.assert_eq(&create_errors(&Event, &format!("{{{event}}}")));
    }

    #[test]
    fn it_is_stored_under_the_older_names_and_comes_back() {
        let served = read(
            "{apiVersion: events.k8s.io/v1, kind: Event, metadata: {name: a}, note: hi, regarding: {kind: \
             Pod}, reportingController: c, eventTime: t, deprecatedCount: 3, series: {count: 2}}",
        );
        let mut object = served.clone();
        CONVERSION.store(&mut object);
        expect![[r#"{"apiVersion":"v1","count":3,"eventTime":"t","involvedObject":{"kind":"Pod"},"kind":"Event","message":"hi","metadata":{"name":"a"},"reportingComponent":"c","series":{"count":2}}"#]]
            .assert_eq(&object.to_string());
        CONVERSION.serve(&mut object, &NAMES);
        assert_eq!(object, served);
    }

    #[test]
    fn a_new_event_is_complete_and_has_none_of_the_older_fields() {
        check(NEW, expect![[""]]);
        check(
            "metadata: {namespace: default}, type: Odd, deprecatedCount: 1, deprecatedSource: \
             {component: c}, series: {count: 1}",
            expect![[r#"
                series.count: Invalid value: "": should be at least 2
                series.lastObservedTime: Required value
                eventTime: Required value
                type: Invalid value: "": has invalid value: Odd
                source: Invalid value: "": needs to be unset
                count: Invalid value: "": needs to be unset
            "#]],
        );
        check(
            "metadata: {namespace: a}, eventTime: '2026-01-01T00:00:00.000000Z', type: Normal",
            expect![[r#"
                involvedObject.namespace: Invalid value: "": does not match event.namespace
                reportingController: Required value
                reportingController: Invalid value: "": name part must be non-empty
                reportingController: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                reportingInstance: Required value
                action: Required value
                reason: Required value
            "#]],
        );
    }

    #[test]
    fn only_its_series_goes_on() {
        expect![[r#"
            note: Invalid value: "b": field is immutable
        "#]]
        .assert_eq(&update_errors(
            &Event,
            &format!("{{{NEW}, note: a}}"),
            &format!("{{{NEW}, note: b, series: {{count: 2, lastObservedTime: t}}}}"),
        ));
    }

    #[test]
    fn its_row_is_the_core_events() {
        expect!["60m|Normal|R|pod/web||c, i|hello|60m|1|web.1"].assert_eq(&row(
            &Event,
            "{metadata: {name: web.1}, type: Normal, reason: R, note: hello, regarding: {kind: Pod, \
             name: web}, reportingController: c, reportingInstance: i, eventTime: \
             '2026-01-01T00:00:00.000000Z'}",
        ));
    }
}
