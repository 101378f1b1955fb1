//! Parts of objects with paths of their own.
//!
//! - [`status`]: what the object's owner saw. [`finalize`]: a Namespace's last step.
//! - [`scale`]: the number of replicas, the same for every kind that has one.
//! - [`binding`]: a pod's node, set once.
//! - [`token`]: a ServiceAccount's token.
//! - [`log`]: a container's output, from its node.

pub(crate) mod binding;
pub(crate) mod finalize;
pub(crate) mod log;
pub(crate) mod scale;
pub(crate) mod status;
pub(crate) mod token;
