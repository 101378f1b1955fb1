//! Requests to components that no pod holds: what serves functions.
//!
//! [`Serve`] is what a runtime offers: a component, opened once, answers requests in place. [`Invoke`] is what a node
//! offers to its gateway: a revision's name is enough. Neither listens on a socket.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;

use crate::{ContainerSpec, RuntimeError};

/// A body in either direction, streamed.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// How an opened component serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServeOptions {
    /// An instance serves one request after another, rather than one.
    pub pooled: bool,
    /// Instances at once; more requests wait.
    pub max: usize,
    /// Requests that may wait for an instance; one more is refused.
    pub queue: usize,
    /// From the first byte of the request to the last of the answer.
    pub timeout: Duration,
    /// How long a pooled instance waits for its next request.
    pub idle: Duration,
}

/// A runtime that answers requests with components, without a listening socket.
#[async_trait]
pub trait Serve: Send + Sync + 'static {
    /// Makes ready what requests need: the code mapped, the log open, no instance. The image must have been prepared by
    /// [`Runtime`](crate::Runtime) as for a container; ports and stdin of `spec` count for nothing.
    async fn open(
        &self,
        spec: ContainerSpec,
        options: ServeOptions,
    ) -> Result<Arc<dyn Served>, RuntimeError>;
}

/// An opened component. Dropping the last handle lets requests under way end, and then frees it.
#[async_trait]
pub trait Served: Send + Sync + 'static {
    /// Answers one request. The response's body is streamed: what fails later, fails it.
    async fn serve(&self, request: Request<Body>) -> Result<Response<Body>, ServeError>;

    /// What it has used since it was opened.
    fn usage(&self) -> ServeUsage;

    /// Takes no more requests; true to end those under way too.
    async fn close(&self, now: bool);
}

/// What a component used, summed over all of its instances; counters only grow but for `instances`.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct ServeUsage {
    pub requests: u64,
    /// Of those, by a trap, a limit or the deadline.
    pub failed: u64,
    pub cpu: Duration,
    /// Memory of instances × the time that they had it, in byte-milliseconds.
    pub memory_byte_ms: u128,
    /// Bytes of responses' bodies and of connections that components made.
    pub egress_bytes: u64,
    /// Requests that are served now.
    pub active: u64,
    /// Instances that there are now, idle ones too.
    pub instances: u64,
}

/// A revision of a Function.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RevisionRef {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for RevisionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a node offers to its gateway.
#[async_trait]
pub trait Invoke: Send + Sync + 'static {
    /// Answers a request with a revision whose image is a component.
    async fn invoke(
        &self,
        revision: &RevisionRef,
        request: Request<Body>,
    ) -> Result<Response<Body>, ServeError>;
}

/// Why a request has no answer of its function's.
#[derive(thiserror::Error, Debug)]
pub enum ServeError {
    /// No such revision here, or its image is no component: 404 or another way.
    #[error("{0}")]
    Unknown(String),
    /// It cannot run yet, or not any more (image, configuration, limits of the node): 503.
    #[error("{0}")]
    Unavailable(String),
    /// As many requests as may wait do: 503 with Retry-After.
    #[error("{0}")]
    Busy(String),
    /// It trapped, or broke off without an answer: 502. The message is for the log and the function's owner.
    #[error("{0}")]
    Failed(String),
    /// It needed more memory than its limit: 502.
    #[error("{0}")]
    OutOfMemory(String),
    /// It had no answer in time: 504.
    #[error("{0}")]
    TimedOut(String),
}
