//! The `scale` subresource of any kind: which resource a kind is of, and how many replicas an object has.
//!
//! Asks discovery for kinds that are not Kubernetes' own, and keeps the answer for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIResource};
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;

use crate::error::{Error, within, within_opt};

/// How long discovery's answer holds: a CustomResourceDefinition may come.
const KNOWN: Duration = Duration::from_secs(30);
/// Kinds whose discovery is remembered; they are what users' objects name.
const REMEMBERED: usize = 1024;
/// Kubernetes' own kinds that have a scale: group, kind and plural, all of version v1.
const SCALED: [(&str, &str, &str); 4] = [
    ("apps", "Deployment", "deployments"),
    ("apps", "ReplicaSet", "replicasets"),
    ("apps", "StatefulSet", "statefulsets"),
    ("", "ReplicationController", "replicationcontrollers"),
];

/// A kind, as the API serves it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) resource: ApiResource,
    /// Whether its objects have a scale.
    pub(crate) scaled: bool,
}

impl Served {
    /// As messages name a resource: `deployments.apps`.
    pub(crate) fn shown(&self) -> String {
        let (plural, group) = (&self.resource.plural, &self.resource.group);
        if group.is_empty() {
            plural.clone()
        } else {
            format!("{plural}.{group}")
        }
    }
}

/// What discovery said of kinds, by group and kind.
#[derive(Default)]
pub(crate) struct Scales {
    known: Mutex<HashMap<(String, String), (Instant, Served)>>,
}

impl Scales {
    /// How a kind is served.
    ///
    /// # Errors
    /// [`Error::NotFound`], in kubectl's words, if it is not.
    pub(crate) async fn served(
        &self,
        client: &Client,
        api_version: &str,
        kind: &str,
    ) -> Result<Served, Error> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let own = SCALED
            .iter()
            .find(|(of, name, _)| (*of, *name) == (group, kind));
        if let Some((_, _, plural)) = own {
            let resource = resource(group, "v1", kind, plural);
            let scaled = true;
            return Ok(Served { resource, scaled });
        }
        let key = (group.to_owned(), kind.to_owned());
        let now = Instant::now();
        if let Some((_, served)) = self
            .known()
            .get(&key)
            .filter(|(at, _)| now.duration_since(*at) < KNOWN)
        {
            return Ok(served.clone());
        }
        let found = discover(client, group, kind).await?;
        let served = found.ok_or_else(|| {
            Error::NotFound(format!("no matches for kind {kind:?} in group {group:?}"))
        })?;
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, (now, served.clone()));
        Ok(served)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), (Instant, Served)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for a kind in the versions of its group, the preferred one first.
async fn discover(client: &Client, group: &str, kind: &str) -> Result<Option<Served>, Error> {
    let versions = if group.is_empty() {
        vec!["v1".to_owned()]
    } else {
        let groups = within(client.list_api_groups()).await?.groups;
        let found = groups.into_iter().find(|found| found.name == group);
        found.map(versions).unwrap_or_default()
    };
    for version in versions {
        let list = if group.is_empty() {
            within_opt(client.list_core_api_resources(&version)).await?
        } else {
            let version = format!("{group}/{version}");
            within_opt(client.list_api_group_resources(&version)).await?
        };
        let resources = list.map(|list| list.resources).unwrap_or_default();
        if let Some(served) = served(group, &version, kind, &resources) {
            return Ok(Some(served));
        }
    }
    Ok(None)
}

fn versions(group: APIGroup) -> Vec<String> {
    let preferred = group.preferred_version.map(|preferred| preferred.version);
    let others = group.versions.into_iter().map(|version| version.version);
    let mut versions: Vec<String> = preferred.into_iter().collect();
    for version in others {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions
}

fn served(group: &str, version: &str, kind: &str, resources: &[APIResource]) -> Option<Served> {
    let found = resources
        .iter()
        .find(|found| found.kind == kind && !found.name.contains('/'))?;
    let scale = format!("{}/scale", found.name);
    let scaled = resources
        .iter()
        .any(|found| found.name == scale && found.kind == "Scale");
    let resource = resource(group, version, kind, &found.name);
    Some(Served { resource, scaled })
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

fn api(client: &Client, namespace: &str, served: &Served) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &served.resource)
}

/// The scale of an object.
///
/// # Errors
/// [`Error::NotFound`] if there is no such object.
pub(crate) async fn get(
    client: &Client,
    namespace: &str,
    served: &Served,
    name: &str,
) -> Result<Scale, Error> {
    within(api(client, namespace, served).get_scale(name)).await
}

/// Wants so many replicas of an object, if it still is as `scale` says.
///
/// # Errors
/// [`Error::Conflict`] if it is not.
pub(crate) async fn set(
    client: &Client,
    served: &Served,
    scale: &Scale,
    replicas: i32,
) -> Result<(), Error> {
    let mut scale = scale.clone();
    scale.spec.get_or_insert_default().replicas = Some(replicas);
    let name = scale.metadata.name.clone().unwrap_or_default();
    let namespace = scale.metadata.namespace.clone().unwrap_or_default();
    let api = api(client, &namespace, served);
    within(api.replace_scale(&name, &PostParams::default(), &scale)).await?;
    Ok(())
}

/// How many replicas there should be.
pub(crate) fn replicas(scale: &Scale) -> i32 {
    let spec = scale.spec.as_ref();
    spec.and_then(|spec| spec.replicas).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_is_scaled_if_discovery_names_its_scale() {
        let resources: Vec<APIResource> = serde_json::from_value(json!([
            {"name": "gadgets/scale", "kind": "Scale", "group": "autoscaling", "version": "v1",
                "singularName": "", "namespaced": true, "verbs": ["get"]},
            {"name": "gadgets", "kind": "Gadget", "singularName": "", "namespaced": true, "verbs": ["get"]},
            {"name": "tools", "kind": "Tool", "singularName": "", "namespaced": true, "verbs": ["get"]},
        ]))
        .expect("resources");
        let find = |kind| served("example.com", "v2", kind, &resources);
        let gadget = find("Gadget").expect("a kind");
        assert_eq!(
            (gadget.shown().as_str(), gadget.scaled),
            ("gadgets.example.com", true)
        );
        assert_eq!(gadget.resource.api_version, "example.com/v2");
        assert!(!find("Tool").expect("a kind").scaled);
        assert!(find("Scale").is_none());
    }
}
