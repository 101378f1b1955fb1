//! Signs what the controllers ask for: certificates for clients and the tokens of Secrets.
//!
//! Implements `controllers::authority::Authority`. A client's certificate has the request's subject and public
//! key byte for byte, and nothing else of it: whom it names was approved, what it may be used for is decided
//! here. It is written as DER by hand, since rcgen keeps only one organisation of a subject.

use std::fmt;

use anyhow::{Context, Result};
use api::auth::{Issuer, service_account::Reference};
use controllers::authority::{Authority, Refused};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{
    certification_request::X509CertificationRequest,
    prelude::{FromDer, X509Certificate},
};

use crate::pki::Pair;

const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Clocks differ.
const EARLY: SignedDuration = SignedDuration::from_mins(5);
/// Longer than any request that a person makes.
const LONGEST: usize = 64 * 1024;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const TRUE: [u8; 3] = [0x01, 0x01, 0xff];

/// Object identifiers, in DER.
const ECDSA_WITH_SHA256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const KEY_USAGE: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x0f];
const BASIC_CONSTRAINTS: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x13];
const EXTENDED_KEY_USAGE: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x25];
const CLIENT_AUTH: [u8; 10] = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// The keys of a cluster.
pub(crate) struct ClusterAuthority {
    certificate: String,
    /// The CA's own subject, in DER.
    name: Vec<u8>,
    ends: Timestamp,
    key: EcdsaKeyPair,
    issuer: Issuer,
    random: SystemRandom,
}

impl ClusterAuthority {
    pub(crate) fn new(ca: &Pair, issuer: Issuer) -> Result<Self> {
        let random = SystemRandom::new();
        let der = CertificateDer::from_pem_slice(ca.certificate.as_bytes())
            .context("read the CA's certificate")?;
        let (_, certificate) =
            X509Certificate::from_der(&der).context("read the CA's certificate")?;
        let key = PrivateKeyDer::from_pem_slice(ca.key.as_bytes()).context("read the CA's key")?;
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_der(), &random)
                .map_err(|error| anyhow::anyhow!("use the CA's key: {error}"))?;
        let ends = certificate.validity().not_after.timestamp();
        Ok(Self {
            name: certificate.subject().as_raw().to_vec(),
            ends: Timestamp::from_second(ends).context("read when the CA ends")?,
            certificate: ca.certificate.clone(),
            key,
            issuer,
            random,
        })
    }

    fn sign(&self, pem: &str, life: SignedDuration, now: Timestamp) -> Result<String, Refused> {
        let unreadable = || Refused("the request is no PKCS#10 certificate request".to_owned());
        if pem.len() > LONGEST {
            return Err(unreadable());
        }
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| unreadable())?;
        let (rest, request) =
            X509CertificationRequest::from_der(&pem.contents).map_err(|_| unreadable())?;
        if !rest.is_empty() {
            return Err(unreadable());
        }
        request
            .verify_signature()
            .map_err(|_| Refused("the request's signature is not its key's".to_owned()))?;
        let info = &request.certification_request_info;
        let ends = now.checked_add(life).unwrap_or(self.ends).min(self.ends);
        let begins = now.checked_sub(EARLY).unwrap_or(now);
        let algorithm = node(SEQUENCE, &[&ECDSA_WITH_SHA256]);
        // Positive, and of one length.
        let mut serial: [u8; 16] = rand::random();
        serial[0] = serial[0] & 0x7f | 0x40;
        let certificate = node(
            SEQUENCE,
            &[
                &node(0xa0, &[&node(INTEGER, &[&[2]])]), // version 3
                &node(INTEGER, &[&serial]),
                &algorithm,
                &self.name,
                &node(SEQUENCE, &[&time(begins), &time(ends)]),
                info.subject.as_raw(),
                info.subject_pki.raw,
                &node(0xa3, &[&extensions()]),
            ],
        );
        let signature = self
            .key
            .sign(&self.random, &certificate)
            .map_err(|error| Refused(format!("the CA's key cannot sign: {error}")))?;
        let signature = node(BIT_STRING, &[&[0], signature.as_ref()]);
        Ok(encode_pem(&node(
            SEQUENCE,
            &[&certificate, &algorithm, &signature],
        )))
    }
}

impl Authority for ClusterAuthority {
    fn root_certificate(&self) -> &str {
        &self.certificate
    }

    fn sign_client(&self, request: &str, seconds: Option<i32>) -> Result<String, Refused> {
        let life = seconds.map_or(YEAR, |seconds| SignedDuration::from_secs(seconds.into()));
        self.sign(request, life, Timestamp::now())
    }

    fn secret_token(
        &self,
        namespace: &str,
        account: &str,
        account_uid: &str,
        secret: &str,
    ) -> Result<String, Refused> {
        let account = Reference {
            name: account.to_owned(),
            uid: account_uid.to_owned(),
        };
        self.issuer
            .mint_for_secret(namespace, &account, secret)
            .map_err(|error| Refused(error.to_string()))
    }
}

