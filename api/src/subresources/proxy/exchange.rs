//! The connection to a backend: one for each request. Both bodies stream; if both sides upgrade, their
//! connections are joined.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use http::{HeaderValue, Request, header};
use hyper::upgrade::OnUpgrade;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Incoming, headers, passed_on, unreachable};
use crate::{
    error::Error,
    proxy::connection::{self, Answer},
    server::joined,
    verbs::call::Call,
};

/// How long a backend may take to accept a connection, and to shake hands.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may take to begin its answer: a request's body may be long.
const ANSWER: Duration = Duration::from_secs(10 * 60);

/// A request on its way to a backend.
pub(super) struct Outgoing {
    pub(super) request: Request<Body>,
    /// The client's side, if it wants to upgrade.
    pub(super) client: Option<OnUpgrade>,
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
    let answer = connection::send(stream, outgoing.request, ANSWER)
        .await
        .map_err(|error| unreachable(error.to_string(), Some(error.into())))?;
    pass_back(call, outgoing.client, answer)
}

/// The client's answer from the backend's: if that changed protocols, so does the client's connection.
pub(super) fn pass_back(
    call: &Call,
    client: Option<OnUpgrade>,
    answer: Answer,
) -> Result<Response, Error> {
    match answer {
        Answer::Other(mut response) => {
            headers::strip_hop_by_hop(response.headers_mut());
            Ok(response)
        }
        Answer::Upgraded(response) => {
            let client = client.ok_or_else(|| {
                unreachable("the backend changed protocols unasked".to_owned(), None)
            })?;
            let protocol = headers::upgrade(response.headers());
            let mut response = joined::join(call, client, response);
            let passed = response.headers_mut();
            headers::strip_hop_by_hop(passed);
            passed.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            if let Some(protocol) = protocol {
                passed.insert(header::UPGRADE, protocol);
            }
            Ok(response)
        }
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
