//! What to do about a claim and the volume that is made for it.
//!
//! Pure. Reads annotations as Kubernetes' provisioners do: the controller says who makes a claim's volume, the
//! scheduler where. A volume is this node's if it says that this node made it.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;

use crate::quantity;

pub(super) const PROVISIONER: &str = "wk.dev/local";
/// On a volume: who made it, and on which node; claims and volumes are selected by the latter as by a field.
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
pub(super) const NODE: &str = "wk.dev/node";
/// On a volume: its directory is there.
pub(super) const FINALIZER: &str = "wk.dev/local-volume";
/// On a claim: who makes its volume, and where.
const ASKED: &str = "volume.kubernetes.io/storage-provisioner";
const SELECTED: &str = "volume.kubernetes.io/selected-node";

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Nothing.
    Keep,
    /// Make the directory and the volume.
    Make,
    /// Make both as large as the claim asks for.
    Grow,
    /// Remove the directory, then the volume.
    Remove,
    /// Let the volume go; its directory is the user's.
    LetGo,
    /// There is neither claim nor volume: a directory that was never used goes too.
    Tidy,
}

/// Decides.
pub(super) fn plan(
    node: &str,
    claim: Option<&PersistentVolumeClaim>,
    volume: Option<&PersistentVolume>,
) -> Step {
    let Some(volume) = volume else {
        return match claim {
            Some(claim) if wants(claim, node) => Step::Make,
            Some(_) => Step::Keep,
            None => Step::Tidy,
        };
    };
    if !is_own(volume, node) {
        return Step::Keep;
    }
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let delete = policy == Some("Delete");
    let status = volume.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if volume.metadata.deletion_timestamp.is_some() {
        let held = volume.finalizers().iter().any(|own| own == FINALIZER);
        return match (phase, held) {
            (Some("Bound"), _) | (_, false) => Step::Keep,
            (_, true) if delete => Step::Remove,
            (_, true) => Step::LetGo,
        };
    }
    match (phase, claim) {
        (Some("Released" | "Failed"), _) if delete => Step::Remove,
        (Some("Bound"), Some(claim)) if outgrows(claim, volume) => Step::Grow,
        _ => Step::Keep,
    }
}

/// The name that a claim's volume has.
pub(super) fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// Whether a claim's volume is this node's to make, now or before.
pub(super) fn is_asked(claim: &PersistentVolumeClaim, node: &str) -> bool {
    let is = |name: &str, value: &str| claim.annotations().get(name).is_some_and(|v| v == value);
    is(ASKED, PROVISIONER) && is(SELECTED, node)
}

fn wants(claim: &PersistentVolumeClaim, node: &str) -> bool {
    let spec = claim.spec.as_ref();
    let named = spec
        .and_then(|spec| spec.volume_name.as_deref())
        .unwrap_or_default();
    is_asked(claim, node) && named.is_empty() && claim.metadata.deletion_timestamp.is_none()
}

/// Whether a volume was made by this node.
pub(super) fn is_own(volume: &PersistentVolume, node: &str) -> bool {
    let is = |name: &str, value: &str| volume.annotations().get(name).is_some_and(|v| v == value);
    is(PROVISIONED_BY, PROVISIONER) && is(NODE, node)
}

/// Whether a claim asks for more than its volume has, or than it was told that it has.
fn outgrows(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let named = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_deref());
    let status = claim.status.as_ref();
    let told = status
        .and_then(|status| status.capacity.as_ref())
        .and_then(|capacity| capacity.get("storage"))
        .and_then(|amount| quantity::units(&amount.0));
    let bound = status.and_then(|status| status.phase.as_deref()) == Some("Bound");
    named == Some(&volume.name_any())
        && bound
        && (requested(claim) > told || requested(claim) > capacity(volume))
}

/// In bytes.
pub(super) fn requested(claim: &PersistentVolumeClaim) -> Option<u64> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    quantity::units(&resources.requests.as_ref()?.get("storage")?.0)
}

/// In bytes.
pub(super) fn capacity(volume: &PersistentVolume) -> Option<u64> {
    let capacity = volume.spec.as_ref()?.capacity.as_ref()?;
    quantity::units(&capacity.get("storage")?.0)
}

pub(super) fn class_name(claim: &PersistentVolumeClaim) -> &str {
    let old = claim
        .annotations()
        .get("volume.beta.kubernetes.io/storage-class");
    let named = old.or_else(|| claim.spec.as_ref()?.storage_class_name.as_ref());
    named.map_or("", String::as_str)
}

