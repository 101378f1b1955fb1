//! What the schema of a custom resource demands of values: enumerations, ranges, patterns, lengths,
//! required fields, and combinations of these.
//!
//! Pure. Patterns run in time linear in the text. The texts are those of Kubernetes.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde_json::{Number, Value};

use super::{format, trail::Trail};
use crate::field::{Cause, FieldErrors, Path};

/// Bytes of a compiled pattern.
const PATTERN_BYTES: usize = 1 << 20;

/// What a value must hold to. Absent parts demand nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// Only within a combination: the structure says what type a value has.
    types: Option<String>,
    allowed: Option<Vec<Value>>,
    pattern: Option<Regex>,
    format: Option<String>,
    minimum: Option<Bound>,
    maximum: Option<Bound>,
    multiple_of: Option<Number>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) required: Vec<String>,
    all_of: Vec<Limits>,
    any_of: Vec<Limits>,
    one_of: Vec<Limits>,
    not: Option<Box<Limits>>,
    /// Within a combination, or of metadata.
    pub(crate) properties: BTreeMap<String, Limits>,
    values: Option<Box<Limits>>,
    items: Option<Box<Limits>>,
}

#[derive(Clone, Debug)]
struct Bound {
    number: f64,
    exclusive: bool,
}

/// Compiles a pattern within a bound on its size.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES)
        .build()
        .map_err(|error| error.to_string())
}

impl Limits {
    /// What a schema demands of its value itself.
    pub(super) fn read(json: &Value) -> Self {
        let count = |key: &str| json[key].as_u64();
        let list = |key: &str| json[key].as_array().into_iter().flatten();
        Self {
            types: None,
            allowed: json["enum"].as_array().cloned(),
            pattern: json["pattern"].as_str().and_then(|text| pattern(text).ok()),
            format: json["format"].as_str().map(str::to_owned),
            minimum: bound(json, "minimum", "exclusiveMinimum"),
            maximum: bound(json, "maximum", "exclusiveMaximum"),
            multiple_of: json["multipleOf"].as_number().cloned(),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            required: list("required")
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            all_of: list("allOf").map(Self::nested).collect(),
            any_of: list("anyOf").map(Self::nested).collect(),
            one_of: list("oneOf").map(Self::nested).collect(),
            not: json
                .get("not")
                .filter(|not| not.is_object())
                .map(|not| Box::new(Self::nested(not))),
            properties: BTreeMap::new(),
            values: None,
            items: None,
        }
    }

    /// Limits on an object's properties alone.
    pub(super) fn of_properties(properties: BTreeMap<String, Limits>) -> Self {
        Self {
            properties,
            ..Self::default()
        }
    }

    /// The same within a combination, where the parts of the value are limited too.
    fn nested(json: &Value) -> Self {
        let inner = |key: &str| {
            let found = json.get(key).filter(|schema| schema.is_object());
            found.map(|schema| Box::new(Self::nested(schema)))
        };
        let properties = json["properties"].as_object().into_iter().flatten();
        Self {
            types: json["type"].as_str().map(str::to_owned),
            properties: properties
                .map(|(name, schema)| (name.clone(), Self::nested(schema)))
                .collect(),
            values: inner("additionalProperties"),
            items: inner("items"),
            ..Self::read(json)
        }
    }

    /// The format of texts.
    pub(crate) fn format(&self) -> Option<&str> {
        self.format.as_deref()
    }

    /// How long the longest text of the enumeration is.
    pub(crate) fn longest_allowed(&self) -> Option<u64> {
        let lengths = self.allowed.as_ref()?.iter();
        lengths
            .map(|value| value.as_str().map_or(0, |text| text.chars().count() as u64))
            .max()
    }

    /// Says what is wrong with a value, which is not null.
    pub(super) fn check(&self, value: &Value, at: &Trail<'_>, errors: &mut FieldErrors) {
        if let Some(expected) = &self.types
            && !is_of(expected, value)
        {
            wrong_type(expected, value, at, errors);
            return;
        }
        match value {
            Value::String(text) => self.check_text(text, at, errors),
            Value::Number(number) => self.check_number(number, at, errors),
            Value::Array(list) => self.check_list(list, at, errors),
            Value::Object(fields) => self.check_object(fields, at, errors),
            Value::Null | Value::Bool(_) => {}
        }
        if let Some(allowed) = &self.allowed
            && !allowed.iter().any(|known| same(known, value))
        {
            let shown: Vec<_> = allowed.iter().map(plain).collect();
            let shown: Vec<_> = shown.iter().map(String::as_str).collect();
            errors.not_supported(&path(at), value.clone(), &shown);
        }
        self.check_combinations(value, at, errors);
    }

