//! What is served now: the built-in kinds, and those that custom resource definitions add and remove.
//!
//! A [`Served`] never changes: requests, discovery and OpenAPI each take one and work with it to their
//! end. The [`Catalog`] holds the current one and swaps it. Reads nothing by itself: whoever follows the
//! definitions hands the custom kinds in. Documents are made when they are first asked for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use store::ResourceKey;

use crate::{
    discovery,
    kinds::{GroupVersion, Kind, Registry, group_versions},
    openapi,
    server::state::Resource,
};

/// The way to what is served; shared by everything that answers for kinds.
pub struct Catalog {
    builtin: Vec<Arc<Resource>>,
    /// Held for the time of a clone or a swap.
    current: RwLock<Arc<Served>>,
}

/// What is served at one moment.
pub(crate) struct Served {
    resources: Vec<Arc<Resource>>,
    by_path: HashMap<[&'static str; 3], Arc<Resource>>,
    discovery: OnceLock<discovery::Documents>,
    openapi: OnceLock<openapi::Documents>,
    /// Documents of OpenAPI that are as they were before.
    carried: BTreeMap<String, Arc<openapi::Document>>,
}

impl Catalog {
    /// A catalog of the built-in kinds alone.
    pub fn new(registry: &Registry) -> Arc<Self> {
        let builtin: Vec<_> = registry
            .all()
            .iter()
            .map(|kind| Arc::new(Resource::new(kind.clone())))
            .collect();
        let served = Served::new(builtin.clone(), None);
        Arc::new(Self {
            builtin,
            current: RwLock::new(Arc::new(served)),
        })
    }

    /// What is served now.
    pub(crate) fn served(&self) -> Arc<Served> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Serves these kinds beside the built-in ones, in place of all custom ones before. A built-in
    /// kind is never hidden.
    pub(crate) fn serve(&self, custom: impl IntoIterator<Item = Arc<Resource>>) {
        let all = self.builtin.iter().cloned().chain(custom).collect();
        let before = self.served();
        let served = Arc::new(Served::new(all, Some(&before)));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = served;
    }
}

impl Served {
    fn new(resources: Vec<Arc<Resource>>, before: Option<&Self>) -> Self {
        let mut by_path = HashMap::new();
        for resource in &resources {
            let names = resource.names();
            by_path
                .entry([names.group, names.version, names.plural])
                .or_insert_with(|| resource.clone());
        }
        let mut served = Self {
            resources,
            by_path,
            discovery: OnceLock::new(),
            openapi: OnceLock::new(),
            carried: BTreeMap::new(),
        };
        if let Some(before) = before {
            let unchanged = served.unchanged(before);
            let known = match before.openapi.get() {
                Some(documents) => documents.all(),
                None => &before.carried,
            };
            served.carried = known
                .iter()
                .filter(|(path, _)| unchanged.contains(path))
                .map(|(path, document)| (path.clone(), document.clone()))
                .collect();
        }
        served
    }

    /// The group-versions that are what they were before, by their paths.
    fn unchanged(&self, before: &Self) -> Vec<String> {
        let kinds = |served: &Self| -> BTreeMap<String, Vec<*const Resource>> {
            let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for resource in &served.resources {
                let names = resource.names();
                let own = GroupVersion {
                    group: names.group,
                    version: names.version,
                    kinds: Vec::new(),
                };
                kinds
                    .entry(own.path())
                    .or_default()
                    .push(Arc::as_ptr(resource));
            }
            kinds
        };
        // Both states are alive: the same place is the same resource.
        let was = kinds(before);
        kinds(self)
            .into_iter()
            .filter(|(path, own)| was.get(path) == Some(own))
            .map(|(path, _)| path)
            .collect()
    }

    /// Finds the resource served at `/apis/<group>/<version>/…/<plural>`.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        // Shorter lifetimes than those of the names will do for looking.
        let by_path: &HashMap<[&str; 3], Arc<Resource>> = &self.by_path;
        by_path.get(&[group, version, plural]).cloned()
    }

    /// Finds the resource of a kind: `apps/v1` and `Deployment`.
    pub(crate) fn find_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let is_it = |resource: &&Arc<Resource>| {
            let names = resource.names();
            [names.group, names.version, names.kind] == [group, version, kind]
        };
        self.resources.iter().find(is_it).cloned()
    }

    /// Where objects of a resource are stored, whatever version of it is served.
    pub(crate) fn key(&self, group: &str, plural: &str) -> Option<ResourceKey> {
        let of_name = |resource: &&Arc<Resource>| {
            let names = resource.names();
            names.group == group && names.plural == plural
        };
        self.resources
            .iter()
            .find(of_name)
            .map(|resource| resource.key.clone())
    }

    /// The other versions in which the objects of a resource are served.
    pub(crate) fn versions(&self, resource: &Resource) -> Vec<Arc<Resource>> {
        let is_other = |other: &&Arc<Resource>| {
            other.key == resource.key && other.api_version() != resource.api_version()
        };
        self.resources.iter().filter(is_other).cloned().collect()
    }

    /// The group-versions, in the order in which clients should prefer them.
    pub(crate) fn group_versions(&self) -> Vec<GroupVersion<'_>> {
        let kinds = self.resources.iter().map(|resource| &*resource.kind);
        group_versions(kinds.map(|kind| kind as &dyn Kind))
    }

    /// What discovery answers.
    pub(crate) fn discovery(&self) -> &discovery::Documents {
        self.discovery
            .get_or_init(|| discovery::Documents::build(&self.group_versions()))
    }

    /// What OpenAPI answers.
    pub(crate) fn openapi(&self) -> &openapi::Documents {
        self.openapi
            .get_or_init(|| openapi::Documents::build(&self.group_versions(), &self.carried))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_not_custom_any_more_is_not_served() {
        let catalog = Catalog::new(&Registry::default());
        let pods = Registry::builtin();
        let pods = pods.find("", "v1", "pods").expect("it is built in");
        catalog.serve([Arc::new(Resource::new(pods.clone()))]);
        let before = catalog.served();
        catalog.serve([]);
        assert!(before.find("", "v1", "pods").is_some());
        assert!(catalog.served().find("", "v1", "pods").is_none());
    }
}
