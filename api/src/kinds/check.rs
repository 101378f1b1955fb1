//! Checks that several kinds share: numbers, ports, labels and selectors at a path.

use std::collections::HashSet;

use serde_json::Value;

use super::value::{entries, items, part, plain, present, text};
use crate::{
    field::{Cause, FieldErrors, Path},
    name,
    quantity::Quantity,
};

/// Reports every problem that a rule of [`name`] finds.
pub(crate) fn problems(path: &Path, value: &str, problems: Vec<String>, errors: &mut FieldErrors) {
    for problem in problems {
        errors.invalid(path, value, problem);
    }
}

/// A domain, a slash and a path, which must be there: `example.com/controller`.
pub(crate) fn domain_path(path: &Path, value: &str, errors: &mut FieldErrors) {
    const ALLOWED: &str = "/-._~%!$&'()*+,;=:";
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    match value.split_once('/') {
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            problems(path, domain, name::subdomain_problems(domain), errors);
            let allowed = |c: char| c.is_ascii_alphanumeric() || ALLOWED.contains(c);
            if !rest.chars().all(allowed) {
                errors.invalid(
                    path,
                    rest,
                    "must be a valid path (regex used for validation is \
                     '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
                );
            }
        }
        _ => errors.invalid(
            path,
            value,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
    }
}

/// A text or a list that is longer than it may be, in bytes.
pub(crate) fn too_long(path: &Path, most: usize, errors: &mut FieldErrors) {
    let detail = format!("may not be more than {most} bytes");
    errors.push(path, Cause::TooLong, Value::Null, detail);
}

/// A list that has more items than it may have.
pub(crate) fn too_many(path: &Path, has: usize, most: usize, errors: &mut FieldErrors) {
    let detail = format!("must have at most {most} items");
    errors.push(path, Cause::TooMany, has.into(), detail);
}

/// Amounts that must be there as quantities, none of them below zero.
pub(crate) fn quantity(path: &Path, value: &Value, errors: &mut FieldErrors) {
    match plain(value).parse::<Quantity>() {
        Err(_) => errors.invalid(
            path,
            value.clone(),
            "quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        Ok(_) if plain(value).starts_with('-') => {
            errors.invalid(path, plain(value), "must be greater than or equal to 0");
        }
        Ok(_) => {}
    }
}

/// A number that may be absent but not below zero.
pub(crate) fn not_negative(path: &Path, value: &Value, errors: &mut FieldErrors) {
    if value.as_i64().is_some_and(|number| number < 0) {
        errors.invalid(path, value.clone(), "must be greater than or equal to 0");
    }
}

/// Numbers of a part of the object that may be absent but not below zero.
pub(crate) fn counts(object: &Value, part: &str, fields: &[&str], errors: &mut FieldErrors) {
    let path = Path::root(part);
    for field in fields {
        not_negative(&path.field(field), &object[part][*field], errors);
    }
}

/// Numbers of a status that count some of `status.replicas`.
pub(crate) fn replica_counts(object: &Value, fields: &[&str], errors: &mut FieldErrors) {
    counts(object, "status", &["replicas"], errors);
    counts(object, "status", fields, errors);
    let all = object["status"]["replicas"].as_i64().unwrap_or(0);
    for field in fields {
        let count = object["status"][*field].as_i64().unwrap_or(0);
        if count > all {
            errors.invalid(
                &Path::root("status").field(field),
                count,
                "cannot be greater than status.replicas",
            );
        }
    }
}

/// A number of pods, or a percentage of them.
pub(crate) fn share(path: &Path, value: &Value, errors: &mut FieldErrors) {
    not_negative(path, value, errors);
    if value.is_string() && amount(value).is_none() {
        errors.invalid(
            path,
            value.clone(),
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  \
             or '93%', regex used for validation is '[0-9]+%')",
        );
    }
}

/// A percentage of pods that must be of those that there are.
pub(crate) fn at_most_all(path: &Path, value: &Value, errors: &mut FieldErrors) {
    if value.is_string() && amount(value).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// The number, or the number before `%`.
pub(crate) fn amount(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text
            .strip_suffix('%')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?
            .parse()
            .ok(),
        other => other.as_i64(),
    }
}

