//! `networking.k8s.io`: the ways into the cluster, what traffic is allowed, and Services' addresses.

pub(super) mod ingress;
pub(super) mod ingress_class;
pub(super) mod ip_address;
pub(super) mod network_policy;
pub(super) mod service_cidr;

use serde_json::Value;

use super::{
    check,
    value::{part, text},
};
use crate::{
    field::{FieldErrors, Path},
    name,
};

const GROUP: &str = "networking.k8s.io";

/// A reference to an object of any kind, in the same namespace or in none.
fn validate_reference(path: &Path, reference: &Value, errors: &mut FieldErrors) {
    if let Some(group) = part(reference, "/apiGroup").as_str() {
        let problems = name::subdomain_problems(group);
        check::problems(&path.field("apiGroup"), group, problems, errors);
    }
    for (field, pointer) in [("kind", "/kind"), ("name", "/name")] {
        let path = path.field(field);
        match text(reference, pointer) {
            "" => errors.required(&path, format!("{field} is required")),
            given => check::problems(&path, given, name::segment_problems(given), errors),
        }
    }
}
