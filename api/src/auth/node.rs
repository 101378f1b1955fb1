//! The Node authorizer: what the nodelet of a node may, by what runs on the node.
//!
//! Reading order:
//! - [`references`]: what pods, revisions of functions and volumes name. Pure.
//! - [`graph`](mod@graph): which nodes reach which objects by that. [`names`]: its names, each kept once. Pure.
//! - [`index`]: the graph made of objects as they come and go. Pure.
//!
//! Reads Pods, FunctionRevisions, PersistentVolumes and PersistentVolumeClaims of the watch cache. What of a write
//! is a node's own business is asked again by the admission plugin NodeRestriction, which sees the object: the
//! writes that are allowed here for all names are held to the node's own there. Reasons are Kubernetes' own.

mod graph;
mod index;
mod names;
mod references;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde_json::Value;
use store::Cache;
use tokio_util::sync::CancellationToken;

use self::{
    graph::{Graph, Kind},
    index::Table,
};
use super::{
    Attributes, User,
    authorizer::{Resource, Target},
    follow::Following,
};
use crate::kinds::local_volume::NODE_FIELD;

/// Where Leases of nodes live.
const LEASES: &str = "kube-node-lease";

/// What every node may of what is no node's own: verbs, group, resource. The nodelet does these, and no more.
const RULES: &[(&[&str], &str, &str)] = &[
    (&["create", "patch"], "", "events"),
    // Variables of every container tell of them.
    (&["list", "watch"], "", "services"),
    // Every node answers for every function whose image is a component.
    (&["list", "watch"], "functions.wk.dev", "functionrevisions"),
    (&["patch"], "functions.wk.dev", "functionrevisions/status"),
    (&["get"], "node.k8s.io", "runtimeclasses"),
    (&["get"], "storage.k8s.io", "storageclasses"),
];

/// Why a node may not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Nothing that runs on the node of this name leads to the object, as far as is known.
    Unrelated(String),
    /// Empty if there is nothing to say.
    Because(Cow<'static, str>),
}

impl Refusal {
    pub(crate) fn reason(&self) -> Cow<'_, str> {
        match self {
            Self::Unrelated(node) => {
                format!("no relationship found between node '{node}' and this object").into()
            }
            Self::Because(reason) => Cow::Borrowed(reason),
        }
    }
}

type Opinion = Result<(), Refusal>;

/// Whether a pod, taken for one that is no mirror pod, names what its node may then read.
pub(crate) fn names_something(pod: &Value) -> bool {
    let mut pod = pod.clone();
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("annotations");
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    references::of_pod(name, pod.to_string().as_bytes()).map_or(true, |names| !names.is_empty())
}

/// A graph that can be asked.
trait Asked {
    fn answers(&self, question: &dyn Fn(&Graph) -> bool) -> bool;
}

impl Asked for Following<Graph> {
    fn answers(&self, question: &dyn Fn(&Graph) -> bool) -> bool {
        self.with(question)
    }
}

/// Answers from the watch cache.
pub(crate) struct NodeAuthorizer(Following<Graph>);

impl NodeAuthorizer {
    pub(crate) fn new(cache: Cache) -> Self {
        let following = Following::new(cache);
        following.with(|_: &Graph| ());
        Self(following)
    }

    /// Keeps the graph current until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        self.0.keep_current(Table::Pods, stop).await;
    }

    /// Whether the user, who is the node of that name, may.
    pub(crate) fn decide(&self, user: &User, node: &str, asked: &Attributes<'_>) -> Opinion {
        opinion(&self.0, user, node, asked)
    }
}

fn opinion(graph: &dyn Asked, user: &User, node: &str, asked: &Attributes<'_>) -> Opinion {
    let Target::Resource(resource) = asked.target else {
        return silent();
    };
    if node.is_empty() {
        return because(format!("unknown node for user {:?}", user.name));
    }
    let question = Question {
        graph,
        node,
        verb: asked.verb,
        resource,
    };
    match (resource.group, resource.resource) {
        ("", "secrets") => question.read(Kind::Secret),
        ("", "configmaps") => question.read(Kind::ConfigMap),
        ("", "persistentvolumeclaims") => question.claim(),
        ("", "persistentvolumes") => question.volume(),
        ("", "serviceaccounts") => question.token(),
        ("", "nodes") => question.node(),
        ("", "pods") => question.pod(),
        ("coordination.k8s.io", "leases") => question.lease(),
        ("resource.k8s.io", "resourceclaims") => question.get(Kind::ResourceClaim),
        ("storage.k8s.io", "csinodes") => question.csi_node(),
        _ => question.rules(),
    }
}

/// What a node wants.
struct Question<'a> {
    graph: &'a dyn Asked,
    node: &'a str,
    verb: &'a str,
    resource: Resource<'a>,
}

fn silent() -> Opinion {
    because("")
}

fn because(reason: impl Into<Cow<'static, str>>) -> Opinion {
    Err(Refusal::Because(reason.into()))
}

