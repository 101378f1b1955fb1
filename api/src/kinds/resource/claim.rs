//! ResourceClaim and ResourceClaimTemplate: devices that a pod asks for.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, device};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column, not_acted_on,
        value::{self, fill, fill_text, find, items, number, part, plain, present, text},
        write,
    },
    name, object as metadata,
};

/// The claim.
pub(crate) struct ResourceClaim;

/// Of which each pod gets a claim of its own.
pub(crate) struct ResourceClaimTemplate;

static CLAIM: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "ResourceClaim",
    plural: "resourceclaims",
    singular: "resourceclaim",
    short: &[],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.resource.v1.ResourceClaim",
};

static TEMPLATE: Names = Names {
    kind: "ResourceClaimTemplate",
    plural: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    definition: "io.k8s.api.resource.v1.ResourceClaimTemplate",
    ..CLAIM
};

const CLAIM_COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("State", "Whether it has its devices"),
    column::AGE,
];

const TEMPLATE_COLUMNS: &[Column] = &[column::NAME, column::AGE];

/// Requests, constraints and users that a claim may have.
const LIST: usize = 32;
const USERS: usize = 256;
/// Alternatives of one request.
const ALTERNATIVES: usize = 8;

impl Kind for ResourceClaim {
    fn names(&self) -> &Names {
        &CLAIM
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn counted(&self) -> &[&'static str] {
        &[]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", write::empty());
        default_spec(find(object, "spec"));
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate_spec(&Path::root("spec"), part(object, "/spec"), errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(&Path::root("spec"), object, old, "/spec", errors);
    }

    fn validate_status(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("status");
        let users = items(object, "/status/reservedFor");
        let at = path.field("reservedFor");
        device::each(&at, users, USERS, errors, |path, user, errors| {
            for field in ["resource", "name", "uid"] {
                if text(user, &format!("/{field}")).is_empty() {
                    errors.required(&path.field(field), "");
                }
            }
        });
        device::unique(&at, users, "/uid", errors);
        let allocated = present(object, "/status/allocation");
        if !users.is_empty() && !allocated {
            errors.forbidden(&at, "may not be specified when `allocated` is not set");
        }
        let had: HashSet<_> = items(old, "/status/reservedFor").iter().collect();
        if metadata::deleting(object) && users.iter().any(|user| !had.contains(user)) {
            errors.forbidden(
                &at,
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            );
        }
        if allocated && present(old, "/status/allocation") {
            let path = path.field("allocation");
            check::immutable(&path, object, old, "/status/allocation", errors);
        } else if allocated {
            validate_results(&path.field("allocation"), object, errors);
        }
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&CLAIM)
    }

    fn columns(&self) -> &[Column] {
        CLAIM_COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let deleted = metadata::deleting(object);
        let allocated = present(object, "/status/allocation");
        let reserved = allocated && !items(object, "/status/reservedFor").is_empty();
        let states = [
            (deleted, "deleted"),
            (!allocated && !deleted, "pending"),
            (allocated, "allocated"),
            (reserved, "reserved"),
        ];
        let states: Vec<_> = states
            .into_iter()
            .filter_map(|(is, state)| is.then_some(state))
            .collect();
        vec![
            column::name(object),
            states.join(",").into(),
            column::age(object, now),
        ]
    }
}

impl Kind for ResourceClaimTemplate {
    fn names(&self) -> &Names {
        &TEMPLATE
    }

    fn default(&self, object: &mut Value) {
        default_spec(find(object, "spec").and_then(|spec| find(spec, "spec")));
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let labels = path.field("metadata").field("labels");
        check::labels(&labels, object, "/spec/metadata/labels", errors);
        validate_spec(&path.field("spec"), part(object, "/spec/spec"), errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(&Path::root("spec"), object, old, "/spec", errors);
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&TEMPLATE)
    }

