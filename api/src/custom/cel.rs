//! Rules in CEL (`x-kubernetes-validations`): admitted with a definition, held against objects.
//!
//! - [`cost`]: what a rule may cost at most, from the bounds in the schema. [`scope`]: what it may name.
//! - [`value`]: JSON as CEL values, as the schema has them.
//! - [`evaluate`]: rules against one object.
//!
//! A rule is admitted only if its cost is bounded (`docs/decisions/005-cel-bounds.md`); it runs on a
//! thread for such work, few at a time, within a deadline. It reads the object and nothing else: no
//! clock, no network, no other object.

mod cost;
mod evaluate;
mod scope;
mod value;

use kube_cel::cel::Program;
use serde_json::Value;

pub(crate) use evaluate::{Rules, check};
pub(crate) use value::plain;

use crate::{
    field::{Cause, FieldErrors, Path},
    schema::{self, Rule, Schema},
};
use cost::Estimate;

/// Bytes of an expression.
const LONGEST: usize = 16 * 1024;
/// Brackets within brackets of an expression.
const DEEPEST: usize = 48;
/// Stack for reading and running an expression: chains of operators nest as deep as they are long.
const STACK: usize = 64 * 1024 * 1024;
/// Rules of a whole version.
const MOST_RULES: usize = 500;
/// Bytes of all expressions of a version: reading them takes time by their length.
const MOST_BYTES: usize = 256 * 1024;

const REASONS: &[&str] = &[
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// Says what is wrong with the rules of a version's structural schema: that they cannot be read, name
/// what is not there, or cost too much.
pub(crate) fn admit(json: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut admission = Admission {
        errors,
        total: 0,
        rules: 0,
        bytes: 0,
    };
    admission.node(json, &schema::custom(json), path, &cost::Repeated::once());
    if admission.total > cost::TOTAL {
        let detail = format!(
            "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of {} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
            cost::factor(admission.total, cost::TOTAL)
        );
        errors.forbidden(path, detail);
    }
}

struct Admission<'a> {
    errors: &'a mut FieldErrors,
    total: u64,
    rules: usize,
    bytes: usize,
}

