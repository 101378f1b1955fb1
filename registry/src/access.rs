//! Who may do what, and which namespaces there are: asked of whoever wires the registry.

use std::{collections::BTreeMap, sync::Arc};

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

    /// What tells a namespace from another of its name; `None` if there is none of that name.
    async fn namespace(&self, name: &str) -> Result<Option<String>, Unavailable>;

    /// All of them, by name.
    async fn namespaces(&self) -> Result<BTreeMap<String, String>, Unavailable>;

    /// The quotas on what a namespace's repositories keep: names and bytes.
    async fn quotas(&self, namespace: &str) -> Result<Vec<(String, u64)>, Unavailable>;
}