    fn check_text(&self, text: &str, at: &Trail<'_>, errors: &mut FieldErrors) {
        let length = if self.min_length.is_some() || self.max_length.is_some() {
            text.chars().count() as u64
        } else {
            0
        };
        if let Some(most) = self.max_length.filter(|most| length > *most) {
            let detail = format!("may not be more than {most} bytes");
            errors.push(&path(at), Cause::TooLong, Value::Null, detail);
        }
        if let Some(least) = self.min_length.filter(|least| length < *least) {
            let detail = format!("{at} in body should be at least {least} chars long");
            errors.invalid(&path(at), text, detail);
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|p| !p.is_match(text)) {
            let detail = format!("{at} in body should match '{}'", pattern.as_str());
            errors.invalid(&path(at), text, detail);
        }
        if let Some(format) = &self.format
            && !format::holds(format, text)
        {
            let detail = format!("{at} in body must be of type {format}: {text:?}");
            errors.push(&path(at), Cause::TypeInvalid, text.into(), detail);
        }
    }

    fn check_number(&self, number: &Number, at: &Trail<'_>, errors: &mut FieldErrors) {
        let Some(float) = number.as_f64() else { return };
        let mut complain = |detail: String| {
            errors.invalid(&path(at), number.clone(), format!("{at} in body {detail}"));
        };
        if let Some(Bound { number, exclusive }) = &self.minimum {
            let shown = go_float(*number);
            match exclusive {
                true if float <= *number => complain(format!("should be greater than {shown}")),
                false if float < *number => {
                    complain(format!("should be greater than or equal to {shown}"));
                }
                _ => {}
            }
        }
        if let Some(Bound { number, exclusive }) = &self.maximum {
            let shown = go_float(*number);
            match exclusive {
                true if float >= *number => complain(format!("should be less than {shown}")),
                false if float > *number => {
                    complain(format!("should be less than or equal to {shown}"));
                }
                _ => {}
            }
        }
        if let Some(factor) = &self.multiple_of
            && !is_multiple(number, factor)
        {
            let shown = go_float(factor.as_f64().unwrap_or_default());
            complain(format!("should be a multiple of {shown}"));
        }
        if self.format.as_deref() == Some("int32")
            && number
                .as_i64()
                .is_none_or(|whole| i32::try_from(whole).is_err())
        {
            complain(format!("must be of type int32: {:?}", number.to_string()));
        }
    }

    fn check_list(&self, list: &[Value], at: &Trail<'_>, errors: &mut FieldErrors) {
        let count = list.len() as u64;
        if let Some(most) = self.max_items.filter(|most| count > *most) {
            let detail = format!("must have at most {most} items");
            errors.push(&path(at), Cause::TooMany, count.into(), detail);
        }
        if let Some(least) = self.min_items.filter(|least| count < *least) {
            let detail = format!("{at} in body should have at least {least} items");
            errors.invalid(&path(at), count, detail);
        }
        if let Some(items) = &self.items {
            for (index, item) in list.iter().enumerate() {
                items.check(item, &Trail::Index(at, index), errors);
            }
        }
    }

    fn check_object(
        &self,
        fields: &serde_json::Map<String, Value>,
        at: &Trail<'_>,
        errors: &mut FieldErrors,
    ) {
        let count = fields.len() as u64;
        if let Some(most) = self.max_properties.filter(|most| count > *most) {
            let detail = format!("must have at most {most} items");
            errors.push(&path(at), Cause::TooMany, count.into(), detail);
        }
        if let Some(least) = self.min_properties.filter(|least| count < *least) {
            let detail = format!("{at} in body should have at least {least} properties");
            errors.invalid(&path(at), count, detail);
        }
        for name in &self.required {
            if !fields.contains_key(name) {
                errors.required(&path(&Trail::Field(at, name)), "");
            }
        }
        for (name, value) in fields {
            let at = Trail::Field(at, name);
            match (self.properties.get(name), &self.values) {
                (Some(limits), _) => limits.check(value, &at, errors),
                (None, Some(limits)) => limits.check(value, &at, errors),
                (None, None) => {}
            }
        }
    }

