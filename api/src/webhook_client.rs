//! Calls webhooks: one POST of JSON over TLS, answered with JSON within a deadline.
//!
//! For admission and for conversion between versions. Reads Services and EndpointSlices from the watch
//! cache to find where a webhook is; writes nothing. Never follows a redirect, never speaks without TLS,
//! never reads more than a bounded answer, and never says anything about the caller to the webhook
//! beyond the body that it is given. A connection is made for each call.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use store::{Cache, ResourceKey};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::discovery::GIT_VERSION;

/// Bytes of an answer; more is an error.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Characters of an error's body that are told.
const SHOWN: usize = 512;
/// The port of a service reference that does not say.
const PORT: u16 = 443;

/// Where a webhook is and whom to trust there: a `WebhookClientConfig`.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    target: Target,
    tls: Arc<ClientConfig>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Target {
    Url(Uri),
    Service {
        namespace: String,
        name: String,
        path: String,
        port: u16,
    },
}

/// Why a webhook gave no answer. The texts are for whoever sent the request that needed it.
#[derive(thiserror::Error, Debug)]
pub(crate) enum WebhookError {
    /// The reference leads nowhere: no such Service, port or ready endpoint.
    #[error("{0}")]
    Unresolved(String),
    /// It did not answer in time.
    #[error("Post {url:?}: context deadline exceeded")]
    Deadline { url: String },
    /// It could not be reached, is not whom the CA vouches for, or broke off.
    #[error("Post {url:?}: {cause}")]
    Unreachable { url: String, cause: String },
    /// It answered with something other than 200.
    #[error("the server responded with the status code {code} but did not return more information: {body}", code = .code.as_u16())]
    Refused { code: StatusCode, body: String },
    /// Its answer is no JSON, or too long.
    #[error("{0}")]
    Malformed(String),
}

impl Webhook {
    /// Reads a `WebhookClientConfig`; the error says what is wrong with it.
    pub(crate) fn read(config: &Value) -> Result<Self, String> {
        let target = match (config["url"].as_str(), &config["service"]) {
            (Some(url), _) => {
                let url: Uri = url.parse().map_err(|error| format!("url: {error}"))?;
                if url.scheme_str() != Some("https") || url.host().is_none() {
                    return Err("url: must be an https URL with a host".to_owned());
                }
                Target::Url(url)
            }
            (None, service) if service.is_object() => service_target(service),
            _ => return Err("exactly one of url or service is required".to_owned()),
        };
        let bundle = config["caBundle"].as_str().unwrap_or_default();
        let bundle = STANDARD
            .decode(bundle)
            .map_err(|error| format!("caBundle: {error}"))?;
        Ok(Self {
            target,
            tls: Arc::new(tls(&bundle)?),
        })
    }

    /// Sends a body and answers what comes back.
    pub(crate) async fn call(
        &self,
        cache: &Cache,
        body: &Value,
        deadline: Duration,
    ) -> Result<Value, WebhookError> {
        let url = self.url(deadline);
        let bytes = timeout(deadline, self.post(cache, &url, body))
            .await
            .map_err(|_| WebhookError::Deadline { url })??;
        serde_json::from_slice(&bytes)
            .map_err(|error| WebhookError::Malformed(format!("the response is not JSON: {error}")))
    }

    /// As messages show it, and as the request names it.
    fn url(&self, deadline: Duration) -> String {
        let seconds = format!("timeout={}s", deadline.as_secs().max(1));
        match &self.target {
            Target::Url(url) => {
                let joint = if url.query().is_some() { '&' } else { '?' };
                format!("{url}{joint}{seconds}")
            }
            Target::Service {
                namespace,
                name,
                path,
                port,
            } => format!("https://{name}.{namespace}.svc:{port}{path}?{seconds}"),
        }
    }

    /// The name that its certificate must have, and where it listens.
    fn place(&self, cache: &Cache) -> Result<(String, String, u16), WebhookError> {
        match &self.target {
            Target::Url(url) => {
                let host = url.host().unwrap_or_default();
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let port = url.port_u16().unwrap_or(PORT);
                Ok((host.to_owned(), host.to_owned(), port))
            }
            Target::Service {
                namespace,
                name,
                port,
                ..
            } => {
                let (address, port) = endpoint(cache, namespace, name, *port)?;
                Ok((format!("{name}.{namespace}.svc"), address, port))
            }
        }
    }

    async fn post(&self, cache: &Cache, url: &str, body: &Value) -> Result<Bytes, WebhookError> {
        let unreachable = |cause: String| WebhookError::Unreachable {
            url: url.to_owned(),
            cause,
        };
        let (name, address, port) = self.place(cache)?;
        let name = ServerName::try_from(name).map_err(|error| unreachable(error.to_string()))?;
        let uri: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| unreachable(error.to_string()))?;
        let request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(
                header::HOST,
                uri.authority().map_or("", |host| host.as_str()),
            )
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(
                header::USER_AGENT,
                format!("kube-apiserver-admission/{GIT_VERSION}"),
            )
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| unreachable(error.to_string()))?;
        let socket = TcpStream::connect((address.as_str(), port))
            .await
            .map_err(|error| unreachable(format!("dial tcp {address}:{port}: {error}")))?;
        let stream = TlsConnector::from(self.tls.clone())
            .connect(name, socket)
            .await
            .map_err(|error| unreachable(format!("tls: {error}")))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let exchange =
            async move {
                let response = sender.send_request(request).await.map_err(|error| {
                    WebhookError::Unreachable {
                        url: url.to_owned(),
                        cause: error.to_string(),
                    }
                })?;
                answer(response, url).await
            };
        // The connection moves the bytes for as long as the exchange lasts, and ends with it.
        tokio::pin!(connection, exchange);
        tokio::select! {
            biased;
            answered = &mut exchange => answered,
            ended = &mut connection => match ended {
                // What was received before the end is still to be read.
                Ok(()) => exchange.await,
                Err(error) => Err(unreachable(error.to_string())),
            },
        }
    }
}

