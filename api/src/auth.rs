//! Who is asking, and whether they may.
//!
//! Reading order:
//! - [`certificate`]: a client certificate's subject is a user.
//! - [`tokens`]: the static bearer tokens.
//! - [`authorizer`]: the question "may this user do this?" and the trait that answers it.
//! - [`rules`]: the fixed answers for the cluster's own components.
//!
//! Never answers HTTP: [`crate::server`] turns a refusal into a `Status`.

pub mod authorizer;
pub mod certificate;
pub mod rules;
pub mod tokens;

pub use authorizer::{Attributes, Authorizer};
pub use tokens::StaticToken;

/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of every nodelet.
pub const NODES: &str = "system:nodes";

/// An authenticated identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

impl User {
    /// A user and its groups.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        }
    }

    /// The apiserver itself.
    pub fn apiserver() -> Self {
        Self::new("system:apiserver", &[])
    }

    /// The apiserver where it acts on any object: on those of kinds that users define.
    pub(crate) fn system() -> Self {
        Self::new("system:apiserver", &[MASTERS])
    }

    /// The controllers.
    pub fn controller_manager() -> Self {
        Self::new("system:kube-controller-manager", &[])
    }

    /// The scheduler.
    pub fn scheduler() -> Self {
        Self::new("system:kube-scheduler", &[])
    }

    /// The nodelet of a node.
    pub fn node(name: &str) -> Self {
        Self::new(format!("system:node:{name}"), &[NODES])
    }

    /// True for a member of a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}
