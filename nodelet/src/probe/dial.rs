//! Connections to containers, and what goes wrong with them in the words of Kubernetes' Events, which are Go's.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures::future::{Either, select};
use nix::errno::Errno;
use rustls::{
    ClientConfig, DigitallySignedStruct, InvalidMessage, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// `host:port`, an IPv6 address in brackets.
pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// A duration of whole seconds as Go writes it: `1s`, `1m30s`, `1h0m0s`.
pub(super) fn go_seconds(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Connects. The caller has the deadline.
pub(super) async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = match host.parse::<std::net::IpAddr>() {
        Ok(ip) => TcpStream::connect((ip, port)).await,
        Err(_) => TcpStream::connect((host, port)).await,
    };
    let stream = stream.map_err(|error| match error.raw_os_error() {
        Some(_) => format!("dial tcp {}: connect: {}", join(host, port), text(&error)),
        // The resolver's failures have no number.
        None => format!("dial tcp: lookup {host}: no such host"),
    })?;
    // A request is one small write.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// What the kernel says of an error: `connection refused`.
pub(super) fn text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_lowercase(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}

/// Why TLS did not come about.
pub(super) enum TlsError {
    /// The other side speaks HTTP without TLS.
    PlainHttp,
    Other(String),
}

/// Speaks TLS, with whomever it is: nothing is verified, since a probe shows nothing but that somebody answers.
pub(super) async fn tls(host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
    static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring offers the default versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    });
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| TlsError::Other(format!("tls: {host:?} is not a server's name")))?;
    let connecting = TlsConnector::from(CONFIG.clone()).connect(name, stream);
    connecting.await.map_err(|error| {
        let cause = error
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                TlsError::PlainHttp
            }
            Some(cause) => TlsError::Other(format!("tls: {cause}")),
            None => TlsError::Other(text(&error)),
        }
    })
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Does `work` over a connection that must be polled beside it. The connection may end first: what it has read is
/// still there.
pub(super) async fn beside<T>(connection: impl Future, work: impl Future<Output = T>) -> T {
    match select(pin!(work), pin!(connection)).await {
        Either::Left((done, _)) => done,
        Either::Right((_, work)) => work.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        let text = |seconds| go_seconds(Duration::from_secs(seconds));
        assert_eq!([text(1), text(90), text(3_600)], ["1s", "1m30s", "1h0m0s"]);
    }
}
