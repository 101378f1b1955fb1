//! Claims, volumes and classes: what a decision reads of them, and what is assumed until the API says it.
//!
//! Pure. When a pod is decided that needs volumes, its claims are assumed to get the volume, or to have theirs made on
//! the node, that was chosen, so that the next decision neither gives a volume twice nor moves a claim.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use crate::labels::Term;
use crate::node::Node;
use crate::quantity;

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim: the node that its volume is made on.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Where a class was named before there was a field.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The provisioner of classes whose volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// `namespace/name`.
pub(crate) type ClaimKey = Arc<str>;

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claim {
    pub(crate) key: ClaimKey,
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) class: String,
    /// The volume that it names; empty for none.
    pub(crate) volume: String,
    /// Whether it was bound for good.
    pub(crate) bound: bool,
    /// Whether its status says so, which is written last and asked for by the nodelet.
    pub(crate) told: bool,
    pub(crate) lost: bool,
    pub(crate) deleting: bool,
    /// In bytes.
    pub(crate) request: i64,
    pub(crate) modes: Vec<String>,
    pub(crate) block: bool,
    pub(crate) selector: Option<LabelSelector>,
    /// The node that its volume is made on.
    pub(crate) selected: Option<Arc<str>>,
    /// The uid of its controller.
    pub(crate) owner: Option<String>,
}

/// A PersistentVolume.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Volume {
    pub(crate) name: Arc<str>,
    pub(crate) uid: String,
    pub(crate) version: String,
    pub(crate) class: String,
    /// In bytes.
    pub(crate) capacity: i64,
    pub(crate) modes: Vec<String>,
    pub(crate) block: bool,
    pub(crate) labels: BTreeMap<String, String>,
    /// The claim that it names, and that claim's uid, which may be empty.
    pub(crate) claim: Option<(String, String)>,
    pub(crate) available: bool,
    pub(crate) deleting: bool,
    /// Nodes that reach it: one of the terms must hold.
    pub(crate) affinity: Option<Vec<Term>>,
}

/// A StorageClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    /// Whether something makes its volumes.
    pub(crate) provisioned: bool,
    /// Whether they are chosen or made when a pod wants them.
    pub(crate) waits: bool,
    /// Where they may be made: one of these must hold, each of whose labels must have one of its values.
    pub(crate) topologies: Vec<Vec<(String, Vec<String>)>>,
}

/// What a claim is taken to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// This volume, which is there.
    Volume(Arc<str>),
    /// One that is made on this node.
    Made(Arc<str>),
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storage {
    claims: HashMap<ClaimKey, Claim>,
    volumes: BTreeMap<Arc<str>, Volume>,
    classes: HashMap<String, Class>,
    /// Volumes that a claim may be given.
    open: BTreeSet<Arc<str>>,
    /// What claims are assumed to get, and for which pod it was decided.
    assumed: HashMap<ClaimKey, (Arc<str>, Fate)>,
}

impl Storage {
    pub(crate) fn claim(&self, key: &str) -> Option<&Claim> {
        self.claims.get(key)
    }

    pub(crate) fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.get(name)
    }

    pub(crate) fn class(&self, name: &str) -> Option<&Class> {
        self.classes.get(name)
    }

    /// Volumes that no claim has, whatever is assumed.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Volume> {
        self.open.iter().filter_map(|name| self.volumes.get(name))
    }

    /// What a claim is assumed to get.
    pub(crate) fn assumed(&self, claim: &str) -> Option<&Fate> {
        self.assumed.get(claim).map(|(_, fate)| fate)
    }

    /// The volumes that some claim is assumed to get.
    pub(crate) fn taken(&self) -> BTreeSet<&str> {
        let fates = self.assumed.values();
        fates
            .filter_map(|(_, fate)| match fate {
                Fate::Volume(name) => Some(&**name),
                Fate::Made(_) => None,
            })
            .collect()
    }

    /// Assumes what a claim gets, decided for a pod.
    pub(crate) fn assume(&mut self, claim: &ClaimKey, pod: &Arc<str>, fate: Fate) {
        let assumed = (Arc::clone(pod), fate);
        self.assumed.entry(Arc::clone(claim)).or_insert(assumed);
    }

    /// What was assumed for a pod.
    pub(crate) fn assumed_for(&self, pod: &str) -> Vec<(ClaimKey, Fate)> {
        let assumed = self.assumed.iter().filter(|(_, (by, _))| **by == *pod);
        assumed
            .map(|(claim, (_, fate))| (Arc::clone(claim), fate.clone()))
            .collect()
    }

    /// Takes back what was assumed for a pod.
    pub(crate) fn forget(&mut self, pod: &str) {
        self.assumed.retain(|_, (by, _)| **by != *pod);
    }

    /// Adds or replaces a claim; false if nothing of interest changed.
    pub(crate) fn put_claim(&mut self, claim: Claim) -> bool {
        let key = Arc::clone(&claim.key);
        let changed = self.claims.get(&key) != Some(&claim);
        self.claims.insert(key, claim);
        changed
    }

    /// Removes a claim, and what it was assumed to get: another of its name is another.
    pub(crate) fn remove_claim(&mut self, key: &str) {
        self.claims.remove(key);
        self.assumed.remove(key);
    }

    pub(crate) fn retain_claims(&mut self, keep: impl Fn(&str) -> bool) {
        self.claims.retain(|key, _| keep(key));
        self.assumed.retain(|key, _| keep(key));
    }

    /// Adds or replaces a volume; false if nothing of interest changed.
    pub(crate) fn put_volume(&mut self, volume: Volume) -> bool {
        let name = Arc::clone(&volume.name);
        if volume.available && !volume.deleting {
            self.open.insert(Arc::clone(&name));
        } else {
            self.open.remove(&name);
        }
        let changed = self.volumes.get(&name) != Some(&volume);
        self.volumes.insert(name, volume);
        changed
    }

    pub(crate) fn remove_volume(&mut self, name: &str) {
        self.open.remove(name);
        self.volumes.remove(name);
    }

    pub(crate) fn retain_volumes(&mut self, keep: impl Fn(&str) -> bool) {
        self.open.retain(|name| keep(name));
        self.volumes.retain(|name, _| keep(name));
    }

    /// Adds or replaces a class; false if nothing of interest changed.
    pub(crate) fn put_class(&mut self, name: String, class: Class) -> bool {
        let changed = self.classes.get(&name) != Some(&class);
        self.classes.insert(name, class);
        changed
    }

    pub(crate) fn remove_class(&mut self, name: &str) {
        self.classes.remove(name);
    }

    pub(crate) fn retain_classes(&mut self, keep: impl Fn(&str) -> bool) {
        self.classes.retain(|name, _| keep(name));
    }
}

