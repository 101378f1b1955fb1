//! One pod on this node.
//!
//! - [`state`]: what the worker knows.
//! - [`plan`]: what to do next; pure.
//! - [`status`]: what the API is told; pure.
//! - [`environment`]: a container's environment. [`env_file`]: files that hold some of it; pure.
//! - [`names`]: what it is called, and how it looks names up; pure.
//! - [`security`]: what a component cannot be given; pure.
//! - [`credentials`]: registry accounts from `imagePullSecrets`.
//! - [`start`]: from a container's spec to a running container.
//! - [`worker`]: the task that does it.

pub(crate) mod credentials;
mod env_file;
pub(crate) mod environment;
pub(crate) mod names;
pub(crate) mod plan;
pub(crate) mod security;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod worker;

#[cfg(test)]
mod script;
