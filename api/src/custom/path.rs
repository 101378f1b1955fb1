//! The paths that definitions name fields by: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`.
//!
//! Pure, and bounded: a path visits each value at most once. The subset of JSONPath that definitions
//! use: fields, quoted fields, indices, `[*]`, and filters that compare one field with one constant.

use serde_json::Value;

/// Steps of one path.
const MOST_STEPS: usize = 64;

/// A JSONPath, read.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Clone, PartialEq, Debug)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter(Filter),
}

/// `?(@.a.b=="c")`; without a comparison: that the field is there.
#[derive(Clone, PartialEq, Debug)]
struct Filter {
    field: Vec<String>,
    test: Option<(Comparison, Value)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The fields of a path that has nothing but fields: `.spec.replicas`.
pub(crate) fn fields(path: &str) -> Option<Vec<String>> {
    let JsonPath(steps) = JsonPath::parse(path).ok()?;
    steps
        .into_iter()
        .map(|step| match step {
            Step::Field(name) => Some(name),
            _ => None,
        })
        .collect()
}

impl JsonPath {
    /// Reads a path; the error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = text
            .strip_prefix('{')
            .and_then(|inner| inner.strip_suffix('}'))
            .unwrap_or(text);
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if steps.len() >= MOST_STEPS {
                return Err(format!("has more than {MOST_STEPS} steps"));
            }
            let step;
            (step, rest) = self::step(rest)?;
            steps.push(step);
        }
        if steps.is_empty() {
            return Err("is empty".to_owned());
        }
        Ok(Self(steps))
    }

    /// The first value at the path.
    pub(crate) fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        let mut found = vec![object];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.of(value)).collect();
        }
        found.into_iter().next()
    }
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Field(name) => value.get(name.as_str()).into_iter().collect(),
            Self::Index(index) => {
                let list = value.as_array().map_or(&[][..], Vec::as_slice);
                let index = match usize::try_from(*index) {
                    Ok(index) => Some(index),
                    Err(_) => list.len().checked_sub(index.unsigned_abs() as usize),
                };
                index
                    .and_then(|index| list.get(index))
                    .into_iter()
                    .collect()
            }
            Self::All => match value {
                Value::Array(list) => list.iter().collect(),
                Value::Object(fields) => fields.values().collect(),
                _ => Vec::new(),
            },
            Self::Filter(filter) => match value {
                Value::Array(list) => list.iter().filter(|item| filter.holds(item)).collect(),
                _ => Vec::new(),
            },
        }
    }
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        let found = self
            .field
            .iter()
            .try_fold(item, |value, name| value.get(name.as_str()));
        match (&self.test, found) {
            (None, found) => found.is_some(),
            (Some(_), None) => false,
            (Some((comparison, constant)), Some(found)) => compare(found, *comparison, constant),
        }
    }
}

fn compare(value: &Value, comparison: Comparison, constant: &Value) -> bool {
    let order = match (value, constant) {
        (Value::String(one), Value::String(other)) => one.partial_cmp(other),
        (Value::Number(one), Value::Number(other)) => one
            .as_f64()
            .zip(other.as_f64())
            .and_then(|(one, other)| one.partial_cmp(&other)),
        (Value::Bool(one), Value::Bool(other)) => one.partial_cmp(other),
        _ => None,
    };
    match comparison {
        Comparison::Equal => order.is_some_and(|order| order.is_eq()),
        Comparison::Unequal => order.is_none_or(|order| order.is_ne()),
        Comparison::Less => order.is_some_and(|order| order.is_lt()),
        Comparison::LessOrEqual => order.is_some_and(|order| order.is_le()),
        Comparison::Greater => order.is_some_and(|order| order.is_gt()),
        Comparison::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
    }
}

fn step(text: &str) -> Result<(Step, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        return bracket(rest);
    }
    let rest = text.strip_prefix('.').unwrap_or(text);
    if rest.starts_with('.') {
        return Err("recursive descent (..) is not supported".to_owned());
    }
    if let Some(inner) = rest.strip_prefix('[') {
        return bracket(inner);
    }
    if let Some(rest) = rest.strip_prefix('*') {
        return Ok((Step::All, rest));
    }
    let (name, rest) = field(rest);
    if name.is_empty() {
        return Err("a field has no name".to_owned());
    }
    Ok((Step::Field(name), rest))
}

/// A field's name, up to the next step; a backslash keeps the character after it.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(letters.next().map(|(_, letter)| letter)),
            letter => name.push(letter),
        }
    }
    (name, "")
}

