//! What is known of Functions, revisions, their pods and Ingresses, and the table that it makes.
//!
//! A change touches the rows and hosts that it is about. Objects may come in any order: a Function before the revisions
//! that it names, a pod before its revision.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use function_kinds as functions;
use k8s_openapi::api::{
    core::v1 as core,
    networking::v1::{Ingress, IngressClass},
};
use runtimes::RevisionRef;

use super::{
    Table,
    claim::{self, Claim, Conflict, Host, Kind, Owner},
    paths::Paths,
    row::{self, Container, Function, Revision, Share},
};
use crate::{
    directory::{Name, name_of},
    feed::Change,
    gateway::{CONTROLLER, activator::Capacity},
};

/// The annotation that named an Ingress' class before there was a field.
const CLASS: &str = "kubernetes.io/ingress.class";

/// A change of one of the kinds that routes come from.
pub(crate) enum Update {
    Functions(Change<FunctionSeen>),
    Revisions(Change<RevisionSeen>),
    Pods(Change<PodSeen>),
    Ingresses(Change<IngressSeen>),
    Classes(Change<ClassSeen>),
}

/// A Function as far as requests are concerned.
pub(crate) struct FunctionSeen {
    owner: Owner,
    /// Revision, percent and tag.
    traffic: Vec<(String, u8, Option<Box<str>>)>,
    claims: Vec<Claim>,
}

/// A FunctionRevision.
pub(crate) struct RevisionSeen {
    revision: Revision,
    container: Option<Container>,
    function: Option<String>,
}

/// A pod of a revision.
pub(crate) struct PodSeen {
    name: Name,
    /// `NAME.NAMESPACE` of its revision.
    revision: String,
    ready: Option<std::net::IpAddr>,
}

/// An Ingress.
pub(crate) struct IngressSeen {
    owner: Owner,
    class: Option<String>,
    claims: Vec<Claim>,
    /// Backends that are not served.
    not_served: Vec<Conflict>,
    /// Hosts and the Secret with their certificate.
    tls: Vec<(String, Name)>,
    /// `status.loadBalancer`'s addresses.
    addresses: Vec<String>,
    /// The object's uid, for Events.
    uid: String,
}

/// An IngressClass.
pub(crate) struct ClassSeen {
    name: String,
    ours: bool,
}

/// An Ingress whose status is to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Claimed {
    pub(crate) name: Name,
    pub(crate) uid: String,
    pub(crate) addresses: Vec<String>,
}

/// Everything that decides about routes.
pub(crate) struct Book {
    table: Table,
    /// By `NAME.NAMESPACE`, with what its pods are asked for.
    revisions: HashMap<Box<str>, (Arc<Revision>, Option<Container>)>,
    /// Ready pods' addresses by revision and pod.
    pods: HashMap<Box<str>, BTreeMap<Name, std::net::IpAddr>>,
    /// The revision of each pod.
    revision_of: HashMap<Name, Box<str>>,
    ingresses: HashMap<Name, IngressSeen>,
    classes: HashMap<String, bool>,
    claims: HashMap<Host, Vec<Claim>>,
    /// What each object claims now.
    owned: HashMap<(Kind, Name), Vec<Claim>>,
    secrets: HashMap<String, BTreeSet<(Owner, Name)>>,
    owned_secrets: HashMap<Name, Vec<(String, Owner, Name)>>,
    conflicts: HashMap<Host, Vec<Conflict>>,
    functions: BTreeSet<Name>,
}

impl FunctionSeen {
    pub(crate) fn read(object: functions::Function) -> Self {
        let owner = owner(Kind::Function, &object.metadata);
        let key = row::key(&owner.name.namespace, &owner.name.name);
        let traffic = object.status.unwrap_or_default().traffic.into_iter();
        Self {
            claims: claim::of_function(&owner, &key, &object.spec.routes),
            owner,
            traffic: traffic
                .map(|share| {
                    let percent = u8::try_from(share.percent.clamp(0, 100));
                    let tag = share.tag.map(String::into_boxed_str);
                    (share.revision, percent.expect("it is at most 100"), tag)
                })
                .collect(),
        }
    }
}

