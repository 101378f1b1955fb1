//! PersistentVolumeClaims: which directory of this node a bound claim stands for.
//!
//! Reads the claim and its PersistentVolume when a pod starts; a claim that is not bound is asked for again. Knows
//! PersistentVolumes that are paths of the host: `local` and `hostPath`. Never binds, makes or removes any.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeSpec,
};
use kube::{Api, Client};
use runtimes::PodRef;
use serde_json::Value;

use crate::deadline::call;

/// What a claim stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Claimed {
    /// The PersistentVolume's name.
    pub(crate) volume: String,
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
}

/// What the directory is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A volume of its own (`local`).
    Local,
    /// A path of the host, of that `hostPath.type`.
    HostPath(String),
}

/// Why a claim cannot be used now, as the Event says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unclaimed(pub(crate) String);

/// Finds what a claim of the pod's namespace stands for. `own` says that the claim must be the pod's own.
pub(crate) async fn resolve(
    client: &Client,
    node: Option<&Node>,
    pod: &PodRef,
    claim: &str,
    own: bool,
) -> Result<Claimed, Unclaimed> {
    let namespace = &pod.namespace;
    let refuse =
        |why: String| Unclaimed(format!("error processing PVC {namespace}/{claim}: {why}"));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let found = call(claims.get(claim))
        .await
        .map_err(|error| refuse(format!("failed to fetch PVC from API server: {error}")))?;
    if own && !is_owned(&found, pod) {
        return Err(refuse(format!(
            "PVC {namespace}/{claim} was not created for pod {namespace}/{} (pod is not owner)",
            pod.name
        )));
    }
    let volume = bound(&found).map_err(refuse)?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = call(volumes.get(volume)).await.map_err(|error| {
        refuse(format!(
            "failed to fetch PV {volume} from API server: {error}"
        ))
    })?;
    let name = volume.metadata.name.clone().unwrap_or_default();
    let spec = volume.spec.unwrap_or_default();
    let uid = spec
        .claim_ref
        .as_ref()
        .and_then(|claim| claim.uid.as_deref());
    if uid != found.metadata.uid.as_deref() {
        return Err(refuse(format!(
            "persistentvolume {name:?} is bound to another claim"
        )));
    }
    if !allows(&spec, node) {
        return Err(Unclaimed(format!(
            "MountVolume.NodeAffinity check failed for volume {name:?} : no matching NodeSelectorTerms"
        )));
    }
    let (path, kind) = source(&name, &spec).map_err(Unclaimed)?;
    Ok(Claimed {
        volume: name,
        path,
        kind,
    })
}

fn is_owned(claim: &PersistentVolumeClaim, pod: &PodRef) -> bool {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && owner.uid == pod.uid)
}

/// The volume that the claim is bound to, or why it cannot be mounted.
fn bound(claim: &PersistentVolumeClaim) -> Result<&str, String> {
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".to_owned());
    }
    let spec = claim.spec.as_ref();
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let volume = spec.and_then(|spec| spec.volume_name.as_deref());
    match (phase, volume) {
        (Some("Bound"), Some(volume)) if !volume.is_empty() => Ok(volume),
        _ => Err("PVC is not bound".to_owned()),
    }
}

/// The path of the host that a PersistentVolume is.
fn source(name: &str, spec: &PersistentVolumeSpec) -> Result<(PathBuf, Kind), String> {
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(format!(
            "MountVolume.SetUp failed for volume {name:?} : spec.volumeMode Block is not supported: use Filesystem"
        ));
    }
    if let Some(local) = &spec.local {
        return Ok((PathBuf::from(&local.path), Kind::Local));
    }
    if let Some(host) = &spec.host_path {
        let kind = host.type_.clone().unwrap_or_default();
        return Ok((PathBuf::from(&host.path), Kind::HostPath(kind)));
    }
    let fields = serde_json::to_value(spec).unwrap_or_default();
    let field = first_other(&fields, NOT_SOURCES);
    Err(format!(
        "MountVolume.SetUp failed for volume {name:?} : spec.{field} is not supported: this node mounts local and \
         hostPath PersistentVolumes"
    ))
}

