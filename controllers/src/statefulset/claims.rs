//! The PersistentVolumeClaims of a StatefulSet's pods: what they are made of, and whom they go with.
//!
//! Pure. A claim whose owner references name another controller, or a set or a pod of the same name that
//! is no more, is left alone: whoever made them so decides about it.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::set::{Retention, Set};

/// The pod that a claim is for.
#[derive(Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) name: &'a str,
    /// `None`: it is yet to be made.
    pub(super) uid: Option<&'a str>,
    /// Whether its ordinal is one that there should be.
    pub(super) stays: bool,
}

/// What to do about the owners of a claim.
#[derive(Debug, PartialEq)]
pub(super) enum Owners {
    /// They are as they should be, or not ours to change.
    Stay,
    /// They become these.
    Become(Vec<OwnerReference>),
}

/// The claim that a template makes for a pod.
pub(super) fn claim(set: &Set, raw: &DynamicObject, template: usize, ordinal: i64) -> Value {
    let template = raw
        .data
        .pointer(&format!("/spec/volumeClaimTemplates/{template}"));
    let template = template.cloned().unwrap_or_default();
    let name = template.pointer("/metadata/name").and_then(Value::as_str);
    let mut metadata = json!({"name": set.claim_name(name.unwrap_or_default(), ordinal)});
    for field in ["annotations", "finalizers"] {
        let value = &template["metadata"][field];
        if !value.is_null() {
            metadata[field] = value.clone();
        }
    }
    let labels = template.pointer("/metadata/labels");
    let mut labels = labels
        .filter(|labels| labels.is_object())
        .cloned()
        .unwrap_or_else(|| json!({}));
    let selected = raw.data.pointer("/spec/selector/matchLabels");
    for (label, value) in selected.and_then(Value::as_object).into_iter().flatten() {
        labels[label] = value.clone();
    }
    metadata["labels"] = labels;
    if set.claims.go_with_set {
        metadata["ownerReferences"] = json!([of_set(set)]);
    }
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": metadata, "spec": template["spec"],
    })
}

/// Whether a claim belongs to a pod of this name that is no more, and goes with it: a new pod must wait
/// until it has gone.
pub(super) fn goes_with_another(claim: &PersistentVolumeClaim, pod: Member<'_>) -> bool {
    stale(claim, "v1", "Pod", pod.name, pod.uid)
}

/// What the owners of a claim should be.
pub(super) fn owners(set: &Set, claim: &PersistentVolumeClaim, pod: Member<'_>) -> Owners {
    if stale(claim, "apps/v1", "StatefulSet", &set.name, Some(&set.uid))
        || stale(claim, "v1", "Pod", pod.name, pod.uid)
    {
        return Owners::Stay;
    }
    let have = claim.owner_references();
    let ours = |owner: &OwnerReference| owner.uid == set.uid || Some(&*owner.uid) == pod.uid;
    let mut wanted: Vec<_> = have.iter().filter(|owner| !ours(owner)).cloned().collect();
    if !conflicting(set, claim, pod) {
        let leaves = pod.uid.filter(|_| set.claims.go_with_pod && !pod.stays);
        match leaves {
            Some(uid) => wanted.push(reference("v1", "Pod", pod.name, uid)),
            None if set.claims.go_with_set => wanted.push(of_set(set)),
            None => {}
        }
    }
    let same = wanted.len() == have.len()
        && wanted.iter().all(|owner| {
            let mut have = have.iter().filter(|have| have.uid == owner.uid);
            have.any(|have| have.controller == owner.controller)
        });
    if same {
        Owners::Stay
    } else {
        Owners::Become(wanted)
    }
}

/// Whether another controller has the claim, so that the retention policy is not followed.
pub(super) fn conflicting(set: &Set, claim: &PersistentVolumeClaim, pod: Member<'_>) -> bool {
    set.claims != Retention::default()
        && claim.owner_references().iter().any(|owner| {
            owner.controller == Some(true)
                && owner.uid != set.uid
                && Some(owner.uid.as_str()) != pod.uid
        })
}

