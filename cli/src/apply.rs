//! Makes objects as manifests say, by server-side apply: behind `wkctl apply` and `wk up -f`.
//!
//! The server knows what each manager applied, removes what a manifest no longer says, and refuses
//! to take fields from others. Nothing is merged here.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    api::{Api, ServerError},
    resources::{Resource, Resources},
};

/// Where `kubectl apply` keeps what it applied last.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An apply's content type; the body may be JSON.
const APPLY: &str = "application/apply-patch+yaml";

/// Fields that the manifest wants otherwise belong to others.
#[derive(thiserror::Error, Debug)]
#[error(
    "{0}
Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts"
)]
pub struct Conflicts(String);

/// What an apply did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        })
    }
}

/// An object of a manifest and where it is served.
#[derive(Clone, Debug)]
pub struct Target {
    pub resource: Resource,
    /// Empty for a cluster-scoped object.
    pub namespace: String,
    pub name: String,
    pub object: Value,
}

impl Target {
    /// Finds where an object is served; its namespace is `namespace` unless it names one.
    pub fn resolve(
        resources: &Resources,
        mut object: Value,
        namespace: &str,
        forced: bool,
    ) -> Result<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = resources
            .of_kind(&text(&object["apiVersion"]), &text(&object["kind"]))?
            .clone();
        let own = text(&object["metadata"]["namespace"]);
        let namespace = match (resource.namespaced, own.is_empty()) {
            (false, _) => String::new(),
            (true, true) => namespace.to_owned(),
            (true, false) if forced && own != namespace => {
                bail!(
                    "the namespace from the provided object {own:?} does not match the namespace {namespace:?}. You must pass '--namespace={own}' to perform this operation."
                )
            }
            (true, false) => own,
        };
        if resource.namespaced {
            object["metadata"]["namespace"] = namespace.clone().into();
        }
        let name = text(&object["metadata"]["name"]);
        Ok(Self {
            resource,
            namespace,
            name,
            object,
        })
    }

    /// The path of the object.
    pub fn path(&self) -> String {
        self.resource.object(&self.namespace, &self.name)
    }

    /// `deployment.apps/hello`.
    pub fn display(&self) -> String {
        self.resource.display(&self.name)
    }
}

/// Makes the object as the manifest says. `query` says who applies and how
/// (`fieldManager=wkctl&force=true&dryRun=All`).
pub async fn apply(api: &Api, target: &Target, query: &str) -> Result<(Outcome, Value)> {
    if target.name.is_empty() {
        bail!("cannot use generate name with apply: metadata.generateName needs `create`");
    }
    let before = api.find(&target.path()).await?;
    let path = format!("{}?{query}", target.path());
    let after = match api.patch(&path, APPLY, &target.object).await {
        Ok(after) => after,
        Err(error) => return Err(worded(error)),
    };
    let outcome = match before {
        None => Outcome::Created,
        Some(before) if before == after => Outcome::Unchanged,
        Some(_) => Outcome::Configured,
    };
    Ok((outcome, after))
}

/// A conflict over fields, with what to do about it.
fn worded(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<ServerError>() {
        Some(server) if server.code == 409 && server.message.starts_with("Apply failed with") => {
            Conflicts(server.message.clone()).into()
        }
        _ => error,
    }
}

/// Orders targets so that namespaces come before what is in them; otherwise as given.
pub fn order(targets: &mut [Target]) {
    targets.sort_by_key(|target| match target.resource.kind.as_str() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        _ => 2,
    });
}

/// Reads manifests and finds where each object is served; what cannot be read or is not served
/// comes back as error lines, each naming its document.
pub async fn targets(
    resources: &Resources,
    sources: &[String],
    recursive: bool,
    namespace: &str,
    forced: bool,
) -> Result<(Vec<Target>, Vec<String>)> {
    let documents = crate::manifest::read(sources, recursive).await?;
    if documents.is_empty() {
        bail!("no objects passed");
    }
    let mut targets = Vec::new();
    let mut errors = Vec::new();
    for document in documents {
        let target = document
            .object
            .map_err(anyhow::Error::msg)
            .and_then(|object| Target::resolve(resources, object, namespace, forced));
        match target.with_context(|| document.source.clone()) {
            Ok(target) => targets.push(target),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    order(&mut targets);
    Ok((targets, errors))
}
