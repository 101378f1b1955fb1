//! Match conditions: expressions in CEL over `request`, `object` and `oldObject`, all of which must hold.
//!
//! An expression is bounded in length and nesting, read on a stack of its own, and evaluated on a thread
//! that may block, a few at once, within a deadline. One that cannot be stopped only holds its place.

use std::time::Duration;

use kube_cel::{
    KubeCelExt,
    cel::{Context, Program, Value as Cel},
};
use serde_json::Value;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use crate::custom::cel::plain;

/// Characters of an expression.
const LENGTH: usize = 8 * 1024;
/// Brackets and operators that may stand inside one another, counted generously.
const NESTING: usize = 64;
/// Bytes of stack on which an expression is read and evaluated.
const STACK: usize = 32 * 1024 * 1024;
/// Evaluations at once.
const AT_ONCE: usize = 4;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

/// True if all conditions hold for an AdmissionReview's request. The error is that of the first that
/// cannot be evaluated, unless another one does not hold.
pub(super) async fn hold(
    conditions: &[Value],
    request: &Value,
    deadline: Duration,
) -> Result<bool, String> {
    if conditions.is_empty() {
        return Ok(true);
    }
    let conditions = conditions.to_vec();
    let request = request.clone();
    let late = || "the match conditions took too long".to_owned();
    let evaluation = async {
        let place = PLACES.acquire().await.map_err(|error| error.to_string())?;
        let evaluated = spawn_blocking(move || {
            let _held = place;
            stacker::grow(STACK, || all(&conditions, &request))
        });
        evaluated.await.map_err(|error| error.to_string())?
    };
    timeout(deadline, evaluation).await.map_err(|_| late())?
}

/// Says what is wrong with an expression.
pub(super) fn check(expression: &str) -> Result<(), String> {
    stacker::grow(STACK, || compile(expression).map(drop))
}

fn all(conditions: &[Value], request: &Value) -> Result<bool, String> {
    let mut context = Context::default().with_all();
    for (name, value) in [
        ("object", &request["object"]),
        ("oldObject", &request["oldObject"]),
        ("request", request),
    ] {
        context.add_variable_from_value(name, plain(value));
    }
    let mut error = None;
    for condition in conditions {
        let expression = condition["expression"].as_str().unwrap_or_default();
        let name = condition["name"].as_str().unwrap_or_default();
        let complaint = match compile(expression).map(|program| program.execute(&context)) {
            Ok(Ok(Cel::Bool(true))) => continue,
            Ok(Ok(Cel::Bool(false))) => return Ok(false),
            Ok(Ok(_)) => "it is not a boolean".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error,
        };
        error.get_or_insert(format!(
            "match condition {name:?}: expression '{expression}' resulted in error: {complaint}"
        ));
    }
    error.map_or(Ok(true), Err)
}

fn compile(expression: &str) -> Result<Program, String> {
    if expression.len() > LENGTH {
        return Err(format!("must not be longer than {LENGTH} bytes"));
    }
    let mut depth = 0_usize;
    for character in expression.chars() {
        match character {
            '(' | '[' | '{' | '?' | '!' | '-' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING {
            return Err(format!("must not be nested deeper than {NESTING} levels"));
        }
    }
    Program::compile(expression).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(expressions: &[&str], expected: Expect) {
        let conditions: Vec<Value> = expressions
            .iter()
            .map(|expression| json!({"name": "c", "expression": expression}))
            .collect();
        let request = json!({
            "operation": "UPDATE",
            "userInfo": {"username": "u", "groups": ["a", "b"]},
            "object": {"metadata": {"name": "web"}, "spec": {"replicas": 3}},
            "oldObject": {"spec": {"replicas": 2}},
        });
        expected.assert_eq(&format!("{:?}", all(&conditions, &request)));
    }

    #[test]
    fn all_conditions_must_hold() {
        check(&["object.spec.replicas > 2"], expect!["Ok(true)"]);
        check(
            &[
                "object.spec.replicas > oldObject.spec.replicas",
                "request.operation == 'UPDATE'",
            ],
            expect!["Ok(true)"],
        );
        check(&["!('a' in request.userInfo.groups)"], expect!["Ok(false)"]);
        check(&["has(object.metadata.labels)"], expect!["Ok(false)"]);
    }

    #[test]
    fn an_error_counts_unless_another_condition_does_not_hold() {
        check(
            &["object.nothing == 1"],
            expect![[
                r#"Err("match condition \"c\": expression 'object.nothing == 1' resulted in error: No such key: nothing")"#
            ]],
        );
        check(&["object.nothing == 1", "false"], expect!["Ok(false)"]);
        check(
            &["1"],
            expect![[
                r#"Err("match condition \"c\": expression '1' resulted in error: it is not a boolean")"#
            ]],
        );
    }

    #[test]
    fn what_is_no_expression_or_too_deep_is_refused() {
        assert!(super::check("object.").is_err());
        assert!(super::check(&"(".repeat(5_000)).is_err());
        assert!(super::check(&"!".repeat(5_000)).is_err());
        assert!(super::check(&"a".repeat(LENGTH + 1)).is_err());
        assert!(super::check(&format!("{}1", "1+".repeat(2_000))).is_ok());
    }
}