impl fmt::Debug for ClusterAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterAuthority")
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

/// Digital signatures and key encipherment, by a client, by no authority.
fn extensions() -> Vec<u8> {
    let extension = |id: &[u8], critical: bool, value: &[u8]| {
        let critical: &[u8] = if critical { &TRUE } else { &[] };
        node(SEQUENCE, &[id, critical, &node(OCTET_STRING, &[value])])
    };
    node(
        SEQUENCE,
        &[
            &extension(&KEY_USAGE, true, &node(BIT_STRING, &[&[5, 0xa0]])),
            &extension(&EXTENDED_KEY_USAGE, false, &node(SEQUENCE, &[&CLIENT_AUTH])),
            &extension(&BASIC_CONSTRAINTS, true, &node(SEQUENCE, &[])),
        ],
    )
}

/// One DER node: tag, length, contents.
fn node(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let mut node = vec![tag];
    let length = contents.len();
    match u8::try_from(length) {
        Ok(short @ ..0x80) => node.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let bytes = &bytes[zeros..];
            node.push(0x80 | u8::try_from(bytes.len()).expect("a length has at most 8 bytes"));
            node.extend_from_slice(bytes);
        }
    }
    node.extend_from_slice(&contents);
    node
}

/// A time as RFC 5280 wants it: two digits of the year before 2050, four from then on.
fn time(at: Timestamp) -> Vec<u8> {
    let at = at.to_zoned(TimeZone::UTC);
    if at.year() < 2050 {
        let text = at.strftime("%y%m%d%H%M%SZ").to_string();
        node(UTC_TIME, &[text.as_bytes()])
    } else {
        let text = at.strftime("%Y%m%d%H%M%SZ").to_string();
        node(GENERALIZED_TIME, &[text.as_bytes()])
    }
}

fn encode_pem(der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::auth::{SigningKey, certificate};
    use rcgen::{CertificateParams, DnType, KeyPair};
    use tokio_rustls::rustls::{
        RootCertStore, crypto::ring::default_provider, pki_types::UnixTime,
        server::WebPkiClientVerifier,
    };

    use super::*;
    use crate::pki;

    fn authority() -> ClusterAuthority {
        let ca = pki::new_authority(jiff::Zoned::now().date()).unwrap();
        let issuer = Issuer {
            url: "https://issuer".to_owned(),
            key: SigningKey::read(&SigningKey::generate().unwrap()).unwrap(),
        };
        ClusterAuthority::new(&ca, issuer).unwrap()
    }

    fn request() -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["evil.example.com".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "dev");
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    #[test]
    fn a_certificate_is_its_clients_and_the_authoritys() {
        let authority = authority();
        let pem = authority.sign_client(&request(), Some(3600)).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let user = certificate::user(&der).unwrap();
        assert_eq!(user, api::auth::User::new("jane", &["dev"]));
        let (rest, read) = X509Certificate::from_der(&der).unwrap();
        assert!(rest.is_empty());
        let validity = read.validity();
        let life = validity.not_after.timestamp() - validity.not_before.timestamp();
        assert_eq!(life, 3600 + 300);
        assert!(read.subject_alternative_name().unwrap().is_none());
        assert!(!read.is_ca());
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap();
        roots.add(root).unwrap();
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        verifier
            .verify_client_cert(&der, &[], UnixTime::now())
            .unwrap();
    }

    #[test]
    fn no_certificate_outlives_its_authority() {
        let authority = authority();
        let pem = authority.sign_client(&request(), Some(i32::MAX)).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, read) = X509Certificate::from_der(&der).unwrap();
        let ends = read.validity().not_after.timestamp();
        assert_eq!(ends, authority.ends.as_second());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let authority = authority();
        let swapped = request().replace("CERTIFICATE REQUEST", "CERTIFICATE");
        assert!(
            authority
                .sign_client(&swapped, None)
                .is_ok_and(|pem| !pem.is_empty())
        );
        for text in [
            "",
            "x",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        ] {
            assert!(authority.sign_client(text, None).is_err(), "{text}");
        }
        // A signature of another key.
        let (_, pem) = x509_parser::pem::parse_x509_pem(request().as_bytes())
            .map(|(rest, pem)| (rest.to_vec(), pem))
            .unwrap();
        let mut der = pem.contents;
        let last = der.len() - 1;
        der[last] ^= 1;
        let forged = encode_pem(&der);
        assert_eq!(
            authority
                .sign_client(&forged, None)
                .unwrap_err()
                .to_string(),
            "the request's signature is not its key's"
        );
    }

    #[test]
    fn years_are_written_as_the_standard_wants() {
        let at =
            |text: &str| String::from_utf8_lossy(&time(text.parse().unwrap())[2..]).into_owned();
        assert_eq!(at("2049-12-31T23:59:59Z"), "491231235959Z");
        assert_eq!(at("2050-01-01T00:00:00Z"), "20500101000000Z");
    }
}
