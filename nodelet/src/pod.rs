//! One pod on this node.
//!
//! - [`container`]: what is known of one container.
//! - [`state`]: what the worker knows of them all; [`restart`]: whether one starts again.
//! - [`plan`]: what to do next; pure.
//! - [`status`]: what the API is told; pure.
//! - [`environment`]: a container's environment. [`env_file`]: files that hold some of it; pure.
//! - [`names`]: what it is called, and how it looks names up; pure. [`etc`]: the files that tell containers of it.
//! - [`place`]: where its sockets are.
//! - [`security`]: what a container's processes are given, and what a component cannot be; pure.
//! - [`resources`]: what it is promised and may use; pure.
//! - [`credentials`]: registry accounts from `imagePullSecrets`.
//! - [`start`]: from a container's spec to a running container; [`pulling`] tells of a pull that lasts; [`message`]: what it leaves behind at its end.
//! - [`worker`]: the task that does it.

pub(crate) mod container;
pub(crate) mod credentials;
mod env_file;
pub(crate) mod environment;
mod etc;
pub(crate) mod message;
pub(crate) mod names;
pub(crate) mod place;
pub(crate) mod plan;
mod pulling;
pub(crate) mod resources;
mod restart;
pub(crate) mod security;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod worker;

#[cfg(test)]
mod script;
