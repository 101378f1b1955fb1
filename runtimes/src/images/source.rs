//! A registry in this process: images come from it without a socket.
//!
//! A contract: `wk` puts the cluster's own registry behind it. It is asked before an image that is here already is
//! used too, so that a pod gets only what it may have, whoever pulled it first.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::Credentials;

/// The registry's name in references.
pub const REGISTRY: &str = "registry.wk.internal";

/// Why the registry does not give something.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum SourceError {
    /// It is not there, or is not what it should be.
    #[error("{0}")]
    NotFound(String),
    /// None of the accounts may have it.
    #[error("{0}")]
    Denied(String),
    /// Another attempt may succeed.
    #[error("{0}")]
    Unavailable(String),
}

/// A registry in this process.
#[async_trait]
pub trait Source: std::fmt::Debug + Send + Sync + 'static {
    /// Whether a reference that names this registry (host, and port if it has one) is to it.
    fn is(&self, registry: &str) -> bool;

    /// Whether one of the accounts may pull from a repository; no account at all is the node itself, which may.
    async fn allow(&self, repository: &str, accounts: &[Credentials]) -> Result<(), SourceError>;

    /// The bytes of the manifest that a tag or digest names.
    async fn manifest(&self, repository: &str, reference: &str) -> Result<Bytes, SourceError>;

    /// A blob's bytes from `offset` on.
    async fn blob(
        &self,
        repository: &str,
        digest: &str,
        offset: u64,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, SourceError>;
}
