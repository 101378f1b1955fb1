//! `storage.k8s.io`: classes of volumes, and what CSI drivers say of themselves.

pub(super) mod csi_driver;
pub(super) mod csi_node;
pub(super) mod csi_storage_capacity;
pub(super) mod storage_class;
pub(super) mod volume_attachment;
pub(super) mod volume_attributes_class;

use serde_json::Value;

use super::{
    check,
    value::{entries, plain},
};
use crate::{
    field::{FieldErrors, Path},
    name,
};

const GROUP: &str = "storage.k8s.io";

/// How many parameters a class may have.
const PARAMETERS: usize = 512;
/// Bytes of all of them, keys and values.
const PARAMETER_BYTES: usize = 256 * 1024;

/// The name of a provisioner or driver, which must be there.
fn validate_provisioner(path: &Path, name: &str, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(path, "");
    } else {
        let lower = name.to_lowercase();
        check::problems(path, &lower, name::qualified_problems(&lower), errors);
    }
}

/// The name of a CSI driver, which must be there.
fn validate_driver(path: &Path, name: &str, errors: &mut FieldErrors) {
    const LENGTH: usize = 63;
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > LENGTH {
        check::too_long(path, LENGTH, errors);
    }
    let lower = name.to_lowercase();
    check::problems(path, name, name::subdomain_problems(&lower), errors);
}

/// The parameters of a class.
fn validate_parameters(object: &Value, errors: &mut FieldErrors) {
    let path = Path::root("parameters");
    if entries(object, "/parameters").count() > PARAMETERS {
        check::too_long(&path, PARAMETERS, errors);
        return;
    }
    let mut bytes = 0;
    for (key, value) in entries(object, "/parameters") {
        if key.is_empty() {
            errors.invalid(&path, "", "field can not be empty.");
        }
        bytes += key.len() + plain(value).len();
    }
    if bytes > PARAMETER_BYTES {
        check::too_long(&path, PARAMETER_BYTES, errors);
    }
}

/// Top-level fields that are what they were when the object was made.
fn refuse_changes(fields: &[&str], object: &Value, old: &Value, errors: &mut FieldErrors) {
    let empty =
        |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    for field in fields {
        let (new, was) = (&object[*field], &old[*field]);
        if new != was && !(empty(new) && empty(was)) {
            let detail = format!("updates to {field} are forbidden.");
            errors.forbidden(&Path::root(field), detail);
        }
    }
}
