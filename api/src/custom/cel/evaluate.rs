//! Holds the rules of a version against one object.
//!
//! On a thread for work that blocks, few at a time. A rule has passed or is told; one that cannot be
//! evaluated, and one that takes too long, is told too: nothing is accepted unchecked.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use kube_cel::{
    KubeCelExt,
    cel::{
        Context, ExecutionError, FunctionContext, Program, Value as Cel, extractors::This,
        objects::OptionalValue,
    },
};
use serde_json::Value;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{STACK, read, value::convert};
use crate::{
    field::{Cause, FieldErrors, Path},
    schema::{Rule, Schema, Shape, correlated},
    server::state::Resource,
};

/// How long all rules of one object may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long a check waits for its turn.
const TURN: Duration = Duration::from_secs(10);
/// Complaints about one object.
const MOST: usize = 100;

/// Objects whose rules run at once: a slow rule holds its place until it has ended, so that no number
/// of requests occupies more threads than this.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    Semaphore::new(threads.clamp(2, 8))
});

/// The rules of a version, where they stand in the schema.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    own: Vec<Compiled>,
    properties: BTreeMap<String, Rules>,
    /// Of items or of map values.
    inner: Option<Box<Rules>>,
}

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    /// What is wrong with it, where a rule was stored that is not admitted now.
    program: Result<Program, String>,
    message: Option<Program>,
    /// Whether it speaks of what was before.
    transition: bool,
}

impl Rules {
    /// Compiles the rules of a schema.
    pub(crate) fn compile(schema: &Schema) -> Self {
        let rules = schema.custom().map_or(&[][..], |custom| &custom.rules);
        let properties = schema.properties().into_iter().flatten();
        let inner = schema.items().or_else(|| schema.values());
        Self {
            own: rules.iter().map(compile).collect(),
            properties: properties
                .filter(|(_, property)| property.custom().is_some())
                .map(|(name, property)| (name.clone(), Self::compile(property)))
                .filter(|(_, rules)| !rules.is_empty())
                .collect(),
            inner: inner
                .map(|inner| Self::compile(&inner))
                .filter(|rules| !rules.is_empty())
                .map(Box::new),
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.properties.is_empty() && self.inner.is_none()
    }
}

fn compile(rule: &Rule) -> Compiled {
    let program = read(&rule.rule);
    Compiled {
        transition: program
            .as_ref()
            .is_ok_and(|program| program.references().has_variable("oldSelf")),
        message: Some(rule.message_expression.as_str())
            .filter(|text| !text.is_empty())
            .and_then(|text| read(text).ok()),
        program,
        rule: rule.clone(),
    }
}

/// Says what the rules of a custom kind have against an object; `old` is what it was before an update.
/// Nothing for other kinds.
pub(crate) async fn check(
    resource: &Arc<Resource>,
    object: &Value,
    old: Option<&Value>,
) -> FieldErrors {
    let Some(kind) = resource.kind.custom() else {
        return FieldErrors::default();
    };
    if kind.rules().is_empty() {
        return FieldErrors::default();
    }
    let failed = |detail: &str| {
        let mut errors = FieldErrors::default();
        errors.invalid(&Path::default(), Value::Null, detail);
        errors
    };
    let Ok(Ok(turn)) = timeout(TURN, TURNS.acquire()).await else {
        return failed(
            "the validation rules were not checked: too many are being checked, try again",
        );
    };
    let resource = resource.clone();
    let (object, old) = (object.clone(), old.cloned());
    let run = spawn_blocking(move || {
        // Held until the rules have ended, whoever still waits for them.
        let _turn = turn;
        stacker::grow(STACK, || {
            resource
                .kind
                .custom()
                .map(|kind| run(kind.rules(), &resource.schema, &object, old.as_ref()))
                .unwrap_or_default()
        })
    });
    match timeout(DEADLINE + Duration::from_secs(1), run).await {
        Ok(Ok(errors)) => errors,
        Ok(Err(_)) => failed("the validation rules cannot be evaluated"),
        Err(_) => failed(
            "validation failed due to running out of cost budget, no further validation rules will be run",
        ),
    }
}

fn run(rules: &Rules, schema: &Schema, object: &Value, old: Option<&Value>) -> FieldErrors {
    let mut context = Context::default().with_all();
    // The library counts bytes.
    context.add_function("size", size);
    let mut walk = Walk {
        context,
        errors: FieldErrors::default(),
        ends: Instant::now() + DEADLINE,
    };
    walk.node(rules, schema, object, old, &Path::default());
    walk.errors
}

fn size(context: &FunctionContext, This(value): This<Cel>) -> Result<i64, ExecutionError> {
    let size = match value {
        Cel::String(text) => text.chars().count(),
        Cel::List(list) => list.len(),
        Cel::Map(map) => map.map.len(),
        Cel::Bytes(bytes) => bytes.len(),
        _ => return Err(context.error("no such overload")),
    };
    Ok(i64::try_from(size).unwrap_or(i64::MAX))
}

struct Walk {
    context: Context<'static>,
    errors: FieldErrors,
    ends: Instant,
}

impl Walk {
    fn node(
        &mut self,
        rules: &Rules,
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        path: &Path,
    ) {
        if self.errors.0.len() >= MOST {
            return;
        }
        // What an update leaves as it was is not complained about.
        let unchanged = old == Some(value);
        if !rules.own.is_empty() && !value.is_null() {
            self.own(&rules.own, schema, value, old, path);
        }
        if unchanged && !self.speaks_of_before(rules) {
            return;
        }
        match (schema.shape(), value) {
            (Shape::Object(properties), Value::Object(fields)) => {
                for (name, rules) in &rules.properties {
                    if let (Some(schema), Some(value)) = (properties.get(name), fields.get(name)) {
                        let old = old.and_then(|old| old.get(name));
                        self.node(rules, schema, value, old, &path.field(name));
                    }
                }
            }
            (Shape::Map(values), Value::Object(entries)) => {
                if let Some(rules) = &rules.inner {
                    for (key, value) in entries {
                        let old = old.and_then(|old| old.get(key));
                        self.node(rules, values, value, old, &path.key(key));
                    }
                }
            }
            (Shape::List(items), Value::Array(list)) => {
                if let Some(rules) = &rules.inner {
                    let known = correlated(schema, list, old);
                    for (index, item) in list.iter().enumerate() {
                        self.node(rules, items, item, known[index], &path.index(index));
                    }
                }
            }
            _ => {}
        }
    }

