//! What a pod's security fields come to, by the kind of container. Pure.
//!
//! - [`component`]: what a component cannot be given, or held to, is refused.
//! - [`container`]: what a container's processes are given, merged of the pod's fields and the container's.
//! - [`sysctl`]: which kernel parameters a pod may set.

pub(crate) mod component;
pub(crate) mod container;
pub(crate) mod sysctl;
