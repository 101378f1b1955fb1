//! Requests to one host of a registry, as one account.
//!
//! A request is sent as it is; if the host asks for an account, again with it (a token or a password, as the host
//! wants); if it asks to be left in peace, or fails, again after a while, a few times and up to the deadline.
//! Never keeps a password or a token beyond the pull.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use oci_client::{
    Reference, RegistryOperation,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};
use reqwest::{
    Response, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use tokio::time::Instant;

use super::{
    super::{Credentials, hosts::Host, manifest},
    refusal::{Kind, ReadError, Refusal, read},
};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// How often a host that fails or is busy is asked again.
const REPETITIONS: u32 = 3;

/// The pause before it is; twice as long each time.
const PAUSE: Duration = Duration::from_millis(500);

/// A host of a registry, and who asks it.
pub(in crate::images) struct Remote {
    http: reqwest::Client,
    host: Host,
    scheme: &'static str,
    /// With the host in place of the registry.
    reference: Reference,
    account: RegistryAuth,
    /// What let us in.
    authorization: Mutex<Option<HeaderValue>>,
    deadline: Instant,
}

impl Remote {
    /// Nothing is sent yet.
    pub(super) fn new(
        reference: Reference,
        host: &Host,
        account: &Credentials,
        deadline: Instant,
    ) -> Result<Remote, String> {
        let usual = || on_loopback(reference.resolve_registry());
        let plain = host.plain_http.unwrap_or_else(usual);
        let in_words = |error: &dyn std::error::Error| {
            format!("a client for {}: {error}", reference.resolve_registry())
        };
        let mut http = reqwest::Client::builder()
            .user_agent("wk")
            .connect_timeout(CONNECT_DEADLINE)
            .read_timeout(READ_DEADLINE)
            .tls_danger_accept_invalid_certs(host.skip_verify);
        for pem in certificates(host)? {
            let parsed = reqwest::Certificate::from_pem_bundle(&pem);
            http = http.tls_certs_merge(parsed.map_err(|error| in_words(&error))?);
        }
        Ok(Remote {
            http: http.build().map_err(|error| in_words(&error))?,
            host: host.clone(),
            scheme: if plain { "http" } else { "https" },
            account: match account {
                // What the cluster knows, nobody else does.
                Credentials::Anonymous | Credentials::ServiceAccount { .. } => {
                    RegistryAuth::Anonymous
                }
                Credentials::Basic { username, password } => {
                    RegistryAuth::Basic(username.clone(), password.clone())
                }
            },
            reference,
            authorization: Mutex::default(),
            deadline,
        })
    }

    /// The host, as messages name it.
    pub(super) fn host(&self) -> &str {
        self.reference.resolve_registry()
    }

    /// The manifest that a tag or digest names; its bytes and their digest.
    pub(super) async fn manifest(&self, name: &str) -> Result<(Vec<u8>, String), Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(manifest::ACCEPTED));
        let response = self.get(&format!("manifests/{name}"), &headers).await?;
        let told = response.headers().get("docker-content-digest");
        let told = told.and_then(|value| value.to_str().ok().map(str::to_owned));
        let bytes = self.read(response, manifest::MAX_MANIFEST).await?;
        let digest = super::super::digest_of(&bytes);
        let wanted = [name, told.as_deref().unwrap_or_default()];
        match wanted
            .iter()
            .find(|wanted| wanted.starts_with("sha256:") && **wanted != digest)
        {
            Some(wanted) => {
                let message = format!("its manifest is not what {wanted} names");
                Err(self.refusal(Kind::Final, &message))
            }
            None => Ok((bytes, digest)),
        }
    }

    /// A small blob, verified.
    pub(super) async fn blob(&self, digest: &str, max_bytes: u64) -> Result<Vec<u8>, Refusal> {
        let response = self
            .get(&format!("blobs/{digest}"), &HeaderMap::new())
            .await?;
        let bytes = self.read(response, max_bytes).await?;
        if super::super::digest_of(&bytes) != digest {
            let message = format!("content is not what {digest} names");
            return Err(self.refusal(Kind::Final, &message));
        }
        Ok(bytes)
    }

    /// A blob from `offset` on; also whether the answer begins there. If not, it begins at the start.
    pub(super) async fn blob_from(
        &self,
        digest: &str,
        offset: u64,
    ) -> Result<(Response, bool), Refusal> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            headers.insert(header::RANGE, range.expect("digits are a header's value"));
        }
        let path = format!("blobs/{digest}");
        let response = self.get(&path, &headers).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok((response, offset == 0));
        }
        let range = response.headers().get(header::CONTENT_RANGE);
        let range = range.and_then(|range| range.to_str().ok());
        if range.is_some_and(|range| !range.starts_with(&format!("bytes {offset}-"))) {
            let message = format!("answered another range than from {offset} on");
            return Err(self.refusal(Kind::Final, &message));
        }
        Ok((response, true))
    }

    /// As a broken answer is told.
    fn broke(&self, error: &reqwest::Error) -> Refusal {
        Refusal::of_transport(self.host(), error)
    }

    async fn read(&self, response: Response, max_bytes: u64) -> Result<Vec<u8>, Refusal> {
        read(response, max_bytes)
            .await
            .map_err(|error| match error {
                ReadError::TooLong => {
                    let message = format!("answered more than {max_bytes} bytes");
                    self.refusal(Kind::Final, &message)
                }
                ReadError::Transport(error) => self.broke(&error),
            })
    }

    fn refusal(&self, kind: Kind, message: &str) -> Refusal {
        Refusal::new(kind, self.host(), message)
    }

    /// One answer of success, or why there is none.
    async fn get(&self, path: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        let (registry, repository) = (self.host(), self.reference.repository());
        let url = format!("{}://{registry}/v2/{repository}/{path}", self.scheme);
        let mut authorized = false;
        let mut repetition = 0;
        loop {
            let mut headers = headers.clone();
            if let Some(authorization) = self.authorization() {
                headers.insert(header::AUTHORIZATION, authorization);
            }
            let request = self.http.get(&url).headers(headers);
            let response = request.send().await.map_err(|error| self.broke(&error))?;
            if response.status().is_success() {
                return Ok(response);
            }
            if response.status() == StatusCode::UNAUTHORIZED && !authorized {
                authorized = true;
                self.authorize(&response).await?;
                continue;
            }
            let refusal = Refusal::of_answer(self.host(), response).await;
            let usual = PAUSE * 2_u32.pow(repetition);
            let pause = match refusal.kind {
                Kind::TooMany(wait) => wait.unwrap_or(usual).max(usual),
                Kind::Server => usual,
                _ => return Err(refusal),
            };
            if repetition == REPETITIONS || Instant::now() + pause >= self.deadline {
                return Err(refusal);
            }
            repetition += 1;
            tracing::debug!(registry, ?pause, why = refusal.message, "asked again later");
            tokio::time::sleep(pause).await;
        }
    }

    /// Speaks to the server of tokens that the host names.
    fn token_client(&self) -> Result<oci_client::Client, String> {
        let certificates = certificates(&self.host)?.into_iter();
        let client = oci_client::Client::try_from(ClientConfig {
            protocol: match self.scheme {
                "http" => ClientProtocol::Http,
                _ => ClientProtocol::Https,
            },
            connect_timeout: Some(CONNECT_DEADLINE),
            read_timeout: Some(READ_DEADLINE),
            user_agent: "wk",
            accept_invalid_certificates: self.host.skip_verify,
            extra_root_certificates: certificates
                .map(|data| Certificate {
                    encoding: CertificateEncoding::Pem,
                    data,
                })
                .collect(),
            ..ClientConfig::default()
        });
        client.map_err(|error| error.to_string())
    }

    fn authorization(&self) -> Option<HeaderValue> {
        let authorization = self.authorization.lock();
        authorization
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Finds out what lets us in where `refused` came from.
    async fn authorize(&self, refused: &Response) -> Result<(), Refusal> {
        let challenges = refused.headers().get_all(header::WWW_AUTHENTICATE);
        let bearer = challenges.iter().any(|challenge| {
            let scheme = challenge.as_bytes().get(..6).unwrap_or_default();
            scheme.eq_ignore_ascii_case(b"bearer")
        });
        let unauthorized = || self.refusal(Kind::Account, "unauthorized: authentication required");
        let value = if bearer {
            let client = self
                .token_client()
                .map_err(|message| self.refusal(Kind::Final, &message))?;
            let token = client.auth(&self.reference, &self.account, RegistryOperation::Pull);
            let token = token
                .await
                .map_err(|error| Refusal::of_authentication(self.host(), &error))?;
            format!("Bearer {}", token.ok_or_else(unauthorized)?)
        } else if let RegistryAuth::Basic(username, password) = &self.account {
            let account = BASE64_STANDARD.encode(format!("{username}:{password}"));
            format!("Basic {account}")
        } else {
            return Err(unauthorized());
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| unauthorized())?;
        value.set_sensitive(true);
        let authorization = self.authorization.lock();
        *authorization.unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }
}

/// What to trust beside the usual, in PEM.
fn certificates(host: &Host) -> Result<Vec<Vec<u8>>, String> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    host.ca.iter().map(read).collect()
}

/// `localhost`, `127.x.y.z` or `[::1]`, with or without a port.
fn on_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_registries_are_spoken_to_in_plain_http() {
        for registry in [
            "localhost:5000",
            "127.0.0.1:80",
            "127.3.4.5",
            "[::1]:5000",
            "localhost",
        ] {
            assert!(on_loopback(registry), "{registry}");
        }
        for registry in [
            "ghcr.io",
            "localhost.example:5000",
            "10.0.0.1:5000",
            "1270.0.1",
        ] {
            assert!(!on_loopback(registry), "{registry}");
        }
    }
}
