//! Traffic: what is wrong with the shares of requests that revisions are to get.

use serde_json::{Value, json};

use super::template;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        value::{items, number, text},
    },
    name,
};

/// Between a tag and the Function's name in a host.
const BETWEEN: &str = "---";
/// What a host may have between two dots.
const LONGEST_LABEL: usize = 63;

/// Checks the traffic of a spec; `function` is the Function's name.
pub(super) fn validate(path: &Path, spec: &Value, function: &str, errors: &mut FieldErrors) {
    let shares = items(spec, "/traffic");
    let mut tags = check::Seen::new();
    for (index, share) in shares.iter().enumerate() {
        let path = path.index(index);
        template::within(&path, share, "percent", 0..=100, errors);
        let revision = text(share, "/revision");
        if !revision.is_empty() {
            let problems = name::subdomain_problems(revision);
            check::problems(&path.field("revision"), revision, problems, errors);
        }
        let tag = text(share, "/tag");
        if !tag.is_empty() {
            validate_tag(&path.field("tag"), tag, function, errors);
            check::unique(&path.field("tag"), tag, &mut tags, errors);
        } else if number(share, "/percent").is_none() {
            errors.required(&path.field("percent"), "or a tag must be given");
        }
    }
    let sum = shares.iter().fold(0_i64, |sum, share| {
        sum.saturating_add(number(share, "/percent").unwrap_or(0))
    });
    if !shares.is_empty() && sum != 100 {
        let detail = format!("percentages must sum to 100, not to {sum}");
        errors.invalid(path, json!(sum), detail);
    }
}

fn validate_tag(path: &Path, tag: &str, function: &str, errors: &mut FieldErrors) {
    check::problems(path, tag, name::label_problems(tag), errors);
    if tag.contains(BETWEEN) {
        errors.invalid(path, tag, format!("must not contain '{BETWEEN}'"));
    }
    if tag.len() + BETWEEN.len() + function.len() > LONGEST_LABEL {
        let detail = format!(
            "together with '{BETWEEN}' and the name must be no more than {LONGEST_LABEL} characters"
        );
        errors.invalid(path, tag, detail);
    }
}
