//! Parts of objects with paths of their own.
//!
//! - [`status`]: what the object's owner saw, and other parts. [`finalize`]: a Namespace's last step.
//! - [`scale`]: the number of replicas, the same for every kind that has one.
//! - [`binding`]: a pod's node, set once. [`eviction`]: its end, if its budget allows it.
//! - [`proxy`]: what a Service, a pod or a node serves itself.
//! - [`token`]: a ServiceAccount's token.
//! - [`log`]: a container's output, from its node. [`container`]: which one.
//! - [`exec`], [`attach`], [`portforward`]: the ways into a pod; [`stream`]: what they share.

pub(crate) mod attach;
pub(crate) mod binding;
mod container;
pub(crate) mod eviction;
pub(crate) mod exec;
pub(crate) mod finalize;
pub(crate) mod log;
pub(crate) mod portforward;
pub(crate) mod proxy;
pub(crate) mod scale;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod token;
