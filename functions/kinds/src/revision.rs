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
    /// `sha256:…` of what runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `wasm` or `oci`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Why not ready: `ErrImagePull`, `InvalidImageName`, `CreateContainerConfigError`, … as a pod's container would say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
