//! What selects pods: Services, and the sets and ReplicationControllers that own them.
//!
//! Pure. Pods that say nothing of how they are spread are spread with those that the same of these select.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use crate::pairs::Pairs;
use crate::pod::{Labels, Pod};
use crate::selector::Selector;

/// A kind that owns pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum OwnerKind {
    ReplicaSet,
    ReplicationController,
    StatefulSet,
}

/// What made a pod, of its own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    kind: OwnerKind,
    name: Arc<str>,
}

impl Owner {
    /// The controller of a pod, if it is one of those.
    pub(crate) fn of(pod: &core::Pod) -> Option<Self> {
        let mut owners = pod.metadata.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.controller == Some(true))?;
        let kind = match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("apps/v1", "ReplicaSet") => OwnerKind::ReplicaSet,
            ("v1", "ReplicationController") => OwnerKind::ReplicationController,
            ("apps/v1", "StatefulSet") => OwnerKind::StatefulSet,
            _ => return None,
        };
        let name = owner.name.as_str().into();
        Some(Self { kind, name })
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners {
    services: HashMap<Arc<str>, Services>,
    selectors: HashMap<(OwnerKind, Arc<str>, Arc<str>), Selector>,
}

/// The Services of a namespace.
#[derive(Clone, Debug, Default)]
struct Services {
    ids: HashMap<String, usize>,
    services: Vec<Labels>,
    free: Vec<usize>,
    /// By the first label that they select.
    by_label: Pairs,
}

impl Owners {
    /// Adds or replaces an owner.
    pub(crate) fn put(&mut self, kind: OwnerKind, namespace: &str, name: &str, pods: Selector) {
        let key = (kind, namespace.into(), name.into());
        self.selectors.insert(key, pods);
    }

    pub(crate) fn remove(&mut self, kind: OwnerKind, namespace: &str, name: &str) {
        self.selectors
            .remove(&(kind, namespace.into(), name.into()));
    }

    /// Keeps of a kind only those of which this is true.
    pub(crate) fn retain(&mut self, kind: OwnerKind, keep: impl Fn(&str, &str) -> bool) {
        self.selectors
            .retain(|(own, namespace, name), _| *own != kind || keep(namespace, name));
    }

    /// Adds or replaces a Service; one that selects nothing is none.
    pub(crate) fn put_service(&mut self, namespace: &str, name: &str, pods: Labels) {
        self.remove_service(namespace, name);
        if pods.is_empty() {
            return;
        }
        let services = self.services.entry(namespace.into()).or_default();
        let id = services.free.pop().unwrap_or(services.services.len());
        services.by_label.insert(first(&pods), id);
        services.ids.insert(name.to_owned(), id);
        match services.services.get_mut(id) {
            Some(freed) => *freed = pods,
            None => services.services.push(pods),
        }
    }

    pub(crate) fn remove_service(&mut self, namespace: &str, name: &str) {
        let Some(services) = self.services.get_mut(namespace) else {
            return;
        };
        if let Some(id) = services.ids.remove(name) {
            services.by_label.remove(first(&services.services[id]), id);
            services.free.push(id);
        }
        if services.ids.is_empty() {
            self.services.remove(namespace);
        }
    }

    /// Keeps only the Services of which this is true.
    pub(crate) fn retain_services(&mut self, keep: impl Fn(&str, &str) -> bool) {
        let all = self.services.iter().flat_map(|(namespace, services)| {
            let names = services.ids.keys();
            names.map(move |name| (Arc::clone(namespace), name.clone()))
        });
        let gone: Vec<_> = all.filter(|(space, name)| !keep(space, name)).collect();
        for (namespace, name) in gone {
            self.remove_service(&namespace, &name);
        }
    }

    /// The pods that every Service that selects a pod, and its owner, select. Everything if there is none of these.
    pub(crate) fn selector(&self, pod: &Pod) -> Selector {
        let mut all = Labels::new();
        if let Some(services) = self.services.get(&pod.namespace) {
            let ids = services.by_label.about(&pod.labels);
            let services = ids.map(|id| &services.services[id]);
            let mut selecting = services.filter(|service| {
                let mut labels = service.iter();
                labels.all(|(key, value)| pod.labels.get(key) == Some(value))
            });
            all.extend(
                selecting
                    .by_ref()
                    .flatten()
                    .map(|(k, v)| (k.clone(), v.clone())),
            );
        }
        let services = Selector::of_labels(&all);
        let owner = pod.owner.as_ref().and_then(|owner| {
            let key = (
                owner.kind,
                Arc::clone(&pod.namespace),
                Arc::clone(&owner.name),
            );
            self.selectors.get(&key)
        });
        match owner {
            Some(owner) => services.and(owner.clone()),
            None => services,
        }
    }
}

fn first(labels: &Labels) -> Option<(&str, &str)> {
    let (key, value) = labels.iter().next()?;
    Some((key, value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(words: &str) -> Labels {
        let words = words.split_whitespace();
        let pairs = words.map(|word| word.split_once('=').unwrap());
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn pod(namespace: &str, words: &str) -> Pod {
        let pod = json!({
            "metadata": { "namespace": namespace, "labels": labels(words), "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "set", "uid": "", "controller": true },
            ] },
            "spec": { "containers": [] },
        });
        let pod: core::Pod = serde_json::from_value(pod).unwrap();
        Pod::from(&pod)
    }

    #[test]
    fn a_pods_like_are_those_of_its_services_and_its_set() {
        let mut owners = Owners::default();
        owners.put_service("a", "web", labels("app=web"));
        owners.put_service("a", "both", labels("app=web tier=front"));
        owners.put_service("a", "other", labels("app=other"));
        owners.put_service("b", "web", labels("team=b"));
        let of = |owners: &Owners, words| owners.selector(&pod("a", words));
        let selects = |words| Selector::of_labels(&labels(words));
        assert_eq!(of(&owners, "app=web"), selects("app=web"));
        assert_eq!(
            of(&owners, "app=web tier=front"),
            selects("app=web tier=front")
        );
        assert!(of(&owners, "app=none").is_everything());
        owners.put(OwnerKind::ReplicaSet, "a", "set", selects("hash=1"));
        owners.put(OwnerKind::StatefulSet, "a", "set", selects("hash=2"));
        assert_eq!(of(&owners, "app=web"), selects("app=web hash=1"));
        owners.remove_service("a", "web");
        owners.retain(OwnerKind::ReplicaSet, |_, _| false);
        owners.retain_services(|_, name| name == "web");
        assert!(of(&owners, "app=web tier=front").is_everything());
        assert_eq!(owners.selector(&pod("b", "team=b")), selects("team=b"));
    }
}
