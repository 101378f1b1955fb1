//! Who is asking, and whether they may.
//!
//! Reading order:
//! - [`certificate`]: a client certificate's subject is a user.
//! - [`tokens`]: the static bearer tokens. [`jwt`], [`service_account`]: those of ServiceAccounts.
//! - [`authenticate`]: a request's user. [`impersonation`]: asking as somebody else.
//! - [`authorizer`]: the question "may this user do this?". [`authorizers`]: who answers it, in order.
//! - [`node`]: what runs on a node answers for the node's own user. [`rbac`]: roles answer for everybody.
//! - [`follow`]: how both know of objects.
//!
//! Never answers HTTP: [`crate::server`] turns a refusal into a `Status`.

pub(crate) mod authenticate;
pub mod authorizer;
pub(crate) mod authorizers;
pub mod certificate;
mod follow;
pub(crate) mod impersonation;
pub mod jwt;
pub(crate) mod node;
pub(crate) mod rbac;
pub mod service_account;
pub mod tokens;

use std::collections::BTreeMap;

pub use authorizer::{Attributes, Decision};
pub use jwt::SigningKey;
pub use service_account::Issuer;
pub use tokens::StaticToken;

/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of every nodelet.
pub const NODES: &str = "system:nodes";
/// The group of everyone whose identity is known.
pub const AUTHENTICATED: &str = "system:authenticated";

const APISERVER: &str = "system:apiserver";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
const GATEWAY: &str = "system:gateway";
const NETWORK: &str = "system:kube-proxy";
/// What a nodelet's name begins with; the node's follows.
const NODE: &str = "system:node:";
const FUNCTIONS: &str = "system:controller:functions";

/// An authenticated identity.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct User {
    pub name: String,
    /// Empty where nothing tells two users of one name apart.
    pub uid: String,
    pub groups: Vec<String>,
    /// What else is known, by a key: `authentication.kubernetes.io/pod-name`.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user and its groups.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The apiserver itself; it asks before there are any roles.
    pub fn apiserver() -> Self {
        Self::new(APISERVER, &[MASTERS])
    }

    /// The controllers.
    pub fn controller_manager() -> Self {
        Self::new(CONTROLLER_MANAGER, &[])
    }

    /// The scheduler.
    pub fn scheduler() -> Self {
        Self::new(SCHEDULER, &[])
    }

    /// The gateways of all nodes.
    pub fn gateway() -> Self {
        Self::new(GATEWAY, &[])
    }

    /// The networks of all nodes.
    pub fn network() -> Self {
        Self::new(NETWORK, &[])
    }

    /// The controller of Functions.
    pub fn functions() -> Self {
        Self::new(FUNCTIONS, &[])
    }

    /// The nodelet of a node.
    pub fn node(name: &str) -> Self {
        Self::new(format!("{NODE}{name}"), &[NODES])
    }

    /// The node that a user is, whose name may be empty; `None` for everybody else.
    pub(crate) fn node_name(&self) -> Option<&str> {
        self.name.strip_prefix(NODE).filter(|_| self.is_in(NODES))
    }

    /// True for the components that everything waits for.
    pub(crate) fn is_component(&self) -> bool {
        matches!(
            self.name.as_str(),
            APISERVER | CONTROLLER_MANAGER | SCHEDULER | GATEWAY | NETWORK | FUNCTIONS
        )
    }

    /// True for a member of a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The same as a member of a group.
    #[must_use]
    pub(crate) fn within(mut self, group: &str) -> Self {
        if !self.is_in(group) {
            self.groups.push(group.to_owned());
        }
        self
    }
}
