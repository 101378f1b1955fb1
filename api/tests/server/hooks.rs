//! A webhook server over TLS: it remembers what it was asked and answers as it is told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

/// Makes the response from the request; `None` never answers.
type Answer = Arc<dyn Fn(&str, &Value) -> Option<Value> + Send + Sync>;

pub(crate) struct Hooks {
    address: SocketAddr,
    bundle: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    /// Aborted with the server.
    _tasks: JoinSet<()>,
}

impl Hooks {
    /// `answer` gets the path and the request, and gives the response without its uid.
    pub(crate) async fn start(
        answer: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
        let certificate = params.self_signed(&key).expect("a certificate");
        let acceptor = acceptor(
            certificate.der().clone(),
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, acceptor, Arc::new(answer), asked.clone()));
        Self {
            address,
            bundle: STANDARD.encode(certificate.pem()),
            asked,
            _tasks: tasks,
        }
    }

    /// What was asked so far: paths and requests.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        self.asked
            .lock()
            .expect("no test panics holding it")
            .clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|(path, _)| path).collect()
    }

    /// A webhook of a configuration, asked at a path about all that is done to ConfigMaps; `more` is
    /// added to it.
    pub(crate) fn hook(&self, path: &str, more: Value) -> Value {
        let mut hook = json!({
            "name": format!("{path}.example.com"),
            "clientConfig": {
                "url": format!("https://localhost:{}/{path}", self.address.port()),
                "caBundle": self.bundle,
            },
            "rules": [{
                "operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"],
            }],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            hook[field] = value.clone();
        }
        hook
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate and its key");
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    answer: Answer,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, answer, asked) = (acceptor.clone(), answer.clone(), asked.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let respond = service_fn(|request| respond(request, &answer, &asked));
            // A client that leaves early is part of the tests.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), respond)
                .await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: &Answer,
    asked: &Mutex<Vec<(String, Value)>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("a review in JSON");
    let request = review["request"].clone();
    asked
        .lock()
        .expect("no test panics holding it")
        .push((path.clone(), request.clone()));
    let Some(mut response) = answer(&path, &request) else {
        return std::future::pending().await;
    };
    response["uid"] = request["uid"].clone();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    });
    Ok(Response::new(Full::new(Bytes::from(review.to_string()))))
}

/// A response that allows and patches.
pub(crate) fn patch(patch: Value) -> Option<Value> {
    let patch = STANDARD.encode(patch.to_string());
    Some(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
}
