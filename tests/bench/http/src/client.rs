//! One connection, HTTP/1.1, that asks one thing after another.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{child::Child, objects::Body};

pub(crate) struct Client {
    sender: http1::SendRequest<Body>,
    /// The task that moves its bytes, ended with it.
    _task: JoinSet<()>,
}

impl Client {
    pub(crate) async fn connect(child: &Child) -> Result<Self> {
        let stream = TcpStream::connect(child.plain).await.context("connect")?;
        stream.set_nodelay(true).context("set an option")?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .context("begin HTTP")?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // What went wrong is told by the request.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            _task: task,
        })
    }

    /// Code and length of the answer.
    pub(crate) async fn ask(&mut self, request: Request<Body>) -> Result<(u16, usize)> {
        self.sender
            .ready()
            .await
            .context("wait for the connection")?;
        let response = self.sender.send_request(request).await.context("ask")?;
        let code = response.status().as_u16();
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.context("read an answer")?;
            length += frame.data_ref().map_or(0, bytes::Bytes::len);
        }
        Ok((code, length))
    }

    /// The whole answer.
    pub(crate) async fn read(&mut self, request: Request<Body>) -> Result<bytes::Bytes> {
        self.sender
            .ready()
            .await
            .context("wait for the connection")?;
        let response = self.sender.send_request(request).await.context("ask")?;
        let body = response.into_body().collect().await;
        Ok(body.context("read an answer")?.to_bytes())
    }
}

/// A connection with TLS to a server whose certificate is in a file.
pub(crate) async fn connect_tls(child: &Child, certificate: &Path) -> Result<TlsStream<TcpStream>> {
    let der = std::fs::read(certificate).context("read the certificate")?;
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(der))
        .context("trust the certificate")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("configure TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(child.tls).await.context("connect")?;
    let name = ServerName::try_from("localhost").context("name the server")?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .context("begin TLS")
}
