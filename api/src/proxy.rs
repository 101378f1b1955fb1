//! The way from the apiserver to a node's nodelet: logs, and later exec and port-forward.
//!
//! `api` states the contract; `wk` wires an implementation (in process or over mutual TLS).

use async_trait::async_trait;
use axum::body::Body;

/// Where a node's nodelet listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeTarget {
    /// The Node object's name.
    pub name: String,
    /// Address or host name, from `status.addresses`.
    pub address: String,
    /// From `status.daemonEndpoints.kubeletEndpoint.Port`.
    pub port: u16,
}

/// A nodelet could not be asked.
#[derive(thiserror::Error, Debug)]
pub enum NodeProxyError {
    /// No connection, or no answer in time.
    #[error("node {node:?} cannot be reached")]
    Unreachable {
        node: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// Sends a request to a node's nodelet. The request's URI is a path and query only.
#[async_trait]
pub trait NodeProxy: Send + Sync + 'static {
    /// Answers once the nodelet's headers are there; the body streams.
    async fn request(
        &self,
        node: &NodeTarget,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, NodeProxyError>;
}
