//! Who may approve and sign requests for certificates, and what nobody may ask for.
//!
//! As Kubernetes' plugins CertificateApproval, CertificateSigning and CertificateSubjectRestriction:
//! `approve` and `sign` are verbs on `signers`, named by the signer or by its domain and `/*`.

use serde_json::Value;

use super::{Operation, Review};
use crate::{
    auth::{Attributes, MASTERS, authorizer::Resource},
    error::Error,
    kinds::{certificates::request, certificates::signing_request},
};

const GROUP: &str = "certificates.k8s.io";
/// The signer whose certificates the apiserver takes for users.
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

/// Looks at a request as it will be stored; everything else passes.
pub(super) fn validate(
    review: &Review<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Error> {
    let names = review.call.resource.names();
    let Some(object) =
        object.filter(|_| names.group == GROUP && names.plural == "certificatesigningrequests")
    else {
        return Ok(());
    };
    match (review.operation, review.subresource, old) {
        (Operation::Create, ..) => restrict(review, object),
        (Operation::Update, "approval", Some(old)) => permit(review, "approve", old),
        (Operation::Update, "status", Some(old))
            if signing_request::is_signed_anew(object, old) =>
        {
            permit(review, "sign", old)
        }
        _ => Ok(()),
    }
}

/// A certificate of the group that may do everything is made by nobody who asks.
fn restrict(review: &Review<'_>, object: &Value) -> Result<(), Error> {
    if object["spec"]["signerName"] != CLIENTS {
        return Ok(());
    }
    let subject = request::read(&object["spec"]["request"]);
    if subject.is_ok_and(|subject| subject.organizations.iter().any(|one| one == MASTERS)) {
        return Err(refusal(
            review,
            format!("use of {CLIENTS} signer with {MASTERS} group is not allowed"),
        ));
    }
    Ok(())
}

fn permit(review: &Review<'_>, verb: &str, old: &Value) -> Result<(), Error> {
    let call = review.call;
    let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
    let domain = signer.split('/').next().unwrap_or_default();
    let all = format!("{domain}/*");
    let allowed = [signer, all.as_str()].into_iter().any(|name| {
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
    Err(refusal(
        review,
        format!("user not permitted to {verb} requests with signerName {signer:?}"),
    ))
}

fn refusal(review: &Review<'_>, message: String) -> Error {
    Error::Forbidden {
        subject: review.call.subject(&review.name),
        message,
        cause: None,
    }
}
