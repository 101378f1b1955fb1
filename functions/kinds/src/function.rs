//! A Function: what a user writes.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use crate::RevisionSpec;

/// A component or container that requests start.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct Function {
    pub metadata: ObjectMeta,
    pub spec: FunctionSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<FunctionStatus>,
}

crate::resource!(Function, "Function", "functions");

/// What is wanted: [`RevisionSpec`]'s fields beside those that make no new revision.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionSpec {
    #[serde(flatten)]
    pub revision: RevisionSpec,
    /// Beside the one that every Function has: `NAME.NAMESPACE.<domain>` at `/`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// Percentages sum to 100; empty is all of it to the latest revision that is ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Traffic>,
    /// Revisions that are kept although no traffic names them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<i32>,
    /// How long a revision may take to be ready before it counts as failed, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<i32>,
}

/// Requests that are this Function's.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct Route {
    /// A name, or `*.` and a name; none is every host that no other route names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the path begins with, element by element; `/` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `Prefix` (the default) or `Exact`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_type: Option<String>,
    /// Empty is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
}

/// What else than requests from outside calls the Function. One of the kinds is set.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct Trigger {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronTrigger>,
    /// Where requests go that were given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
}

/// A Function of the same namespace that takes requests which another one did not.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct DeadLetter {
    pub function: String,
    /// `/` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A request at times.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct CronTrigger {
    pub schedule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// `POST` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// How late a request may be sent; without, the newest time that was missed is always sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting_deadline_seconds: Option<i64>,
}

/// A share of the requests.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct Traffic {
    /// A FunctionRevision's name; none is the latest that is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<i32>,
    /// The revision is also reached at `TAG---NAME.NAMESPACE.<domain>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// What is.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `RevisionReady`, `RoutesReady`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Where it answers from outside of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where it answers pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_created_revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_ready_revision: Option<String>,
    /// What the gateways go by: names, never "latest"; percentages sum to 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<TriggerStatus>,
}

/// A share of the requests, decided.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficStatus {
    pub revision: String,
    pub percent: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The tag's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What became of a trigger.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct TriggerStatus {
    pub name: String,
    /// The last time whose request was answered or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// The last time whose request was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// Requests that were given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<i64>,
}
