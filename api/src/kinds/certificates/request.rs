//! What requests and certificates hold: PEM around DER.
//!
//! Pure. Both come from outside: whatever cannot be read is an error, never a panic.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use x509_parser::{
    pem::Pem,
    prelude::{FromDer, X509Certificate, X509CertificationRequest},
};

/// Who a request says that it is from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Subject {
    pub(crate) organizations: Vec<String>,
}

/// Reads a PKCS #10 request, base64 of PEM, and checks that it is signed with its own key.
pub(crate) fn read(request: &Value) -> Result<Subject, String> {
    let pem = decode(request)?;
    let block = first_block(&pem);
    let Some(block) = block.filter(|block| block.label == "CERTIFICATE REQUEST") else {
        return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    let (_, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| format!("the request cannot be read: {error}"))?;
    request
        .verify_signature()
        .map_err(|error| format!("the request is not signed with its own key: {error}"))?;
    let organizations = request
        .certification_request_info
        .subject
        .iter_organization();
    Ok(Subject {
        organizations: organizations
            .filter_map(|organization| organization.as_str().ok())
            .map(str::to_owned)
            .collect(),
    })
}

/// Checks that a status holds certificates in PEM and nothing else.
pub(crate) fn check_certificates(certificate: &Value) -> Result<(), String> {
    let pem = decode(certificate)?;
    let mut blocks = 0;
    for block in Pem::iter_from_buffer(&pem) {
        let block = block.map_err(|error| error.to_string())?;
        if block.label != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ));
        }
        X509Certificate::from_der(&block.contents).map_err(|error| error.to_string())?;
        blocks += 1;
    }
    if blocks == 0 {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    Ok(())
}

fn decode(base64: &Value) -> Result<Vec<u8>, String> {
    STANDARD
        .decode(base64.as_str().unwrap_or_default())
        .map_err(|error| format!("must be base64: {error}"))
}

fn first_block(pem: &[u8]) -> Option<Pem> {
    Pem::iter_from_buffer(pem).next()?.ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    /// A request of a member of a group, as a spec holds it.
    pub(crate) fn request(organization: &str) -> String {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "jane");
        name.push(DnType::OrganizationName, organization);
        let request = params.serialize_request(&key).expect("a request");
        STANDARD.encode(request.pem().expect("PEM"))
    }

    #[test]
    fn a_request_says_which_groups_it_wants() {
        let subject = read(&request("dev").into()).expect("it can be read");
        assert_eq!(subject.organizations, ["dev"]);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let pem = "-----BEGIN CERTIFICATE REQUEST-----\neA==\n-----END CERTIFICATE REQUEST-----\n";
        let refused = |text: &str| read(&STANDARD.encode(text).into()).expect_err("it is refused");
        assert_eq!(refused("x"), "PEM block type must be CERTIFICATE REQUEST");
        assert!(refused(pem).starts_with("the request cannot be read: "));
        assert!(
            read(&"ä".into())
                .expect_err("no base64")
                .starts_with("must be base64: ")
        );
        let request = STANDARD.decode(request("dev")).expect("base64");
        let text = String::from_utf8(request).expect("text");
        // The subject is in the first lines: another organization under the same signature.
        let forged = x509_parser::pem::parse_x509_pem(text.as_bytes())
            .expect("PEM")
            .1
            .contents;
        let at = forged
            .windows(3)
            .position(|part| part == b"dev")
            .expect("the organization");
        let mut forged = forged;
        forged[at..at + 3].copy_from_slice(b"ops");
        let body = STANDARD.encode(forged);
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n"
        );
        assert!(refused(&pem).starts_with("the request is not signed with its own key: "));
    }

    #[test]
    fn a_status_holds_certificates() {
        let check = |text: &str| check_certificates(&STANDARD.encode(text).into());
        assert_eq!(
            check("x"),
            Err("must contain at least one CERTIFICATE PEM block".to_owned())
        );
        assert_eq!(
            check("-----BEGIN KEY-----\neA==\n-----END KEY-----\n"),
            Err("only CERTIFICATE PEM blocks are allowed, found \"KEY\"".to_owned())
        );
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::default();
        let certificate = params.self_signed(&key).expect("a certificate");
        assert_eq!(check(&certificate.pem()), Ok(()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let label = "CERTIFICATE REQUEST";
            let body = STANDARD.encode(&bytes);
            let pem = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
            let _ = read(&STANDARD.encode(&pem).into());
            let _ = check_certificates(&STANDARD.encode(pem.replace(" REQUEST", "")).into());
            let _ = read(&STANDARD.encode(&bytes).into());
        }
    }
}
