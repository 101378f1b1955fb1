//! What the actions on releases ask of a cluster.
//!
//! `wkctl` answers it over its connection, the controller over its client, tests over a map. Objects are JSON values.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::readiness::Progress;

/// Which object: its kind, where it is, its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    pub kind: String,
    /// Empty for an object of the whole cluster.
    pub namespace: String,
    pub name: String,
}

impl ObjectId {
    pub fn new(api_version: &str, kind: &str, namespace: &str, name: &str) -> ObjectId {
        ObjectId {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Empty for the core group.
    pub fn group(&self) -> &str {
        match self.api_version.split_once('/') {
            Some((group, _)) => group,
            None => "",
        }
    }

    /// Whether both are one object, perhaps by different versions of its kind.
    pub fn same_object(&self, other: &ObjectId) -> bool {
        (self.group(), &self.kind, &self.namespace, &self.name)
            == (other.group(), &other.kind, &other.namespace, &other.name)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind, self.name)?;
        if !self.namespace.is_empty() {
            write!(f, " in namespace {:?}", self.namespace)?;
        }
        Ok(())
    }
}

/// Whether objects of a kind are in namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// What a cluster answered instead of doing as asked.
#[derive(Clone, thiserror::Error, Debug)]
#[error("{message}")]
pub struct CallError {
    /// The HTTP status; `None` if there was no answer.
    pub code: Option<u16>,
    pub message: String,
}

impl CallError {
    /// Whether it might go well another time: there was no answer, or one that says so.
    pub fn passing(&self) -> bool {
        self.code
            .is_none_or(|code| matches!(code, 429 | 500 | 502..=504))
    }
}

/// How an object is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Apply {
    /// Takes fields from other managers.
    pub force: bool,
    /// Only answers what would come of it.
    pub dry_run: bool,
}

/// What becomes of objects that a deleted one owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Propagation {
    #[default]
    Background,
    Foreground,
    Orphan,
}

impl Propagation {
    /// As `DeleteOptions` say it.
    pub fn text(self) -> &'static str {
        match self {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        }
    }
}

/// What a cluster is, for templates.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Served {
    /// `v1.36.0`.
    pub version: String,
    /// `apps/v1` and `apps/v1/Deployment`, of everything that is served.
    pub api_versions: Vec<String>,
}

/// What happens meanwhile, for whoever watches.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// Something to know: a pending release that is taken up, a policy that keeps an object.
    Note(String),
    /// A hook begins.
    Hook { event: &'static str, id: ObjectId },
    /// The log of a hook's pod.
    Log { hook: String, text: String },
    /// How far an object is that is waited for; told when it changes.
    Progress { id: ObjectId, progress: Progress },
}

/// The part of a cluster's API that actions need. Every call has a deadline of its own.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Whether objects of a kind are in namespaces; `None` if the cluster does not serve it (yet).
    async fn scope(&self, api_version: &str, kind: &str) -> Result<Option<Scope>, CallError>;

    /// Its version and all that it serves.
    async fn served(&self) -> Result<Served, CallError>;

    async fn find(&self, id: &ObjectId) -> Result<Option<Value>, CallError>;

    /// All objects of a kind with these labels, in a namespace or in all.
    async fn list(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<Value>, CallError>;

    async fn create(&self, id: &ObjectId, object: &Value) -> Result<Value, CallError>;

    /// Writes the whole object; if it has a `resourceVersion`, only over that one.
    async fn replace(&self, id: &ObjectId, object: &Value) -> Result<Value, CallError>;

    /// A JSON patch.
    async fn patch(&self, id: &ObjectId, patch: &Value) -> Result<Value, CallError>;

    /// Applies on the server's side as [`MANAGER`](super::managers::MANAGER).
    async fn apply(&self, id: &ObjectId, object: &Value, how: Apply) -> Result<Value, CallError>;

    /// Whether it can apply several objects as one write.
    async fn transacts(&self) -> Result<bool, CallError>;

    /// Applies objects as [`apply`](Self::apply) does, all of them or none; watchers see them in this order.
    async fn apply_together(&self, objects: &[&Value], how: Apply) -> Result<(), CallError>;

    /// Deletes; false if it was not there.
    async fn delete(&self, id: &ObjectId, how: Propagation) -> Result<bool, CallError>;

    /// What a container of a pod wrote.
    async fn log(&self, namespace: &str, pod: &str, container: &str) -> Result<String, CallError>;

    fn now(&self) -> Timestamp;

    /// Waits that long.
    async fn pause(&self, length: Duration);

    async fn report(&self, report: Report);

    /// Runs work on a thread that may wait.
    async fn blocking(&self, work: Box<dyn FnOnce() + Send>);
}
