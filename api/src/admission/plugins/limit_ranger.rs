//! LimitRanger: containers without requests or limits get those of the namespace's LimitRanges, and no
//! container, pod or claim is outside their bounds.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::is_new_pod;
use crate::{
    admission::{
        Operation, Review, objects,
        pod_resources::{Amounts, amounts, total},
    },
    error::Error,
    kinds::value::{child, each, fill, items, put, text},
    object,
    quantity::Quantity,
};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(super) fn mutate(review: &Review<'_>, object: &mut Value) -> Result<(), Error> {
    if is_new_pod(review) {
        for range in ranges(review)? {
            complete(object, &range);
        }
    }
    Ok(())
}

pub(super) fn validate(review: &Review<'_>, object: &Value) -> Result<(), Error> {
    let claim =
        objects::is(review, "", "persistentvolumeclaims") && review.operation != Operation::Delete;
    // A resized pod must keep to the bounds as a new one.
    let resized = review.subresource == "resize" && review.call.resource.names().plural == "pods";
    if !is_new_pod(review) && !claim && !resized {
        return Ok(());
    }
    if object::deleting(object) {
        return Ok(());
    }
    for range in ranges(review)? {
        let complaints: Vec<String> = items(&range, "/spec/limits")
            .iter()
            .flat_map(|limit| {
                if claim {
                    complaints_of_claim(limit, object)
                } else {
                    complaints_of_pod(limit, object)
                }
            })
            .collect();
        if !complaints.is_empty() {
            return Err(objects::forbidden(review, objects::together(complaints)));
        }
    }
    Ok(())
}

fn ranges(review: &Review<'_>) -> Result<Vec<Arc<Value>>, Error> {
    let namespace = Some(review.call.namespace.as_str());
    objects::list(review.call, "", "limitranges", namespace)
}