impl Claim {
    /// Whether it has its volume for good.
    pub(crate) fn is_bound(&self) -> bool {
        self.bound && !self.volume.is_empty()
    }

    /// Whether a pod can mount it.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_bound() && self.told
    }

    /// Whether one pod alone may use it.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.modes.iter().any(|mode| mode == "ReadWriteOncePod")
    }
}

impl Volume {
    /// Whether a node reaches it.
    pub(crate) fn is_reached_from(&self, node: &Node) -> bool {
        let terms = self.affinity.as_ref();
        terms.is_none_or(|terms| terms.iter().any(|term| term.holds(node)))
    }

    /// Whether it names this claim, and no other of its name.
    pub(crate) fn is_for(&self, claim: &Claim) -> bool {
        self.claim
            .as_ref()
            .is_some_and(|(key, uid)| **key == *claim.key && (uid.is_empty() || *uid == claim.uid))
    }
}

fn named_class(annotations: &BTreeMap<String, String>, field: Option<&String>) -> String {
    let named = annotations.get(OLD_CLASS).or(field);
    named.cloned().unwrap_or_default()
}

fn storage(list: Option<&BTreeMap<String, Quantity>>) -> i64 {
    let amount = list.and_then(|list| list.get("storage"));
    amount
        .and_then(|amount| quantity::units(&amount.0))
        .unwrap_or_default()
}

impl From<&core::PersistentVolumeClaim> for Claim {
    fn from(claim: &core::PersistentVolumeClaim) -> Self {
        let none = core::PersistentVolumeClaimSpec::default();
        let spec = claim.spec.as_ref().unwrap_or(&none);
        let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
        let resources = spec.resources.as_ref();
        let phase = claim
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let selected = claim.annotations().get(SELECTED_NODE);
        let owners = claim.owner_references().iter();
        let mut owners = owners.filter(|owner| owner.controller == Some(true));
        Self {
            key: format!("{namespace}/{name}").into(),
            uid: claim.uid().unwrap_or_default(),
            class: named_class(claim.annotations(), spec.storage_class_name.as_ref()),
            volume: spec.volume_name.clone().unwrap_or_default(),
            bound: claim.annotations().contains_key(BIND_COMPLETED),
            told: phase == Some("Bound"),
            lost: phase == Some("Lost"),
            deleting: claim.metadata.deletion_timestamp.is_some(),
            request: storage(resources.and_then(|resources| resources.requests.as_ref())),
            modes: spec.access_modes.clone().unwrap_or_default(),
            block: spec.volume_mode.as_deref() == Some("Block"),
            selector: spec.selector.clone(),
            selected: selected
                .filter(|node| !node.is_empty())
                .map(|node| node.as_str().into()),
            owner: owners.next().map(|owner| owner.uid.clone()),
            name,
            namespace,
        }
    }
}

impl From<&core::PersistentVolume> for Volume {
    fn from(volume: &core::PersistentVolume) -> Self {
        let none = core::PersistentVolumeSpec::default();
        let spec = volume.spec.as_ref().unwrap_or(&none);
        let status = volume.status.as_ref();
        let affinity = spec.node_affinity.as_ref();
        let required = affinity.and_then(|affinity| affinity.required.as_ref());
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            name: volume.name_any().into(),
            uid: volume.uid().unwrap_or_default(),
            version: volume.resource_version().unwrap_or_default(),
            class: named_class(volume.annotations(), spec.storage_class_name.as_ref()),
            capacity: storage(spec.capacity.as_ref()),
            modes: spec.access_modes.clone().unwrap_or_default(),
            block: spec.volume_mode.as_deref() == Some("Block"),
            labels: volume.labels().clone(),
            claim: spec.claim_ref.as_ref().map(|claim| {
                let key = format!("{}/{}", text(&claim.namespace), text(&claim.name));
                (key, text(&claim.uid))
            }),
            available: status.and_then(|status| status.phase.as_deref()) == Some("Available"),
            deleting: volume.metadata.deletion_timestamp.is_some(),
            affinity: required.map(|required| {
                let terms = required.node_selector_terms.iter();
                terms.map(Term::from).collect()
            }),
        }
    }
}

impl From<&StorageClass> for Class {
    fn from(class: &StorageClass) -> Self {
        let topologies = class.allowed_topologies.iter().flatten();
        let rules = topologies.map(|term| {
            let rules = term.match_label_expressions.iter().flatten();
            rules
                .map(|rule| (rule.key.clone(), rule.values.clone()))
                .collect()
        });
        Self {
            provisioned: !["", NO_PROVISIONER].contains(&class.provisioner.as_str()),
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            topologies: rules.collect(),
        }
    }
}
