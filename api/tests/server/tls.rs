//! The listener: client certificates are identities, and stopping ends what would never end.

use std::sync::Arc;

use api::{Limits, serve};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::harness::{Cluster, DEADLINE, MAPS};

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .clone();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(
        &self,
        name: &str,
        group: &str,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        (vec![certificate.der().clone()], key)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        Arc::new(roots)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[tokio::test]
async fn a_client_certificate_is_an_identity_and_stopping_ends_a_watch() {
    let cluster = Cluster::start().await;
    let authority = Authority::new();
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider())
        .allow_unauthenticated()
        .build()
        .expect("a verifier");
    let (chain, key) = authority.issue("localhost", "server");
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (router, stopped) = (cluster.router.clone(), stop.clone());
    tasks.spawn(
        async move { serve::run(listener, server, router, &Limits::default(), stopped).await },
    );

    let connect = |identity: Option<(&'static str, &'static str)>| {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(authority.roots());
        let client = match identity {
            Some((name, group)) => {
                let (chain, key) = authority.issue(name, group);
                builder.with_client_auth_cert(chain, key).expect("a client")
            }
            None => builder.with_no_client_auth(),
        };
        async move {
            let stream = TcpStream::connect(address).await.expect("connected");
            let name = ServerName::try_from("localhost").expect("a name");
            let stream = TlsConnector::from(Arc::new(client))
                .connect(name, stream)
                .await
                .expect("TLS");
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .expect("HTTP");
            (sender, connection)
        }
    };
    let get = |path: &str| {
        http::Request::get(path)
            .header("host", "localhost")
            .body(Empty::<bytes::Bytes>::new())
            .expect("a request")
    };
    let mut connections = JoinSet::new();
    for (identity, code) in [
        (None, 401),
        (Some(("eve", "nobody")), 403),
        (Some(("wk-admin", "system:masters")), 200),
    ] {
        let (mut sender, connection) = connect(identity).await;
        connections.spawn(connection);
        let response = timeout(DEADLINE, sender.send_request(get(MAPS)))
            .await
            .expect("in time");
        assert_eq!(response.expect("an answer").status(), code, "{identity:?}");
    }
    let (mut sender, connection) = connect(Some(("wk-admin", "system:masters"))).await;
    connections.spawn(connection);
    let watch = sender
        .send_request(get(&format!("{MAPS}?watch=true")))
        .await
        .expect("a watch");
    assert_eq!(watch.status(), 200);
    stop.cancel();
    let ended = timeout(DEADLINE, watch.into_body().collect())
        .await
        .expect("in time");
    assert!(ended.expect("a whole body").to_bytes().is_empty());
    let served = timeout(DEADLINE, tasks.join_next()).await.expect("in time");
    assert!(matches!(served, Some(Ok(Ok(())))), "{served:?}");
}
