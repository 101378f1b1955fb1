//! CertificateSigningRequest: a key that somebody wants a certificate for.
//!
//! The spec never changes. `approval` sets whether it may be signed, `status` the certificate.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::request;
use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Stamp, Subresource, check, column,
        value::{child, each, entries, fill, find, items, number, part, present, put, text},
        write,
    },
    name, time,
};

/// The kind.
pub(crate) struct CertificateSigningRequest;

static NAMES: Names = Names {
    group: "certificates.k8s.io",
    version: "v1",
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short: &["csr"],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.certificates.v1.CertificateSigningRequest",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::AGE,
    column::shown("SignerName", "Who is asked to sign it"),
    column::shown("Requestor", "Who asks"),
    column::shown("RequestedDuration", "How long the certificate should hold"),
    column::shown("Condition", "Whether it is approved, denied, issued"),
];

/// Conditions that only `approval` sets.
const DECISIONS: &[&str] = &["Approved", "Denied"];
/// Conditions that are true or not there, and stay once they are.
const FINAL: &[&str] = &["Approved", "Denied", "Failed"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The least seconds that a certificate may be asked for.
const SECONDS: i64 = 600;
/// Bytes of a signer's name.
const SIGNER: usize = 571;

impl Kind for CertificateSigningRequest {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Approval, Subresource::Status]
    }

    fn counted(&self) -> &[&'static str] {
        &[]
    }

    fn name_problems(&self, name: &str) -> Vec<String> {
        name::segment_problems(name)
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", write::empty());
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        put(object, "spec", part(old, "/spec").clone());
        write::keep_status(object, old);
    }

    fn prepare_approval(&self, object: &mut Value, old: &Value) {
        let conditions = part(object, "/status/conditions").clone();
        write::status(object, old);
        put(object, "status", part(old, "/status").clone());
        if let Some(status) = child(object, "status") {
            put(status, "conditions", conditions);
        }
    }

    /// A signer that sends the decisions back has not changed them.
    fn prepare_status(&self, object: &mut Value, old: &Value) {
        write::status(object, old);
        for decision in DECISIONS {
            let mut had = of_type(old, decision);
            if had.len() != of_type(object, decision).len() {
                continue;
            }
            if let Some(status) = find(object, "status") {
                for condition in each(status, "conditions") {
                    if text(condition, "/type") == *decision && !had.is_empty() {
                        *condition = had.remove(0).clone();
                    }
                }
            }
        }
    }

    /// Who asks is who sends the request; when a decision was made is when it came.
    fn stamp(&self, object: &mut Value, old: Option<&Value>, by: &Stamp<'_>) {
        let Some(old) = old else {
            if let Some(spec) = find(object, "spec") {
                put(spec, "username", by.user.name.as_str().into());
                let groups = match by.user.groups.as_slice() {
                    [] => Value::Null,
                    groups => json!(groups),
                };
                put(spec, "groups", groups);
                let uid = match by.user.uid.as_str() {
                    "" => Value::Null,
                    uid => uid.into(),
                };
                put(spec, "uid", uid);
                let extra = if by.user.extra.is_empty() {
                    Value::Null
                } else {
                    json!(by.user.extra)
                };
                put(spec, "extra", extra);
            }
            return;
        };
        let now = Value::from(time::seconds(by.now));
        let Some(status) = find(object, "status") else {
            return;
        };
        for condition in each(status, "conditions") {
            fill(condition, "lastUpdateTime", now.clone());
            let kind = text(condition, "/type");
            let since = of_type(old, kind)
                .into_iter()
                .find(|was| text(was, "/status") == text(condition, "/status"))
                .map(|was| part(was, "/lastTransitionTime"))
                .filter(|since| !since.is_null())
                .unwrap_or(&now);
            let since = since.clone();
            fill(condition, "lastTransitionTime", since);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        let signer = text(spec, "/signerName");
        validate_usages(&path.field("usages"), items(spec, "/usages"), errors);
        if signer == "kubernetes.io/legacy-unknown" {
            errors.invalid(
                &path.field("signerName"),
                signer,
                "the legacy signerName is not allowed via this API version",
            );
        } else {
            validate_signer(&path.field("signerName"), signer, errors);
        }
        if let Some(seconds) = number(spec, "/expirationSeconds")
            && seconds < SECONDS
        {
            errors.invalid(
                &path.field("expirationSeconds"),
                seconds,
                "may not specify a duration less than 600 seconds (10 minutes)",
            );
        }
        validate_conditions(object, errors);
    }

    /// Later the request is what it was.
    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        let given = part(object, "/spec/request");
        if let Err(problem) = request::read(given) {
            let path = Path::root("spec").field("request");
            errors.invalid(&path, given.clone(), problem);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        for kind in FINAL {
            if of_type(object, kind).len() < of_type(old, kind).len() {
                errors.forbidden(
                    &Path::root("status").field("conditions"),
                    format!("updates may not remove a condition of type {kind:?}"),
                );
            }
        }
    }

    fn validate_status(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("status");
        for kind in DECISIONS {
            if of_type(object, kind).len() > of_type(old, kind).len() {
                let detail = format!("updates may not add a condition of type {kind:?}");
                errors.forbidden(&path.field("conditions"), detail);
            }
        }
        let (new, was) = (
            text(object, "/status/certificate"),
            text(old, "/status/certificate"),
        );
        if new == was {
            return;
        }
        let path = path.field("certificate");
        if !was.is_empty() {
            errors.forbidden(&path, "updates may not modify existing certificate content");
        }
        if !new.is_empty()
            && let Err(problem) = request::check_certificates(part(object, "/status/certificate"))
        {
            errors.invalid(&path, "<certificate data>", problem);
        }
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![(
            "spec.signerName",
            text(object, "/spec/signerName").to_owned(),
        )]
    }

    fn field_names(&self) -> &[&'static str] {
        &["spec.signerName"]
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let duration = number(object, "/spec/expirationSeconds").map(time::human);
        vec![
            column::name(object),
            column::age(object, now),
            column::or_none(text(object, "/spec/signerName")),
            text(object, "/spec/username").into(),
            column::or_none(&duration.unwrap_or_default()),
            condition(object).into(),
        ]
    }
}

