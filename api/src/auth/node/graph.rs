//! Which nodes reach which objects, by what runs on them. Pure.
//!
//! A pod's node reaches what the pod names; a claim's nodes reach the volume that is bound to it, and the Secrets
//! that the volume names. Revisions of functions run on every node, so every node reaches what they name. An object
//! knows the nodes that reach it, with how many pods lead there: a question looks there and follows nothing, and a
//! pod that comes or goes touches what it names.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::names::{Id, Names};

/// Kinds of what pods name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Kind {
    Claim,
    ConfigMap,
    ResourceClaim,
    Secret,
    ServiceAccount,
}

/// What something names in its own namespace.
pub(super) type Reference = (Kind, String);

/// What a PersistentVolume says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct VolumeSeen {
    /// Namespace and name.
    pub(super) claim: Option<(String, String)>,
    /// Those that a node needs to mount it.
    pub(super) secrets: Vec<(String, String)>,
    /// The node that made it; empty if none did.
    pub(super) maker: String,
}

/// What leads where.
#[derive(Default)]
pub(super) struct Graph {
    nodes: Names<()>,
    things: Names<Near>,
    /// By `namespace/name`, and so all but the volumes.
    pods: HashMap<Box<str>, Pod>,
    revisions: HashMap<Box<str>, Box<[Id]>>,
    volumes: HashMap<Box<str>, Volume>,
    /// Claims, and the node that is to make a volume for each.
    asked: HashMap<Box<str>, Id>,
    /// Secrets, and the claims through whose volumes they are reached.
    through: HashMap<Id, Counts>,
}

struct Pod {
    node: Id,
    names: Box<[Id]>,
}

struct Volume {
    claim: Option<Id>,
    secrets: Box<[Id]>,
    maker: Option<Id>,
}

/// Who reaches an object.
#[derive(Default)]
struct Near {
    /// Nodes, with how many of their pods name it.
    nodes: Counts,
    /// Revisions that name it.
    revisions: u32,
}

/// How often each of some was counted, in their order.
#[derive(Default)]
struct Counts(Vec<(Id, u32)>);

impl Counts {
    fn find(&self, id: Id) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id)
    }

    fn add(&mut self, id: Id) {
        match self.find(id) {
            Ok(place) => self.0[place].1 += 1,
            Err(place) => {
                if self.0.capacity() == 0 {
                    // Most objects have one node.
                    self.0.reserve_exact(1);
                }
                self.0.insert(place, (id, 1));
            }
        }
    }

    fn remove(&mut self, id: Id) {
        let Ok(place) = self.find(id) else { return };
        self.0[place].1 -= 1;
        if self.0[place].1 == 0 {
            self.0.remove(place);
        }
    }
}

/// `s/default/login`: how an object is named here.
fn place(kind: Kind, namespace: &str, name: &str) -> String {
    let kind = match kind {
        Kind::Claim => 'v',
        Kind::ConfigMap => 'c',
        Kind::ResourceClaim => 'r',
        Kind::Secret => 's',
        Kind::ServiceAccount => 'a',
    };
    format!("{kind}/{namespace}/{name}")
}

fn in_namespace(namespace: &str, name: &str) -> Box<str> {
    format!("{namespace}/{name}").into()
}

impl Graph {
    /// A pod is on a node and names these.
    pub(super) fn put_pod(&mut self, namespace: &str, name: &str, node: &str, to: &[Reference]) {
        // What stays is held twice for a moment, so that it is not taken away in between.
        let node = self.nodes.hold(node);
        let names = self.hold_all(namespace, to);
        for id in &names {
            self.things.value_mut(*id).nodes.add(node);
        }
        let pod = Pod { node, names };
        let old = self.pods.insert(in_namespace(namespace, name), pod);
        self.let_go_of_pod(old);
    }

    /// A pod is on no node.
    pub(super) fn remove_pod(&mut self, namespace: &str, name: &str) {
        let old = self.pods.remove(&in_namespace(namespace, name));
        self.let_go_of_pod(old);
    }

    fn let_go_of_pod(&mut self, pod: Option<Pod>) {
        let Some(Pod { node, names }) = pod else {
            return;
        };
        for id in names {
            self.things.value_mut(id).nodes.remove(node);
            self.things.release(id);
        }
        self.nodes.release(node);
    }

    /// A revision, which every node runs, names these.
    pub(super) fn put_revision(&mut self, namespace: &str, name: &str, to: &[Reference]) {
        let names = self.hold_all(namespace, to);
        for id in &names {
            self.things.value_mut(*id).revisions += 1;
        }
        let old = self.revisions.insert(in_namespace(namespace, name), names);
        self.let_go_of_revision(old);
    }

