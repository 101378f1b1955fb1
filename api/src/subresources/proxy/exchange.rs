//! The connection to a backend: one for each request. Both bodies stream; if both sides upgrade, their
//! connections are joined until one of them ends or the server stops.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::{body::Incoming as Received, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    sync::OwnedSemaphorePermit,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{Incoming, headers, passed_on, unreachable};
use crate::{error::Error, verbs::call::Call};

/// How long a backend may take to accept a connection, and to shake hands.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may take to begin its answer: a request's body may be long.
const ANSWER: Duration = Duration::from_secs(10 * 60);

/// A request on its way to a backend.
pub(super) struct Outgoing {
    pub(super) request: Request<Body>,
    /// The client's side, if it wants to upgrade.
    client: Option<OnUpgrade>,
}

impl Outgoing {
    pub(super) fn new(call: &Call, incoming: Incoming) -> Result<Self, Error> {
        let mut passed = call.headers.clone();
        let protocol = headers::upgrade(&passed);
        headers::strip_hop_by_hop(&mut passed);
        headers::strip_credentials(&mut passed);
        headers::forward(&mut passed, &incoming.uri, None);
        let client = protocol.as_ref().and(incoming.upgrade);
        if let (Some(protocol), Some(_)) = (protocol, &client) {
            passed.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            passed.insert(header::UPGRADE, protocol);
        }
        let mut request = Request::new(incoming.body);
        *request.method_mut() = incoming.method;
        *request.uri_mut() = passed_on(&incoming.uri, &incoming.beyond)?;
        *request.headers_mut() = passed;
        Ok(Self { request, client })
    }
}

/// Sends a request to an address and answers with what comes back.
pub(super) async fn pass(
    call: &Call,
    address: SocketAddr,
    tls: bool,
    outgoing: Outgoing,
) -> Result<Response, Error> {
    let dialed = timeout(CONNECT, call.server.node_proxy.dial(address)).await;
    let stream = match dialed {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let message = format!("dial tcp {address}: {error}");
            return Err(unreachable(message, Some(error.into())));
        }
        Err(_) => {
            return Err(unreachable(
                format!("dial tcp {address}: i/o timeout"),
                None,
            ));
        }
    };
    // Small writes of both sides are passed on at once; a socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    if !tls {
        return send(call, stream, outgoing).await;
    }
    let connector = TlsConnector::from(Arc::new(any_certificate()?));
    let name = ServerName::from(address.ip());
    match timeout(CONNECT, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => send(call, stream, outgoing).await,
        Ok(Err(error)) => Err(unreachable(error.to_string(), Some(error.into()))),
        Err(_) => Err(unreachable("TLS handshake timeout".to_owned(), None)),
    }
}

async fn send(
    call: &Call,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    outgoing: Outgoing,
) -> Result<Response, Error> {
    let broken = |error: hyper::Error| unreachable(error.to_string(), Some(error.into()));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a backend broke");
        }
    });
    let answered = timeout(ANSWER, sender.send_request(outgoing.request)).await;
    let mut response = answered
        .map_err(|_| unreachable("the answer took too long".to_owned(), None))?
        .map_err(broken)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = outgoing.client else {
            return Err(unreachable(
                "the backend changed protocols unasked".to_owned(),
                None,
            ));
        };
        let protocol = headers::upgrade(response.headers());
        let backend = hyper::upgrade::on(&mut response);
        let Ok(permit) = call.server.streams.clone().try_acquire_owned() else {
            return Err(Error::TooManyRequests);
        };
        call.server
            .joined
            .join(client, backend, driver, permit, call.draining.clone());
        headers::strip_hop_by_hop(response.headers_mut());
        let passed = response.headers_mut();
        passed.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Some(protocol) = protocol {
            passed.insert(header::UPGRADE, protocol);
        }
        return Ok(response.map(|_| Body::empty()));
    }
    headers::strip_hop_by_hop(response.headers_mut());
    Ok(response.map(|body| {
        Body::new(Driven {
            body,
            _sender: sender,
            _driver: driver,
        })
    }))
}

/// A body that keeps the connection it comes from alive.
struct Driven {
    body: Received,
    _sender: hyper::client::conn::http1::SendRequest<Body>,
    _driver: JoinSet<()>,
}

impl hyper::body::Body for Driven {
    type Data = hyper::body::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// The upgraded connections of a server; they end with it.
#[derive(Default)]
pub(crate) struct Joined(Mutex<JoinSet<()>>);

impl Joined {
    fn join(
        &self,
        client: OnUpgrade,
        backend: OnUpgrade,
        driver: JoinSet<()>,
        permit: OwnedSemaphorePermit,
        stop: CancellationToken,
    ) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let _held = (driver, permit);
            let exchange = async {
                let (client, backend) = tokio::try_join!(client, backend)?;
                let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
                if let Err(error) = copy_bidirectional(&mut client, &mut backend).await {
                    tracing::debug!(%error, "an upgraded connection broke");
                }
                Ok::<_, hyper::Error>(())
            };
            if let Some(Err(error)) = stop.run_until_cancelled(exchange).await {
                tracing::debug!(%error, "a connection was not upgraded");
            }
        });
    }
}

/// TLS that takes whatever certificate the backend shows: pods have none that anybody could check.
fn any_certificate() -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(config)
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
