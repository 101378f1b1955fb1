//! Reads a user out of a client certificate: common name is the user, organisations are the groups.
//!
//! Pure. The TLS layer has verified the chain before this is called.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;

/// The identity in a DER certificate; `None` if it cannot be read or has no common name.
pub fn user(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    (!name.is_empty()).then(|| User {
        name: name.to_owned(),
        groups: subject
            .iter_organization()
            .filter_map(|organization| organization.as_str().ok())
            .map(str::to_owned)
            .collect(),
        ..User::default()
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(name: Option<&str>, organization: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
        let key = KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec()
    }

    #[test]
    fn common_name_is_the_user_and_organization_the_group() {
        assert_eq!(
            user(&certificate(Some("system:node:n1"), "system:nodes")),
            Some(User::node("n1"))
        );
    }

    #[test]
    fn a_certificate_without_a_name_is_nobody() {
        assert_eq!(user(&certificate(None, "system:masters")), None);
        assert_eq!(user(b"not a certificate"), None);
    }
}