impl RevisionSeen {
    pub(crate) fn read(object: functions::FunctionRevision) -> Self {
        let labels = object.metadata.labels.as_ref();
        Self {
            revision: Revision::read(&object),
            container: Container::read(&object),
            function: labels.and_then(|labels| labels.get(functions::FUNCTION_LABEL).cloned()),
        }
    }
}

impl PodSeen {
    pub(crate) fn read(object: core::Pod) -> Self {
        let name = name_of(&object.metadata);
        let labels = object.metadata.labels.unwrap_or_default();
        let revision = labels.get(functions::REVISION_LABEL);
        let status = object.status.unwrap_or_default();
        let leaving = object.metadata.deletion_timestamp.is_some();
        let ready = status.conditions.iter().flatten();
        let ready = ready
            .filter(|condition| condition.type_ == "Ready")
            .any(|condition| condition.status == "True");
        let ip = status.pod_ip.filter(|_| ready && !leaving);
        Self {
            revision: row::key(&name.namespace, revision.map_or("", String::as_str)),
            ready: ip.and_then(|ip| ip.parse().ok()),
            name,
        }
    }
}

impl IngressSeen {
    pub(crate) fn read(object: Ingress) -> Self {
        let owner = owner(Kind::Ingress, &object.metadata);
        let claims = claim::of_ingress(&owner, &object);
        let not_served = claim::not_served(&owner, &object);
        let namespace = owner.name.namespace.clone();
        let annotations = object.metadata.annotations.unwrap_or_default();
        let spec = object.spec.unwrap_or_default();
        let mut tls = Vec::new();
        for entry in spec.tls.into_iter().flatten() {
            let Some(secret) = entry.secret_name else {
                continue;
            };
            // One that names no host is for all that the rules name.
            let hosts = match entry.hosts.filter(|hosts| !hosts.is_empty()) {
                Some(hosts) => hosts,
                None => claims
                    .iter()
                    .filter_map(|claim| claim.host.name())
                    .collect(),
            };
            for host in hosts {
                let secret = Name {
                    namespace: namespace.clone(),
                    name: secret.clone(),
                };
                tls.push((host.to_ascii_lowercase(), secret));
            }
        }
        let balancer = object.status.and_then(|status| status.load_balancer);
        let points = balancer.into_iter().flat_map(|each| each.ingress);
        Self {
            owner,
            class: spec
                .ingress_class_name
                .or_else(|| annotations.get(CLASS).cloned()),
            claims,
            not_served,
            tls,
            addresses: points
                .flatten()
                .filter_map(|point| point.ip.or(point.hostname))
                .collect(),
            uid: object.metadata.uid.unwrap_or_default(),
        }
    }
}

impl ClassSeen {
    pub(crate) fn read(object: IngressClass) -> Self {
        let controller = object.spec.and_then(|spec| spec.controller);
        Self {
            name: object.metadata.name.unwrap_or_default(),
            ours: controller.as_deref() == Some(CONTROLLER),
        }
    }
}

