//! A validating webhook on the loopback address, over TLS with a certificate of its own: no Greeting
//! may shout.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::greeting::GROUP;

const CONFIGURATION: &str = "greetings";

/// Registers the webhook and answers what it is asked.
pub(crate) async fn serve(client: Client) -> anyhow::Result<()> {
    let (acceptor, bundle) = authority()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    register(client, listener.local_addr()?.port(), &bundle).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let connection = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(review));
                // A client that leaves is no error of ours.
                let _ = connection.await;
            }
        });
    }
}

/// What serves with a certificate of a new authority, and the authority's certificate.
fn authority() -> anyhow::Result<(TlsAcceptor, String)> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(vec!["localhost".to_owned()])?;
    let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key))?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)?;
    let bundle = BASE64_STANDARD.encode(ca_certificate.pem());
    Ok((TlsAcceptor::from(Arc::new(config)), bundle))
}

async fn register(client: Client, port: u16, bundle: &str) -> anyhow::Result<()> {
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "webhooks": [{
            "name": "greetings.demo.example.com",
            "clientConfig": {
                "url": format!("https://localhost:{port}/validate"),
                "caBundle": bundle,
            },
            "rules": [{
                "operations": ["CREATE", "UPDATE"],
                "apiGroups": [GROUP], "apiVersions": ["v1"], "resources": ["greetings"],
            }],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 5,
        }],
    });
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client);
    let params = PatchParams::apply("operator").force();
    let patch = Patch::Apply(&configuration);
    configurations.patch(CONFIGURATION, &params, &patch).await?;
    Ok(())
}

async fn review(request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body)?;
    let asked = &review["request"];
    let message = asked["object"]["spec"]["message"].as_str();
    let shouts = message.is_some_and(|message| message == message.to_uppercase());
    let mut response = json!({"uid": asked["uid"], "allowed": !shouts});
    if shouts {
        response["status"] = json!({"code": 422, "message": "a greeting may not shout"});
    }
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    });
    Ok(Response::new(Full::new(answer.to_string().into())))
}