/// Fields of a PersistentVolume's spec that are no source.
const NOT_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// Whether the volume may be used on this node.
fn allows(spec: &PersistentVolumeSpec, node: Option<&Node>) -> bool {
    let required = spec
        .node_affinity
        .as_ref()
        .and_then(|affinity| affinity.required.as_ref());
    let Some(required) = required else {
        return true;
    };
    node.is_some_and(|node| {
        required
            .node_selector_terms
            .iter()
            .any(|term| matches(term, node))
    })
}

/// A term holds if everything in it does; an empty one never does.
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| {
        labels
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
    };
    let field = |key: &str| match key {
        "metadata.name" => node.metadata.name.as_deref(),
        _ => None,
    };
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|need| holds(need, label(&need.key)))
        && fields.iter().all(|need| holds(need, field(&need.key)))
}

fn holds(need: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = need.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|other| other == value));
    let compared = |right: fn(i64, i64) -> bool| {
        let number = |text: &str| text.parse::<i64>().ok();
        match (
            value.and_then(number),
            values.first().and_then(|v| number(v)),
        ) {
            (Some(value), Some(bound)) => right(value, bound),
            _ => false,
        }
    };
    match need.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(|value, bound| value > bound),
        "Lt" => compared(|value, bound| value < bound),
        _ => false,
    }
}

/// For messages: the first field of `fields` that is not among `known`.
pub(super) fn first_other(fields: &Value, known: &[&str]) -> String {
    let mut fields = fields.as_object().into_iter().flatten();
    fields
        .find(|(name, value)| !value.is_null() && !known.contains(&name.as_str()))
        .map_or_else(|| "source".to_owned(), |(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(spec: Value, expected: Result<(&str, Kind), &str>) {
        let spec: PersistentVolumeSpec = serde_json::from_value(spec).expect("a spec");
        let found = source("pv", &spec);
        let found = found
            .as_ref()
            .map(|(path, kind)| (path.to_str().expect("text"), kind.clone()))
            .map_err(String::as_str);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_volume_is_a_path_of_the_host_or_is_refused_by_its_field() {
        check(json!({"local": {"path": "/d"}}), Ok(("/d", Kind::Local)));
        check(
            json!({"hostPath": {"path": "/d", "type": "DirectoryOrCreate"}}),
            Ok(("/d", Kind::HostPath("DirectoryOrCreate".to_owned()))),
        );
        check(
            json!({"accessModes": ["ReadWriteOnce"], "nfs": {"path": "/", "server": "s"}}),
            Err(
                "MountVolume.SetUp failed for volume \"pv\" : spec.nfs is not supported: this node mounts local and \
                 hostPath PersistentVolumes",
            ),
        );
        check(
            json!({"local": {"path": "/d"}, "volumeMode": "Block"}),
            Err(
                "MountVolume.SetUp failed for volume \"pv\" : spec.volumeMode Block is not supported: use Filesystem",
            ),
        );
    }

    #[test]
    fn a_volume_of_another_node_is_not_used_here() {
        let node: Node = serde_json::from_value(
            json!({"metadata": {"name": "n1", "labels": {"zone": "a", "size": "5"}}}),
        )
        .expect("a node");
        let allowed = |term: Value| {
            let spec = json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}});
            let spec = serde_json::from_value(spec).expect("a spec");
            allows(&spec, Some(&node))
        };
        let label = |key: &str, operator: &str, values: &[&str]| {
            allowed(
                json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}),
            )
        };
        assert!(label("zone", "In", &["a", "b"]));
        assert!(!label("zone", "In", &["b"]));
        assert!(label("zone", "NotIn", &["b"]) && label("none", "NotIn", &["b"]));
        assert!(label("zone", "Exists", &[]) && !label("none", "Exists", &[]));
        assert!(label("none", "DoesNotExist", &[]));
        assert!(label("size", "Gt", &["4"]) && !label("size", "Lt", &["5"]));
        assert!(!label("zone", "Gt", &["4"]));
        let named = |name: &str| {
            allowed(
                json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}),
            )
        };
        assert!(named("n1") && !named("n2"));
        assert!(!allowed(json!({})));
        assert!(allows(&PersistentVolumeSpec::default(), None));
    }
}