    pub(super) fn remove_revision(&mut self, namespace: &str, name: &str) {
        let old = self.revisions.remove(&in_namespace(namespace, name));
        self.let_go_of_revision(old);
    }

    fn let_go_of_revision(&mut self, names: Option<Box<[Id]>>) {
        for id in names.into_iter().flatten() {
            self.things.value_mut(id).revisions -= 1;
            self.things.release(id);
        }
    }

    pub(super) fn put_volume(&mut self, name: &str, seen: &VolumeSeen) {
        let maker = Some(&seen.maker).filter(|maker| !maker.is_empty());
        let maker = maker.map(|maker| self.nodes.hold(maker));
        let claim = seen.claim.as_ref().map(|(namespace, name)| {
            let claim = place(Kind::Claim, namespace, name);
            self.things.hold(&claim)
        });
        let mut secrets = Vec::new();
        if let Some(claim) = claim {
            for (namespace, name) in &seen.secrets {
                let secret = self.things.hold(&place(Kind::Secret, namespace, name));
                self.through.entry(secret).or_default().add(claim);
                secrets.push(secret);
            }
        }
        let volume = Volume {
            claim,
            secrets: secrets.into(),
            maker,
        };
        let old = self.volumes.insert(name.into(), volume);
        self.let_go_of_volume(old);
    }

    pub(super) fn remove_volume(&mut self, name: &str) {
        let old = self.volumes.remove(name);
        self.let_go_of_volume(old);
    }

    fn let_go_of_volume(&mut self, volume: Option<Volume>) {
        let Some(volume) = volume else { return };
        if let Some(claim) = volume.claim {
            for secret in volume.secrets {
                if let Some(claims) = self.through.get_mut(&secret) {
                    claims.remove(claim);
                    if claims.0.is_empty() {
                        self.through.remove(&secret);
                    }
                }
                self.things.release(secret);
            }
            self.things.release(claim);
        }
        if let Some(maker) = volume.maker {
            self.nodes.release(maker);
        }
    }

    /// A claim asks a node for a volume.
    pub(super) fn put_asked(&mut self, namespace: &str, name: &str, node: &str) {
        let node = self.nodes.hold(node);
        if let Some(old) = self.asked.insert(in_namespace(namespace, name), node) {
            self.nodes.release(old);
        }
    }

    pub(super) fn remove_asked(&mut self, namespace: &str, name: &str) {
        if let Some(old) = self.asked.remove(&in_namespace(namespace, name)) {
            self.nodes.release(old);
        }
    }

    fn hold_all(&mut self, namespace: &str, to: &[Reference]) -> Box<[Id]> {
        to.iter()
            .map(|(kind, name)| self.things.hold(&place(*kind, namespace, name)))
            .collect()
    }

    /// Whether something that runs on a node leads to the object.
    pub(super) fn reaches(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let node = self.nodes.find(node);
        if let Some(thing) = self.things.find(&place(kind, namespace, name)) {
            let mut claims = self.through.get(&thing).into_iter().flat_map(|to| &to.0);
            if self.is_near(thing, node) || claims.any(|(claim, _)| self.is_near(*claim, node)) {
                return true;
            }
        }
        kind == Kind::Claim
            && node.is_some()
            && self.asked.get(&in_namespace(namespace, name)).copied() == node
    }

    fn is_near(&self, thing: Id, node: Option<Id>) -> bool {
        let near = self.things.value(thing);
        near.revisions > 0 || node.is_some_and(|node| near.nodes.find(node).is_ok())
    }

    /// The same of a PersistentVolume: one of a claim that the node reaches, or one that it made.
    pub(super) fn reaches_volume(&self, node: &str, name: &str) -> bool {
        let claim = self.volumes.get(name).and_then(|volume| volume.claim);
        let node_id = self.nodes.find(node);
        claim.is_some_and(|claim| self.is_near(claim, node_id)) || self.made(node, name)
    }

    /// Whether a node made a PersistentVolume.
    pub(super) fn made(&self, node: &str, name: &str) -> bool {
        let maker = self.volumes.get(name).and_then(|volume| volume.maker);
        maker.is_some() && maker == self.nodes.find(node)
    }

    /// Whether a pod is on a node.
    pub(super) fn runs(&self, node: &str, namespace: &str, name: &str) -> bool {
        let pod = self.pods.get(&in_namespace(namespace, name));
        pod.is_some_and(|pod| Some(pod.node) == self.nodes.find(node))
    }
}