fn owner(
    kind: Kind,
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> Owner {
    let created = metadata.creation_timestamp.as_ref();
    Owner {
        created: created.map_or(i64::MAX, |time| time.0.as_second()),
        kind,
        name: name_of(metadata),
    }
}

impl Book {
    pub(crate) fn new(domain: &str) -> Self {
        Self {
            table: Table::new(domain),
            revisions: HashMap::new(),
            pods: HashMap::new(),
            revision_of: HashMap::new(),
            ingresses: HashMap::new(),
            classes: HashMap::new(),
            claims: HashMap::new(),
            owned: HashMap::new(),
            secrets: HashMap::new(),
            owned_secrets: HashMap::new(),
            conflicts: HashMap::new(),
            functions: BTreeSet::new(),
        }
    }

    /// The routes as they are now.
    pub(crate) fn table(&self) -> Table {
        self.table.clone()
    }

    /// The Ingresses that are ours, with the addresses that their status has.
    pub(crate) fn claimed(&self) -> Vec<Claimed> {
        let ours = self.ingresses.values().filter(|seen| self.is_ours(seen));
        ours.map(|seen| Claimed {
            name: seen.owner.name.clone(),
            uid: seen.uid.clone(),
            addresses: seen.addresses.clone(),
        })
        .collect()
    }

    /// Claims of Ingresses to what is another's, or what nobody serves.
    pub(crate) fn conflicts(&self) -> BTreeSet<Conflict> {
        let all = self.conflicts.values().flatten();
        let all = all.filter(|conflict| conflict.loser.kind == Kind::Ingress);
        let ours = self.ingresses.values().filter(|seen| self.is_ours(seen));
        all.chain(ours.flat_map(|seen| &seen.not_served))
            .cloned()
            .collect()
    }

    /// What container revisions are asked for.
    pub(crate) fn capacities(&self) -> Vec<Arc<Capacity>> {
        let revisions = self.revisions.values();
        revisions
            .filter_map(|(revision, _)| revision.pods.clone())
            .collect()
    }

    /// Takes a change in.
    pub(crate) fn apply(&mut self, update: Update) {
        match update {
            Update::Functions(Change::Put(seen)) => self.put_function(seen),
            Update::Functions(Change::Gone(seen)) => self.remove_function(&seen.owner.name),
            Update::Functions(Change::All(all)) => {
                let listed: BTreeSet<_> = all.iter().map(|seen| &seen.owner.name).collect();
                let gone = self.functions.iter().filter(|name| !listed.contains(name));
                let gone: Vec<Name> = gone.cloned().collect();
                gone.iter().for_each(|name| self.remove_function(name));
                all.into_iter().for_each(|seen| self.put_function(seen));
            }
            Update::Revisions(Change::Put(seen)) => self.put_revision(seen),
            Update::Revisions(Change::Gone(seen)) => {
                let id = &seen.revision.id;
                self.revisions
                    .remove(row::key(&id.namespace, &id.name).as_str());
            }
            Update::Revisions(Change::All(all)) => {
                let key = |id: &RevisionRef| row::key(&id.namespace, &id.name).into_boxed_str();
                let listed: BTreeSet<_> = all.iter().map(|seen| key(&seen.revision.id)).collect();
                self.revisions.retain(|key, _| listed.contains(key));
                all.into_iter().for_each(|seen| self.put_revision(seen));
            }
            Update::Pods(Change::Put(seen)) => self.put_pod(seen),
            Update::Pods(Change::Gone(seen)) => self.remove_pod(&seen.name),
            Update::Pods(Change::All(all)) => {
                let listed: BTreeSet<_> = all.iter().map(|seen| &seen.name).collect();
                let known = self.revision_of.keys();
                let gone: Vec<Name> = known
                    .filter(|name| !listed.contains(name))
                    .cloned()
                    .collect();
                gone.iter().for_each(|name| self.remove_pod(name));
                all.into_iter().for_each(|seen| self.put_pod(seen));
            }
            Update::Ingresses(Change::Put(seen)) => self.put_ingress(seen),
            Update::Ingresses(Change::Gone(seen)) => self.remove_ingress(&seen.owner.name),
            Update::Ingresses(Change::All(all)) => {
                let listed: BTreeSet<_> = all.iter().map(|seen| &seen.owner.name).collect();
                let known = self.ingresses.keys();
                let gone: Vec<Name> = known
                    .filter(|name| !listed.contains(name))
                    .cloned()
                    .collect();
                gone.iter().for_each(|name| self.remove_ingress(name));
                all.into_iter().for_each(|seen| self.put_ingress(seen));
            }
            Update::Classes(change) => {
                match change {
                    Change::All(all) => {
                        self.classes = all.into_iter().map(|seen| (seen.name, seen.ours)).collect();
                    }
                    Change::Put(seen) => drop(self.classes.insert(seen.name, seen.ours)),
                    Change::Gone(seen) => drop(self.classes.remove(&seen.name)),
                }
                let names: Vec<Name> = self.ingresses.keys().cloned().collect();
                names.iter().for_each(|name| self.grant(name));
            }
        }
    }

    fn put_function(&mut self, seen: FunctionSeen) {
        let Name { namespace, name } = &seen.owner.name;
        let shares = seen
            .traffic
            .into_iter()
            .map(|(revision, percent, tag)| Share {
                revision: self.revision(namespace, revision),
                percent,
                tag,
            });
        let function = Function::new(namespace, name, shares.collect());
        let key = row::key(namespace, name);
        self.table.functions.insert(&key, Arc::new(function));
        self.functions.insert(seen.owner.name.clone());
        self.claim(Kind::Function, &seen.owner.name, seen.claims);
    }

    fn remove_function(&mut self, name: &Name) {
        let key = row::key(&name.namespace, &name.name);
        self.table.functions.remove(&key);
        self.functions.remove(name);
        self.claim(Kind::Function, name, Vec::new());
    }

    /// The row of a revision; one that was not seen yet has a row of its own until it is.
    fn revision(&self, namespace: &str, name: String) -> Arc<Revision> {
        let known = self.revisions.get(row::key(namespace, &name).as_str());
        known.map_or_else(
            || {
                let namespace = namespace.to_owned();
                Arc::new(Revision::unseen(RevisionRef { namespace, name }))
            },
            |(revision, _)| revision.clone(),
        )
    }

    fn put_revision(&mut self, seen: RevisionSeen) {
        let RevisionSeen {
            mut revision,
            container,
            function,
        } = seen;
        let id = revision.id.clone();
        let key = row::key(&id.namespace, &id.name).into_boxed_str();
        let before = self.revisions.get(&key);
        revision.pods = container.map(|container| {
            let before = before.and_then(|(before, _)| before.pods.clone());
            let pods = before.unwrap_or_else(|| Capacity::new(id.clone()));
            pods.bound(container.concurrency);
            pods.scaled(container.at_zero);
            pods
        });
        self.revisions
            .insert(key.clone(), (Arc::new(revision), container));
        self.tell_pods(&key);
        let Some(function) = function else {
            return;
        };
        let key = row::key(&id.namespace, &function);
        let Some(row) = self.table.functions.get(&key) else {
            return;
        };
        if !row.shares().iter().any(|share| share.revision.id == id) {
            return;
        }
        let shares = row.shares().iter().map(|share| Share {
            revision: self.revision(&id.namespace, share.revision.id.name.clone()),
            ..share.clone()
        });
        let row = Function::new(&id.namespace, &function, shares.collect());
        self.table.functions.insert(&key, Arc::new(row));
    }

    fn put_pod(&mut self, seen: PodSeen) {
        let key = seen.revision.into_boxed_str();
        if let Some(before) = self.revision_of.get(&seen.name)
            && *before != key
        {
            self.remove_pod(&seen.name);
        }
        self.revision_of.insert(seen.name.clone(), key.clone());
        let pods = self.pods.entry(key.clone()).or_default();
        match seen.ready {
            Some(ip) => drop(pods.insert(seen.name, ip)),
            None => drop(pods.remove(&seen.name)),
        }
        self.tell_pods(&key);
    }

    fn remove_pod(&mut self, name: &Name) {
        let Some(key) = self.revision_of.remove(name) else {
            return;
        };
        if let Some(pods) = self.pods.get_mut(&key) {
            pods.remove(name);
            if pods.is_empty() {
                self.pods.remove(&key);
            }
        }
        self.tell_pods(&key);
    }

    /// Gives a revision its ready pods.
    fn tell_pods(&self, key: &str) {
        let Some((revision, Some(container))) = self.revisions.get(key) else {
            return;
        };
        let Some(capacity) = &revision.pods else {
            return;
        };
        let pods = self.pods.get(key).into_iter().flat_map(BTreeMap::values);
        let addresses = pods.map(|ip| SocketAddr::new(*ip, container.port));
        capacity.offer(addresses.collect());
    }

    fn is_ours(&self, seen: &IngressSeen) -> bool {
        let class = seen.class.as_ref();
        class.is_some_and(|class| self.classes.get(class) == Some(&true))
    }

    fn put_ingress(&mut self, seen: IngressSeen) {
        let name = seen.owner.name.clone();
        self.ingresses.insert(name.clone(), seen);
        self.grant(&name);
    }

    fn remove_ingress(&mut self, name: &Name) {
        self.ingresses.remove(name);
        self.grant(name);
    }

    /// Has an Ingress claim what it asks for, if it is ours.
    fn grant(&mut self, name: &Name) {
        let seen = self.ingresses.get(name).filter(|seen| self.is_ours(seen));
        let claims = seen.map(|seen| seen.claims.clone()).unwrap_or_default();
        let secrets: Vec<_> = seen
            .into_iter()
            .flat_map(|seen| {
                let each = seen.tls.iter();
                each.map(|(host, secret)| (host.clone(), seen.owner.clone(), secret.clone()))
            })
            .collect();
        self.claim(Kind::Ingress, name, claims);
        self.claim_secrets(name, secrets);
    }

    fn claim_secrets(&mut self, name: &Name, secrets: Vec<(String, Owner, Name)>) {
        let before = match secrets.is_empty() {
            true => self.owned_secrets.remove(name),
            false => self.owned_secrets.insert(name.clone(), secrets.clone()),
        };
        let before = before.unwrap_or_default();
        for (host, owner, secret) in &before {
            if let Some(claims) = self.secrets.get_mut(host) {
                claims.remove(&(owner.clone(), secret.clone()));
            }
        }
        for (host, owner, secret) in &secrets {
            let claims = self.secrets.entry(host.clone()).or_default();
            claims.insert((owner.clone(), secret.clone()));
        }
        for (host, ..) in before.iter().chain(&secrets) {
            match self.secrets.get(host).filter(|claims| !claims.is_empty()) {
                Some(claims) => {
                    let names = claims.iter().map(|(_, secret)| secret.clone());
                    self.table.secrets.insert(host, names.collect());
                }
                None => {
                    self.table.secrets.remove(host);
                    self.secrets.remove(host);
                }
            }
        }
    }

    /// Replaces what an object claims, and works the hosts out anew that this is about.
    fn claim(&mut self, kind: Kind, name: &Name, claims: Vec<Claim>) {
        let id = (kind, name.clone());
        if self.owned.get(&id).map_or(&[][..], Vec::as_slice) == claims.as_slice() {
            return;
        }
        let mut hosts = BTreeSet::new();
        for claim in self.owned.remove(&id).into_iter().flatten() {
            let held = self.claims.entry(claim.host.clone()).or_default();
            held.retain(|other| other.owner.kind != kind || other.owner.name != *name);
            hosts.insert(claim.host);
        }
        for claim in &claims {
            let held = self.claims.entry(claim.host.clone()).or_default();
            held.push(claim.clone());
            hosts.insert(claim.host.clone());
        }
        if !claims.is_empty() {
            self.owned.insert(id, claims);
        }
        hosts.into_iter().for_each(|host| self.settle(host));
    }

    fn settle(&mut self, host: Host) {
        let claims = self.claims.entry(host.clone()).or_default();
        // Stable: an object's own order stays.
        claims.sort_by(Claim::order);
        let name = host.name();
        let reserved = name.as_deref().and_then(|name| self.table.reserved(name));
        let (may, may_not): (Vec<&Claim>, Vec<&Claim>) = claims
            .iter()
            .partition(|claim| reserved.is_none_or(|owner| claim.owner.name.namespace == owner));
        let (paths, mut conflicts) = Paths::new(may.into_iter());
        if let (Some(name), Some(owner)) = (&name, reserved) {
            let others = may_not.into_iter();
            conflicts.extend(others.map(|claim| Conflict::reserved(claim, name, owner)));
        }
        let empty = paths.is_empty();
        match &host {
            Host::Exact(name) if empty => self.table.hosts.remove(name),
            Host::Exact(name) => self.table.hosts.insert(name, Arc::new(paths)),
            Host::Wildcard(suffix) if empty => self.table.wildcards.remove(suffix),
            Host::Wildcard(suffix) => self.table.wildcards.insert(suffix, Arc::new(paths)),
            Host::Any => self.table.any = Arc::new(paths),
            Host::Default => self.table.default = claims.first().map(|claim| claim.to.clone()),
        }
        match conflicts.is_empty() {
            true => drop(self.conflicts.remove(&host)),
            false => drop(self.conflicts.insert(host.clone(), conflicts)),
        }
        if self.claims.get(&host).is_some_and(Vec::is_empty) {
            self.claims.remove(&host);
        }
    }
}