/// Gives a pod's containers what a LimitRange gives those that do not say, and notes what was given.
fn complete(pod: &mut Value, range: &Value) {
    let mut requests = Map::new();
    let mut limits = Map::new();
    let of_containers = items(range, "/spec/limits")
        .iter()
        .filter(|limit| text(limit, "/type") == "Container");
    for limit in of_containers {
        for (to, field) in [(&mut requests, "defaultRequest"), (&mut limits, "default")] {
            to.extend(limit[field].as_object().cloned().unwrap_or_default());
        }
    }
    let mut notes = Vec::new();
    for (list, word) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        for container in each(&mut pod["spec"], list) {
            let name = text(container, "/name").to_owned();
            let Some(resources) = child(container, "resources") else {
                continue;
            };
            for (field, what, defaults) in [
                ("requests", "request", &requests),
                ("limits", "limit", &limits),
            ] {
                let given = give(resources, field, defaults);
                if !given.is_empty() {
                    notes.push(format!("{} {what} for {word} {name}", given.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty()
        && let Some(metadata) = child(pod, "metadata")
    {
        fill(metadata, "annotations", Map::new());
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        put(&mut metadata["annotations"], ANNOTATION, note.into());
    }
}

/// Fills in amounts; answers the names of those that were missing.
fn give<'d>(resources: &mut Value, field: &str, defaults: &'d Map<String, Value>) -> Vec<&'d str> {
    let mut given = Vec::new();
    for (name, amount) in defaults {
        fill(resources, field, Map::new());
        if resources[field][name].is_null() {
            put(&mut resources[field], name, amount.clone());
            given.push(name.as_str());
        }
    }
    given
}

fn complaints_of_pod(limit: &Value, pod: &Value) -> Vec<String> {
    match text(limit, "/type") {
        "Container" => items(pod, "/spec/containers")
            .iter()
            .chain(items(pod, "/spec/initContainers"))
            .flat_map(|container| {
                let requests = amounts(container, "/resources/requests");
                let limits = amounts(container, "/resources/limits");
                complaints(limit, &requests, &limits)
            })
            .collect(),
        "Pod" => complaints(limit, &total(pod, "requests"), &total(pod, "limits")),
        _ => Vec::new(),
    }
}

fn complaints_of_claim(limit: &Value, claim: &Value) -> Vec<String> {
    if text(limit, "/type") != "PersistentVolumeClaim" {
        return Vec::new();
    }
    let requests = amounts(claim, "/spec/resources/requests");
    let kind = "PersistentVolumeClaim";
    let mut found = Vec::new();
    for (name, bound) in &amounts(limit, "/min") {
        found.extend(below(kind, name, *bound, requests.get(name), None));
    }
    for (name, bound) in &amounts(limit, "/max") {
        found.extend(match requests.get(name) {
            None => Some(format!(
                "maximum {name} usage per {kind} is {bound}. No request is specified"
            )),
            Some(request) if request > bound => Some(format!(
                "maximum {name} usage per {kind} is {bound}, but request is {request}"
            )),
            Some(_) => None,
        });
    }
    found
}

fn complaints(limit: &Value, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let kind = text(limit, "/type");
    let mut found = Vec::new();
    for (name, bound) in &amounts(limit, "/min") {
        found.extend(below(
            kind,
            name,
            *bound,
            requests.get(name),
            limits.get(name),
        ));
    }
    for (name, bound) in &amounts(limit, "/max") {
        found.extend(above(
            kind,
            name,
            *bound,
            requests.get(name),
            limits.get(name),
        ));
    }
    for (name, bound) in &amounts(limit, "/maxLimitRequestRatio") {
        found.extend(apart(
            kind,
            name,
            *bound,
            requests.get(name),
            limits.get(name),
        ));
    }
    found
}

fn below(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let start = format!("minimum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (None, _) => Some(format!("{start}. No request is specified")),
        (Some(request), _) if *request < bound => {
            Some(format!("{start}, but request is {request}"))
        }
        (_, Some(limit)) if *limit < bound => Some(format!("{start}, but limit is {limit}")),
        _ => None,
    }
}

fn above(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let start = format!("maximum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (_, None) => Some(format!("{start}. No limit is specified")),
        (_, Some(limit)) if *limit > bound => Some(format!("{start}, but limit is {limit}")),
        (Some(request), _) if *request > bound => {
            Some(format!("{start}, but request is {request}"))
        }
        _ => None,
    }
}

/// The limit is too many times the request.
fn apart(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let start = format!("{name} max limit to request ratio per {kind} is {bound}");
    let some = |amount: Option<&Quantity>| amount.map(Quantity::nanos).filter(|nanos| *nanos != 0);
    let (Some(request), limit) = (some(request), some(limit)) else {
        return Some(format!(
            "{start}, but no request is specified or request is 0"
        ));
    };
    let Some(limit) = limit else {
        return Some(format!("{start}, but no limit is specified or limit is 0"));
    };
    // Shown, and compared where the product of the exact numbers would not fit.
    let ratio = limit as f64 / request as f64;
    let exceeds = match (
        limit.checked_mul(1_000_000_000),
        request.checked_mul(bound.nanos()),
    ) {
        (Some(limit), Some(most)) => limit > most,
        _ => ratio > bound.nanos() as f64 / 1e9,
    };
    exceeds.then(|| format!("{start}, but provided ratio is {ratio:.6}"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::read;

    const RANGE: &str = "{spec: {limits: [
        {type: Container, default: {cpu: 500m}, defaultRequest: {cpu: 100m, memory: 1Mi}, max: {cpu: 500m}, min: {cpu: 50m}},
        {type: Pod, max: {cpu: '1'}},
        {type: PersistentVolumeClaim, min: {storage: 1Gi}, max: {storage: 2Gi}}]}}";

    #[track_caller]
    fn check(containers: &str, expected: Expect) {
        let mut pod = read(&format!("{{spec: {{containers: [{containers}]}}}}"));
        let range = read(RANGE);
        complete(&mut pod, &range);
        let mut lines: Vec<String> = items(&range, "/spec/limits")
            .iter()
            .flat_map(|limit| complaints_of_pod(limit, &pod))
            .collect();
        if lines.is_empty() {
            lines.push(pod["spec"]["containers"][0]["resources"].to_string());
            lines.push(
                text(
                    &pod["metadata"]["annotations"],
                    "/kubernetes.io~1limit-ranger",
                )
                .to_owned(),
            );
        }
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn what_is_missing_is_given_and_noted() {
        check(
            "{name: c}",
            expect![[r#"
                {"limits":{"cpu":"500m"},"requests":{"cpu":"100m","memory":"1Mi"}}
                LimitRanger plugin set: cpu, memory request for container c; cpu limit for container c"#]],
        );
        check(
            "{name: c, resources: {requests: {cpu: 200m, memory: 2Mi}}}",
            expect![[r#"
                {"limits":{"cpu":"500m"},"requests":{"cpu":"200m","memory":"2Mi"}}
                LimitRanger plugin set: cpu limit for container c"#]],
        );
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        check(
            "{name: c, resources: {limits: {cpu: '1'}, requests: {cpu: 10m}}}",
            expect![[r#"
                minimum cpu usage per Container is 50m, but request is 10m
                maximum cpu usage per Container is 500m, but limit is 1"#]],
        );
        check(
            "{name: a}, {name: b}, {name: c}",
            expect!["maximum cpu usage per Pod is 1, but limit is 1500m"],
        );
    }

    #[test]
    fn claims_have_bounds_of_their_own() {
        let limit = &read(RANGE)["spec"]["limits"][2];
        let claim = |size: &str| {
            read(&format!(
                "{{spec: {{resources: {{requests: {{storage: {size}}}}}}}}}"
            ))
        };
        expect![[
            r#"["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]"#
        ]]
        .assert_eq(&format!("{:?}", complaints_of_claim(limit, &claim("1Mi"))));
        expect![[
            r#"["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]"#
        ]]
        .assert_eq(&format!("{:?}", complaints_of_claim(limit, &claim("3Gi"))));
        assert!(complaints_of_claim(limit, &claim("2Gi")).is_empty());
    }

    #[test]
    fn a_limit_may_not_be_too_far_from_its_request() {
        let limit = read("{type: Container, maxLimitRequestRatio: {cpu: '2'}}");
        let complain = |resources: &str| {
            let resources = read(resources);
            complaints(
                &limit,
                &amounts(&resources, "/requests"),
                &amounts(&resources, "/limits"),
            )
            .join("\n")
        };
        expect![
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"
        ]
        .assert_eq(&complain("{requests: {cpu: 100m}, limits: {cpu: 300m}}"));
        expect!["cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"]
            .assert_eq(&complain("{limits: {cpu: 300m}}"));
        expect!["cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0"]
            .assert_eq(&complain("{requests: {cpu: 300m}}"));
        assert_eq!(complain("{requests: {cpu: 100m}, limits: {cpu: 200m}}"), "");
    }
}
