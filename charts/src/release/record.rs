//! A release as Helm stores it: the JSON inside its Secret, field for field.
//!
//! Writes what Helm 4 writes and reads Helm 3's too, whose empty times are `""`. What a later Helm adds is kept as it is.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// One revision of a release.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Release {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub info: Info,
    /// The chart as Helm serialises it: `metadata`, `lock`, `templates`, `values`, `schema`, `files`.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub chart: Value,
    /// The user's own values.
    #[serde(
        skip_serializing_if = "Map::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub config: Map<String, Value>,
    /// Everything that is neither a hook nor a CRD, in the order of installation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub manifest: String,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub hooks: Vec<Hook>,
    /// The revision, from 1.
    pub version: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// `ssa` or `csa`; Helm 3 wrote none and meant `csa`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub apply_method: String,
    /// The user's labels of the record; kept in the Secret's metadata, not in the JSON.
    #[serde(skip)]
    pub labels: BTreeMap<String, String>,
    /// When the record was written first, in seconds; the Secret's label `createdAt`.
    #[serde(skip)]
    pub created_at: Option<i64>,
    /// Who carries out a pending operation under a lease; the Secret's annotation `charts.wk.dev/holder`.
    #[serde(skip)]
    pub holder: Option<String>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What is known about a release beyond its content.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    #[serde(with = "time", skip_serializing_if = "Option::is_none")]
    pub first_deployed: Option<Timestamp>,
    #[serde(with = "time", skip_serializing_if = "Option::is_none")]
    pub last_deployed: Option<Timestamp>,
    #[serde(with = "time", skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Timestamp>,
    /// A sentence on how it went.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub status: Status,
    /// What `NOTES.txt` rendered to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub notes: String,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Where a release is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Deployed,
    Uninstalled,
    Superseded,
    Failed,
    Uninstalling,
    PendingInstall,
    PendingUpgrade,
    PendingRollback,
    #[default]
    #[serde(other)]
    Unknown,
}

impl Status {
    /// As the record and the Secret's label say it.
    pub fn text(self) -> &'static str {
        match self {
            Status::Unknown => "unknown",
            Status::Deployed => "deployed",
            Status::Uninstalled => "uninstalled",
            Status::Superseded => "superseded",
            Status::Failed => "failed",
            Status::Uninstalling => "uninstalling",
            Status::PendingInstall => "pending-install",
            Status::PendingUpgrade => "pending-upgrade",
            Status::PendingRollback => "pending-rollback",
        }
    }

    /// Whether an operation has begun and not ended.
    pub fn pending(self) -> bool {
        matches!(
            self,
            Status::PendingInstall | Status::PendingUpgrade | Status::PendingRollback
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// An object that runs at certain moments of a release's life.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The template that it came from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub manifest: String,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub events: Vec<Event>,
    pub last_run: Run,
    /// Lower ones run first.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight: i64,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub delete_policies: Vec<DeletePolicy>,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub output_log_policies: Vec<DeletePolicy>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A moment at which hooks run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    PreInstall,
    PostInstall,
    PreDelete,
    PostDelete,
    PreUpgrade,
    PostUpgrade,
    PreRollback,
    PostRollback,
    Test,
    /// One that this version does not know; it never comes.
    #[serde(other)]
    Other,
}

impl Event {
    /// As an annotation says it; `test-success` is Helm 2's word for `test`.
    pub fn parse(text: &str) -> Option<Event> {
        Some(match text {
            "pre-install" => Event::PreInstall,
            "post-install" => Event::PostInstall,
            "pre-delete" => Event::PreDelete,
            "post-delete" => Event::PostDelete,
            "pre-upgrade" => Event::PreUpgrade,
            "post-upgrade" => Event::PostUpgrade,
            "pre-rollback" => Event::PreRollback,
            "post-rollback" => Event::PostRollback,
            "test" | "test-success" => Event::Test,
            _ => return None,
        })
    }

    pub fn text(self) -> &'static str {
        match self {
            Event::PreInstall => "pre-install",
            Event::PostInstall => "post-install",
            Event::PreDelete => "pre-delete",
            Event::PostDelete => "post-delete",
            Event::PreUpgrade => "pre-upgrade",
            Event::PostUpgrade => "post-upgrade",
            Event::PreRollback => "pre-rollback",
            Event::PostRollback => "post-rollback",
            Event::Test => "test",
            Event::Other => "other",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// When a hook's object is removed, or its log shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeletePolicy {
    HookSucceeded,
    HookFailed,
    BeforeHookCreation,
    /// One that this version does not know; it never applies.
    #[serde(other)]
    Other,
}

impl DeletePolicy {
    /// As an annotation says it.
    pub fn parse(text: &str) -> Option<DeletePolicy> {
        Some(match text {
            "hook-succeeded" => DeletePolicy::HookSucceeded,
            "hook-failed" => DeletePolicy::HookFailed,
            "before-hook-creation" => DeletePolicy::BeforeHookCreation,
            _ => return None,
        })
    }
}

/// How a hook ran last.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    #[serde(with = "time", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(with = "time", skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    pub phase: Phase,
}

/// How far a hook's run came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Phase {
    /// It never ran.
    #[default]
    #[serde(rename = "")]
    Never,
    Running,
    Succeeded,
    Failed,
    #[serde(other)]
    Unknown,
}

