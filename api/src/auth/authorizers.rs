//! The authorizers in the order in which they are asked; the first that allows decides.
//!
//! Members of `system:masters` may do everything; nobody else is allowed anything that neither the Node
//! authorizer nor a role allows. What the gateway may read of Secrets is said here, since no role can say it.

use std::borrow::Cow;

use store::Cache;
use tokio_util::sync::CancellationToken;

use super::{
    Attributes, Decision, GATEWAY, MASTERS, User,
    authorizer::Target,
    node::{NodeAuthorizer, Refusal},
    rbac::{Rbac, rule::Rule},
};

/// The type of the Secrets that gateways show certificates of.
const CERTIFICATES: &str = "kubernetes.io/tls";

/// Answers from the watch cache.
pub(crate) struct Authorizer {
    cache: Cache,
    node: NodeAuthorizer,
    rbac: Rbac,
}

impl Authorizer {
    pub(crate) fn new(cache: Cache) -> Self {
        // What runs on nodes is read here, once: no question waits for it.
        Self {
            node: NodeAuthorizer::new(cache.clone()),
            rbac: Rbac::new(cache.clone()),
            cache,
        }
    }

    /// True if the user may.
    pub(crate) fn allows(&self, user: &User, asked: &Attributes<'_>) -> bool {
        user.is_in(MASTERS) || self.particular(user, asked).is_ok() || self.rbac.allows(user, asked)
    }

    /// The same with the reason.
    pub(crate) fn decide(&self, user: &User, asked: &Attributes<'_>) -> Decision {
        if user.is_in(MASTERS) {
            return Decision::allowed();
        }
        match self.particular(user, asked) {
            Ok(()) => Decision::allowed(),
            Err(refusal) => self.by_roles(user, asked, refusal.reason()),
        }
    }

    /// The same, but that a node which is refused for want of a relation is not refused for what this process
    /// has yet to hear of: that it runs a pod now, another process may have told it.
    pub(crate) async fn decide_current(&self, user: &User, asked: &Attributes<'_>) -> Decision {
        if self.allows(user, asked) {
            return Decision::allowed();
        }
        if let Err(Refusal::Unrelated(_)) = self.particular(user, asked)
            && let Err(error) = self.cache.fresh().await
        {
            tracing::debug!(%error, "what is committed is not known");
        }
        self.decide(user, asked)
    }

    /// Every rule of roles that holds for a user in a namespace (empty: at the cluster scope).
    pub(crate) fn rules(&self, user: &User, namespace: &str) -> Vec<Rule> {
        self.rbac.rules(user, namespace)
    }

    /// Why [`Self::rules`] are not all that a user may; `None` if they are.
    pub(crate) fn unlisted(user: &User) -> Option<&'static str> {
        user.node_name()
            .map(|_| "node authorizer does not support user rule resolution")
    }

    /// The rules of a role; `None` if there is no such role. An empty namespace means a ClusterRole.
    pub(crate) fn role(&self, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        self.rbac.role(namespace, name)
    }

    /// Keeps what nodes run in mind, until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        self.node.run(stop).await;
    }

    /// What is said of this user in particular, whatever roles say.
    fn particular(&self, user: &User, asked: &Attributes<'_>) -> Result<(), Refusal> {
        if let Some(node) = user.node_name() {
            return self.node.decide(user, node, asked);
        }
        if user.name == GATEWAY && reads_certificates(asked) {
            return Ok(());
        }
        Err(Refusal::Because(Cow::Borrowed("")))
    }

    fn by_roles(&self, user: &User, asked: &Attributes<'_>, reason: Cow<'_, str>) -> Decision {
        let mut decision = self.rbac.decide(user, asked);
        if !decision.allowed && !reason.is_empty() {
            decision.reason = match decision.reason.as_str() {
                "" => reason.into_owned(),
                also => format!("{reason}\n{also}"),
            };
        }
        decision
    }
}

/// Lists and watches of Secrets that leave out all but certificates. Any Ingress may name one.
fn reads_certificates(asked: &Attributes<'_>) -> bool {
    let Target::Resource(resource) = asked.target else {
        return false;
    };
    (resource.group, resource.resource, resource.subresource) == ("", "secrets", "")
        && matches!(asked.verb, "list" | "watch")
        && resource.selects("type", CERTIFICATES)
}
