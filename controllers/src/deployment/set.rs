//! A ReplicaSet as a plan sees it.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::template;

/// The revision of the Deployment that a ReplicaSet stands for.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier revisions of a ReplicaSet that was rolled back to, oldest first.
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// What the Deployment wanted when the ReplicaSet was last scaled.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The same with the surge.
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// What is read of one ReplicaSet.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) name: String,
    pub(super) revision: i64,
    pub(super) created: Option<Timestamp>,
    /// Whether its template is the Deployment's.
    pub(super) current: bool,
    pub(super) wanted: i32,
    pub(super) actual: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    pub(super) terminating: i32,
    /// Whether any pod of it still runs, terminating ones included.
    pub(super) running: bool,
    /// Whether its status speaks of its newest spec.
    pub(super) observed: bool,
    /// What the Deployment wanted when the set was last scaled.
    pub(super) desired: Option<i32>,
    /// The same with the surge.
    pub(super) max: Option<i32>,
    /// That its pods cannot be made or removed.
    pub(super) failure: Option<ReplicaSetCondition>,
}

impl Set {
    /// Reads a ReplicaSet; `bare` is the Deployment's [bare](template::bare) template.
    pub(super) fn read(raw: &DynamicObject, bare: &Value) -> Result<Self, Error> {
        let status = raw.data.get("status").filter(|status| !status.is_null());
        let status = status.map(ReplicaSetStatus::deserialize).transpose()?;
        let status = status.unwrap_or_default();
        let number = |name: &str| raw.annotations().get(name)?.parse::<i64>().ok();
        let small = |name: &str| number(name).and_then(|number| i32::try_from(number).ok());
        let zero = |count: Option<i32>| count.unwrap_or(0);
        let wanted = raw.data.pointer("/spec/replicas").and_then(Value::as_i64);
        let have = raw.data.pointer("/spec/template");
        let conditions = status.conditions.unwrap_or_default().into_iter();
        Ok(Self {
            name: raw.name_any(),
            revision: number(REVISION).unwrap_or(0),
            created: raw.creation_timestamp().map(|time| time.0),
            current: have.is_some_and(|have| template::bare(have) == *bare),
            wanted: wanted.map_or(1, |wanted| i32::try_from(wanted).unwrap_or(i32::MAX)),
            actual: status.replicas,
            ready: zero(status.ready_replicas),
            available: zero(status.available_replicas),
            terminating: zero(status.terminating_replicas),
            running: status.replicas > 0 || zero(status.terminating_replicas) > 0,
            observed: status.observed_generation >= raw.metadata.generation,
            desired: small(DESIRED),
            max: small(MAX),
            failure: conditions.into_iter().find(|c| c.type_ == "ReplicaFailure"),
        })
    }
}

/// The oldest set with the Deployment's template; there may be more after a race.
pub(super) fn current(sets: &[Set]) -> Option<&Set> {
    sets.iter()
        .filter(|set| set.current)
        .min_by_key(|set| (set.created, set.name.clone()))
}