impl Question<'_> {
    /// Asks the graph; the object must have a name.
    fn related(&self, reaches: impl Fn(&Graph) -> bool) -> Opinion {
        if self.resource.name.is_empty() {
            return because("No Object name found");
        }
        if self.graph.answers(&reaches) {
            return Ok(());
        }
        Err(Refusal::Unrelated(self.node.to_owned()))
    }

    fn reached(&self, kind: Kind) -> Opinion {
        let (namespace, name) = (self.resource.namespace, self.resource.name);
        self.related(|graph| graph.reaches(self.node, kind, namespace, name))
    }

    /// Reads, of one object: by its name, or by a selector that selects that name.
    fn read(&self, kind: Kind) -> Opinion {
        if !matches!(self.verb, "get" | "list" | "watch") {
            return because("can only read resources of this type");
        }
        if !self.resource.subresource.is_empty() {
            return because("cannot read subresource");
        }
        if self.resource.namespace.is_empty() {
            return because("can only read namespaced object of this type");
        }
        self.reached(kind)
    }

    fn get(&self, kind: Kind) -> Opinion {
        self.only_get()?;
        self.reached(kind)
    }

    fn only_get(&self) -> Opinion {
        if self.verb != "get" {
            return because("can only get individual resources of this type");
        }
        if !self.resource.subresource.is_empty() {
            return because("cannot get subresource");
        }
        Ok(())
    }

    /// Lists and watches of what is this node's, by the field that says so.
    fn selects_own(&self, field: &str) -> bool {
        matches!(self.verb, "list" | "watch")
            && self.resource.subresource.is_empty()
            && self.resource.selects(field, self.node)
    }

    fn claim(&self) -> Opinion {
        match (self.resource.subresource, self.verb) {
            ("status", "patch" | "update") => self.reached(Kind::Claim),
            ("status", _) => because("can only get/update/patch this type"),
            _ if self.selects_own(NODE_FIELD) => Ok(()),
            _ => self.get(Kind::Claim),
        }
    }

    fn volume(&self) -> Opinion {
        let name = self.resource.name;
        match (self.resource.subresource, self.verb) {
            // For claims that ask for it, which NodeRestriction sees to.
            ("", "create") => Ok(()),
            ("", "delete" | "patch") => self.related(|graph| graph.made(self.node, name)),
            _ if self.selects_own(NODE_FIELD) => Ok(()),
            _ => {
                self.only_get()?;
                self.related(|graph| graph.reaches_volume(self.node, name))
            }
        }
    }

    fn token(&self) -> Opinion {
        if self.verb != "create" || self.resource.name.is_empty() {
            return because("can only create tokens for individual service accounts");
        }
        if self.resource.subresource != "token" {
            return because("can only create token subresource of serviceaccount");
        }
        self.reached(Kind::ServiceAccount)
    }

    /// By its name alone: a node asks for its own object before there is one.
    fn node(&self) -> Opinion {
        let node = self.node;
        match (self.resource.subresource, self.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") => match self.resource.name {
                name if name == node => Ok(()),
                "" => because(format!(
                    "node '{node}' cannot read all nodes, only its own Node object"
                )),
                name => because(format!(
                    "node '{node}' cannot read '{name}', only its own Node object"
                )),
            },
            _ => silent(),
        }
    }

    fn pod(&self) -> Opinion {
        let (namespace, name) = (self.resource.namespace, self.resource.name);
        let own = |graph: &Graph| graph.runs(self.node, namespace, name);
        match (self.resource.subresource, self.verb) {
            ("", "get") => self.related(own),
            ("", "list" | "watch") if self.resource.selects("spec.nodeName", self.node) => Ok(()),
            ("", "list" | "watch") if name.is_empty() => {
                because("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "list" | "watch") => self.related(own),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Ok(())
            }
            _ => silent(),
        }
    }

    fn lease(&self) -> Opinion {
        if !matches!(self.verb, "get" | "create" | "update" | "patch" | "delete") {
            return because("can only get, create, update, patch, or delete a node lease");
        }
        if self.resource.namespace != LEASES {
            return because(format!(
                "can only access leases in the {LEASES:?} system namespace"
            ));
        }
        if self.verb != "create" && self.resource.name != self.node {
            return because("can only access node lease with the same name as the requesting node");
        }
        Ok(())
    }

    fn csi_node(&self) -> Opinion {
        if !matches!(self.verb, "get" | "create" | "update" | "patch" | "delete") {
            return because("can only get, create, update, patch, or delete a CSINode");
        }
        if !self.resource.subresource.is_empty() {
            return because("cannot authorize CSINode subresources");
        }
        if self.verb != "create" && self.resource.name != self.node {
            return because("can only access CSINode with the same name as the requesting node");
        }
        Ok(())
    }

    fn rules(&self) -> Opinion {
        let asked = &self.resource;
        let allows = |(verbs, group, resource): &(&[&str], &str, &str)| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((*resource, ""));
            (*group, resource, subresource) == (asked.group, asked.resource, asked.subresource)
                && verbs.contains(&self.verb)
        };
        match RULES.iter().any(allows) {
            true => Ok(()),
            false => silent(),
        }
    }
}
