//! The built-in plugins, in Kubernetes' order. Each is a file: what it changes or refuses is a pure
//! function; what it needs of the cluster is read from the cache.
//!
//! - [`limit_ranger`]: defaults and bounds of LimitRanges.
//! - [`service_account`]: which ServiceAccount a pod runs as.
//! - [`node_restriction`]: what nodes themselves may write.
//! - [`taint_nodes`]: a new Node is not ready.
//! - [`priority`]: priorities of PriorityClasses.
//! - [`tolerations`]: how long a pod stays on a node that is gone.
//! - [`storage`]: the default StorageClass; growing claims.
//! - [`storage_protection`]: finalizers of claims and volumes.
//! - [`runtime_class`]: overhead and scheduling of RuntimeClasses.
//! - [`ingress_class`]: the default IngressClass.

mod ingress_class;
pub(super) mod limit_ranger;
mod node_restriction;
mod priority;
mod runtime_class;
mod service_account;
mod storage;
mod storage_protection;
mod taint_nodes;
mod tolerations;

use std::sync::Arc;

use serde_json::Value;

use super::{Operation, Review, lifecycle, webhooks};
use crate::{error::Error, object};

/// The first phase. `object` is `None` for a delete.
pub(super) fn mutate(
    review: &Review<'_>,
    object: Option<&mut Value>,
    old: Option<&Value>,
) -> Result<(), Error> {
    lifecycle::admit(review)?;
    node_restriction::admit(review, object.as_deref(), old)?;
    let Some(object) = object else {
        return Ok(());
    };
    limit_ranger::mutate(review, object)?;
    service_account::mutate(review, object, old)?;
    taint_nodes::mutate(review, object);
    priority::mutate(review, object, old)?;
    tolerations::mutate(review, object);
    storage::mutate(review, object)?;
    storage_protection::mutate(review, object);
    runtime_class::mutate(review, object)?;
    ingress_class::mutate(review, object)
}

/// The second phase.
pub(super) fn validate(
    review: &Review<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Error> {
    let Some(object) = object else {
        return Ok(());
    };
    limit_ranger::validate(review, object)?;
    service_account::validate(review, object)?;
    priority::validate(review, object)?;
    storage::validate(review, object, old)?;
    runtime_class::validate(review, object)?;
    webhooks::check_configuration(review, object)
}

fn is_pod(review: &Review<'_>) -> bool {
    super::objects::is(review, "", "pods")
}

fn is_new_pod(review: &Review<'_>) -> bool {
    is_pod(review) && review.operation == Operation::Create
}

/// The object that an annotation makes the default of its kind: the newest, then the first by name.
fn default_of(objects: Vec<Arc<Value>>, annotation: &str) -> Option<Arc<Value>> {
    let marked = objects
        .into_iter()
        .filter(|object| object["metadata"]["annotations"][annotation] == "true");
    marked.reduce(|best, other| {
        let made = |object: &Value| object::text(object, "creationTimestamp").to_owned();
        if made(&other) > made(&best) {
            other
        } else {
            best
        }
    })
}
