//! The API's picture of a static pod. Pure.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};

/// Of which static pod a pod is the mirror: its uid.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
/// The same on the static pod itself.
pub(super) const HASH: &str = "kubernetes.io/config.hash";
/// Where it comes from.
pub(super) const SOURCE: &str = "kubernetes.io/config.source";
/// When it was read.
pub(super) const SEEN: &str = "kubernetes.io/config.seen";

/// A mirror pod that the API has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mirror {
    pub(super) uid: String,
    hash: String,
    deleted: bool,
}

impl Mirror {
    /// `None` if the pod is no mirror.
    pub(super) fn of(pod: &Pod) -> Option<Mirror> {
        let annotations = pod.metadata.annotations.as_ref()?;
        Some(Mirror {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            hash: annotations.get(MIRROR)?.clone(),
            deleted: pod.metadata.deletion_timestamp.is_some(),
        })
    }

    /// Whether it is the picture of this static pod.
    pub(super) fn shows(&self, uid: &str) -> bool {
        self.hash == uid && !self.deleted
    }
}

/// What to do about one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Nothing,
    Create,
    Delete(String),
}

/// `wanted` is the static pod of that name, `seen` the mirror.
pub(super) fn step(wanted: Option<&str>, seen: Option<&Mirror>) -> Step {
    match (wanted, seen) {
        (None, None) => Step::Nothing,
        (Some(_), None) => Step::Create,
        (Some(uid), Some(mirror)) if mirror.shows(uid) => Step::Nothing,
        // Somebody deletes it, or it shows what was: what is comes in its place.
        (_, Some(mirror)) => Step::Delete(mirror.uid.clone()),
    }
}

/// The mirror pod to create, owned by the node.
pub(super) fn object(mirror: &Pod, node_uid: &str) -> Pod {
    let mut object = mirror.clone();
    let node = object.spec.as_ref().and_then(|spec| spec.node_name.clone());
    object.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.unwrap_or_default(),
        uid: node_uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_what_the_file_says_or_is_replaced() {
        let mirror = |hash: &str, deleted| Mirror {
            uid: "m".to_owned(),
            hash: hash.to_owned(),
            deleted,
        };
        let delete = Step::Delete("m".to_owned());
        for (wanted, seen, expected) in [
            (None, None, Step::Nothing),
            (Some("a"), None, Step::Create),
            (Some("a"), Some(mirror("a", false)), Step::Nothing),
            (Some("a"), Some(mirror("a", true)), delete.clone()),
            (Some("a"), Some(mirror("b", false)), delete.clone()),
            (None, Some(mirror("a", false)), delete),
        ] {
            assert_eq!(step(wanted, seen.as_ref()), expected, "{wanted:?} {seen:?}");
        }
    }
}