/// The body of a good answer.
async fn answer(
    response: http::Response<hyper::body::Incoming>,
    url: &str,
) -> Result<Bytes, WebhookError> {
    let code = response.status();
    let body = match Limited::new(response.into_body(), ANSWER_BYTES)
        .collect()
        .await
    {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(WebhookError::Malformed(format!(
                "the response is longer than {ANSWER_BYTES} bytes"
            )));
        }
        Err(error) => {
            return Err(WebhookError::Unreachable {
                url: url.to_owned(),
                cause: error.to_string(),
            });
        }
    };
    if code == StatusCode::OK {
        return Ok(body);
    }
    let shown: String = String::from_utf8_lossy(&body).chars().take(SHOWN).collect();
    Err(WebhookError::Refused { code, body: shown })
}

fn service_target(service: &Value) -> Target {
    let text = |field: &str| service[field].as_str().unwrap_or_default().to_owned();
    let port = service["port"]
        .as_u64()
        .and_then(|port| port.try_into().ok());
    Target::Service {
        namespace: text("namespace"),
        name: text("name"),
        path: format!("/{}", text("path").trim_start_matches('/')),
        port: port.unwrap_or(PORT),
    }
}

/// Trusts the bundle, or the public authorities if there is none.
fn tls(bundle: &[u8]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if bundle.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        let certificate = certificate.map_err(|error| format!("caBundle: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("caBundle: {error}"))?;
    }
    if roots.is_empty() {
        return Err("caBundle: it holds no certificate".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// Where a port of a Service is reached: its ClusterIP, the name that it stands for, or, if it has
/// neither, an endpoint that is ready.
fn endpoint(
    cache: &Cache,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<(String, u16), WebhookError> {
    let unresolved = |text: String| Err(WebhookError::Unresolved(text));
    let key = ResourceKey::new("", "services").key(namespace, name);
    let Some(item) = cache.get(&key) else {
        return unresolved(format!("service {name:?} not found"));
    };
    let service: Value = serde_json::from_slice(&item.decoded.value).unwrap_or_default();
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        let host = spec["externalName"].as_str().unwrap_or_default();
        return Ok((host.to_owned(), port));
    }
    let ports = spec["ports"].as_array().into_iter().flatten();
    let Some(found) = ports.into_iter().find(|known| known["port"] == port) else {
        return unresolved(format!("no service port {port} found for service {name:?}"));
    };
    match spec["clusterIP"].as_str() {
        Some(address) if !["", "None"].contains(&address) => Ok((address.to_owned(), port)),
        _ => ready_endpoint(cache, namespace, name, &found["name"]).map_or_else(
            || unresolved(format!("no endpoints available for service {name:?}")),
            Ok,
        ),
    }
}

/// An endpoint of a headless Service that is ready, for a port by its name.
fn ready_endpoint(
    cache: &Cache,
    namespace: &str,
    service: &str,
    port: &Value,
) -> Option<(String, u16)> {
    let slices = ResourceKey::new("discovery.k8s.io", "endpointslices");
    let snapshot = cache.list(&slices, Some(namespace));
    let of_service = snapshot.items.iter().filter(|item| {
        let owner = item.decoded.labels.get("kubernetes.io/service-name");
        owner.is_some_and(|owner| owner == service)
    });
    of_service
        .filter_map(|item| serde_json::from_slice::<Value>(&item.decoded.value).ok())
        .find_map(|slice| {
            let name = port.as_str().unwrap_or_default();
            let port = slice["ports"]
                .as_array()?
                .iter()
                .find(|known| known["name"].as_str().unwrap_or_default() == name)?["port"]
                .as_u64()?
                .try_into()
                .ok()?;
            let ready = slice["endpoints"]
                .as_array()?
                .iter()
                .find(|endpoint| endpoint["conditions"]["ready"] != false)?;
            Some((ready["addresses"][0].as_str()?.to_owned(), port))
        })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use serde_json::json;

    use super::*;

    fn bundle() -> String {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        STANDARD.encode(pem)
    }

    #[track_caller]
    fn check(config: Value, expected: Expect) {
        expected.assert_eq(&match Webhook::read(&config) {
            Ok(webhook) => webhook.url(Duration::from_secs(10)),
            Err(error) => error,
        });
    }

    #[test]
    fn a_webhook_is_at_a_url_or_a_service() {
        check(
            json!({"url": "https://example.com/a?b=c"}),
            expect!["https://example.com/a?b=c&timeout=10s"],
        );
        check(
            json!({"service": {"namespace": "n", "name": "s", "path": "convert"}, "caBundle": bundle()}),
            expect!["https://s.n.svc:443/convert?timeout=10s"],
        );
        check(
            json!({"service": {"namespace": "n", "name": "s", "port": 8443}}),
            expect!["https://s.n.svc:8443/?timeout=10s"],
        );
    }

    #[test]
    fn a_webhook_without_tls_or_with_a_broken_bundle_is_refused() {
        check(
            json!({"url": "http://example.com"}),
            expect!["url: must be an https URL with a host"],
        );
        check(
            json!({}),
            expect!["exactly one of url or service is required"],
        );
        check(
            json!({"url": "https://example.com", "caBundle": "IyMjIw=="}),
            expect!["caBundle: it holds no certificate"],
        );
    }
}