    fn check_combinations(&self, value: &Value, at: &Trail<'_>, errors: &mut FieldErrors) {
        let found = |limits: &Limits| {
            let mut found = FieldErrors::default();
            limits.check(value, at, &mut found);
            found.0
        };
        let mut complain = |detail: String| errors.invalid(&Path::default(), "", detail);
        let shown = at.to_string();
        let mut more = Vec::new();
        if !self.any_of.is_empty() {
            let all: Vec<_> = self.any_of.iter().map(found).collect();
            if all.iter().all(|errors| !errors.is_empty()) {
                complain(format!(
                    "{shown:?} must validate at least one schema (anyOf)"
                ));
                more.extend(all.into_iter().min_by_key(Vec::len).unwrap_or_default());
            }
        }
        if !self.one_of.is_empty() {
            let all: Vec<_> = self.one_of.iter().map(found).collect();
            match all.iter().filter(|errors| errors.is_empty()).count() {
                1 => {}
                0 => {
                    complain(format!(
                        "{shown:?} must validate one and only one schema (oneOf). Found none valid"
                    ));
                    more.extend(all.into_iter().min_by_key(Vec::len).unwrap_or_default());
                }
                count => complain(format!(
                    "{shown:?} must validate one and only one schema (oneOf). Found {count} valid alternatives"
                )),
            }
        }
        let all: Vec<_> = self.all_of.iter().flat_map(found).collect();
        if !all.is_empty() {
            complain(format!("{shown:?} must validate all the schemas (allOf)"));
            more.extend(all);
        }
        if self.not.as_deref().is_some_and(|not| found(not).is_empty()) {
            complain(format!("{shown:?} must not validate the schema (not)"));
        }
        errors.0.extend(more);
    }
}

/// The path as the texts have it: map entries are fields.
pub(super) fn path(at: &Trail<'_>) -> Path {
    match at {
        Trail::Root => Path::default(),
        at => Path::root(&at.to_string()),
    }
}

/// Says that a value is of another type.
pub(super) fn wrong_type(expected: &str, value: &Value, at: &Trail<'_>, errors: &mut FieldErrors) {
    let found = name(value);
    let detail = format!("{at} in body must be of type {expected}: {found:?}");
    errors.push(&path(at), Cause::TypeInvalid, found.into(), detail);
}

/// The JSON type of a value.
fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of(expected: &str, value: &Value) -> bool {
    match expected {
        "number" => value.is_number(),
        "integer" => is_integer(value),
        expected => name(value) == expected,
    }
}

/// A whole number, however it is written.
pub(super) fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|float| float.fract() == 0.0)
}

/// Equal as JSON: 1 and 1.0 are the same number.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.as_f64() == other.as_f64()
        }
        (one, other) => one == other,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn bound(json: &Value, key: &str, exclusive: &str) -> Option<Bound> {
    Some(Bound {
        number: json[key].as_f64()?,
        exclusive: json[exclusive] == true,
    })
}

fn is_multiple(number: &Number, factor: &Number) -> bool {
    match (number.as_i64(), factor.as_i64()) {
        (_, Some(0)) => false,
        (Some(number), Some(factor)) => number.wrapping_rem(factor) == 0,
        _ => {
            let quotient = number.as_f64().unwrap_or_default() / factor.as_f64().unwrap_or(1.0);
            quotient.is_finite() && (quotient - quotient.round()).abs() < 1e-9
        }
    }
}

/// A number as Go prints it: whole numbers without a point, large ones with an exponent.
fn go_float(number: f64) -> String {
    let digits = format!("{number:e}");
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if exponent >= 6 => format!("{mantissa}e+{exponent:02}"),
        Ok(exponent) if exponent < -4 => format!("{mantissa}e-{:02}", exponent.unsigned_abs()),
        _ => number.to_string(),
    }
}
