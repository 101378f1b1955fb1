//! The way from this process' apiserver to nodelets (its own in process, others over mutual TLS) and to pods,
//! which this host has routes to.
//!
//! Implements `api::NodeProxy`. Never follows redirects and never retries.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use api::proxy::{Answer, NodeProxy, NodeProxyError, NodeTarget, connection};
use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, HttpBody as _},
};
use http::{Request, Response, header};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, rustls::ClientConfig, rustls::pki_types::ServerName};
use tower::ServiceExt as _;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// How long a nodelet may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to begin its answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long if the request has a body, which it may read to the end first: an archive of images.
const ANSWER_TO_BODY: Duration = Duration::from_secs(60 * 60);

/// Knows this process' nodelet once it is there, and how to reach the others.
pub(crate) struct Nodelets {
    own_name: String,
    own: OnceLock<Router>,
    tls: TlsConnector,
    pods: network::Range,
}

impl Nodelets {
    /// `tls` shows the apiserver's client certificate; `pods` are the addresses of all nodes' pods.
    pub(crate) fn new(own_name: &str, tls: ClientConfig, pods: network::Range) -> Arc<Self> {
        let tls = TlsConnector::from(Arc::new(tls));
        Arc::new(Self {
            own_name: own_name.to_owned(),
            own: OnceLock::new(),
            tls,
            pods,
        })
    }

    /// Names this process' own nodelet; later calls change nothing.
    pub(crate) fn set_own(&self, router: Router) {
        let _ = self.own.set(router);
    }

    /// This process' own nodelet, if it is meant.
    fn own(&self, node: &NodeTarget) -> Option<Router> {
        let own = self.own.get().filter(|_| node.name == self.own_name);
        own.cloned()
    }

    async fn over_tls(
        &self,
        node: &NodeTarget,
        mut request: Request<Body>,
    ) -> Result<Answer, Cause> {
        let address = format!("{}:{}", node.address, node.port);
        let tcp = timeout(CONNECT, TcpStream::connect(&address)).await??;
        // What is typed is passed on at once; a socket that refuses the option still works.
        let _ = tcp.set_nodelay(true);
        let name = ServerName::try_from(node.address.clone())?;
        let tls = timeout(CONNECT, self.tls.connect(name, tcp)).await??;
        request.headers_mut().insert(header::HOST, address.parse()?);
        let deadline = match request.body().is_end_stream() {
            true => ANSWER,
            false => ANSWER_TO_BODY,
        };
        Ok(connection::send(tls, request, deadline).await?)
    }
}

fn unreachable(node: &NodeTarget, source: Cause) -> NodeProxyError {
    NodeProxyError::Unreachable {
        node: node.name.clone(),
        source: Some(source),
    }
}

#[async_trait]
impl NodeProxy for Nodelets {
    async fn request(
        &self,
        node: &NodeTarget,
        request: Request<Body>,
    ) -> Result<Response<Body>, NodeProxyError> {
        if let Some(own) = self.own(node) {
            return match own.oneshot(request).await {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            };
        }
        match self.over_tls(node, request).await {
            Ok(Answer::Other(response)) => Ok(response),
            Ok(Answer::Upgraded(_)) => {
                Err(unreachable(node, "it changed protocols unasked".into()))
            }
            Err(source) => Err(unreachable(node, source)),
        }
    }

    async fn upgrade(
        &self,
        node: &NodeTarget,
        request: Request<Body>,
    ) -> Result<Answer, NodeProxyError> {
        let answer = match self.own(node) {
            Some(own) => connection::send_in_process(own, request, ANSWER)
                .await
                .map_err(Cause::from),
            None => self.over_tls(node, request).await,
        };
        answer.map_err(|source| unreachable(node, source))
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        if !allowed(self.pods, address.ip()) {
            let message = format!(
                "{} is the address of neither a pod nor a node",
                address.ip()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        TcpStream::connect(address).await
    }
}

/// A pod's address, or one that is another host's as well as ours: nothing that only this host's own
/// processes, or those on its link, may reach.
fn allowed(pods: network::Range, ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            pods.contains(ip)
                || !(ip.is_loopback()
                    || ip.is_link_local()
                    || ip.is_unspecified()
                    || ip.is_multicast()
                    || ip.is_broadcast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pods: &str, address: &str, expected: bool) {
        let pods = pods.parse().unwrap();
        assert_eq!(
            allowed(pods, address.parse().unwrap()),
            expected,
            "{address}"
        );
    }

    #[test]
    fn what_only_this_host_may_reach_is_refused() {
        check("127.42.0.0/16", "127.42.0.7", true);
        check("10.64.0.0/10", "10.64.0.7", true);
        check("10.64.0.0/10", "192.0.2.1", true);
        for address in [
            "127.0.0.1",
            "127.43.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
        ] {
            check("127.42.0.0/16", address, false);
        }
    }
}
