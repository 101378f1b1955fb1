//! The pod templates that a workload had, oldest first.
//!
//! A Deployment's are in its ReplicaSets, those of others in ControllerRevisions.

use anyhow::Result;
use serde_json::Value;

use super::{CHANGE_CAUSE, Workload};
use crate::{pods::selector_of, query};

/// Which revision of the pod template a ReplicaSet is.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Told apart by the controller, never part of what the user wanted.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// A pod template as it once was.
pub(super) struct Revision {
    pub(super) number: u64,
    pub(super) cause: Option<String>,
    pub(super) template: Value,
}

impl Revision {
    /// As a ReplicaSet or a ControllerRevision has it; `None` if it has no number.
    fn read(object: &Value) -> Option<Revision> {
        let annotations = &object["metadata"]["annotations"];
        let (number, template) = if let Some(number) = object["revision"].as_u64() {
            let mut template = object["data"]["spec"]["template"].clone();
            // An instruction for who applies it.
            template.as_object_mut()?.remove("$patch");
            (number, template)
        } else {
            let number = annotations[REVISION].as_str()?.parse().ok()?;
            (number, object["spec"]["template"].clone())
        };
        Some(Revision {
            number,
            cause: annotations[CHANGE_CAUSE].as_str().map(str::to_owned),
            template,
        })
    }
}

impl Workload<'_> {
    /// The revisions that an object has.
    pub(super) async fn revisions(&self, object: &Value) -> Result<Vec<Revision>> {
        let namespace = self.pick.namespace.as_deref().unwrap_or_default();
        let resource = match self.kind() {
            "Deployment" => "replicasets",
            _ => "controllerrevisions",
        };
        let path = format!("/apis/apps/v1/namespaces/{namespace}/{resource}");
        let selector = selector_of(object);
        let path = query::with(&path, &[("labelSelector", &selector)]);
        let list = self.api.get(&path).await?;
        let uid = &object["metadata"]["uid"];
        let owned = |item: &&Value| {
            let owners = item["metadata"]["ownerReferences"].as_array();
            let mut owners = owners.into_iter().flatten();
            owners.any(|owner| owner["controller"] == true && owner["uid"] == *uid)
        };
        let items = list["items"].as_array().into_iter().flatten();
        let mut revisions: Vec<_> = items.filter(owned).filter_map(Revision::read).collect();
        revisions.sort_by_key(|revision| revision.number);
        Ok(revisions)
    }
}

/// A revision, 0 being the one before the last.
pub(super) fn earlier(revisions: &[Revision], wanted: u64) -> Option<&Revision> {
    match wanted {
        0 => revisions.iter().rev().nth(1),
        wanted => revisions.iter().find(|revision| revision.number == wanted),
    }
}

/// A template without what its controller added.
pub(super) fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    let labels = template.pointer_mut("/metadata/labels");
    if let Some(labels) = labels.and_then(Value::as_object_mut) {
        labels.remove(TEMPLATE_HASH);
    }
    template
}