pub(super) fn path(volume: &PersistentVolume) -> Option<&str> {
    let local = volume.spec.as_ref()?.local.as_ref()?;
    Some(&local.path)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    /// Words: a size, `on:node`, `bound`, `told:1Gi`, `deleting`.
    fn claim(words: &str) -> PersistentVolumeClaim {
        let mut object = json!({
            "metadata": {"uid": "u", "annotations": {ASKED: PROVISIONER}},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}},
        });
        for word in words.split_whitespace() {
            match word.split_once(':') {
                Some(("on", node)) => object["metadata"]["annotations"][SELECTED] = node.into(),
                Some((_, told)) => object["status"]["capacity"]["storage"] = told.into(),
                None if word == "bound" => {
                    object["spec"]["volumeName"] = "pvc-u".into();
                    object["status"]["phase"] = "Bound".into();
                }
                None if word == "deleting" => {
                    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                }
                None => object["spec"]["resources"]["requests"]["storage"] = word.into(),
            }
        }
        serde_json::from_value(object).unwrap()
    }

    /// Words: a size, a phase, `by:node`, `retain`, `deleting`, `free` of our finalizer.
    fn volume(words: &str) -> PersistentVolume {
        let mut object = json!({
            "metadata": {"name": "pvc-u", "finalizers": [FINALIZER],
                "annotations": {PROVISIONED_BY: PROVISIONER, NODE: "n"}},
            "spec": {"capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Delete"},
        });
        for word in words.split_whitespace() {
            match word {
                "retain" => object["spec"]["persistentVolumeReclaimPolicy"] = "Retain".into(),
                "deleting" => {
                    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                }
                "free" => object["metadata"]["finalizers"] = json!([]),
                _ if word.starts_with("by:") => {
                    object["metadata"]["annotations"][NODE] = word[3..].into();
                }
                _ if word.ends_with("Gi") => object["spec"]["capacity"]["storage"] = word.into(),
                phase => object["status"]["phase"] = phase.into(),
            }
        }
        serde_json::from_value(object).unwrap()
    }

    #[track_caller]
    fn check(claims: Option<&str>, volumes: Option<&str>, expected: Expect) {
        let (claim, volume) = (claims.map(claim), volumes.map(volume));
        expected.assert_eq(&format!("{:?}", plan("n", claim.as_ref(), volume.as_ref())));
    }

    #[test]
    fn a_volume_is_made_for_a_claim_of_this_node_that_has_none() {
        check(Some("on:n"), None, expect!["Make"]);
        check(Some("on:m"), None, expect!["Keep"]);
        check(Some(""), None, expect!["Keep"]);
        check(Some("on:n deleting"), None, expect!["Keep"]);
        // Its volume is lost, and a new one would be empty.
        check(Some("on:n bound"), None, expect!["Keep"]);
        check(Some("on:n"), Some("Pending"), expect!["Keep"]);
        check(None, None, expect!["Tidy"]);
    }

    #[test]
    fn a_volume_goes_with_its_claim_unless_it_is_retained() {
        check(None, Some("Bound"), expect!["Keep"]);
        check(None, Some("Released"), expect!["Remove"]);
        check(None, Some("Released by:m"), expect!["Keep"]);
        check(None, Some("Released retain"), expect!["Keep"]);
        check(None, Some("Released retain deleting"), expect!["LetGo"]);
        check(None, Some("Released deleting"), expect!["Remove"]);
        check(None, Some("Available deleting"), expect!["Remove"]);
        check(None, Some("Released deleting free"), expect!["Keep"]);
        check(Some("on:n bound"), Some("Bound deleting"), expect!["Keep"]);
    }

    #[test]
    fn a_volume_grows_with_its_claim() {
        check(Some("on:n bound told:1Gi"), Some("Bound"), expect!["Keep"]);
        check(
            Some("on:n bound 2Gi told:1Gi"),
            Some("Bound"),
            expect!["Grow"],
        );
        check(
            Some("on:n bound 2Gi told:1Gi"),
            Some("Bound 2Gi"),
            expect!["Grow"],
        );
        check(
            Some("on:n bound 2Gi told:2Gi"),
            Some("Bound 2Gi"),
            expect!["Keep"],
        );
        check(Some("on:n 2Gi"), Some("Bound"), expect!["Keep"]);
    }
}
