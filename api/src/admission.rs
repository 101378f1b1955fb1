//! What a write must pass, and what is written together with it.
//!
//! - [`lifecycle`]: a namespace must exist, must not be ending, and some may never end.
//! - [`addresses`]: the ClusterIPs of Services.
//!
//! Admission answers operations that join the write's own group, so that they hold exactly when the
//! write does: no race between a check and the write it was for.

pub mod addresses;
pub(crate) mod lifecycle;

pub use addresses::ServiceRange;

use serde_json::Value;
use store::Op;

use crate::{error::Error, verbs::call::Call};

/// Admits a new object. May complete it.
pub(crate) fn admit_create(call: &Call, object: &mut Value) -> Result<Vec<Op>, Error> {
    let mut ops = lifecycle::admit_create(call, object)?;
    if is_service(call) {
        ops.extend(addresses::allocate(call, object, None)?);
    }
    Ok(ops)
}

/// Admits a change. May complete the new object.
pub(crate) fn admit_update(call: &Call, object: &mut Value, old: &Value) -> Result<Vec<Op>, Error> {
    if is_service(call) {
        addresses::allocate(call, object, Some(old))
    } else {
        Ok(Vec::new())
    }
}

/// Admits a request to delete, before anything is known of the object.
pub(crate) fn admit_delete(call: &Call, name: &str) -> Result<(), Error> {
    lifecycle::admit_delete(call, name)
}

/// What goes with an object that is removed.
pub(crate) fn release(call: &Call, object: &Value) -> Vec<Op> {
    if is_service(call) {
        addresses::release(call, object)
    } else {
        Vec::new()
    }
}

fn is_service(call: &Call) -> bool {
    let names = call.resource.names();
    names.group.is_empty() && names.plural == "services"
}
