//! The part of a Function's spec that is its revisions': defaults, and what is wrong with it.

use serde_json::{Value, json};

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        pod::instance,
        value::{child, entries, fill, fill_text, find, items, number, part, present, text},
    },
    name,
};

/// Instances of a container at most, where nothing is said: each is a pod.
const CONTAINERS: i64 = 10;
/// The same of a component: each costs what its requests need.
const COMPONENTS: i64 = 100;
const LONGEST_TIMEOUT: i64 = 3600;
const MOST_INSTANCES: i64 = 10_000;
const MOST_ATTEMPTS: i64 = 10;
const LONGEST_BACKOFF: i64 = 60_000;
const LONGEST_IDLE: i64 = 86_400;

/// The prefix of labels that the system sets.
const RESERVED: &str = "functions.wk.dev/";

/// Fills in a spec.
pub(super) fn default(spec: &mut Value) {
    instance::default(spec);
    let most = if is_container(spec) {
        CONTAINERS
    } else {
        COMPONENTS
    };
    if let Some(scale) = child(spec, "scale") {
        fill(scale, "min", 0);
        let least = number(scale, "/min").unwrap_or(0);
        fill(scale, "max", most.max(least));
        fill(scale, "idleSeconds", 60);
    }
    fill(spec, "concurrency", 0);
    fill_text(spec, "isolation", "fresh");
    fill(spec, "timeoutSeconds", 60);
    if let Some(retries) = find(spec, "retries") {
        fill(retries, "attempts", 0);
        fill(retries, "backoffMilliseconds", 100);
    }
}

/// True if the spec itself says that the image is a container's.
fn is_container(spec: &Value) -> bool {
    present(spec, "/port") || text(spec, "/runtimeClassName") == "oci"
}

/// Checks a spec that stands at `path`.
pub(super) fn validate(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    instance::validate(path, spec, errors);
    validate_labels(&path.field("labels"), spec, errors);
    check::one_of(
        &path.field("runtimeClassName"),
        part(spec, "/runtimeClassName"),
        &["oci", "wasm"],
        errors,
    );
    if present(spec, "/port") {
        let path = path.field("port");
        if text(spec, "/runtimeClassName") == "wasm" {
            errors.forbidden(&path, "may not be set for components: they have no port");
        }
        check::port(&path, part(spec, "/port"), errors);
    }
    let account = text(spec, "/serviceAccountName");
    if !account.is_empty() {
        let path = path.field("serviceAccountName");
        check::problems(&path, account, name::subdomain_problems(account), errors);
    }
    for (index, secret) in items(spec, "/imagePullSecrets").iter().enumerate() {
        if text(secret, "/name").is_empty() {
            let path = path.field("imagePullSecrets").index(index);
            errors.required(&path.field("name"), "");
        }
    }
    check::one_of(
        &path.field("isolation"),
        part(spec, "/isolation"),
        &["fresh", "pooled"],
        errors,
    );
    check::not_negative(
        &path.field("concurrency"),
        part(spec, "/concurrency"),
        errors,
    );
    within(path, spec, "timeoutSeconds", 1..=LONGEST_TIMEOUT, errors);
    validate_scale(&path.field("scale"), spec, errors);
    let retries = part(spec, "/retries");
    let path = path.field("retries");
    within(&path, retries, "attempts", 0..=MOST_ATTEMPTS, errors);
    within(
        &path,
        retries,
        "backoffMilliseconds",
        0..=LONGEST_BACKOFF,
        errors,
    );
}

fn validate_labels(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    check::labels(path, spec, "/labels", errors);
    for (key, _) in entries(spec, "/labels").filter(|(key, _)| key.starts_with(RESERVED)) {
        let detail = format!("labels that begin with {RESERVED} are the system's");
        errors.forbidden(&path.key(key), detail);
    }
}

fn validate_scale(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let scale = part(spec, "/scale");
    within(path, scale, "min", 0..=MOST_INSTANCES, errors);
    within(path, scale, "max", 1..=MOST_INSTANCES, errors);
    within(path, scale, "targetConcurrency", 1..=i64::MAX, errors);
    within(path, scale, "idleSeconds", 1..=LONGEST_IDLE, errors);
    let (least, most) = (number(scale, "/min"), number(scale, "/max"));
    if let (Some(least), Some(most)) = (least, most)
        && least > most
    {
        let detail = "must be greater than or equal to `min`";
        errors.invalid(&path.field("max"), most, detail);
    }
    let bound = number(spec, "/concurrency").filter(|bound| *bound > 0);
    if let (Some(bound), Some(target)) = (bound, number(scale, "/targetConcurrency"))
        && target > bound
    {
        let detail = format!("must be less than or equal to spec.concurrency ({bound})");
        errors.invalid(&path.field("targetConcurrency"), target, detail);
    }
}

/// A number that may be absent but not outside of a range.
pub(super) fn within(
    path: &Path,
    owner: &Value,
    field: &str,
    range: std::ops::RangeInclusive<i64>,
    errors: &mut FieldErrors,
) {
    let Some(given) = owner.get(field).and_then(Value::as_i64) else {
        return;
    };
    if range.contains(&given) {
        return;
    }
    let (first, last) = range.into_inner();
    let detail = if last == i64::MAX {
        format!("must be greater than or equal to {first}")
    } else {
        format!("must be between {first} and {last}, inclusive")
    };
    errors.invalid(&path.field(field), json!(given), detail);
}
