//! Who may do what, and which namespaces there are: asked of whoever wires the registry.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use http::Extensions;

use crate::name::Repository;

/// What is done with a repository: the verb that a role must have on `repositories` of `registry.wk.dev`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// `get`: pull, and see tags.
    Pull,
    /// `create`: push blobs, manifests and new tags.
    Push,
    /// `update`: let a tag name another manifest.
    Retag,
    /// `delete`: remove tags, manifests and blobs.
    Delete,
}

impl Action {
    /// The verb.
    pub fn verb(self) -> &'static str {
        match self {
            Action::Pull => "get",
            Action::Push => "create",
            Action::Retag => "update",
            Action::Delete => "delete",
        }
    }
}

/// An authenticated identity.
pub trait Caller: Send + Sync {
    /// For logs.
    fn name(&self) -> &str;

    /// `Err` says why they may not, in words for them.
    fn may(&self, action: Action, repository: &Repository) -> Result<(), String>;
}

/// A namespace that is there.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Namespace {
    /// The quotas on what its repositories keep, by name, in bytes.
    pub quotas: Vec<(String, u64)>,
}

/// The answer is not to be had now.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// The cluster around the registry.
#[async_trait]
pub trait Access: Send + Sync + 'static {
    /// Who sends a request: known by its connection (`extensions`) or by a bearer token. `None`: nobody knows.
    async fn identify(
        &self,
        extensions: &Extensions,
        token: Option<&str>,
    ) -> Option<Arc<dyn Caller>>;

    /// A namespace; `None` if there is none of that name.
    async fn namespace(&self, name: &str) -> Result<Option<Namespace>, Unavailable>;

    /// All of them.
    async fn namespaces(&self) -> Result<BTreeSet<String>, Unavailable>;
}
