//! Sends requests of triggers to a gateway, over plain HTTP on this host.

use std::net::SocketAddr;

use ::http::{Request, header::HOST};
use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{Call, Deliver};
use crate::{address::Address, key::Key};

/// What is read of an answer; nobody looks at it.
const LONGEST_ANSWER: usize = 1 << 20;

/// A gateway that listens at an address.
pub struct HttpDelivery {
    gateway: SocketAddr,
    address: Address,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl HttpDelivery {
    /// Requests go to `gateway`, for the hosts of `address`.
    pub fn new(gateway: SocketAddr, address: Address) -> Self {
        Self {
            gateway,
            address,
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    async fn send(&self, function: &Key, call: &Call) -> anyhow::Result<u16> {
        let mut request = Request::builder()
            .method(call.method.as_str())
            .uri(format!("http://{}{}", self.gateway, call.path))
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
