//! Certificates: of Secrets that Ingresses name, otherwise made on demand by the cluster's CA for what is served.
//!
//! A Secret that changes is used from the next handshake on. A name that nobody serves gets the certificate of
//! `localhost`, which its client will not believe.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, Weak},
};

use anyhow::Context;
use k8s_openapi::api::core::v1::Secret;
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::Shared;
use crate::{
    directory::{Name, name_of},
    feed::Change,
};

/// Certificates that are kept once made; beyond, all are made anew.
const KEPT: usize = 4096;
const FALLBACK: &str = "localhost";

/// A certificate with its chain, and its key.
#[derive(Clone, Debug)]
pub struct Pem {
    pub certificate: String,
    pub key: String,
}

/// Signs certificates of servers: the cluster's CA.
pub trait Sign: Send + Sync + 'static {
    /// A certificate for a server of that name, valid for days at least.
    ///
    /// # Errors
    /// A name that no certificate can have.
    fn sign(&self, name: &str) -> anyhow::Result<Pem>;
}

/// The certificates of a gateway.
pub(super) struct Certificates {
    signer: Arc<dyn Sign>,
    domain: Box<str>,
    made: RwLock<HashMap<Box<str>, Arc<CertifiedKey>>>,
    secrets: RwLock<HashMap<Name, Arc<CertifiedKey>>>,
}

/// A TLS Secret that was read.
pub(super) struct SecretSeen {
    name: Name,
    key: Option<Arc<CertifiedKey>>,
}

impl SecretSeen {
    pub(super) fn read(object: Secret) -> Self {
        let name = name_of(&object.metadata);
        let data = object.data.unwrap_or_default();
        let part = |key: &str| data.get(key).map(|bytes| bytes.0.as_slice());
        let key = match (part("tls.crt"), part("tls.key")) {
            (Some(certificate), Some(key)) => match certified(certificate, key) {
                Ok(key) => Some(Arc::new(key)),
                Err(error) => {
                    tracing::debug!(
                        namespace = name.namespace,
                        name = name.name,
                        error = format!("{error:#}"),
                        "a Secret has no usable certificate"
                    );
                    None
                }
            },
            _ => None,
        };
        Self { name, key }
    }
}

fn certified(certificate: &[u8], key: &[u8]) -> anyhow::Result<CertifiedKey> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .context("read the certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key).context("read the key")?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).context("use the certificate")
}

impl Certificates {
    pub(super) fn new(signer: Arc<dyn Sign>, domain: &str) -> Self {
        Self {
            signer,
            domain: domain.into(),
            made: RwLock::default(),
            secrets: RwLock::default(),
        }
    }

    /// TLS with these certificates.
    pub(super) fn server(&self, shared: &Arc<Shared>) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions");
        let resolver = Resolver(Arc::downgrade(shared));
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }

    pub(super) fn update(&self, change: Change<SecretSeen>) {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::All(all) => {
                let usable = all
                    .into_iter()
                    .filter_map(|seen| Some((seen.name, seen.key?)));
                *secrets = usable.collect();
            }
            Change::Put(SecretSeen {
                name,
                key: Some(key),
            }) => drop(secrets.insert(name, key)),
            Change::Put(seen) | Change::Gone(seen) => drop(secrets.remove(&seen.name)),
        }
    }

    fn of_secret(&self, name: &Name) -> Option<Arc<CertifiedKey>> {
        let secrets = self.secrets.read();
        secrets
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// A certificate of the cluster's CA; `None` for names that are not the gateway's to have.
    fn make(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        if !may_be_made(name, &self.domain) {
            return None;
        }
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = made.get(name) {
            return Some(key.clone());
        }
        drop(made);
        let signed = self.signer.sign(name).and_then(|pem| {
            let Pem { certificate, key } = pem;
            certified(certificate.as_bytes(), key.as_bytes())
        });
        match signed {
            Ok(key) => {
                let key = Arc::new(key);
                let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
                if made.len() >= KEPT {
                    made.clear();
                }
                made.insert(name.into(), key.clone());
                Some(key)
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(name, error, "could not make a certificate");
                None
            }
        }
    }
}

/// Names inside the cluster are not a gateway's: the apiserver and Services prove themselves by them. Nor are bare ones.
fn may_be_made(name: &str, domain: &str) -> bool {
    let name = name.trim_end_matches('.');
    let inside = ["kubernetes.default", "cluster.local"].contains(&name)
        || [".svc", ".cluster.local", ".wk.internal"]
            .iter()
            .any(|end| name.ends_with(end));
    let bare = !name.contains('.') && name != domain && name != FALLBACK;
    !inside && !bare
}

/// Chooses by the name that a client asks for.
#[derive(Debug)]
struct Resolver(Weak<Shared>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shared = self.0.upgrade()?;
        let certificates = &shared.certificates;
        let Some(name) = hello.server_name() else {
            return certificates.make(FALLBACK);
        };
        let name = name.to_ascii_lowercase();
        let table = shared.table();
        let secret = table.secret(&name);
        if let Some(key) = secret.and_then(|secret| certificates.of_secret(secret)) {
            return Some(key);
        }
        let served = table.serves(&name).then(|| certificates.make(&name));
        served.flatten().or_else(|| certificates.make(FALLBACK))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gateway")
    }
}

#[cfg(test)]
mod tests {
    use super::may_be_made;

    #[test]
    fn names_inside_the_cluster_are_never_signed() {
        let made = |name: &&&str| may_be_made(name, "apps");
        let names = [
            "localhost",
            "apps",
            "a.example.org",
            "web.prod.apps",
            "svc.example.org",
            "intranet",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "x.cluster.local",
            "kubernetes.default.svc.cluster.local.",
            "registry.wk.internal",
        ];
        let signed: Vec<_> = names.iter().filter(made).collect();
        let expected = [
            "localhost",
            "apps",
            "a.example.org",
            "web.prod.apps",
            "svc.example.org",
        ];
        assert_eq!(signed, expected.iter().collect::<Vec<_>>());
    }
}