    fn columns(&self) -> &[Column] {
        TEMPLATE_COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![column::name(object), column::age(object, now)]
    }
}

fn default_spec(spec: Option<&mut Value>) {
    let Some(devices) = spec.and_then(|spec| find(spec, "devices")) else {
        return;
    };
    for request in value::each(devices, "requests") {
        if let Some(exactly) = find(request, "exactly") {
            default_request(exactly);
        }
        for alternative in value::each(request, "firstAvailable") {
            default_request(alternative);
        }
    }
}

fn default_request(request: &mut Value) {
    fill_text(request, "allocationMode", "ExactCount");
    if text(request, "/allocationMode") == "ExactCount"
        && number(request, "/count").unwrap_or_default() == 0
    {
        request["count"] = 1.into();
    }
    for toleration in value::each(request, "tolerations") {
        fill_text(toleration, "operator", "Equal");
    }
}

fn validate_spec(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let path = path.field("devices");
    let devices = part(spec, "/devices");
    let requests = items(devices, "/requests");
    let at = path.field("requests");
    device::each(&at, requests, LIST, errors, validate_request);
    device::unique(&at, requests, "/name", errors);
    let constraints = items(devices, "/constraints");
    let at = path.field("constraints");
    device::each(
        &at,
        constraints,
        LIST,
        errors,
        |path, constraint, errors| {
            validate_references(path, constraint, requests, errors);
            let attribute = ["matchAttribute", "distinctAttribute"]
                .into_iter()
                .find_map(|field| {
                    let name = part(constraint, &format!("/{field}")).as_str()?;
                    Some((field, name))
                });
            match attribute {
            Some((field, name)) => device::validate_full_name(&path.field(field), name, errors),
            None => errors.required(
                path,
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            ),
        }
        },
    );
    device::validate_configurations(&path, devices, errors, |path, config, errors| {
        validate_references(path, config, requests, errors);
    });
}

fn validate_request(path: &Path, request: &Value, errors: &mut FieldErrors) {
    device::validate_label(&path.field("name"), text(request, "/name"), errors);
    let alternatives = items(request, "/firstAvailable");
    match (present(request, "/exactly"), alternatives.is_empty()) {
        (false, true) => errors.required(
            path,
            "exactly one of `exactly` or `firstAvailable` is required",
        ),
        (true, false) => errors.invalid(
            path,
            Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (true, true) => {
            validate_wish(&path.field("exactly"), part(request, "/exactly"), errors);
        }
        (false, false) => {
            let path = path.field("firstAvailable");
            let most = ALTERNATIVES;
            device::each(&path, alternatives, most, errors, |path, wish, errors| {
                device::validate_label(&path.field("name"), text(wish, "/name"), errors);
                validate_wish(path, wish, errors);
            });
            device::unique(&path, alternatives, "/name", errors);
        }
    }
}

/// How many devices of which class.
fn validate_wish(path: &Path, wish: &Value, errors: &mut FieldErrors) {
    let at = path.field("deviceClassName");
    match text(wish, "/deviceClassName") {
        "" => errors.required(&at, ""),
        class => check::problems(&at, class, name::subdomain_problems(class), errors),
    }
    device::validate_selectors(path, wish, errors);
    let count = number(wish, "/count").unwrap_or_default();
    match text(wish, "/allocationMode") {
        "All" if count != 0 => errors.invalid(
            &path.field("count"),
            count,
            "must not be specified when allocationMode is 'All'",
        ),
        "ExactCount" if count <= 0 => {
            errors.invalid(&path.field("count"), count, "must be greater than zero");
        }
        "All" | "ExactCount" => {}
        other => {
            errors.not_supported(&path.field("allocationMode"), other, &["All", "ExactCount"]);
        }
    }
    for (index, toleration) in items(wish, "/tolerations").iter().enumerate() {
        let path = path.field("tolerations").index(index);
        device::validate_toleration(&path, toleration, errors);
    }
}

/// The requests that something is about.
fn validate_references(path: &Path, owner: &Value, requests: &[Value], errors: &mut FieldErrors) {
    let path = path.field("requests");
    let mut seen = check::Seen::new();
    for (index, reference) in items(owner, "/requests").iter().map(plain).enumerate() {
        let path = path.index(index);
        validate_reference(&path, &reference, requests, errors);
        check::unique(&path, &reference, &mut seen, errors);
    }
}

fn validate_reference(path: &Path, reference: &str, requests: &[Value], errors: &mut FieldErrors) {
    let (own, alternative) = match reference.split_once('/') {
        Some((own, alternative)) => (own, Some(alternative)),
        None => (reference, None),
    };
    let found = requests
        .iter()
        .find(|request| text(request, "/name") == own);
    let known = found.is_some_and(|request| {
        alternative.is_none_or(|alternative| {
            items(request, "/firstAvailable")
                .iter()
                .any(|one| text(one, "/name") == alternative)
        })
    });
    if !known {
        errors.invalid(
            path,
            reference,
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
        );
    }
}

/// The devices that a claim got.
fn validate_results(path: &Path, object: &Value, errors: &mut FieldErrors) {
    let requests = items(object, "/spec/devices/requests");
    let results = items(object, "/status/allocation/devices/results");
    let path = path.field("devices").field("results");
    device::each(&path, results, LIST, errors, |path, result, errors| {
        let request = text(result, "/request");
        validate_reference(&path.field("request"), request, requests, errors);
        device::validate_driver(&path.field("driver"), text(result, "/driver"), errors);
        device::validate_pool(&path.field("pool"), text(result, "/pool"), errors);
        device::validate_label(&path.field("device"), text(result, "/device"), errors);
    });
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row, status_update_errors, update_errors};

    #[track_caller]
    fn check(devices: &str, expect: Expect) {
        let yaml = format!("{{spec: {{devices: {{{devices}}}}}}}");
        expect.assert_eq(&errors(&ResourceClaim, &yaml));
    }

    const GPU: &str = "requests: [{name: gpu, exactly: {deviceClassName: gpu}}]";

    #[test]
    fn a_request_is_for_one_device() {
        expect![[r#"{"spec":{"spec":{"devices":{"requests":[{"exactly":{"allocationMode":"ExactCount","count":1,"deviceClassName":"gpu"},"name":"gpu"}]}}}}"#]]
            .assert_eq(&defaulted(
                &ResourceClaimTemplate,
                &format!("{{spec: {{spec: {{devices: {{{GPU}}}}}}}}}"),
            ));
    }

    #[test]
    fn everything_wrong_with_a_request_is_said_at_once() {
        check(GPU, expect![""]);
        check(
            "requests: [{name: a}, {name: a, exactly: {allocationMode: All, count: 2, tolerations: [{operator: \
             Near}]}}, {name: b, firstAvailable: [{name: c, deviceClassName: d}]}], constraints: [{requests: \
             [x, b/c, b/d]}], config: [{requests: [b]}]",
            expect![[r#"
                spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
                spec.devices.requests[1].exactly.deviceClassName: Required value
                spec.devices.requests[1].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'
                spec.devices.requests[1].exactly.tolerations[0].operator: Unsupported value: "Near": supported values: "Equal", "Exists"
                spec.devices.requests[1]: Duplicate value: "a"
                spec.devices.constraints[0].requests[0]: Invalid value: "x": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
                spec.devices.constraints[0].requests[2]: Invalid value: "b/d": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
                spec.devices.constraints[0]: Required value: exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set
                spec.devices.config[0].opaque: Required value
            "#]],
        );
        check(
            &format!("{GPU}, constraints: [{{matchAttribute: numa}}]"),
            expect![[r#"
                spec.devices.constraints[0].matchAttribute: Invalid value: "numa": a fully qualified name must be a domain and a name separated by a slash
            "#]],
        );
    }

    #[test]
    fn what_is_asked_for_never_changes() {
        expect![[r#"
            spec: Invalid value: {}: field is immutable
        "#]]
        .assert_eq(&update_errors(
            &ResourceClaim,
            &format!("{{spec: {{devices: {{{GPU}}}}}}}"),
            "{spec: {}}",
        ));
    }

    #[test]
    fn devices_are_given_once_and_before_they_are_reserved() {
        let claim =
            |status: &str| format!("{{spec: {{devices: {{{GPU}}}}}, status: {{{status}}}}}");
        expect![[r#"
            status.reservedFor[0].uid: Required value
            status.reservedFor: Forbidden: may not be specified when `allocated` is not set
        "#]]
        .assert_eq(&status_update_errors(
            &ResourceClaim,
            &claim(""),
            &claim("reservedFor: [{resource: pods, name: p}]"),
        ));
        let given =
            "allocation: {devices: {results: [{request: gpu, driver: d, pool: p, device: x}]}}";
        expect![""].assert_eq(&status_update_errors(
            &ResourceClaim,
            &claim(""),
            &claim(given),
        ));
        expect![[r#"
            status.allocation: Invalid value: {}: field is immutable
        "#]]
        .assert_eq(&status_update_errors(
            &ResourceClaim,
            &claim(given),
            &claim("allocation: {}"),
        ));
    }

    #[test]
    fn a_row_says_how_far_it_is() {
        expect!["c|pending|60m"].assert_eq(&row(&ResourceClaim, "{metadata: {name: c}}"));
        expect!["c|deleted,allocated,reserved|60m"].assert_eq(&row(
            &ResourceClaim,
            "{metadata: {name: c, deletionTimestamp: x}, status: {allocation: {}, reservedFor: [{}]}}",
        ));
    }
}