    fn speaks_of_before(&self, rules: &Rules) -> bool {
        rules.own.iter().any(|rule| rule.transition)
            || rules
                .properties
                .values()
                .any(|rules| self.speaks_of_before(rules))
            || rules
                .inner
                .as_ref()
                .is_some_and(|rules| self.speaks_of_before(rules))
    }

    fn own(
        &mut self,
        rules: &[Compiled],
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        path: &Path,
    ) {
        let own = convert(schema, value);
        let before = old.map(|old| convert(schema, old));
        for compiled in rules {
            if self.errors.0.len() >= MOST {
                return;
            }
            let optional = compiled.rule.optional_old_self == Some(true);
            if compiled.transition && before.is_none() && !optional {
                continue;
            }
            if !compiled.transition && old == Some(value) {
                continue;
            }
            if Instant::now() >= self.ends {
                let detail = "validation failed due to running out of cost budget, no further validation rules will be run";
                self.errors.invalid(path, kind(schema), detail);
                self.errors.0.truncate(MOST);
                return;
            }
            let mut scope = self.context.new_inner_scope();
            scope.add_variable_from_value("self", own.clone());
            if compiled.transition {
                let old_self = match (&before, optional) {
                    (Some(before), false) => before.clone(),
                    (Some(before), true) => {
                        Cel::Opaque(Arc::new(OptionalValue::of(before.clone())))
                    }
                    (None, _) => Cel::Opaque(Arc::new(OptionalValue::none())),
                };
                scope.add_variable_from_value("oldSelf", old_self);
            }
            let complaint = complaint(compiled, &scope);
            drop(scope);
            if let Some(detail) = complaint {
                self.complain(&compiled.rule, schema, path, detail);
            }
        }
    }

    fn complain(&mut self, rule: &Rule, schema: &Schema, path: &Path, detail: String) {
        let mut path = path.clone();
        for step in crate::custom::path::fields(&rule.field_path).unwrap_or_default() {
            path = path.field(&step);
        }
        let (cause, shown) = match rule.reason.as_str() {
            "FieldValueForbidden" => (Cause::Forbidden, Value::Null),
            "FieldValueRequired" => (Cause::Required, Value::Null),
            "FieldValueDuplicate" => (Cause::Duplicate, kind(schema)),
            _ => (Cause::Invalid, kind(schema)),
        };
        self.errors.push(&path, cause, shown, detail);
    }
}

/// What one rule has to say.
fn complaint(compiled: &Compiled, scope: &Context<'_>) -> Option<String> {
    let rule = &compiled.rule;
    let fallback = || match rule.message.trim() {
        "" => format!("failed rule: {}", rule.rule.trim()),
        message => message.to_owned(),
    };
    let program = match &compiled.program {
        Ok(program) => program,
        Err(problem) => return Some(format!("rule compile error: {problem}")),
    };
    match execute(program, scope) {
        Ok(Cel::Bool(true)) => None,
        Ok(Cel::Bool(false)) => {
            let made = compiled.message.as_ref().map(|made| execute(made, scope));
            Some(match made {
                Some(Ok(Cel::String(text)))
                    if !text.trim().is_empty() && !text.contains(['\n', '\r']) =>
                {
                    text.chars().take(5 * 1024).collect()
                }
                _ => fallback(),
            })
        }
        Ok(_) => Some("cel expression did not evaluate to a bool".to_owned()),
        Err(problem) => Some(format!("{problem} evaluating rule: {}", fallback())),
    }
}

/// Runs a program; a panic in it is an error like others.
fn execute(program: &Program, scope: &Context<'_>) -> Result<Cel, String> {
    match catch_unwind(AssertUnwindSafe(|| program.execute(scope))) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ExecutionError::NoSuchKey(key))) => Err(format!("no such key: {key}")),
        // Others show whole values, which may be large, or secret.
        Ok(Err(error)) => {
            let text = error.to_string();
            Err(text.split(": ").next().unwrap_or_default().to_lowercase())
        }
        Err(_) => Err("the evaluation broke off".to_owned()),
    }
}

/// A value's type, which stands for it in messages.
fn kind(schema: &Schema) -> Value {
    match schema.shape() {
        Shape::List(_) => "array",
        Shape::String => "string",
        Shape::Boolean => "boolean",
        Shape::Int64 => "integer",
        Shape::Number => "number",
        Shape::IntOrString => "int-or-string",
        _ => "object",
    }
    .into()
}