/// True of an amount above zero.
pub(crate) fn is_positive(value: &Value) -> bool {
    plain(value)
        .parse::<Quantity>()
        .is_ok_and(|amount| amount.nanos() > 0)
}

/// A port number that must be there.
pub(crate) fn port(path: &Path, value: &Value, errors: &mut FieldErrors) {
    if !value
        .as_i64()
        .is_some_and(|port| (1..=65535).contains(&port))
    {
        let shown = if value.is_null() {
            0.into()
        } else {
            value.clone()
        };
        errors.invalid(path, shown, "must be between 1 and 65535, inclusive");
    }
}

/// A string of a closed set, if it is there.
pub(crate) fn one_of(path: &Path, value: &Value, supported: &[&str], errors: &mut FieldErrors) {
    if let Some(text) = value.as_str()
        && !supported.contains(&text)
    {
        errors.not_supported(path, text, supported);
    }
}

/// A field that may never change.
pub(crate) fn immutable(
    path: &Path,
    object: &Value,
    old: &Value,
    pointer: &str,
    errors: &mut FieldErrors,
) {
    if part(object, pointer) != part(old, pointer) {
        errors.invalid(path, part(object, pointer).clone(), "field is immutable");
    }
}

/// Labels outside `metadata` of the object itself: a template's, a selector's.
pub(crate) fn labels(path: &Path, owner: &Value, pointer: &str, errors: &mut FieldErrors) {
    for (key, value) in entries(owner, pointer) {
        problems(path, key, name::qualified_problems(key), errors);
        let value = plain(value);
        problems(
            &path.key(key),
            &value,
            name::label_value_problems(&value),
            errors,
        );
    }
}

/// A label selector, which is an object at `path`.
pub(crate) fn selector(path: &Path, selector: &Value, errors: &mut FieldErrors) {
    labels(&path.field("matchLabels"), selector, "/matchLabels", errors);
    for (index, rule) in items(selector, "/matchExpressions").iter().enumerate() {
        let path = path.field("matchExpressions").index(index);
        let key = text(rule, "/key");
        problems(
            &path.field("key"),
            key,
            name::qualified_problems(key),
            errors,
        );
        let values = items(rule, "/values");
        match text(rule, "/operator") {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &path.field("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
                &path.field("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(
                &path.field("operator"),
                other,
                "not a valid selector operator",
            ),
        }
    }
}

/// True if a label selector chooses an object with these labels.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let has = |key: &str| labels.get(key).and_then(Value::as_str);
    entries(selector, "/matchLabels").all(|(key, value)| has(key) == value.as_str())
        && items(selector, "/matchExpressions").iter().all(|rule| {
            let label = has(text(rule, "/key"));
            let listed = items(rule, "/values")
                .iter()
                .any(|value| value.as_str() == label && label.is_some());
            match text(rule, "/operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => label.is_some(),
                _ => label.is_none(),
            }
        })
}

/// True if a label selector says nothing.
pub(crate) fn is_empty_selector(selector: &Value) -> bool {
    entries(selector, "/matchLabels").next().is_none()
        && items(selector, "/matchExpressions").is_empty()
}

/// The names of a list so far.
pub(crate) type Seen = HashSet<String>;

/// Names in a list that must be there and differ.
pub(crate) fn unique(path: &Path, name: &str, seen: &mut Seen, errors: &mut FieldErrors) {
    if !seen.insert(name.to_owned()) {
        errors.push(path, Cause::Duplicate, name.into(), "");
    }
}

/// The immutability that ConfigMaps and Secrets can ask for.
pub(crate) fn frozen(object: &Value, old: &Value, fields: &[&str], errors: &mut FieldErrors) {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return;
    }
    if object.get("immutable") != Some(&Value::Bool(true)) {
        errors.forbidden(&Path::root("immutable"), DETAIL);
    }
    for field in fields {
        let pointer = format!("/{field}");
        let both_absent = !present(object, &pointer) && !present(old, &pointer);
        if !both_absent && part(object, &pointer) != part(old, &pointer) {
            errors.forbidden(&Path::root(field), DETAIL);
        }
    }
}
