//! The RBAC authorizer: Roles and their bindings decide.
//!
//! Reading order:
//! - [`rule`]: what one rule allows, and whether rules cover others. Pure.
//! - [`index`]: roles and bindings by the names they are asked for. Pure.
//! - [`escalation`]: nobody grants what they do not have.
//! - [`defaults`]: the roles that every cluster has. Pure. [`bootstrap`]: keeps them in the store.
//!
//! The index follows the watch cache, so whoever wrote a binding through this process finds it at work.

pub(crate) mod bootstrap;
mod defaults;
pub(crate) mod escalation;
mod index;
pub(crate) mod rule;

use store::Cache;

use super::{Attributes, Decision, User, follow::Following};
use index::Index;
use rule::Rule;

/// The API group of roles.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// Answers from the watch cache.
pub(crate) struct Rbac(Following<Index>);

impl Rbac {
    pub(crate) fn new(cache: Cache) -> Self {
        Self(Following::new(cache))
    }

    /// True if the user may.
    pub(crate) fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        self.0.with(|index| index.find(user, attributes).is_some())
    }

    /// The same with the reason.
    pub(crate) fn decide(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        self.0.with(|index| index.decide(user, attributes))
    }

    /// Every rule that holds for a user in a namespace (empty: at the cluster scope).
    pub(crate) fn rules(&self, user: &User, namespace: &str) -> Vec<Rule> {
        self.0.with(|index| index.rules(user, namespace))
    }

    /// The rules of a role; `None` if there is no such role. An empty namespace means a ClusterRole.
    pub(crate) fn role(&self, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        self.0
            .with(|index| index.role(namespace, name).map(<[Rule]>::to_vec))
    }
}