/// The conditions of a type; more than one is an error elsewhere.
fn of_type<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    let conditions = items(object, "/status/conditions").iter();
    conditions
        .filter(|condition| text(condition, "/type") == kind)
        .collect()
}

fn validate_usages(path: &Path, usages: &[Value], errors: &mut FieldErrors) {
    if usages.is_empty() {
        errors.required(path, "");
    }
    for (index, usage) in usages.iter().enumerate() {
        check::one_of(&path.index(index), usage, USAGES, errors);
        if usages[..index].contains(usage) {
            errors.push(&path.index(index), Cause::Duplicate, usage.clone(), "");
        }
    }
}

fn validate_signer(path: &Path, signer: &str, errors: &mut FieldErrors) {
    if signer.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((domain, own)) = signer.split_once('/').filter(|(_, own)| !own.contains('/')) else {
        errors.invalid(
            path,
            signer,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
        return;
    };
    check::problems(path, domain, name::domain_problems(domain, 2), errors);
    check::problems(path, own, name::subdomain_problems(own), errors);
    if signer.len() > SIGNER {
        check::too_long(path, SIGNER, errors);
    }
}

fn validate_conditions(object: &Value, errors: &mut FieldErrors) {
    let path = Path::root("status").field("conditions");
    let conditions = items(object, "/status/conditions");
    for (index, condition) in conditions.iter().enumerate() {
        let (kind, status) = (text(condition, "/type"), text(condition, "/status"));
        let at = path.index(index);
        if kind.is_empty() {
            errors.required(&at.field("type"), "");
        }
        let allowed = if FINAL.contains(&kind) {
            &["True"]
        } else {
            STATUSES
        };
        if status.is_empty() {
            errors.required(&at.field("status"), "");
        } else if !allowed.contains(&status) {
            errors.not_supported(&at.field("status"), status, allowed);
        }
        let before = &conditions[..index];
        let contradicts = DECISIONS.contains(&kind)
            && before.iter().any(|other| {
                let other = text(other, "/type");
                other != kind && DECISIONS.contains(&other)
            });
        if contradicts {
            errors.invalid(
                &path,
                kind,
                "Approved and Denied conditions are mutually exclusive",
            );
        }
        if before.iter().any(|other| text(other, "/type") == kind) {
            errors.push(&at.field("type"), Cause::Duplicate, kind.into(), "");
        }
    }
}

fn condition(object: &Value) -> String {
    let has = |kind: &str| !of_type(object, kind).is_empty();
    let mut condition = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        condition.push_str(",Failed");
    }
    if present(object, "/status/certificate") {
        condition.push_str(",Issued");
    }
    condition
}

