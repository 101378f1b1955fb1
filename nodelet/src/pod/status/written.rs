//! What the API was told of a pod last, and the patch that tells it the rest.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// What the API was told last, as one hash a field and a condition: a pod at rest should cost little memory.
#[derive(Debug, Default)]
pub(crate) struct Written {
    fields: BTreeMap<String, u64>,
    conditions: BTreeMap<String, u64>,
    ip: Option<String>,
}

/// The status fields that the nodelet owns besides `conditions`.
const FIELDS: [&str; 13] = [
    "phase",
    "reason",
    "message",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "qosClass",
    "observedGeneration",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
];

impl Written {
    /// What the API holds already.
    pub(crate) fn from_status(status: Option<&PodStatus>) -> Written {
        let mut written = Written::default();
        if let Some(status) = status {
            written.learn(&to_map(status));
        }
        written
    }

    /// The API now holds this status.
    pub(crate) fn learn(&mut self, status: &Map<String, Value>) {
        self.fields = FIELDS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), hash(status.get(*name)?))))
            .collect();
        for condition in status
            .get("conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            self.conditions.insert(type_of(condition), hash(condition));
        }
        self.ip = status
            .get("podIP")
            .and_then(Value::as_str)
            .map(str::to_owned);
    }

    /// The patch of `status` that makes the API hold `wanted`; `None` if it does.
    pub(crate) fn patch(&self, wanted: &Map<String, Value>) -> Option<Value> {
        let mut patch = Map::new();
        for name in FIELDS {
            match (wanted.get(name), self.fields.get(name)) {
                (Some(value), written) if written != Some(&hash(value)) => {
                    patch.insert(name.to_owned(), value.clone());
                }
                (None, Some(_)) => {
                    patch.insert(name.to_owned(), Value::Null);
                }
                _ => {}
            }
        }
        // The list merges by address: the pod's old one must not stay in it.
        if self.ip.is_some()
            && let Some(Value::Array(ips)) = patch.get_mut("podIPs")
        {
            ips.insert(0, json!({"$patch": "replace"}));
        }
        let conditions: Vec<Value> = wanted
            .get("conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|condition| self.conditions.get(&type_of(condition)) != Some(&hash(condition)))
            .map(with_absent_as_null)
            .collect();
        if !conditions.is_empty() {
            patch.insert("conditions".to_owned(), Value::Array(conditions));
        }
        (!patch.is_empty()).then_some(Value::Object(patch))
    }
}

/// A status as JSON.
pub(crate) fn to_map(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn type_of(condition: &Value) -> String {
    condition
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Merging keeps what a patch leaves out: a reason that no longer applies has to be taken away.
fn with_absent_as_null(condition: &Value) -> Value {
    let mut condition = condition.clone();
    if let Value::Object(map) = &mut condition {
        for name in ["reason", "message"] {
            map.entry(name).or_insert(Value::Null);
        }
    }
    condition
}

fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
