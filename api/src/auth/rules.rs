//! What the cluster's own components may do: a fixed table, until roles take its place.
//!
//! Pure. Members of `system:masters` may do everything; whoever the table does not name may nothing.

use super::{Attributes, Authorizer, MASTERS, NODES, User};

/// Reading verbs.
const READ: &[&str] = &["get", "list", "watch"];
/// Verbs that change one existing object.
const CHANGE: &[&str] = &["update", "patch"];
const CREATE: &[&str] = &["create"];
const DELETE: &[&str] = &["delete"];
const REMOVE: &[&str] = &["delete", "deletecollection"];

struct Rule {
    verbs: &'static [&'static str],
    /// `*` is every resource and subresource; else `pods`, `pods/status`.
    resources: &'static [&'static str],
    /// Only the object that has the node's own name.
    own: bool,
}

const fn rule(verbs: &'static [&'static str], resources: &'static [&'static str]) -> Rule {
    Rule {
        verbs,
        resources,
        own: false,
    }
}

const fn own(verbs: &'static [&'static str], resources: &'static [&'static str]) -> Rule {
    Rule {
        verbs,
        resources,
        own: true,
    }
}

/// The garbage collector and the namespace controller reach every resource.
const CONTROLLER_MANAGER: &[Rule] = &[
    rule(READ, &["*"]),
    rule(CHANGE, &["*"]),
    rule(REMOVE, &["*"]),
    rule(
        CREATE,
        &[
            "pods",
            "replicasets",
            "endpointslices",
            "events",
            "leases",
            "serviceaccounts",
            "configmaps",
        ],
    ),
];

const SCHEDULER: &[Rule] = &[
    rule(
        READ,
        &[
            "nodes",
            "pods",
            "namespaces",
            "services",
            "replicasets",
            "deployments",
            "leases",
        ],
    ),
    rule(CREATE, &["pods/binding", "events", "leases"]),
    rule(CHANGE, &["pods/status", "events", "leases"]),
    rule(DELETE, &["pods"]),
];

const NODE: &[Rule] = &[
    rule(
        READ,
        &[
            "nodes",
            "pods",
            "services",
            "endpointslices",
            "namespaces",
            "configmaps",
            "secrets",
            "serviceaccounts",
            "leases",
        ],
    ),
    rule(CREATE, &["nodes", "leases", "events", "pods"]),
    rule(CHANGE, &["pods/status", "events"]),
    own(CHANGE, &["nodes", "nodes/status", "leases"]),
    rule(DELETE, &["pods"]),
];

const APISERVER: &[Rule] = &[
    rule(READ, &["*"]),
    rule(
        CREATE,
        &["namespaces", "services", "endpointslices", "leases"],
    ),
    rule(CHANGE, &["services", "endpointslices", "leases"]),
    // Events whose hour is over, and what is left of apiservers that are gone.
    rule(DELETE, &["events", "endpointslices", "leases"]),
];

/// The authorizer of the table above.
pub struct Fixed;

impl Authorizer for Fixed {
    fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        if user.is_in(MASTERS) {
            return true;
        }
        let rules = match user.name.as_str() {
            "system:apiserver" => APISERVER,
            "system:kube-controller-manager" => CONTROLLER_MANAGER,
            "system:kube-scheduler" => SCHEDULER,
            _ if user.is_in(NODES) => NODE,
            _ => return false,
        };
        let resource = attributes.full_resource();
        rules.iter().any(|rule| {
            rule.verbs.contains(&attributes.verb)
                && rule
                    .resources
                    .iter()
                    .any(|&named| named == "*" || named == resource)
                && (!rule.own || user.name.strip_prefix("system:node:") == Some(attributes.name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `text`: verb, resource and name, as in `patch nodes/status n1`.
    #[track_caller]
    fn check(user: &User, text: &str, expected: bool) {
        let mut words = text.split(' ');
        let verb = words.next().expect("a verb");
        let full = words.next().expect("a resource");
        let (resource, subresource) = full.split_once('/').unwrap_or((full, ""));
        let attributes = Attributes {
            verb,
            group: "",
            resource,
            subresource,
            namespace: "",
            name: words.next().unwrap_or_default(),
        };
        assert_eq!(Fixed.allows(user, &attributes), expected, "{text}");
    }

    #[test]
    fn a_master_may_do_everything() {
        check(&User::new("wk-admin", &[MASTERS]), "delete nodes n1", true);
    }

    #[test]
    fn a_stranger_may_do_nothing() {
        check(&User::new("eve", &["dev"]), "list pods", false);
    }

    #[test]
    fn a_node_writes_only_its_own_node() {
        let node = User::node("n1");
        check(&node, "patch nodes/status n1", true);
        check(&node, "patch nodes/status n2", false);
        check(&node, "patch nodes n2", false);
        check(&node, "delete nodes n1", false);
        check(&node, "patch pods/status a", true);
        check(&node, "patch pods a", false);
    }

    #[test]
    fn the_scheduler_binds_and_does_not_edit() {
        check(&User::scheduler(), "create pods/binding a", true);
        check(&User::scheduler(), "patch pods a", false);
        check(&User::scheduler(), "get secrets a", false);
    }

    #[test]
    fn controllers_do_not_bind() {
        check(&User::controller_manager(), "create pods/binding a", false);
        check(
            &User::controller_manager(),
            "patch deployments/status a",
            true,
        );
        check(&User::controller_manager(), "create secrets", false);
    }
}
