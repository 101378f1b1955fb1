//! Signs the approved CertificateSigningRequests for clients of the apiserver, and removes old ones.
//!
//! Reads `CertificateSigningRequest`; writes the status of those of the signer
//! `kubernetes.io/kube-apiserver-client`, and deletes those of every signer whose time is over: an hour after
//! they were decided, a day after they were made.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::Access;
use crate::cache::Listener;
use crate::error::{Error, within_opt};
use crate::key::Key;
use crate::queue::{Action, Queue};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const USAGES: &[&str] = &["digital signature", "key encipherment", "client auth"];
/// How long a request stays once it is decided.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// How long it waits for a decision.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// What to do about one request.
#[derive(PartialEq, Debug)]
enum Plan {
    Sign,
    /// It cannot be signed, and why.
    Fail(String),
    Delete,
    /// To be looked at again then.
    Wait(Duration),
}

/// Works on one request.
pub(super) async fn reconcile(access: Arc<Access>, key: Key) -> Result<Action, Error> {
    let Some(request) = access.requests.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let client = access.context.client.clone();
    let api: Api<CertificateSigningRequest> = Api::all(client);
    let now = Timestamp::now();
    let mut plan = plan(&request, now);
    if plan == Plan::Sign {
        let pem = String::from_utf8_lossy(&request.spec.request.0).into_owned();
        let seconds = request.spec.expiration_seconds;
        match access.authority.sign_client(&pem, seconds) {
            Ok(certificate) => {
                let certificate = ByteString(certificate.into_bytes());
                let status = json!({"certificate": certificate});
                return write_status(&access, &api, &request, status).await;
            }
            Err(refused) => plan = Plan::Fail(refused.to_string()),
        }
    }
    match plan {
        Plan::Fail(message) => {
            let status = json!({"conditions": failed(&request, &message, now)?});
            write_status(&access, &api, &request, status).await
        }
        Plan::Delete => {
            let params = DeleteParams::default().preconditions(Preconditions {
                uid: request.uid(),
                resource_version: None,
            });
            within_opt(api.delete(&key.name, &params)).await?;
            Ok(Action::AwaitChange)
        }
        Plan::Wait(pause) => Ok(Action::After(pause)),
        Plan::Sign => Ok(Action::AwaitChange),
    }
}

async fn write_status(
    access: &Access,
    api: &Api<CertificateSigningRequest>,
    request: &CertificateSigningRequest,
    status: Value,
) -> Result<Action, Error> {
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": request.resource_version()},
        "status": status,
    }));
    let params = PatchParams::default();
    let written = within_opt(api.patch_status(&request.name_any(), &params, &patch)).await?;
    written
        .into_iter()
        .for_each(|request| access.requests.apply(request));
    Ok(Action::AwaitChange)
}

/// The conditions with one more.
fn failed(
    request: &CertificateSigningRequest,
    message: &str,
    now: Timestamp,
) -> Result<Value, Error> {
    let conditions = request
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone());
    let mut conditions = serde_json::to_value(conditions.unwrap_or_default())?;
    if let Some(list) = conditions.as_array_mut() {
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        list.push(json!({
            "type": "Failed", "status": "True", "reason": "SignerValidationFailure",
            "message": message, "lastUpdateTime": now, "lastTransitionTime": now,
        }));
    }
    Ok(conditions)
}

/// Decides what to do. Pure.
fn plan(request: &CertificateSigningRequest, now: Timestamp) -> Plan {
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let conditions = conditions.unwrap_or_default();
    let has = |kind: &str| conditions.iter().any(|condition| condition.type_ == kind);
    let issued = status
        .and_then(|status| status.certificate.as_ref())
        .is_some_and(|certificate| !certificate.0.is_empty());
    let ended = has("Denied") || has("Failed");
    if request.spec.signer_name == SIGNER && has("Approved") && !issued && !ended {
        return match bad_usage(request) {
            Some(message) => Plan::Fail(message),
            None => Plan::Sign,
        };
    }
    let made = request.metadata.creation_timestamp.as_ref();
    let made = made.map_or(now, |time| time.0);
    let decided = conditions
        .iter()
        .filter_map(|condition| condition.last_update_time.as_ref())
        .map(|time| time.0)
        .max();
    let over = match decided {
        Some(decided) if issued || ended => decided.saturating_add(DECIDED),
        _ => made.saturating_add(PENDING),
    };
    let over = over.unwrap_or(Timestamp::MAX);
    match now.duration_until(over) {
        left if left.is_positive() => Plan::Wait(left.unsigned_abs()),
        _ => Plan::Delete,
    }
}

