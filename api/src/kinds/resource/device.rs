//! What claims, classes and slices say of devices: names, selectors, configuration.

use serde_json::Value;

use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        check,
        value::{entries, items, part, plain, present, text},
    },
    name,
};

/// Selectors and configurations that one list may have.
const LIST: usize = 32;
/// Bytes of an expression.
const EXPRESSION: usize = 10 * 1024;
/// Bytes of a driver's parameters.
const PARAMETERS: usize = 10 * 1024;
/// Bytes of a driver's name.
const DRIVER: usize = 63;
/// Bytes of a pool's name.
const POOL: usize = 253;
/// Bytes of the name of an attribute, without its domain.
const IDENTIFIER: usize = 32;
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// A list of at most this many items, each of them checked; one that is longer is not looked into.
pub(super) fn each(
    path: &Path,
    list: &[Value],
    most: usize,
    errors: &mut FieldErrors,
    mut check: impl FnMut(&Path, &Value, &mut FieldErrors),
) {
    if list.len() > most {
        check::too_many(path, list.len(), most, errors);
        return;
    }
    for (index, item) in list.iter().enumerate() {
        check(&path.index(index), item, errors);
    }
}

/// Items of a list that have the same name.
pub(super) fn unique(path: &Path, list: &[Value], pointer: &str, errors: &mut FieldErrors) {
    let mut seen = check::Seen::new();
    for (index, item) in list.iter().enumerate() {
        let name = plain(part(item, pointer));
        check::unique(&path.index(index), &name, &mut seen, errors);
    }
}

pub(super) fn validate_driver(path: &Path, driver: &str, errors: &mut FieldErrors) {
    if driver.is_empty() {
        errors.required(path, "");
        return;
    }
    if driver.len() > DRIVER {
        check::too_long(path, DRIVER, errors);
    }
    let problems = name::subdomain_problems(&driver.to_lowercase());
    check::problems(path, driver, problems, errors);
}

/// Subdomains with slashes between them.
pub(super) fn validate_pool(path: &Path, pool: &str, errors: &mut FieldErrors) {
    if pool.is_empty() {
        errors.required(path, "");
        return;
    }
    if pool.len() > POOL {
        check::too_long(path, POOL, errors);
    }
    for part in pool.split('/') {
        check::problems(path, part, name::subdomain_problems(part), errors);
    }
}

pub(super) fn validate_label(path: &Path, label: &str, errors: &mut FieldErrors) {
    check::problems(path, label, name::label_problems(label), errors);
}

/// An attribute's name: an identifier, with a domain before it or without.
pub(super) fn validate_attribute_name(path: &Path, own: &str, errors: &mut FieldErrors) {
    let identifier = match own.split_once('/') {
        None => own,
        Some((domain, identifier)) => {
            if domain.is_empty() {
                errors.invalid(path, "", "the domain must not be empty");
            } else {
                validate_driver(path, domain, errors);
            }
            if identifier.is_empty() {
                errors.invalid(path, "", "the name must not be empty");
                return;
            }
            identifier
        }
    };
    if identifier.len() > IDENTIFIER {
        check::too_long(path, IDENTIFIER, errors);
    }
    let first = |c: char| c == '_' || c.is_ascii_alphabetic();
    if !identifier.starts_with(first) || !identifier.chars().all(|c| first(c) || c.is_ascii_digit())
    {
        errors.invalid(
            path,
            identifier,
            "a valid C identifier must start with alphabetic character or '_', followed by a string of \
             alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for \
             validation is '[A-Za-z_][A-Za-z0-9_]*')",
        );
    }
}

/// The same, where the domain must be there.
pub(super) fn validate_full_name(path: &Path, own: &str, errors: &mut FieldErrors) {
    validate_attribute_name(path, own, errors);
    if !own.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(path, own, detail);
    }
}

/// The selectors of a request or a class.
pub(super) fn validate_selectors(path: &Path, owner: &Value, errors: &mut FieldErrors) {
    let list = items(owner, "/selectors");
    each(
        &path.field("selectors"),
        list,
        LIST,
        errors,
        |path, selector, errors| {
            let path = path.field("cel");
            if !present(selector, "/cel") {
                errors.required(&path, "");
                return;
            }
            let expression = text(selector, "/cel/expression");
            if expression.len() > EXPRESSION {
                check::too_long(&path.field("expression"), EXPRESSION, errors);
            } else if expression.trim().is_empty() {
                errors.required(&path.field("expression"), "");
            }
        },
    );
}