/// What stands between brackets; the opening one is gone.
fn bracket(text: &str) -> Result<(Step, &str), String> {
    let end = closing(text).ok_or("a bracket is not closed")?;
    let (inner, rest) = (text[..end].trim(), &text[end + 1..]);
    let step = if inner == "*" {
        Step::All
    } else if let Some(filter) = inner.strip_prefix('?') {
        Step::Filter(self::filter(filter)?)
    } else if let Some(name) = quoted(inner) {
        Step::Field(name)
    } else {
        let index = inner
            .parse()
            .map_err(|_| format!("cannot be understood at [{inner}]"))?;
        Step::Index(index)
    };
    Ok((step, rest))
}

/// Where the bracket closes, quotes and inner brackets aside.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0_usize;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (_, '\\') => drop(letters.next()),
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<String> {
    let quote = text
        .chars()
        .next()
        .filter(|letter| ['\'', '"'].contains(letter))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut name = String::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => name.extend(letters.next()),
            letter if letter == quote => return None,
            letter => name.push(letter),
        }
    }
    Some(name)
}

fn filter(text: &str) -> Result<Filter, String> {
    let inner = text
        .trim()
        .strip_prefix('(')
        .and_then(|inner| inner.strip_suffix(')'))
        .ok_or("a filter stands between parentheses")?
        .trim();
    let inner = inner.strip_prefix('@').ok_or("a filter starts with @")?;
    let operators = [
        ("==", Comparison::Equal),
        ("!=", Comparison::Unequal),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let found = operators
        .iter()
        .filter_map(|(sign, comparison)| Some((inner.find(sign)?, *sign, *comparison)))
        .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
    let (left, test) = match found {
        None => (inner, None),
        Some((at, sign, comparison)) => {
            let right = inner[at + sign.len()..].trim();
            (&inner[..at], Some((comparison, constant(right)?)))
        }
    };
    let field = fields(left.trim()).ok_or("a filter compares a field of @")?;
    Ok(Filter { field, test })
}

fn constant(text: &str) -> Result<Value, String> {
    if let Some(text) = quoted(text) {
        return Ok(text.into());
    }
    serde_json::from_str(text)
        .ok()
        .filter(|value: &Value| value.is_number() || value.is_boolean())
        .ok_or_else(|| format!("a filter compares with a text, a number or a boolean, not {text}"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Expect) {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "dotted"}},
            "spec": {"replicas": 3, "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "Old", "status": "False"},
            ]},
        });
        expected.assert_eq(&match JsonPath::parse(path) {
            Err(problem) => problem,
            Ok(path) => path
                .first(&object)
                .map_or_else(|| "nothing".to_owned(), Value::to_string),
        });
    }

    #[test]
    fn paths_find_the_first_value() {
        check(".spec.replicas", expect!["3"]);
        check("{.spec.replicas}", expect!["3"]);
        check("$.spec['replicas']", expect!["3"]);
        check(
            r#".status.conditions[?(@.type=="Ready")].status"#,
            expect![[r#""True""#]],
        );
        check(
            ".status.conditions[?(@.type=='Old')].status",
            expect![[r#""False""#]],
        );
        check(
            ".status.conditions[?(@.type!='Ready')].type",
            expect![[r#""Old""#]],
        );
        check(".spec.ports[?(@.port > 1)].name", expect![[r#""b""#]]);
        check(".spec.ports[*].name", expect![[r#""a""#]]);
        check(".spec.ports[-1].name", expect![[r#""b""#]]);
        check(r".metadata.annotations.a\.b/c", expect![[r#""dotted""#]]);
        check(r".metadata.annotations['a\.b/c']", expect![[r#""dotted""#]]);
        check(".spec.nothing.at.all", expect!["nothing"]);
        check(".spec.ports[7]", expect!["nothing"]);
        check(".spec.replicas[0]", expect!["nothing"]);
    }

    #[test]
    fn other_paths_are_refused() {
        check("", expect!["is empty"]);
        check("..name", expect!["recursive descent (..) is not supported"]);
        check(".a[", expect!["a bracket is not closed"]);
        check(".a[x]", expect!["cannot be understood at [x]"]);
        check(".a[?(1==1)]", expect!["a filter starts with @"]);
        check(
            ".a[?(@.b==c)]",
            expect!["a filter compares with a text, a number or a boolean, not c"],
        );
        check(&".a".repeat(65), expect!["has more than 64 steps"]);
    }

    proptest! {
        #[test]
        fn no_text_is_a_surprise(text in r#"[.\[\]?()@='"$a*1\\<{}é ]{0,24}"#) {
            if let Ok(path) = JsonPath::parse(&text) {
                path.first(&json!({"a": [{"a": 1}]}));
            }
        }
    }
}
