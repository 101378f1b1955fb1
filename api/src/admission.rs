//! What a write must pass, and what is written together with it.
//!
//! - [`review`]: one write as admission sees it.
//! - [`plugins`]: the built-in ones; [`objects`], [`pod_resources`]: what they share.
//! - [`webhooks`]: those that others serve.
//! - [`quota`]: what a namespace may hold in sum.
//! - [`lifecycle`]: a namespace must exist, must not be ending, and some may never end.
//! - [`addresses`]: the ClusterIPs of Services. [`routes`]: the hosts and paths of Functions.
//! - [`certificates`]: who may approve and sign requests for them.
//!
//! Two phases around a write: [`mutate`] may complete the new object before it is prepared and checked;
//! [`validate`] sees it as it will be stored and answers operations that join the write's own group, so
//! that they hold exactly when the write does: no race between a check and the write it was for.
//! Both run again, on the newest state, each time a write is tried again. A dry run passes both and
//! commits nothing.

pub mod addresses;
mod certificates;
pub(crate) mod lifecycle;
mod node_ports;
pub(crate) mod objects;
mod plugins;
mod pod_resources;
pub(crate) mod quota;
pub(crate) mod review;
mod routes;
pub(crate) mod webhooks;

pub use addresses::ServiceRange;
pub(crate) use review::{Operation, Review};

use serde_json::Value;
use store::{Commit, Group, Op};

use crate::{error::Error, kinds::functions, verbs::call::Call};

/// What admission adds to a write that it lets through.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// They commit with the write or not at all.
    ops: Vec<Op>,
    /// What the write uses of its namespace's quotas.
    charge: Option<quota::Charge>,
    /// The namespace whose quotas are counted again afterwards.
    touched: Option<String>,
}

impl Admitted {
    /// Commits a write with what admission adds. The last revision of the answer is that of the
    /// write's last operation.
    pub(crate) async fn commit(self, call: &Call, write: Vec<Op>) -> Result<Commit, Error> {
        let mut ops = self.ops;
        ops.extend(write);
        if let Some(together) = &call.together {
            return together.join(call, ops, self.charge, self.touched);
        }
        let committed = match self.charge {
            Some(charge) => quota::commit(call, charge, ops).await?,
            None => call.server.cache.write(Group { ops }).await?,
        };
        if let (Some(namespace), Commit::Done(_)) = (self.touched, &committed) {
            call.server.quota.touch(namespace);
        }
        Ok(committed)
    }
}

/// The first phase: completes the new object, or refuses it.
pub(crate) async fn mutate(
    review: &Review<'_>,
    mut object: Option<&mut Value>,
    old: Option<&Value>,
) -> Result<(), Error> {
    let given = object.as_deref().cloned();
    if plugins::mutate(review, object.as_deref_mut(), old).is_err() {
        // What the cache does not have yet may be there all the same.
        review.call.server.cache.fresh().await?;
        if let (Some(object), Some(given)) = (object.as_deref_mut(), given) {
            *object = given;
        }
        plugins::mutate(review, object.as_deref_mut(), old)?;
    }
    webhooks::mutate(review, object, old).await
}

/// The second phase: looks at the object as it will be stored.
pub(crate) async fn validate(
    review: &Review<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<Admitted, Error> {
    plugins::validate(review, object, old)?;
    certificates::validate(review, object, old)?;
    webhooks::validate(review, object, old).await?;
    Ok(Admitted {
        ops: lifecycle::checks(review)?,
        charge: quota::charge(review, object, old)?,
        touched: quota::touched(review, object, old),
    })
}

/// True if somebody outside this process is asked about the write: it should be of the newest state.
pub(crate) fn calls_out(review: &Review<'_>) -> bool {
    webhooks::are_concerned(review).unwrap_or(true)
}

/// Gives an object what the cluster has only one of each: a Service its address and its node ports, a Function
/// its routes. The operations commit with the write.
pub(crate) fn allocate(
    call: &Call,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<Vec<Op>, Error> {
    if is_service(call) {
        let mut ops = addresses::allocate(call, object, old)?;
        ops.extend(node_ports::allocate(call, object, old)?);
        Ok(ops)
    } else if is_function(call) {
        routes::allocate(call, object, old)
    } else {
        Ok(Vec::new())
    }
}

/// What goes with an object that is removed.
pub(crate) fn release(call: &Call, object: &Value) -> Vec<Op> {
    if is_service(call) {
        let mut ops = addresses::release(call, object);
        ops.extend(node_ports::release(call, object));
        ops
    } else if is_function(call) {
        routes::release(call, object)
    } else {
        Vec::new()
    }
}

fn is_service(call: &Call) -> bool {
    let names = call.resource.names();
    names.group.is_empty() && names.plural == "services"
}

fn is_function(call: &Call) -> bool {
    let names = call.resource.names();
    names.group == functions::GROUP && names.plural == "functions"
}
