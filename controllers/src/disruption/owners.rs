//! How many pods the owners of a budget's pods want.
//!
//! Kubernetes' own workloads are in the caches; of other kinds the `scale` is asked for.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::cache::Cache;
use crate::context::{Context, controller};
use crate::error::Error;
use crate::key::Key;
use crate::scale;

/// By the uid that pods name.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Owners {
    found: HashMap<String, Owner>,
    asked: bool,
}

/// Who decides how many pods there are: a ReplicaSet's Deployment, for one.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Owner {
    pub(super) uid: String,
    pub(super) replicas: i32,
}

impl Owners {
    /// Whether one of them is of a kind that nobody here watches.
    pub(super) fn asked(&self) -> bool {
        self.asked
    }

    pub(super) fn of(&self, uid: &str) -> Option<&Owner> {
        self.found.get(uid)
    }

    /// Finds all of them.
    ///
    /// # Errors
    /// A pod's owner is not there, or of a kind that cannot be scaled, as a Job.
    pub(super) async fn find(
        context: &Context,
        namespace: &str,
        pods: &[Arc<Pod>],
    ) -> Result<Self, Error> {
        let mut owners = Self::default();
        for pod in pods {
            let Some(reference) = controller(&**pod) else {
                continue;
            };
            if owners.found.contains_key(&reference.uid) {
                continue;
            }
            let mut owner = cached(context, namespace, reference);
            if owner.is_none() {
                owner = ask(context, namespace, reference).await?;
                owners.asked = true;
            }
            let owner = owner.ok_or_else(|| {
                let name = pod.name_any();
                Error::Invalid(format!("found no controllers for pod {name:?}"))
            })?;
            owners.found.insert(reference.uid.clone(), owner);
        }
        Ok(owners)
    }

    #[cfg(test)]
    pub(super) fn with(found: &[(&str, &str, i32)]) -> Self {
        let found = found.iter().map(|(of, uid, replicas)| {
            let owner = Owner {
                uid: (*uid).to_owned(),
                replicas: *replicas,
            };
            ((*of).to_owned(), owner)
        });
        Self {
            found: found.collect(),
            asked: false,
        }
    }
}

/// An owner of a kind that is watched.
fn cached(context: &Context, namespace: &str, reference: &OwnerReference) -> Option<Owner> {
    let group = reference.api_version.rsplit_once('/');
    let group = group.map_or("", |(group, _)| group);
    let cache = match (group, reference.kind.as_str()) {
        ("", "ReplicationController") => &context.replication_controllers,
        ("apps", "StatefulSet") => &context.statefulsets,
        ("apps" | "extensions", "ReplicaSet") => &context.replicasets,
        _ => return None,
    };
    let found = get(cache, namespace, reference)?;
    match controller(&*found).filter(|above| above.kind == "Deployment") {
        Some(deployment) => Some(owner(&*get(&context.deployments, namespace, deployment)?)),
        None => Some(owner(&found)),
    }
}

fn get(
    cache: &Cache<DynamicObject>,
    namespace: &str,
    reference: &OwnerReference,
) -> Option<Arc<DynamicObject>> {
    let found = cache.get(&Key::new(namespace, &reference.name))?;
    (found.metadata.uid.as_ref() == Some(&reference.uid)).then_some(found)
}

fn owner(object: &DynamicObject) -> Owner {
    let replicas = object.data.pointer("/spec/replicas");
    let replicas = replicas.and_then(serde_json::Value::as_i64).unwrap_or(1);
    Owner {
        uid: object.uid().unwrap_or_default(),
        replicas: i32::try_from(replicas).unwrap_or(i32::MAX),
    }
}

/// What the scale of an owner says; none if it is another object by now.
async fn ask(
    context: &Context,
    namespace: &str,
    reference: &OwnerReference,
) -> Result<Option<Owner>, Error> {
    let (client, scales) = (&context.client, &context.scales);
    let served = scales
        .served(client, &reference.api_version, &reference.kind)
        .await?;
    if !served.scaled {
        let shown = served.shown();
        let text = format!("{shown} does not implement the scale subresource");
        return Err(Error::Invalid(text));
    }
    let scale = match scale::get(client, namespace, &served, &reference.name).await {
        Err(Error::NotFound(_)) => return Ok(None),
        scale => scale?,
    };
    let same = scale.metadata.uid.as_ref() == Some(&reference.uid);
    Ok(same.then(|| Owner {
        uid: reference.uid.clone(),
        replicas: scale::replicas(&scale),
    }))
}