fn stale(
    claim: &PersistentVolumeClaim,
    version: &str,
    kind: &str,
    name: &str,
    uid: Option<&str>,
) -> bool {
    let mut owners = claim.owner_references().iter();
    let named = owners
        .find(|owner| owner.api_version == version && owner.kind == kind && owner.name == name);
    named.is_some_and(|owner| Some(owner.uid.as_str()) != uid)
}

fn of_set(set: &Set) -> OwnerReference {
    reference("apps/v1", "StatefulSet", &set.name, &set.uid)
}

fn reference(version: &str, kind: &str, name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: version.into(),
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// `owners`: `set`, `pod`, an earlier `pod'` or `set'` of the same name, or another controller `x`.
    #[track_caller]
    fn check(deleted: &str, scaled: &str, stays: bool, owners_text: &str, expect: Expect) {
        let set = Set {
            name: "web".into(),
            uid: "set".into(),
            claims: Retention {
                go_with_set: deleted == "Delete",
                go_with_pod: scaled == "Delete",
            },
            ..Set::default()
        };
        let owner = |word: &str| match word.trim_end_matches('\'') {
            "set" => reference("apps/v1", "StatefulSet", "web", word),
            "pod" => reference("v1", "Pod", "web-0", word),
            _ => reference("example.com/v1", "Other", "o", word),
        };
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.owner_references = Some(owners_text.split_whitespace().map(owner).collect());
        let pod = Member {
            name: "web-0",
            uid: Some("pod"),
            stays,
        };
        let said = match owners(&set, &claim, pod) {
            Owners::Stay => "stay".to_owned(),
            Owners::Become(owners) => {
                let uids: Vec<_> = owners.iter().map(|owner| owner.uid.as_str()).collect();
                format!("become [{}]", uids.join(" "))
            }
        };
        expect.assert_eq(&said);
    }

    #[test]
    fn claims_are_retained_unless_asked_otherwise() {
        check("Retain", "Retain", true, "", expect!["stay"]);
        check("Retain", "Retain", false, "", expect!["stay"]);
        check("Retain", "Retain", true, "set", expect!["become []"]);
    }

    #[test]
    fn claims_go_with_the_set() {
        check("Delete", "Retain", true, "", expect!["become [set]"]);
        check("Delete", "Retain", false, "", expect!["become [set]"]);
        check("Delete", "Retain", true, "set", expect!["stay"]);
    }

    #[test]
    fn claims_of_pods_that_are_scaled_away_go_with_them() {
        check("Retain", "Delete", true, "", expect!["stay"]);
        check("Retain", "Delete", false, "", expect!["become [pod]"]);
        check("Delete", "Delete", true, "", expect!["become [set]"]);
        check("Delete", "Delete", false, "set", expect!["become [pod]"]);
        check("Delete", "Delete", true, "pod", expect!["become [set]"]);
    }

    #[test]
    fn claims_of_others_are_left_alone() {
        check("Delete", "Delete", false, "x", expect!["stay"]);
        check("Delete", "Delete", false, "x set", expect!["become [x]"]);
        check("Delete", "Delete", true, "pod'", expect!["stay"]);
        check("Delete", "Retain", true, "set'", expect!["stay"]);
    }

    #[test]
    fn a_claim_has_the_labels_that_the_set_selects() {
        let raw: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "web"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "volumeClaimTemplates": [{
                    "metadata": {"name": "data", "labels": {"tier": "db"}, "annotations": {"a": "b"}},
                    "spec": {"storageClassName": "wk-local"}, "status": {"phase": "Pending"},
                }],
            },
        }))
        .unwrap();
        let set = Set {
            name: "web".into(),
            ..Set::default()
        };
        expect![[r#"{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"annotations":{"a":"b"},"labels":{"app":"web","tier":"db"},"name":"data-web-3"},"spec":{"storageClassName":"wk-local"}}"#]]
        .assert_eq(&claim(&set, &raw, 0, 3).to_string());
    }
}
