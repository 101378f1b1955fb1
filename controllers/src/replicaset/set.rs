//! A ReplicaSet or a ReplicationController as a plan sees it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ReplicaSetStatus;
use kube::api::DynamicObject;
use kube::core::{Selector, SelectorExt};
use serde::Deserialize;
use serde_json::Value;

use crate::context::selector;
use crate::error::Error;

/// What is read of one set, without its template.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) selector: Selector,
    pub(super) replicas: usize,
    pub(super) min_ready_seconds: i32,
    pub(super) template_labels: BTreeMap<String, String>,
    pub(super) deleting: bool,
    pub(super) generation: Option<i64>,
    /// As it was last written. A ReplicationController's is a ReplicaSet's but for a field or two.
    pub(super) status: ReplicaSetStatus,
}

impl Set {
    /// Reads a set; `None` if its selector cannot be worked with, which validation refuses: it would select all
    /// pods, or not those that the set makes.
    pub(super) fn read(raw: &DynamicObject) -> Result<Option<Self>, Error> {
        let Some(selector) = selector(raw).filter(|selector| !selector.selects_all()) else {
            return Ok(None);
        };
        let number = |path: &str| raw.data.pointer(path).and_then(Value::as_i64);
        let labels = raw.data.pointer("/spec/template/metadata/labels");
        let labels = labels.filter(|labels| !labels.is_null());
        let template_labels = labels.map_or(Ok(BTreeMap::new()), BTreeMap::deserialize)?;
        if !selector.matches(&template_labels) {
            return Ok(None);
        }
        let status = raw.data.get("status").filter(|status| !status.is_null());
        Ok(Some(Self {
            selector,
            replicas: usize::try_from(number("/spec/replicas").unwrap_or(1)).unwrap_or(0),
            min_ready_seconds: number("/spec/minReadySeconds")
                .and_then(|seconds| i32::try_from(seconds).ok())
                .unwrap_or(0),
            template_labels,
            deleting: raw.metadata.deletion_timestamp.is_some(),
            generation: raw.metadata.generation,
            status: status
                .map(ReplicaSetStatus::deserialize)
                .transpose()?
                .unwrap_or_default(),
        }))
    }
}