impl Phase {
    pub fn text(self) -> &'static str {
        match self {
            Phase::Never => "",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
            Phase::Unknown => "Unknown",
        }
    }
}

impl Release {
    /// A field of the chart's `Chart.yaml`; empty if it is not there.
    pub fn metadata(&self, field: &str) -> &str {
        self.chart["metadata"][field].as_str().unwrap_or_default()
    }

    /// `nginx-1.2.3`, as lists show a chart.
    pub fn chart_name(&self) -> String {
        if self.chart["metadata"].is_null() {
            return "MISSING".to_owned();
        }
        format!("{}-{}", self.metadata("name"), self.metadata("version"))
    }

    /// Sets both what it is and why.
    pub fn set_status(&mut self, status: Status, description: impl Into<String>) {
        self.info.status = status;
        self.info.description = description.into();
    }

    /// Whether objects were applied on the server's side.
    pub fn server_side(&self) -> bool {
        self.apply_method == "ssa"
    }
}

/// A time as Go's RFC 3339 with nanoseconds; none is no field, `""`, or Go's zero time.
mod time {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        match Option::<String>::deserialize(deserializer)?.as_deref() {
            None | Some("" | "0001-01-01T00:00:00Z") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(D::Error::custom),
        }
    }
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(stored: Value, expected: Expect) {
        let release: Release = serde_json::from_value(stored).unwrap();
        expected.assert_eq(&serde_json::to_string(&release).unwrap());
    }

    #[test]
    fn empty_fields_are_left_out_as_helm_leaves_them() {
        check(
            json!({}),
            expect![[r#"{"info":{"status":"unknown"},"version":0}"#]],
        );
        check(
            json!({"name": "a", "version": 2, "config": null, "hooks": [{"name": "h", "kind": "Job", "events": ["pre-install"], "last_run": {"phase": ""}}]}),
            expect![[
                r#"{"name":"a","info":{"status":"unknown"},"hooks":[{"name":"h","kind":"Job","events":["pre-install"],"last_run":{"phase":""}}],"version":2}"#
            ]],
        );
    }

    #[test]
    fn helm_3_writes_times_that_are_empty() {
        check(
            json!({"info": {"first_deployed": "2024-05-01T10:00:00.123456789+02:00", "last_deployed": "2024-05-01T08:00:00Z", "deleted": "", "status": "superseded"},
                "hooks": [{"last_run": {"started_at": "", "completed_at": "", "phase": "Succeeded"}}]}),
            expect![[
                r#"{"info":{"first_deployed":"2024-05-01T08:00:00.123456789Z","last_deployed":"2024-05-01T08:00:00Z","status":"superseded"},"hooks":[{"last_run":{"phase":"Succeeded"}}],"version":0}"#
            ]],
        );
    }

    #[test]
    fn what_a_later_helm_adds_is_kept() {
        check(
            json!({"sequence": {"a": 1}, "info": {"status": "paused", "note": 1}}),
            expect![[r#"{"info":{"status":"unknown","note":1},"version":0,"sequence":{"a":1}}"#]],
        );
    }

    #[test]
    fn every_status_is_written_as_it_is_read() {
        for status in [
            Status::Deployed,
            Status::Uninstalled,
            Status::Superseded,
            Status::Failed,
            Status::Uninstalling,
            Status::PendingInstall,
            Status::PendingUpgrade,
            Status::PendingRollback,
        ] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.text());
        }
    }
}
