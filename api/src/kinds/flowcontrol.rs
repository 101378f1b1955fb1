//! `flowcontrol.apiserver.k8s.io`: which requests wait for which.

pub(super) mod flow_schema;
pub(super) mod priority_level;

use serde_json::Value;

use super::{
    check,
    value::{items, text},
};
use crate::field::{FieldErrors, Path};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// What is wrong with the conditions of a status.
fn validate_conditions(object: &Value, errors: &mut FieldErrors) {
    let mut seen = check::Seen::new();
    for (index, condition) in items(object, "/status/conditions").iter().enumerate() {
        let path = Path::root("status").field("conditions").index(index);
        let path = path.field("type");
        let kind = text(condition, "/type");
        check::unique(&path, kind, &mut seen, errors);
        if kind.is_empty() {
            errors.required(&path, "must not be empty");
        }
    }
}
