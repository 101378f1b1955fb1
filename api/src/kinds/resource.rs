//! `resource.k8s.io`: devices that nodes have and pods ask for (dynamic resource allocation).
//!
//! - [`claim`]: ResourceClaim and ResourceClaimTemplate. [`device_class`], [`slice`]: the other kinds.
//! - [`device`]: what they say of devices.
//!
//! Expressions that select devices are kept as they are: nothing evaluates them yet.

pub(super) mod claim;
mod device;
pub(super) mod device_class;
pub(super) mod slice;

const GROUP: &str = "resource.k8s.io";