/// What a certificate of a client cannot be used for.
fn bad_usage(request: &CertificateSigningRequest) -> Option<String> {
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    let bad: Vec<&str> = usages
        .iter()
        .map(String::as_str)
        .filter(|usage| !USAGES.contains(usage))
        .collect();
    if !bad.is_empty() {
        return Some(format!(
            "usages did not match {SIGNER}: invalid usages: {}",
            bad.join(", ")
        ));
    }
    let wanted = usages.iter().any(|usage| usage == "client auth");
    (!wanted).then(|| format!("usages did not match {SIGNER}: \"client auth\" is missing"))
}

pub(super) fn on_request(queue: &Queue<Key>) -> Listener<CertificateSigningRequest> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        if let Some(new) = new {
            queue.add(Key::of(&**new));
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const NOW: &str = "2026-01-02T12:00:00Z";

    /// `conditions`: type and time of each.
    #[track_caller]
    fn check(
        signer: &str,
        usages: &[&str],
        conditions: &[(&str, &str)],
        certificate: &str,
        expected: Expect,
    ) {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, at)| json!({"type": kind, "status": "True", "lastUpdateTime": at}))
            .collect();
        let request = serde_json::from_value(json!({
            "metadata": {"name": "jane", "creationTimestamp": "2026-01-02T00:00:00Z"},
            "spec": {"request": "", "signerName": signer, "usages": usages},
            "status": {"conditions": conditions, "certificate": certificate},
        }))
        .unwrap();
        expected.assert_eq(&format!("{:?}", plan(&request, NOW.parse().unwrap())));
    }

    #[test]
    fn an_approved_request_is_signed_once() {
        let approved = [("Approved", "2026-01-02T11:30:00Z")];
        let denied = [approved[0], ("Denied", "2026-01-02T11:30:00Z")];
        check(SIGNER, &["client auth"], &approved, "", expect!["Sign"]);
        check(
            SIGNER,
            &["client auth"],
            &approved,
            "eA==",
            expect!["Wait(1800s)"],
        );
        check(
            SIGNER,
            &["client auth"],
            &denied,
            "",
            expect!["Wait(1800s)"],
        );
        check(SIGNER, &["client auth"], &[], "", expect!["Wait(43200s)"]);
        check(
            "example.com/s",
            &["client auth"],
            &approved,
            "",
            expect!["Wait(43200s)"],
        );
    }

    #[test]
    fn a_certificate_of_a_client_is_for_clients() {
        let approved = [("Approved", "2026-01-02T11:30:00Z")];
        check(
            SIGNER,
            &["client auth", "server auth"],
            &approved,
            "",
            expect![[
                r#"Fail("usages did not match kubernetes.io/kube-apiserver-client: invalid usages: server auth")"#
            ]],
        );
        check(
            SIGNER,
            &["digital signature"],
            &approved,
            "",
            expect![[
                r#"Fail("usages did not match kubernetes.io/kube-apiserver-client: \"client auth\" is missing")"#
            ]],
        );
    }

    #[test]
    fn what_is_old_goes() {
        let before = "2026-01-02T10:59:00Z";
        check(
            SIGNER,
            &["client auth"],
            &[("Denied", before)],
            "",
            expect!["Delete"],
        );
        check(
            "example.com/s",
            &[],
            &[("Approved", before)],
            "eA==",
            expect!["Delete"],
        );
    }
}
