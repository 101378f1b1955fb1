//! What a nodelet tells at `/stats/summary`: the parts of the kubelet's Summary that are used here.

use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize, Debug)]
pub(super) struct Summary {
    pub(super) node: Node,
    #[serde(default)]
    pub(super) pods: Vec<Pod>,
}

#[derive(Deserialize, Debug)]
pub(super) struct Node {
    pub(super) cpu: Option<Cpu>,
    pub(super) memory: Option<Memory>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pod {
    pub(super) pod_ref: PodReference,
    #[serde(default)]
    pub(super) containers: Vec<Container>,
}

#[derive(Deserialize, Debug)]
pub(super) struct PodReference {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
}

#[derive(Deserialize, Debug)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) cpu: Option<Cpu>,
    pub(super) memory: Option<Memory>,
}

#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cpu {
    pub(super) time: Timestamp,
    /// Absent until two samples are known.
    pub(super) usage_nano_cores: Option<u64>,
    /// Over how long that is: the nodelet's own, beyond Kubernetes' fields.
    #[serde(default)]
    pub(super) window_seconds: f64,
}

#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Memory {
    pub(super) working_set_bytes: Option<u64>,
}