/// The configuration of a class or a claim; `extra` checks what only one of them has.
pub(super) fn validate_configurations(
    path: &Path,
    owner: &Value,
    errors: &mut FieldErrors,
    mut extra: impl FnMut(&Path, &Value, &mut FieldErrors),
) {
    let list = items(owner, "/config");
    each(
        &path.field("config"),
        list,
        LIST,
        errors,
        |path, config, errors| {
            extra(path, config, errors);
            let path = path.field("opaque");
            if !present(config, "/opaque") {
                errors.required(&path, "");
                return;
            }
            validate_driver(
                &path.field("driver"),
                text(config, "/opaque/driver"),
                errors,
            );
            let path = path.field("parameters");
            match part(config, "/opaque/parameters") {
                Value::Null => errors.required(&path, ""),
                value if value.to_string().len() > PARAMETERS => {
                    check::too_long(&path, PARAMETERS, errors);
                }
                Value::Object(_) => {}
                _ => errors.invalid(&path, "<value omitted>", "must be a valid JSON object"),
            }
        },
    );
}

pub(super) fn validate_taint(path: &Path, taint: &Value, errors: &mut FieldErrors) {
    let key = text(taint, "/key");
    check::problems(
        &path.field("key"),
        key,
        name::qualified_problems(key),
        errors,
    );
    let value = text(taint, "/value");
    let problems = name::label_value_problems(value);
    check::problems(&path.field("value"), value, problems, errors);
    match text(taint, "/effect") {
        "" => errors.required(&path.field("effect"), ""),
        _ => check::one_of(
            &path.field("effect"),
            part(taint, "/effect"),
            EFFECTS,
            errors,
        ),
    }
}

pub(super) fn validate_toleration(path: &Path, toleration: &Value, errors: &mut FieldErrors) {
    let (key, value) = (text(toleration, "/key"), text(toleration, "/value"));
    if !key.is_empty() {
        check::problems(
            &path.field("key"),
            key,
            name::qualified_problems(key),
            errors,
        );
    }
    let at = path.field("value");
    match text(toleration, "/operator") {
        "Exists" if !value.is_empty() => {
            errors.invalid(&at, value, "must be empty for operator `Exists`");
        }
        "Exists" => {}
        "Equal" => check::problems(&at, value, name::label_value_problems(value), errors),
        "" => errors.required(&path.field("operator"), ""),
        other => errors.not_supported(&path.field("operator"), other, &["Equal", "Exists"]),
    }
    if !text(toleration, "/effect").is_empty() {
        check::one_of(
            &path.field("effect"),
            part(toleration, "/effect"),
            EFFECTS,
            errors,
        );
    }
}

/// Amounts by name: what a device has or takes of a counter.
pub(super) fn validate_counters(path: &Path, owner: &Value, errors: &mut FieldErrors) {
    let path = path.field("counters");
    let counters: Vec<_> = entries(owner, "/counters").collect();
    if counters.is_empty() {
        errors.required(&path, "");
    }
    if counters.len() > LIST {
        check::too_many(&path, counters.len(), LIST, errors);
        return;
    }
    for (name, counter) in counters {
        let path = path.key(name);
        validate_label(&path, name, errors);
        check::quantity(&path.field("value"), part(counter, "/value"), errors);
    }
}

/// Exactly one of these fields is to be there; answers those that are.
pub(super) fn given<'a>(owner: &Value, fields: &[&'a str]) -> Vec<&'a str> {
    let fields = fields.iter().copied();
    fields
        .filter(|field| {
            let value = part(owner, &format!("/{field}"));
            !value.is_null() && *value != Value::Bool(false)
        })
        .collect()
}

/// Says that more than one of some fields is there.
pub(super) fn refuse_several(path: &Path, given: &[&str], detail: &str, errors: &mut FieldErrors) {
    let quoted: Vec<_> = given.iter().map(|field| format!("`{field}`")).collect();
    let shown = format!("{{{}}}", quoted.join(", "));
    errors.push(path, Cause::Invalid, shown.into(), detail);
}
