//! Triggers: what else calls a Function than requests from outside.

use serde_json::Value;

use super::route;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        batch::cron_job,
        check,
        value::{fill_text, find, items, part, present, text},
    },
    name,
};

const METHODS: &[&str] = &["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];
const LONGEST_BODY: usize = 64 << 10;

/// Fills in a trigger.
pub(super) fn default(trigger: &mut Value) {
    if let Some(cron) = find(trigger, "cron") {
        fill_text(cron, "method", "POST");
        fill_text(cron, "path", "/");
    }
    if let Some(letter) = find(trigger, "deadLetter") {
        fill_text(letter, "path", "/");
    }
}

/// Checks the triggers of a spec.
pub(super) fn validate(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let mut names = check::Seen::new();
    for (index, trigger) in items(spec, "/triggers").iter().enumerate() {
        let path = path.index(index);
        let given = text(trigger, "/name");
        if given.is_empty() {
            errors.required(&path.field("name"), "");
        } else {
            let problems = name::label_problems(given);
            check::problems(&path.field("name"), given, problems, errors);
            check::unique(&path.field("name"), given, &mut names, errors);
        }
        if present(trigger, "/cron") {
            validate_cron(&path.field("cron"), part(trigger, "/cron"), errors);
        } else {
            errors.required(&path, "must specify one of: `cron`");
        }
        if present(trigger, "/deadLetter") {
            let path = path.field("deadLetter");
            validate_dead_letter(&path, part(trigger, "/deadLetter"), errors);
        }
    }
}

fn validate_dead_letter(path: &Path, letter: &Value, errors: &mut FieldErrors) {
    let function = text(letter, "/function");
    if function.is_empty() {
        errors.required(&path.field("function"), "");
    } else {
        let problems = name::letter_label_problems(function);
        check::problems(&path.field("function"), function, problems, errors);
    }
    route::validate_path(&path.field("path"), text(letter, "/path"), errors);
}

fn validate_cron(path: &Path, cron: &Value, errors: &mut FieldErrors) {
    cron_job::validate_schedule(&path.field("schedule"), cron, errors);
    if let Some(zone) = part(cron, "/timeZone").as_str() {
        cron_job::validate_zone(&path.field("timeZone"), zone, errors);
    }
    check::one_of(
        &path.field("method"),
        part(cron, "/method"),
        METHODS,
        errors,
    );
    route::validate_path(&path.field("path"), text(cron, "/path"), errors);
    if text(cron, "/body").len() > LONGEST_BODY {
        check::too_long(&path.field("body"), LONGEST_BODY, errors);
    }
    check::not_negative(
        &path.field("startingDeadlineSeconds"),
        part(cron, "/startingDeadlineSeconds"),
        errors,
    );
}
