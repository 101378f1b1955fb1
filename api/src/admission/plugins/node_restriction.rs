//! NodeRestriction: what a node's own user may write, whatever its roles say. Its Node, its Lease and its
//! CSINode; the status and the end of its pods; mirror pods; tokens that are bound to its pods; volumes
//! that claims ask it for ([`volume`]); its own entry in the status of FunctionRevisions.
//!
//! Reads the pod that an eviction or a token is about, and the other side of a volume or a claim. Never changes anything.

#[cfg(test)]
mod tests;
mod volume;

use std::sync::Arc;

use serde_json::Value;

use crate::{
    admission::{Operation, Review, objects},
    auth,
    error::Error,
    kinds::{
        persistent_volume_claim::storage_class,
        pod::change::MIRROR,
        value::{entries, items, text},
    },
    object,
};

/// Where Leases of nodes live.
const LEASES: &str = "kube-node-lease";
/// Labels of Kubernetes' own that a node may give itself.
const LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Their domains whose labels are all a node's own.
const DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];
/// The domain whose labels are never a node's own.
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// What kinds of objects a mirror pod may not name, and the fields that name them.
const REFERENCES: &[(&str, &[&str])] = &[
    (
        "secrets",
        &["imagePullSecrets", "secret", "secretKeyRef", "secretRef"],
    ),
    (
        "configmaps",
        &["configMap", "configMapKeyRef", "configMapRef"],
    ),
    ("persistentvolumeclaims", &["persistentVolumeClaim"]),
];

/// A write by a node.
struct Write<'a> {
    node: &'a str,
    operation: Operation,
    group: &'a str,
    plural: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
    object: &'a Value,
    old: &'a Value,
    /// What an eviction or a token is about.
    pod: &'a Value,
    /// The claim that a volume is for, and its class.
    claim: &'a Value,
    class: &'a Value,
    /// The volume that a claim is bound to.
    volume: &'a Value,
    /// What the node's own object says of `kubernetes.io/hostname`.
    hostname: &'a str,
}

/// What a write is judged by beside the object itself.
#[derive(Default)]
struct Related {
    pod: Option<Arc<Value>>,
    claim: Option<Arc<Value>>,
    class: Option<Arc<Value>>,
    volume: Option<Arc<Value>>,
    node: Option<Arc<Value>>,
}

