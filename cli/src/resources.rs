//! What the server serves, by every name a user may type: plural, singular, short name, kind, `x.group`.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::api::Api;

/// One resource that the server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub singular: String,
    pub short: Vec<String>,
    pub categories: Vec<String>,
    pub verbs: Vec<String>,
    pub namespaced: bool,
}

/// Everything that the server serves, preferred versions first.
#[derive(Clone, Debug, Default)]
pub struct Resources(pub Vec<Resource>);

impl Resource {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods`, `deployments.apps`: how the resource is called unambiguously.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `pod/x`, `deployment.apps/x`: how output lines name an object.
    pub fn display(&self, name: &str) -> String {
        if self.group.is_empty() {
            format!("{}/{name}", self.singular)
        } else {
            format!("{}.{}/{name}", self.singular, self.group)
        }
    }

    /// The path of the collection; over all namespaces when `namespace` is `None`.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            "/api"
        } else {
            "/apis"
        };
        let base = format!("{root}/{}", self.api_version());
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{base}/namespaces/{namespace}/{}", self.plural),
            None => format!("{base}/{}", self.plural),
        }
    }

    /// `pod "x"`, `deployment.apps "x"`: how sentences name an object.
    pub fn quoted(&self, name: &str) -> String {
        if self.group.is_empty() {
            format!("{} {name:?}", self.singular)
        } else {
            format!("{}.{} {name:?}", self.singular, self.group)
        }
    }

    /// The path of one object.
    pub fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(Some(namespace)))
    }
}

impl Resources {
    /// Asks the server.
    pub async fn discover(api: &Api) -> Result<Self> {
        let mut all = Vec::new();
        let core = api.get("/api/v1").await?;
        read_list(&core, "", "v1", &mut all);
        let groups = api.get("/apis").await?;
        let groups = list(&groups["groups"]).iter().map(|group| async move {
            let name = text(&group["name"]);
            let version = text(&group["preferredVersion"]["version"]);
            let resources = api.get(&format!("/apis/{name}/{version}")).await?;
            anyhow::Ok((name, version, resources))
        });
        for (name, version, resources) in futures::future::try_join_all(groups).await? {
            read_list(&resources, &name, &version, &mut all);
        }
        Ok(Self(all))
    }

    /// Finds what a user means by `po`, `pods`, `Pod`, `deploy.apps`.
    pub fn find(&self, name: &str) -> Result<&Resource> {
        let lower = name.to_lowercase();
        let (bare, group) = match lower.split_once('.') {
            Some((bare, group)) => (bare, Some(group)),
            None => (lower.as_str(), None),
        };
        let named = |r: &&Resource| {
            r.plural == bare
                || r.singular == bare
                || r.short.iter().any(|s| s == bare)
                || r.kind.to_lowercase() == bare
        };
        let grouped = |r: &&Resource| {
            group.is_none_or(|g| {
                r.group == g
                    || r.group.starts_with(&format!("{g}."))
                    || format!("{}.{}", r.version, r.group) == g
            })
        };
        match self.0.iter().filter(named).find(grouped) {
            Some(resource) => Ok(resource),
            None => bail!("the server doesn't have a resource type {name:?}"),
        }
    }

    /// Finds the resource of an object.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Result<&Resource> {
        match self
            .0
            .iter()
            .find(|r| r.api_version() == api_version && r.kind == kind)
        {
            Some(resource) => Ok(resource),
            None => bail!("no matches for kind {kind:?} in version {api_version:?}"),
        }
    }

    /// The resources of a category such as `all`, if there is one of that name.
    pub fn category(&self, name: &str) -> Vec<&Resource> {
        self.0
            .iter()
            .filter(|r| r.categories.iter().any(|c| c == name))
            .collect()
    }
}

fn read_list(answer: &Value, group: &str, version: &str, into: &mut Vec<Resource>) {
    for resource in list(&answer["resources"]) {
        let plural = text(&resource["name"]);
        if plural.contains('/') {
            continue;
        }
        let kind = text(&resource["kind"]);
        let singular = Some(text(&resource["singularName"])).filter(|s| !s.is_empty());
        into.push(Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            singular: singular.unwrap_or_else(|| kind.to_lowercase()),
            short: list(&resource["shortNames"]).iter().map(text).collect(),
            categories: list(&resource["categories"]).iter().map(text).collect(),
            verbs: list(&resource["verbs"]).iter().map(text).collect(),
            namespaced: resource["namespaced"].as_bool().unwrap_or_default(),
            kind,
            plural,
        });
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resources() -> Resources {
        let mut all = Vec::new();
        let core = json!({"resources": [
            {"name": "pods", "singularName": "pod", "kind": "Pod", "namespaced": true, "shortNames": ["po"], "categories": ["all"]},
            {"name": "pods/log", "kind": "Pod", "namespaced": true},
        ]});
        let apps = json!({"resources": [
            {"name": "deployments", "singularName": "deployment", "kind": "Deployment", "namespaced": true, "shortNames": ["deploy"]},
        ]});
        read_list(&core, "", "v1", &mut all);
        read_list(&apps, "apps", "v1", &mut all);
        Resources(all)
    }

    #[test]
    fn a_resource_is_found_by_any_of_its_names() {
        let resources = resources();
        for name in [
            "deploy",
            "deployment",
            "deployments",
            "Deployment",
            "deployments.apps",
            "deployments.v1.apps",
        ] {
            assert_eq!(
                resources.find(name).unwrap().plural,
                "deployments",
                "{name}"
            );
        }
        assert_eq!(
            resources.find("po").unwrap().object("a", "b"),
            "/api/v1/namespaces/a/pods/b"
        );
        assert_eq!(
            resources.find("nope").unwrap_err().to_string(),
            "the server doesn't have a resource type \"nope\""
        );
    }

    #[test]
    fn subresources_are_not_resources() {
        assert_eq!(resources().0.len(), 2);
    }
}