/// True if something but the times of the status differs: what only a signer writes.
pub(crate) fn is_signed_anew(object: &Value, old: &Value) -> bool {
    entries(object, "/status")
        .chain(entries(old, "/status"))
        .any(|(field, _)| object["status"].get(field) != old["status"].get(field))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{super::request::tests::request, *};
    use crate::{
        auth::User,
        kinds::tests::{errors, read, row, status_update_errors, update_errors},
    };

    #[track_caller]
    fn check(yaml: &str, expect: Expect) {
        expect.assert_eq(&errors(&CertificateSigningRequest, yaml));
    }

    const GOOD: &str = "spec: {signerName: example.com/s, usages: [client auth]}";

    #[test]
    fn it_says_what_for_and_whom_it_asks() {
        check(&format!("{{{GOOD}}}"), expect![""]);
        check(
            "{spec: {expirationSeconds: 1, usages: [client auth, client auth, mine]}}",
            expect![[r#"
                spec.usages[1]: Duplicate value: "client auth"
                spec.usages[2]: Unsupported value: "mine": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
                spec.signerName: Required value
                spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)
            "#]],
        );
        check(
            "{spec: {usages: [any], signerName: me}}",
            expect![[r#"
                spec.signerName: Invalid value: "me": must be a fully qualified domain and path of the form 'example.com/signer-name'
            "#]],
        );
        check(
            "{spec: {usages: [any], signerName: me/s}}",
            expect![[r#"
                spec.signerName: Invalid value: "me": should be a domain with at least two segments separated by dots
            "#]],
        );
    }

    #[test]
    fn a_new_one_holds_a_request() {
        let mut errors = FieldErrors::default();
        let object = json!({"spec": {"request": request("dev")}});
        CertificateSigningRequest.validate_create(&object, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        CertificateSigningRequest
            .validate_create(&json!({"spec": {"request": "eA=="}}), &mut errors);
        expect![[
            r#"spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST"#
        ]]
        .assert_eq(&errors.0[0].to_string());
    }

    #[test]
    fn a_decision_is_one_way_and_for_good() {
        let with = |conditions: &str| format!("{{{GOOD}, status: {{conditions: [{conditions}]}}}}");
        check(
            &with("{type: Approved, status: 'False'}, {type: Denied, status: 'True'}, {status: x}"),
            expect![[r#"
                status.conditions[0].status: Unsupported value: "False": supported values: "True"
                status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive
                status.conditions[2].type: Required value
                status.conditions[2].status: Unsupported value: "x": supported values: "False", "True", "Unknown"
            "#]],
        );
        let approved = with("{type: Approved, status: 'True', reason: a}");
        let mut object = read(&with(""));
        let old = read(&approved);
        CertificateSigningRequest.prepare_approval(&mut object, &old);
        let mut errors = FieldErrors::default();
        CertificateSigningRequest.validate_update(&object, &old, &mut errors);
        expect![[
            r#"status.conditions: Forbidden: updates may not remove a condition of type "Approved""#
        ]]
        .assert_eq(&errors.0[0].to_string());
        expect![""].assert_eq(&update_errors(
            &CertificateSigningRequest,
            &approved,
            &with(""),
        ));
    }

    #[test]
    fn a_signer_writes_the_certificate_once_and_no_decision() {
        let status = |status: &str| format!("{{{GOOD}, status: {{{status}}}}}");
        expect![[r#"
            status.conditions: Forbidden: updates may not add a condition of type "Approved"
            status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block
        "#]]
        .assert_eq(&status_update_errors(
            &CertificateSigningRequest,
            &status(""),
            &status("conditions: [{type: Approved, status: 'True'}], certificate: eA=="),
        ));
        expect![[r#"
            status.certificate: Forbidden: updates may not modify existing certificate content
        "#]]
        .assert_eq(&status_update_errors(
            &CertificateSigningRequest,
            &status("certificate: eA=="),
            &status("conditions: []"),
        ));
    }

    #[test]
    fn who_asks_and_when_it_was_decided_is_the_servers_to_say() {
        let by = Stamp {
            user: &User::new("jane", &["dev"]),
            now: "2026-01-02T03:04:05Z".parse().expect("a time"),
        };
        let mut object = read("{spec: {username: root, uid: x, groups: [a], extra: {a: [b]}}}");
        CertificateSigningRequest.stamp(&mut object, None, &by);
        expect![[r#"{"spec":{"groups":["dev"],"username":"jane"}}"#]]
            .assert_eq(&object.to_string());
        let mut object = read(
            "{status: {conditions: [{type: Approved, status: 'True'}, {type: Failed, status: 'True'}]}}",
        );
        let old = read(
            "{status: {conditions: [{type: Failed, status: 'True', lastTransitionTime: earlier}]}}",
        );
        CertificateSigningRequest.stamp(&mut object, Some(&old), &by);
        expect![[r#"{"status":{"conditions":[{"lastTransitionTime":"2026-01-02T03:04:05Z","lastUpdateTime":"2026-01-02T03:04:05Z","status":"True","type":"Approved"},{"lastTransitionTime":"earlier","lastUpdateTime":"2026-01-02T03:04:05Z","status":"True","type":"Failed"}]}}"#]]
            .assert_eq(&object.to_string());
    }

    #[test]
    fn a_row_says_how_far_it_is() {
        expect!["r|60m|example.com/s|jane|24h|Approved,Issued"].assert_eq(&row(
            &CertificateSigningRequest,
            "{metadata: {name: r}, spec: {signerName: example.com/s, username: jane, expirationSeconds: \
             86400}, status: {certificate: x, conditions: [{type: Approved}]}}",
        ));
        expect!["r|60m|<none>||<none>|Denied,Failed"].assert_eq(&row(
            &CertificateSigningRequest,
            "{metadata: {name: r}, status: {conditions: [{type: Failed}, {type: Denied}]}}",
        ));
    }
}