/// Refuses what is not the node's to write; whoever is no node passes.
pub(super) fn admit(
    review: &Review<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Error> {
    let Some(node) = review.call.user.node_name() else {
        return Ok(());
    };
    let names = review.call.resource.names();
    let object = object.unwrap_or(&Value::Null);
    let related = related(review, object, node)?;
    let value = |object: &'_ Option<Arc<Value>>| object.clone().unwrap_or_default();
    let (pod, claim, class, volume, own) = (
        value(&related.pod),
        value(&related.claim),
        value(&related.class),
        value(&related.volume),
        value(&related.node),
    );
    let write = Write {
        node,
        operation: review.operation,
        group: names.group,
        plural: names.plural,
        subresource: review.subresource,
        namespace: &review.call.namespace,
        name: &review.name,
        object,
        old: old.unwrap_or(&Value::Null),
        pod: &pod,
        claim: &claim,
        class: &class,
        volume: &volume,
        hostname: text(&own, "/metadata/labels/kubernetes.io~1hostname"),
    };
    check(&write).map_err(|message| objects::forbidden(review, message))
}

fn related(review: &Review<'_>, object: &Value, node: &str) -> Result<Related, Error> {
    let names = review.call.resource.names();
    let namespace = review.call.namespace.as_str();
    let find = |group: &str, plural: &str, namespace: &str, name: &str| match name {
        "" => Ok(None),
        name => objects::find(review.call, group, plural, namespace, name),
    };
    let mut related = Related::default();
    match (names.group, names.plural, review.subresource) {
        ("", "pods", "eviction") => related.pod = find("", "pods", namespace, &review.name)?,
        ("", "serviceaccounts", "token") => {
            let name = text(object, "/spec/boundObjectRef/name");
            let kind = text(object, "/spec/boundObjectRef/kind");
            related.pod = match kind {
                "FunctionRevision" => {
                    find(function_kinds::GROUP, "functionrevisions", namespace, name)?
                }
                _ => find("", "pods", namespace, name)?,
            };
        }
        ("", "persistentvolumes", "") => {
            let claim = |field: &str| {
                object["spec"]["claimRef"][field]
                    .as_str()
                    .unwrap_or_default()
            };
            let (namespace, name) = (claim("namespace"), claim("name"));
            related.claim = find("", "persistentvolumeclaims", namespace, name)?;
            let class = storage_class(object);
            related.class = find("storage.k8s.io", "storageclasses", "", class)?;
            related.node = find("", "nodes", "", node)?;
        }
        ("", "persistentvolumeclaims", "status") => {
            let name = text(object, "/spec/volumeName");
            related.volume = find("", "persistentvolumes", "", name)?;
        }
        _ => {}
    }
    Ok(related)
}

fn check(write: &Write<'_>) -> Result<(), String> {
    if write.node.is_empty() {
        return Err("could not determine node from user \"system:node:\"".to_owned());
    }
    match (write.group, write.plural) {
        ("", "pods") => pod(write),
        ("", "nodes") => node(write),
        ("", "persistentvolumeclaims") if write.subresource != "status" => {
            Err("may only update PVC status".to_owned())
        }
        ("", "persistentvolumeclaims") => volume::claim_status(write),
        ("", "persistentvolumes") => volume::check(write),
        ("", "serviceaccounts") if write.subresource == "token" => token(write),
        ("coordination.k8s.io", "leases") => lease(write),
        (function_kinds::GROUP, "functionrevisions") => revision(write),
        ("storage.k8s.io", "csinodes") if write.name != write.node => {
            Err("can only access CSINode with the same name as the requesting node".to_owned())
        }
        _ => Ok(()),
    }
}

fn pod(write: &Write<'_>) -> Result<(), String> {
    let node = write.node;
    let own = |pod: &Value, does: &str| {
        let said = format!("node {node:?} can only {does} pods with spec.nodeName set to itself");
        require(text(pod, "/spec/nodeName") == node, said)
    };
    let unexpected = || format!("unexpected operation {:?}", write.operation.name());
    match (write.subresource, write.operation) {
        ("", Operation::Create) => {
            let mirrors = write.object["metadata"]["annotations"][MIRROR].is_string();
            let said = format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            );
            require(mirrors, said)?;
            own(write.object, "create")?;
            mirror(write)
        }
        ("", Operation::Delete) => own(write.old, "delete"),
        ("", _) => Err(format!(
            "{}, node {node:?} can only create and delete mirror pods",
            unexpected()
        )),
        ("status", Operation::Update) => {
            own(write.old, "update pod status for")?;
            require(
                labels(write.object).eq(labels(write.old)),
                format!("node {node:?} cannot update labels through pod status"),
            )?;
            let claims = "/status/resourceClaimStatuses";
            require(
                items(write.object, claims) == items(write.old, claims),
                format!("node {node:?} cannot update resource claim statuses"),
            )
        }
        ("eviction", Operation::Create) => own(write.pod, "evict"),
        ("status" | "eviction", _) => Err(unexpected()),
        (other, _) => Err(format!(
            "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
        )),
    }
}

/// A mirror pod is its node's alone and brings nothing to the node that is not there.
fn mirror(write: &Write<'_>) -> Result<(), String> {
    let node = write.node;
    let owned = match items(write.object, "/metadata/ownerReferences") {
        [owner] => {
            text(owner, "/apiVersion") == "v1"
                && text(owner, "/kind") == "Node"
                && text(owner, "/name") == node
                && owner["controller"] == true
        }
        _ => false,
    };
    require(
        owned,
        format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ),
    )?;
    let spec = &write.object["spec"];
    require(
        text(spec, "/serviceAccountName").is_empty(),
        format!("node {node:?} can not create pods that reference a service account"),
    )?;
    for (what, fields) in REFERENCES {
        require(
            !names_one_of(spec, fields),
            format!("node {node:?} can not create pods that reference {what}"),
        )?;
    }
    // Whatever else would be the node's to read by it.
    require(
        !auth::node::names_something(write.object),
        format!("node {node:?} can not create pods that reference objects of the API"),
    )
}

/// True if one of these fields is anywhere in a value.
fn names_one_of(value: &Value, names: &[&str]) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| names_one_of(item, names)),
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            names.contains(&name.as_str()) && !value.is_null() || names_one_of(value, names)
        }),
        _ => false,
    }
}

