//! What a revision is made of: the part of a Function that, changed, makes a new one.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, LocalObjectReference, ResourceRequirements, Volume, VolumeMount,
};
use serde::{Deserialize, Serialize};

/// A revision's specification; immutable but for `replicas`.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct RevisionSpec {
    /// A component or a container image, as a pod names it.
    pub image: String,
    /// `wasm` or `oci`: asserts what the image is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// Labels of what runs it, which NetworkPolicies select.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFromSource>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Of one instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Where a container listens; components have no port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Requests that one instance serves at once; 0 is no bound. A component's instance serves one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// How long a request may take from its first byte in to its answer's last, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Pods of a container that there should be now: what the revision's `scale` subresource writes, the only part that
    /// may change. A Function's spec never has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

/// Whether an instance of a component serves one request or many, one after another.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    Fresh,
    Pooled,
}

/// How many instances there may be.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct Scale {
    pub min: i32,
    pub max: i32,
    /// Requests at once in one instance that the autoscaler aims at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_concurrency: Option<i32>,
    /// How long an instance is kept after its last request, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<i32>,
}

/// When a request that failed is sent again; only requests that are safe to repeat (RFC 9110's idempotent methods, or any
/// that carry an Idempotency-Key).
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct Retries {
    /// Beyond the first; 0 is none.
    pub attempts: i32,
    /// Before the first repetition, in milliseconds; doubles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_milliseconds: Option<i32>,
}
