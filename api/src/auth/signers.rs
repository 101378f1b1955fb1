//! What CertificateSigningRequests need beside RBAC: whose they are, and who may approve and sign for which
//! signer (the verbs `approve` and `sign` on `signers`, by name or as `<domain>/*`).

use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{Attributes, MASTERS, authorizer::Resource};
use crate::{
    error::Error,
    object,
    verbs::{call::Call, change::Part},
};

const GROUP: &str = "certificates.k8s.io";
/// The signer of certificates for clients of the apiserver.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

fn is_request(call: &Call) -> bool {
    let names = call.resource.names();
    names.group == GROUP && names.plural == "certificatesigningrequests"
}

/// Writes the user who asks into a new request, whatever it said itself, and refuses one for more than
/// anybody may be given.
pub(crate) fn admit_create(call: &Call, object: &mut Value) -> Result<(), Error> {
    if !is_request(call) {
        return Ok(());
    }
    let Some(spec) = object["spec"].as_object_mut() else {
        return Ok(());
    };
    let user = &call.user;
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.insert("username".to_owned(), user.name.clone().into());
    if !user.uid.is_empty() {
        spec.insert("uid".to_owned(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
    if object["spec"]["signerName"] == CLIENT_SIGNER
        && organizations(&object["spec"]["request"])
            .iter()
            .any(|name| name == MASTERS)
    {
        return Err(forbidden(
            call,
            object,
            format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"),
        ));
    }
    Ok(())
}

/// Refuses an approval or a certificate from a user who may not give it.
pub(crate) fn admit_change(
    call: &Call,
    part: Part,
    object: &Value,
    old: &Value,
) -> Result<(), Error> {
    if !is_request(call) {
        return Ok(());
    }
    let verb = if old["status"]["certificate"] != object["status"]["certificate"] {
        "sign"
    } else if part != Part::Main && decided(object) != decided(old) {
        "approve"
    } else if part == Part::Status && old["status"]["conditions"] != object["status"]["conditions"]
    {
        "sign"
    } else {
        return Ok(());
    };
    let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    let allowed = [signer.to_owned(), format!("{domain}/*")]
        .iter()
        .any(|name| {
            let asked = Resource {
                group: GROUP,
                resource: "signers",
                name,
                ..Resource::default()
            };
            let asked = Attributes::resource(verb, asked);
            call.server.authorizer.allows(&call.user, &asked)
        });
    if allowed {
        return Ok(());
    }
    Err(forbidden(
        call,
        object,
        format!("user not permitted to {verb} requests with signerName {signer:?}"),
    ))
}

fn forbidden(call: &Call, object: &Value, message: String) -> Error {
    Error::Forbidden {
        subject: call.subject(object::name(object)),
        message,
        cause: None,
    }
}

/// The approvals and denials among the conditions.
fn decided(object: &Value) -> Vec<&Value> {
    let conditions = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    conditions
        .filter(|condition| condition["type"] == "Approved" || condition["type"] == "Denied")
        .collect()
}

/// The organisations of a request's subject; none if it cannot be read, which validation says.
fn organizations(request: &Value) -> Vec<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let pem = request.as_str().and_then(|text| STANDARD.decode(text).ok());
    let der = pem.and_then(|pem| {
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
        Some(pem.contents)
    });
    let Some(der) = der else {
        return Vec::new();
    };
    let Ok((_, request)) = X509CertificationRequest::from_der(&der) else {
        return Vec::new();
    };
    let subject = &request.certification_request_info.subject;
    subject
        .iter_organization()
        .filter_map(|name| Some(name.as_str().ok()?.to_owned()))
        .collect()
}
