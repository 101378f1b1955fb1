//! A FunctionRevision: what a Function was at one time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::{Condition, RevisionSpec};

/// One state of a Function's code and configuration; its Function owns it, and its spec never changes.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionRevision {
    pub metadata: ObjectMeta,
    pub spec: RevisionSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<FunctionRevisionStatus>,
}

crate::resource!(FunctionRevision, "FunctionRevision", "functionrevisions");

impl FunctionRevision {
    /// The digest that it is held to.
    pub fn digest(&self) -> Option<&str> {
        self.status.as_ref()?.digest.as_deref()
    }
}

/// The name by which an image is the same everywhere and for ever: `repository@sha256:…`. A file has no such name.
pub fn pinned_name(image: &str, digest: &str) -> Option<String> {
    if image.starts_with("file://") {
        return None;
    }
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let repository = match name.rsplit_once(':') {
        // Otherwise it is a registry's port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    };
    Some(format!("{repository}@{digest}"))
}

/// What became of it.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionRevisionStatus {
    /// `Ready`: it can serve (the functions controller writes it).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What each node says of a component: its nodelet writes its own entry; the key is `name`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeStatus>,
    /// `sha256:…`: what the image's name meant when the first node had it, and means to every node from then on: the
    /// digest that its registry has it by, or a file's own (the functions controller writes it, once).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `wasm` or `oci`, once a node has looked into the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Pods of a container: how many there are, and are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
}

/// What one node knows of a revision.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    pub name: String,
    /// The image is here; a component's code is compiled.
    pub ready: bool,
    /// `sha256:…` of what runs: of a component its bytes, of a container the manifest for this node's platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `sha256:…`: what the image's name meant to this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
    /// `wasm` or `oci`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Why not ready: `ErrImagePull`, `InvalidImageName`, `CreateContainerConfigError`, … as a pod's container would say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_name_has_its_repository_and_no_tag() {
        let check = |image: &str| pinned_name(image, "sha256:0").unwrap_or_default();
        assert_eq!(check("busybox"), "busybox@sha256:0");
        assert_eq!(
            check("localhost:5000/a/b:1.2"),
            "localhost:5000/a/b@sha256:0"
        );
        assert_eq!(check("localhost:5000/a"), "localhost:5000/a@sha256:0");
        assert_eq!(check("r.org/a:1@sha256:1"), "r.org/a@sha256:0");
        assert_eq!(check("file:///a.wasm"), "");
    }
}
