//! A FunctionRevision as it was seen, its number and name, and which part of a Function makes a new one. Pure.

use function_kinds::{
    Condition, FUNCTION_LABEL, FunctionRevision, NUMBER_ANNOTATION, NodeStatus, RevisionSpec,
};
use jiff::Timestamp;
use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Value, json};

use crate::error::Error;

/// Fields of a Function's spec whose change makes no revision.
const OWN: &[&str] = &[
    "routes",
    "triggers",
    "traffic",
    "revisionHistoryLimit",
    "progressDeadlineSeconds",
];
/// The field of a revision's spec that is no part of what it is.
const REPLICAS: &str = "replicas";
/// What `status.conditions` says of a revision that can serve.
pub(crate) const READY: &str = "Ready";

/// What the image of a revision is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Runtime {
    Component,
    Container,
}

impl Runtime {
    fn read(text: &str) -> Option<Self> {
        match text {
            "wasm" => Some(Self::Component),
            "oci" => Some(Self::Container),
            _ => None,
        }
    }

    /// As status and `runtimeClassName` have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Component => "wasm",
            Self::Container => "oci",
        }
    }
}

/// One revision.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) created: Timestamp,
    pub(crate) deleting: bool,
    /// As it stands, with fields that this version does not know.
    pub(crate) spec: Value,
    pub(crate) read: FunctionRevision,
}

impl Revision {
    /// Reads an object.
    pub(crate) fn read(object: &DynamicObject) -> Result<Self, Error> {
        let name = object.name_any();
        let created = object.creation_timestamp();
        Ok(Self {
            number: number(object),
            created: created.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            deleting: object.metadata.deletion_timestamp.is_some(),
            spec: object.data["spec"].clone(),
            read: serde_json::from_value(serde_json::to_value(object)?)?,
            name,
        })
    }

    /// The spec as values.
    pub(crate) fn typed(&self) -> &RevisionSpec {
        &self.read.spec
    }

    /// What its image is, as far as is known: by its own word, or by what a node found.
    pub(crate) fn runtime(&self) -> Option<Runtime> {
        let spec = self.typed();
        let said = spec.runtime_class_name.as_deref().and_then(Runtime::read);
        let said = said.or_else(|| spec.port.map(|_| Runtime::Container));
        said.or_else(|| self.found())
    }

    /// What a node found its image to be.
    pub(crate) fn found(&self) -> Option<Runtime> {
        let status = self.read.status.as_ref()?;
        let nodes = status.nodes.iter().filter(|node| self.is_on(node));
        let mut found = nodes.filter_map(|node| node.runtime.as_deref());
        found
            .next()
            .or(status.runtime.as_deref())
            .and_then(Runtime::read)
    }

    /// The digest that it is held to: what its image meant to the first node that had it. The second node may find that
    /// the tag has moved since.
    pub(crate) fn digest(&self) -> Option<&str> {
        let status = self.read.status.as_ref()?;
        let mut ready = status.nodes.iter().filter(|node| node.ready);
        let first = || ready.find_map(|node| node.resolved.as_deref());
        status.digest.as_deref().or_else(first)
    }

    /// Whether a node is ready to serve what the revision is held to.
    fn is_on(&self, node: &NodeStatus) -> bool {
        node.ready && node.resolved.as_deref() == self.digest()
    }

    /// Whether any node is.
    pub(crate) fn is_on_a_node(&self) -> bool {
        let status = self.read.status.as_ref();
        let mut nodes = status.into_iter().flat_map(|status| &status.nodes);
        nodes.any(|node| self.is_on(node))
    }

    /// The condition `Ready` as it was written last.
    pub(crate) fn ready(&self) -> Option<&Condition> {
        let conditions = &self.read.status.as_ref()?.conditions;
        conditions.iter().find(|condition| condition.type_ == READY)
    }

    /// Whether it was ready when it was last looked at.
    pub(crate) fn was_ready(&self) -> bool {
        self.ready().is_some_and(|ready| ready.status == "True")
    }
}

/// The number of a revision: its annotation, or what its name ends with.
fn number(object: &DynamicObject) -> u32 {
    let annotation = object.annotations().get(NUMBER_ANNOTATION);
    let annotation = annotation.and_then(|text| text.parse().ok());
    annotation
        .or_else(|| number_in(&object.name_any()))
        .unwrap_or(0)
}

/// The number that a revision's name ends with: 7 of `hello-00007`.
pub(crate) fn number_in(name: &str) -> Option<u32> {
    name.rsplit_once('-')?.1.parse().ok()
}

/// `hello-00007`.
pub(crate) fn name(function: &str, number: u32) -> String {
    format!("{function}-{number:05}")
}

/// The part of a Function's spec that is its revision's.
pub(crate) fn template(spec: &Value) -> Value {
    let mut template = spec.clone();
    if let Some(fields) = template.as_object_mut() {
        fields.retain(|field, _| !OWN.contains(&field.as_str()));
    }
    template
}

/// Whether a revision is what a Function's spec asks for.
pub(crate) fn is_of(revision: &Value, spec: &Value) -> bool {
    let mut own = revision.clone();
    if let Some(fields) = own.as_object_mut() {
        fields.remove(REPLICAS);
    }
    own == template(spec)
}

/// A new revision of a Function.
pub(crate) fn new(function: &DynamicObject, number: u32) -> Value {
    let owner = function.name_any();
    json!({
        "apiVersion": "functions.wk.dev/v1",
        "kind": "FunctionRevision",
        "metadata": {
            "name": name(&owner, number),
            "namespace": function.namespace(),
            "labels": {FUNCTION_LABEL: owner},
            "annotations": {NUMBER_ANNOTATION: number.to_string()},
            "ownerReferences": [owner_of("functions.wk.dev/v1", "Function", function)],
        },
        "spec": template(&function.data["spec"]),
    })
}

/// What says that an object is this one's.
pub(crate) fn owner_of(api_version: &str, kind: &str, owner: &DynamicObject) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "name": owner.name_any(),
        "uid": owner.uid(),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_makes_a_revision() {
        let spec = json!({"image": "a", "routes": [{}], "traffic": [], "scale": {"max": 3}});
        assert_eq!(template(&spec), json!({"image": "a", "scale": {"max": 3}}));
        assert!(is_of(
            &json!({"image": "a", "scale": {"max": 3}, "replicas": 2}),
            &spec
        ));
        assert!(!is_of(&json!({"image": "a", "scale": {"max": 4}}), &spec));
    }

    #[test]
    fn names_sort_as_their_numbers_do() {
        assert_eq!(name("hello", 7), "hello-00007");
        assert_eq!(number_in("hello-2-00012"), Some(12));
        assert_eq!(number_in("hello"), None);
    }
}
