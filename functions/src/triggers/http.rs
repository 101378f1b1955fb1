//! Sends requests of triggers to a gateway, over plain HTTP: to that of this process, which has one that listens for it
//! alone if no other; without, to that of another node.
//!
//! Of other nodes, those that are ready are asked at their addresses, at the port where this process's own gateway would
//! be: all of a cluster listen at the same. To them it is a client like others, whom NetworkPolicies may keep away.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ::http::{Request, header::HOST};
use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};
use rand::seq::SliceRandom as _;

use super::{Call, Deliver};
use crate::{address::Address, key::Key};

/// How long a gateway may take to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// What is read of an answer; nobody looks at it.
const LONGEST_ANSWER: usize = 1 << 20;

/// The gateways of other nodes that are tried.
const TRIES: usize = 3;

/// Sends requests to gateways.
pub struct HttpDelivery {
    way: Way,
    address: Address,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Which gateways there are.
enum Way {
    /// This process's.
    Own(SocketAddr),
    /// Those of nodes that are ready.
    Nodes(kube::Client),
}

impl HttpDelivery {
    /// Requests go to `gateway`, for the hosts of `address`.
    pub fn new(gateway: SocketAddr, address: Address) -> Self {
        Self::by(Way::Own(gateway), address)
    }

    /// Requests go to the gateways of nodes, at the port of `address`. The client may list Nodes.
    pub fn through_nodes(client: kube::Client, address: Address) -> Self {
        Self::by(Way::Nodes(client), address)
    }

    fn by(way: Way, address: Address) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        Self {
            way,
            address,
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// The gateways to try, in turn.
    async fn gateways(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let client = match &self.way {
            Way::Own(gateway) => return Ok(vec![*gateway]),
            Way::Nodes(client) => client,
        };
        let port = self.address.port.context("no gateway listens for HTTP")?;
        let nodes: Api<Node> = Api::all(client.clone());
        let cached = ListParams::default().match_any();
        let nodes = nodes.list(&cached).await.context("list nodes")?.items;
        let mut addresses: Vec<IpAddr> = nodes.iter().filter_map(address_of).collect();
        anyhow::ensure!(!addresses.is_empty(), "no node is ready");
        addresses.shuffle(&mut rand::rng());
        addresses.truncate(TRIES);
        let gateways = addresses.into_iter().map(|ip| SocketAddr::new(ip, port));
        Ok(gateways.collect())
    }

    async fn send(&self, function: &Key, call: &Call) -> anyhow::Result<u16> {
        let mut last = anyhow::anyhow!("there is no gateway");
        for gateway in self.gateways().await? {
            match self.send_to(gateway, function, call).await {
                Ok(status) => return Ok(status),
                Err(error) => last = error.context(format!("ask the gateway at {gateway}")),
            }
        }
        Err(last)
    }

    async fn send_to(
        &self,
        gateway: SocketAddr,
        function: &Key,
        call: &Call,
    ) -> anyhow::Result<u16> {
        let mut request = Request::builder()
            .method(call.method.as_str())
            .uri(format!("http://{gateway}{}", call.path))
            .header(HOST, self.address.host(function));
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::from(call.body.clone()))?;
        let answer = self.client.request(request).await?;
        let status = answer.status().as_u16();
        // An answer that breaks off is none.
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER);
        if let Err(error) = body.collect().await
            && !error.is::<http_body_util::LengthLimitError>()
        {
            anyhow::bail!("the answer broke off: {error}");
        }
        Ok(status)
    }
}

#[async_trait]
impl Deliver for HttpDelivery {
    async fn deliver(&self, function: &Key, call: &Call) -> anyhow::Result<u16> {
        tokio::time::timeout(call.timeout, self.send(function, call))
            .await
            .context("no answer in time")?
    }
}

/// Where a node that is ready is reached.
fn address_of(node: &Node) -> Option<IpAddr> {
    let status = node.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    let mut addresses = status.addresses.iter().flatten();
    let internal = addresses.find(|address| address.type_ == "InternalIP")?;
    internal.address.parse().ok()
}
