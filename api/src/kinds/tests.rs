//! How the kinds' tests write objects and show what comes of them.

use jiff::Timestamp;
use serde_json::Value;

use super::{Kind, Registry};
use crate::field::FieldErrors;

/// Reads YAML.
#[track_caller]
pub(crate) fn read(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).expect("a test's YAML reads")
}

/// The object with its defaults, as JSON in one line.
#[track_caller]
pub(crate) fn defaulted(kind: &dyn Kind, yaml: &str) -> String {
    complete(kind, yaml).to_string()
}

/// What is wrong with an object once defaults are in, a line each.
#[track_caller]
pub(crate) fn errors(kind: &dyn Kind, yaml: &str) -> String {
    let mut errors = FieldErrors::default();
    kind.validate(&complete(kind, yaml), &mut errors);
    lines(&errors)
}

/// What is wrong with a new object, a line each.
#[track_caller]
pub(crate) fn create_errors(kind: &dyn Kind, yaml: &str) -> String {
    let mut errors = FieldErrors::default();
    let mut object = complete(kind, yaml);
    kind.prepare_create(&mut object);
    kind.validate_create(&object, &mut errors);
    kind.validate(&object, &mut errors);
    lines(&errors)
}

/// What is wrong with a change, a line each.
#[track_caller]
pub(crate) fn update_errors(kind: &dyn Kind, old: &str, new: &str) -> String {
    let mut errors = FieldErrors::default();
    let old = complete(kind, old);
    let mut new = complete(kind, new);
    kind.prepare_update(&mut new, &old);
    kind.validate_update(&new, &old, &mut errors);
    lines(&errors)
}

/// What is wrong with a write of the status alone of a new object, a line each.
#[track_caller]
pub(crate) fn status_errors(kind: &dyn Kind, new: &str) -> String {
    status_update_errors(kind, "{}", new)
}

/// What is wrong with a write of the status alone, a line each.
#[track_caller]
pub(crate) fn status_update_errors(kind: &dyn Kind, old: &str, new: &str) -> String {
    let mut errors = FieldErrors::default();
    let old = complete(kind, old);
    let mut new = complete(kind, new);
    kind.prepare_status(&mut new, &old);
    kind.validate_status(&new, &old, &mut errors);
    lines(&errors)
}

/// An object's row, made an hour before one o'clock on New Year's Day 2026, which is now.
#[track_caller]
pub(crate) fn row(kind: &dyn Kind, yaml: &str) -> String {
    let mut object = complete(kind, yaml);
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a timestamp");
    let cells: Vec<_> = kind
        .cells(&object, now)
        .iter()
        .map(super::value::plain)
        .collect();
    assert_eq!(cells.len(), kind.columns().len());
    cells.join("|")
}

fn complete(kind: &dyn Kind, yaml: &str) -> Value {
    let mut object = read(yaml);
    kind.default(&mut object);
    object
}

fn lines(errors: &FieldErrors) -> String {
    errors.0.iter().map(|error| format!("{error}\n")).collect()
}

#[test]
fn defaults_are_stable() {
    for kind in Registry::builtin().all() {
        let mut once = read("{metadata: {name: a}, spec: {ports: [{port: 80}], template: {}}}");
        kind.default(&mut once);
        let mut twice = once.clone();
        kind.default(&mut twice);
        assert_eq!(once, twice, "{}", kind.names().kind);
    }
}

#[test]
fn an_empty_object_is_no_surprise() {
    for kind in Registry::builtin().all() {
        for yaml in [
            "{}",
            "{metadata: null, spec: null, status: null}",
            "{spec: [], data: 1}",
        ] {
            let mut object = read(yaml);
            kind.default(&mut object);
            kind.prepare_create(&mut object);
            kind.prepare_update(&mut object, &read(yaml));
            kind.prepare_status(&mut object, &read(yaml));
            kind.validate(&object, &mut FieldErrors::default());
            kind.validate_create(&object, &mut FieldErrors::default());
            kind.validate_update(&object, &read(yaml), &mut FieldErrors::default());
            kind.validate_status(&object, &read(yaml), &mut FieldErrors::default());
            kind.warnings(&object);
            kind.cells(&object, Timestamp::UNIX_EPOCH);
            let names: Vec<_> = kind
                .fields(&object)
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            assert_eq!(names, kind.field_names(), "{}", kind.names().kind);
        }
    }
}
