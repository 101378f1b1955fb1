//! The way from the apiserver to nodes: to a nodelet (logs, exec, attach, port-forward), and to what pods and
//! nodes serve themselves.
//!
//! `api` states the contract; `wk` wires an implementation (in process or over mutual TLS).
//! [`connection`]: one request over a connection of its own, for both.

pub mod connection;

use std::{io, net::SocketAddr};

use async_trait::async_trait;
use axum::body::Body;
use tokio::net::TcpStream;

pub use connection::Answer;

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

/// Reaches nodes and pods.
#[async_trait]
pub trait NodeProxy: Send + Sync + 'static {
    /// Sends a request to a node's nodelet; its URI is a path and query only. Answers once the nodelet's headers are there; the body streams.
    async fn request(
        &self,
        node: &NodeTarget,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, NodeProxyError>;

    /// The same for a request that wants to change the protocol of its connection (`Upgrade`), over a
    /// connection of its own: if the nodelet agrees, it is the caller's.
    async fn upgrade(
        &self,
        node: &NodeTarget,
        request: http::Request<Body>,
    ) -> Result<Answer, NodeProxyError>;

    /// Connects to a pod or a node. Refuses addresses that are neither's, such as this host's own
    /// loopback: users choose where the apiserver connects. The caller has the deadline.
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream>;
}