impl Admission<'_> {
    fn node(&mut self, json: &Value, schema: &Schema, path: &Path, repeated: &cost::Repeated) {
        let rules = schema.custom().map_or(&[][..], |custom| &custom.rules);
        for (index, rule) in rules.iter().enumerate() {
            let path = path.field("x-kubernetes-validations").index(index);
            self.rules += 1;
            if self.rules > MOST_RULES {
                let detail = format!("a version must have at most {MOST_RULES} rules");
                self.errors.forbidden(&path, detail);
                return;
            }
            self.bytes += rule.rule.len() + rule.message_expression.len();
            if self.bytes > MOST_BYTES {
                let detail = format!(
                    "the expressions of a version may have at most {MOST_BYTES} bytes together"
                );
                self.errors.forbidden(&path, detail);
                return;
            }
            self.rule(rule, schema, &path, repeated);
        }
        for (name, inner) in json["properties"].as_object().into_iter().flatten() {
            if let Some(schema) = schema.property(name) {
                self.node(
                    inner,
                    &schema,
                    &path.field("properties").key(name),
                    repeated,
                );
            }
        }
        let inner = [
            ("items", schema.items()),
            ("additionalProperties", schema.values()),
        ];
        for (key, schema_of) in inner {
            if let Some(inner) = schema_of.filter(|_| json[key].is_object()) {
                let repeated = repeated.within(schema, path);
                self.node(&json[key], &inner, &path.field(key), &repeated);
            }
        }
    }

    fn rule(&mut self, rule: &Rule, schema: &Schema, path: &Path, repeated: &cost::Repeated) {
        let own = path.field("rule");
        if rule.rule.trim().is_empty() {
            self.errors.required(&own, "rule is not specified");
            return;
        }
        self.expression(&rule.rule, schema, &own, repeated, Wanted::Truth);
        if !rule.message_expression.is_empty() {
            let path = path.field("messageExpression");
            self.expression(
                &rule.message_expression,
                schema,
                &path,
                repeated,
                Wanted::Text,
            );
        }
        if rule.message.contains(['\n', '\r']) {
            let detail = "message must not contain line breaks";
            self.errors
                .invalid(&path.field("message"), rule.message.as_str(), detail);
        } else if !rule.message.is_empty() && rule.message.trim().is_empty() {
            let detail = "message must be non-empty if specified";
            self.errors
                .invalid(&path.field("message"), rule.message.as_str(), detail);
        } else if rule.message.is_empty() && rule.rule.contains('\n') {
            let detail = "message must be specified if rule contains line breaks";
            self.errors.required(&path.field("message"), detail);
        }
        if !rule.reason.is_empty() && !REASONS.contains(&rule.reason.as_str()) {
            self.errors
                .not_supported(&path.field("reason"), rule.reason.as_str(), REASONS);
        }
        if !rule.field_path.is_empty() && !leads(schema, &rule.field_path) {
            let detail = "fieldPath must be a valid path: does not refer to a valid field";
            self.errors
                .invalid(&path.field("fieldPath"), rule.field_path.as_str(), detail);
        }
        if rule.optional_old_self.is_some()
            && read(&rule.rule).is_ok_and(|program| !program.references().has_variable("oldSelf"))
        {
            let detail = "may not be set if oldSelf is not used in rule";
            self.errors.invalid(
                &path.field("optionalOldSelf"),
                rule.optional_old_self,
                detail,
            );
        }
    }

    fn expression(
        &mut self,
        text: &str,
        schema: &Schema,
        path: &Path,
        repeated: &cost::Repeated,
        wanted: Wanted,
    ) {
        let invalid = |errors: &mut FieldErrors, problem: String| {
            errors.push(
                path,
                Cause::Invalid,
                text.into(),
                format!("compilation failed: {problem}"),
            );
        };
        let program = match read(text) {
            Ok(program) => program,
            Err(problem) => return invalid(self.errors, problem),
        };
        // As deep as the expression nests, and that is as long as it is at most.
        let (problem, estimate) = stacker::grow(STACK, || {
            let problem = scope::problem(program.expression(), schema, wanted);
            (problem, cost::estimate(program.expression(), schema))
        });
        if let Some(problem) = problem {
            return invalid(self.errors, problem);
        }
        let estimate = match estimate {
            Ok(estimate) => repeated.times(estimate),
            Err(problem) => {
                self.errors.forbidden(
                    path,
                    format!("the cost of the rule cannot be bounded: {problem}"),
                );
                return;
            }
        };
        self.total = self.total.saturating_add(estimate.cost);
        if estimate.cost > cost::BUDGET {
            let factor = cost::factor(estimate.cost, cost::BUDGET);
            let Estimate { unbounded, .. } = estimate;
            let hint = unbounded
                .map(|bound| format!("; {bound}"))
                .unwrap_or_default();
            self.errors.forbidden(
                path,
                format!(
                    "estimated rule cost exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared{hint})"
                ),
            );
        }
    }
}

/// What an expression must come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Truth,
    Text,
}

/// Reads an expression within bounds; a panic of the parser is a refusal.
fn read(text: &str) -> Result<Program, String> {
    if text.len() > LONGEST {
        return Err(format!("the expression is longer than {LONGEST} bytes"));
    }
    let mut depth = 0_usize;
    for letter in text.chars() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(format!("the expression nests deeper than {DEEPEST}"));
        }
    }
    let read = || stacker::grow(STACK, || Program::compile(text));
    match std::panic::catch_unwind(read) {
        Ok(Ok(program)) => Ok(program),
        // What follows the first line draws where that is.
        Ok(Err(error)) => Err(error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()),
        Err(_) => Err("the expression cannot be read".to_owned()),
    }
}

/// Whether a field path leads to a field of the schema: `.spec.name`, `['a']['b']`.
fn leads(schema: &Schema, path: &str) -> bool {
    let Some(steps) = super::path::fields(path) else {
        return false;
    };
    let mut at = schema.clone();
    for step in steps {
        match at.property(&step).or_else(|| at.values()) {
            Some(next) => at = next,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests;
