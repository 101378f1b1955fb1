//! The Node object of this host, its conditions and its Lease.
//!
//! - [`object`]: what the Node says; pure but for reading the host.
//! - [`report`]: registers the Node, keeps its status and Lease current.

pub(crate) mod object;
pub(crate) mod report;
