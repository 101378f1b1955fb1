//! Releases of charts: what is kept of each, and how one becomes the next.
//!
//! - [`record`]: a release as Helm stores it; [`secret`]: the Secrets that hold it; [`storage`]: a release's history.
//! - [`manifest`]: the objects of a rendered text and the order of their kinds; [`hooks`]: those that run around them.
//! - [`plan`]: names, ownership, what goes and what stays; [`managers`]: who applied an object before. Pure.
//! - [`cluster`]: what the actions ask of a cluster; [`rest`]: that over requests; [`readiness`]: when an
//!   object is ready; [`lease`]: one action at a time.
//! - [`rendering`]: a chart for a release.
//! - [`action`]: install, upgrade, rollback, uninstall, test.
//!
//! Actions hold nothing that an interruption would lose: the record says how far one came, and the next takes it up.
//! Never connects to anything by itself: whoever runs an action brings a [`Cluster`](cluster::Cluster).

pub mod action;
pub mod cluster;
pub mod hooks;
pub mod lease;
pub mod managers;
pub mod manifest;
pub mod plan;
pub mod readiness;
pub mod record;
pub mod rendering;
pub mod rest;
pub mod secret;
pub mod storage;

pub use cluster::{CallError, Cluster, ObjectId, Report};
pub use record::{Event, Hook, Release, Status};

/// Why an action on a release did not happen or did not succeed.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// The request cannot be carried out; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// There is no such release or revision.
    #[error("release: not found")]
    NotFound,
    /// The cluster said no, or could not be asked.
    #[error("{doing}")]
    Call {
        doing: String,
        #[source]
        source: CallError,
    },
    /// It was carried out and failed; the release's record says so.
    #[error("{0}")]
    Failed(String),
    /// Another operation works on the release.
    #[error("another operation (install/upgrade/rollback) is in progress: {0}")]
    Busy(String),
}

impl Error {
    /// Says what was asked of the cluster.
    pub fn call(doing: impl Into<String>) -> impl FnOnce(CallError) -> Error {
        let doing = doing.into();
        move |source| Error::Call { doing, source }
    }

    /// The whole chain in one line, for a release's description.
    pub fn line(&self) -> String {
        match self {
            Error::Call { doing, source } => format!("{doing}: {source}"),
            other => other.to_string(),
        }
    }
}
