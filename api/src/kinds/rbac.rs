//! `rbac.authorization.k8s.io`: who may do what.
//!
//! - [`role`]: Role and ClusterRole. [`binding`]: RoleBinding and ClusterRoleBinding.
//!
//! Only what the objects may look like: their meaning, and who may grant what, is the authorizer's.

pub(super) mod binding;
pub(super) mod role;

/// The group, and what `apiGroup` says of its own kinds.
const GROUP: &str = "rbac.authorization.k8s.io";
