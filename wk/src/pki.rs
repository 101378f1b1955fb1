//! Certificates: the cluster's CA, and what it signs for servers and clients.
//!
//! Reads and writes PEM text; never touches disk or the store (see [`crate::data_dir`] and
//! [`crate::cluster`]). Keys are ECDSA P-256. The subject follows Kubernetes' X.509 convention:
//! common name = user, organisations = groups.

use std::{net::IpAddr, sync::Arc};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

const CA_YEARS: i16 = 10;
const LEAF_DAYS: i64 = 365;
/// A certificate that ends sooner than this is issued anew at start.
pub(crate) const RENEW_DAYS: i64 = 30;

/// A certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Whom a certificate names.
#[derive(Clone, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) user: &'a str,
    pub(crate) groups: &'a [&'a str],
    /// Names and addresses that a server answers to; empty for a client.
    pub(crate) names: &'a [String],
}

/// Makes a new certificate authority.
pub(crate) fn new_authority(today: jiff::civil::Date) -> Result<Pair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "wk-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let end = today.saturating_add(jiff::Span::new().years(CA_YEARS));
    set_validity(&mut params, today, end);
    let key = KeyPair::generate().context("make the CA's key")?;
    let certificate = params
        .self_signed(&key)
        .context("sign the CA's certificate")?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

impl Pair {
    /// Signs a certificate for a server (a subject with names) or a client, valid for a year.
    pub(crate) fn issue(&self, subject: &Subject<'_>, today: jiff::civil::Date) -> Result<Pair> {
        let ca_key = KeyPair::from_pem(&self.key).context("read the CA's key")?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, ca_key)
            .context("read the CA's certificate")?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, subject.user);
        for group in subject.groups {
            params
                .distinguished_name
                .push(DnType::OrganizationName, *group);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![if subject.names.is_empty() {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        for name in subject.names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(
                    Ia5String::try_from(name.as_str()).context("read a server's name")?,
                ),
            });
        }
        let end = today.saturating_add(jiff::Span::new().days(LEAF_DAYS));
        set_validity(&mut params, today, end);
        let key =
            KeyPair::generate().with_context(|| format!("make the key of {}", subject.user))?;
        let certificate = params
            .signed_by(&key, &issuer)
            .with_context(|| format!("sign the certificate of {}", subject.user))?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The certificates in order, leaf first.
    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .context("read a certificate")
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("read a private key")
    }
}

fn set_validity(params: &mut CertificateParams, start: jiff::civil::Date, end: jiff::civil::Date) {
    let at = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(
            i32::from(date.year()),
            u8::try_from(date.month()).expect("a month is 1 to 12"),
            u8::try_from(date.day()).expect("a day is 1 to 31"),
        )
    };
    // A day early: clocks differ, and midnight may be now.
    params.not_before = at(start.saturating_sub(jiff::Span::new().days(1)));
    params.not_after = at(end);
}

fn roots(ca: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots
            .add(certificate.context("read the CA's certificate")?)
            .context("trust the CA's certificate")?;
    }
    Ok(roots)
}

/// TLS for the apiserver: a client may show a certificate of the CA, and need not.
pub(crate) fn apiserver_tls(ca: &str, server: &Pair) -> Result<ServerConfig> {
    server_tls(ca, server, false, &[b"h2", b"http/1.1"])
}

/// TLS for a nodelet's server: a client must show a certificate of the CA.
pub(crate) fn nodelet_tls(ca: &str, server: &Pair) -> Result<ServerConfig> {
    server_tls(ca, server, true, &[b"http/1.1"])
}

fn server_tls(
    ca: &str,
    server: &Pair,
    client_required: bool,
    protocols: &[&[u8]],
) -> Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider.clone());
    let verifier = if client_required {
        verifier
    } else {
        verifier.allow_unauthenticated()
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .with_client_cert_verifier(verifier.build().context("build the client verifier")?)
        .with_single_cert(server.chain()?, server.private_key()?)
        .context("use the server's certificate")?;
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

/// TLS towards a server of the cluster, with a client certificate.
pub(crate) fn client_tls(ca: &str, client: &Pair) -> Result<ClientConfig> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(client.chain()?, client.private_key()?)
        .context("use the client's certificate")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn today() -> jiff::civil::Date {
        jiff::Zoned::now().date()
    }

    #[test]
    fn a_server_and_a_client_of_one_authority_trust_each_other() {
        let ca = new_authority(today()).unwrap();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let server = ca
            .issue(
                &Subject {
                    user: "wk-apiserver",
                    groups: &[],
                    names: &names,
                },
                today(),
            )
            .unwrap();
        let client = ca
            .issue(
                &Subject {
                    user: "wk-admin",
                    groups: &["system:masters"],
                    names: &[],
                },
                today(),
            )
            .unwrap();
        let tls = nodelet_tls(&ca.certificate, &server).unwrap();
        let mut server = tokio_rustls::rustls::ServerConnection::new(Arc::new(tls)).unwrap();
        let mut client = tokio_rustls::rustls::ClientConnection::new(
            Arc::new(client_tls(&ca.certificate, &client).unwrap()),
            "localhost".try_into().unwrap(),
        )
        .unwrap();
        let mut wire = Vec::new();
        while client.is_handshaking() || server.is_handshaking() {
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets().unwrap();
            wire.clear();
        }
        assert_eq!(server.peer_certificates().map(<[_]>::len), Some(1));
    }

    #[test]
    fn a_certificate_of_another_authority_is_refused() {
        let ours = new_authority(today()).unwrap();
        let theirs = new_authority(today()).unwrap();
        let client = theirs
            .issue(
                &Subject {
                    user: "eve",
                    groups: &["system:masters"],
                    names: &[],
                },
                today(),
            )
            .unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots(&ours.certificate).unwrap()),
            Arc::new(ring::default_provider()),
        )
        .build()
        .unwrap();
        let refused = verifier.verify_client_cert(
            &client.chain().unwrap()[0],
            &[],
            tokio_rustls::rustls::pki_types::UnixTime::now(),
        );
        assert!(refused.is_err());
    }
}