fn node(write: &Write<'_>) -> Result<(), String> {
    let node = write.node;
    if write.operation == Operation::Create {
        refuse_labels(write, "set the following labels")?;
    }
    require(
        write.name == node,
        format!(
            "node {node:?} is not allowed to modify node {:?}",
            write.name
        ),
    )?;
    if write.operation != Operation::Update {
        return Ok(());
    }
    require(
        items(write.object, "/spec/taints") == items(write.old, "/spec/taints"),
        format!("node {node:?} is not allowed to modify taints"),
    )?;
    refuse_labels(write, "modify labels")?;
    let owners = "/metadata/ownerReferences";
    require(
        items(write.object, owners) == items(write.old, owners),
        format!("node {node:?} is not allowed to modify ownerReferences"),
    )
}

/// Refuses to add, change or remove labels that are not a node's own.
fn refuse_labels(write: &Write<'_>, does: &str) -> Result<(), String> {
    let (new, old) = (
        &write.object["metadata"]["labels"],
        &write.old["metadata"]["labels"],
    );
    let mut refused: Vec<&str> = labels(write.object)
        .chain(labels(write.old))
        .map(|(label, _)| label.as_str())
        .filter(|label| new[*label] != old[*label] && !is_own_label(label))
        .collect();
    refused.sort_unstable();
    refused.dedup();
    require(
        refused.is_empty(),
        format!(
            "node {:?} is not allowed to {does}: {}",
            write.node,
            refused.join(", ")
        ),
    )
}

fn is_own_label(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| {
        let rest = domain.strip_suffix(parent);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if within(RESTRICTED) {
        return false;
    }
    let of_kubernetes = within("kubernetes.io") || within("k8s.io");
    !of_kubernetes || LABELS.contains(&label) || DOMAINS.iter().any(|domain| within(domain))
}

fn labels(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    entries(object, "/metadata/labels")
}

fn lease(write: &Write<'_>) -> Result<(), String> {
    require(
        write.namespace == LEASES,
        format!("can only access leases in the {LEASES:?} system namespace"),
    )?;
    require(
        write.name == write.node,
        "can only access node lease with the same name as the requesting node".to_owned(),
    )
}

/// Of a revision, a node says what it has itself made of the image.
fn revision(write: &Write<'_>) -> Result<(), String> {
    let node = write.node;
    let of_others = |object: &Value| -> Vec<Value> {
        let entries = items(object, "/status/nodes").iter();
        let others = entries.filter(|entry| text(entry, "/name") != node);
        others.cloned().collect()
    };
    let rest = |object: &Value| {
        let mut status = object["status"].clone();
        if let Some(status) = status.as_object_mut() {
            status.remove("nodes");
        }
        status
    };
    match (write.subresource, write.operation) {
        ("status", Operation::Update) => {
            require(
                of_others(write.object) == of_others(write.old),
                format!("node {node:?} can only update its own entry of status.nodes"),
            )?;
            let annotations = "/metadata/annotations";
            require(
                rest(write.object) == rest(write.old)
                    && entries(write.object, annotations).eq(entries(write.old, annotations)),
                format!("node {node:?} can only update status.nodes of a FunctionRevision"),
            )
        }
        _ => Err(format!(
            "node {node:?} can only update status of a FunctionRevision"
        )),
    }
}

fn token(write: &Write<'_>) -> Result<(), String> {
    let bound = &write.object["spec"]["boundObjectRef"];
    let is_pod = text(bound, "/apiVersion") == "v1" && text(bound, "/kind") == "Pod";
    if text(bound, "/kind") == "FunctionRevision" && write.pod.is_object() {
        // Every node runs it.
        let (wanted, found) = (text(bound, "/uid"), object::uid(write.pod));
        return require(
            wanted == found,
            format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        );
    }
    require(
        is_pod && write.pod.is_object(),
        "node requested token not bound to a pod".to_owned(),
    )?;
    let (wanted, found) = (text(bound, "/uid"), object::uid(write.pod));
    require(
        !wanted.is_empty(),
        "node requested token with a pod binding without a uid".to_owned(),
    )?;
    require(
        wanted == found,
        format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
        ),
    )?;
    require(
        text(write.pod, "/spec/nodeName") == write.node,
        "node requested token bound to a pod scheduled on a different node".to_owned(),
    )
}

fn require(holds: bool, otherwise: String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise) }
}
