//! What a container asks for and may use: what is wrong with the amounts.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        check,
        value::{entries, items, part, plain, text},
    },
    name,
    quantity::Quantity,
};

/// What a container may ask for by a name without a domain.
const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];

fn parse(value: &Value) -> Option<Quantity> {
    plain(value).parse().ok()
}

/// True of what only exists in wholes and is never shared: `example.com/gpu`, `hugepages-2Mi`.
fn is_whole(resource: &str) -> bool {
    !STANDARD.contains(&resource)
}

/// Checks `resources` that stand at `path`; `claims` are the names of the pod's own.
pub(crate) fn validate(
    path: &Path,
    resources: &Value,
    claims: &HashSet<&str>,
    errors: &mut FieldErrors,
) {
    for list in ["limits", "requests"] {
        for (resource, value) in entries(&resources[list], "") {
            let path = path.field(list);
            validate_name(&path, resource, errors);
            validate_amount(&path.key(resource), resource, value, errors);
        }
    }
    let limits = part(resources, "/limits");
    for (resource, value) in entries(resources, "/requests") {
        let requests = path.field("requests");
        let limit = limits.get(resource);
        let (Some(request), Some(most)) = (parse(value), limit.and_then(parse)) else {
            if limit.is_none() && is_whole(resource) {
                errors.required(
                    &path.field("limits"),
                    "Limit must be set for non overcommitable resources",
                );
            }
            continue;
        };
        let shown = limit.map(plain).unwrap_or_default();
        if is_whole(resource) && request != most {
            let detail = format!("must be equal to {resource} limit of {shown}");
            errors.invalid(&requests, plain(value), detail);
        } else if request > most {
            let detail = format!("must be less than or equal to {resource} limit of {shown}");
            errors.invalid(&requests, plain(value), detail);
        }
    }
    let mut seen = HashSet::new();
    for (index, claim) in items(resources, "/claims").iter().enumerate() {
        let path = path.field("claims").index(index);
        let given = text(claim, "/name");
        if given.is_empty() {
            errors.required(&path.field("name"), "");
            continue;
        }
        let both = format!("{given}/{}", text(claim, "/request"));
        if !claims.contains(given) {
            let path = path.field("name");
            errors.push(&path, Cause::NotFound, given.into(), "");
        }
        if !seen.insert(both) {
            errors.push(&path, Cause::Duplicate, given.into(), "");
        }
    }
}

/// The name of something that a container may ask for.
fn validate_name(path: &Path, resource: &str, errors: &mut FieldErrors) {
    let problems = name::qualified_problems(resource);
    let is_fine = problems.is_empty();
    check::problems(path, resource, problems, errors);
    if is_fine
        && !resource.contains('/')
        && !STANDARD.contains(&resource)
        && !resource.starts_with("hugepages-")
    {
        errors.invalid(
            path,
            resource,
            "must be a standard resource type or fully qualified",
        );
        errors.invalid(path, resource, "must be a standard resource for containers");
    }
}

/// An amount of something, not below zero.
pub(crate) fn validate_amount(
    path: &Path,
    resource: &str,
    value: &Value,
    errors: &mut FieldErrors,
) {
    match parse(value) {
        None => errors.invalid(
            path,
            value.clone(),
            "quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        Some(amount) => {
            if amount.nanos() < 0 {
                errors.invalid(path, plain(value), "must be greater than or equal to 0");
            }
            if resource.contains('/') && !amount.is_whole() {
                errors.invalid(path, plain(value), "must be an integer");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::kinds::{pod::Pod, tests::errors};

    #[track_caller]
    fn check(resources: &str, expect: Expect) {
        expect.assert_eq(&errors(
            &Pod,
            &format!(
                "{{spec: {{containers: [{{name: a, image: i, resources: {{{resources}}}}}]}}}}"
            ),
        ));
    }

    #[test]
    fn a_request_is_within_its_limit() {
        check(
            "requests: {cpu: 2, memory: 1Mi}, limits: {cpu: 500m, memory: 1Gi}",
            expect![[r#"
                spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 500m
            "#]],
        );
        check(
            "requests: {example.com/gpu: 1}, limits: {example.com/gpu: 2, cpu: -1, gpus: 1}",
            expect![[r#"
                spec.containers[0].resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0
                spec.containers[0].resources.limits: Invalid value: "gpus": must be a standard resource type or fully qualified
                spec.containers[0].resources.limits: Invalid value: "gpus": must be a standard resource for containers
                spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0
                spec.containers[0].resources.requests: Invalid value: "gpus": must be a standard resource type or fully qualified
                spec.containers[0].resources.requests: Invalid value: "gpus": must be a standard resource for containers
                spec.containers[0].resources.requests: Invalid value: "1": must be equal to example.com/gpu limit of 2
            "#]],
        );
    }

    #[test]
    fn what_comes_in_wholes_is_limited_in_wholes() {
        check(
            "limits: {example.com/gpu: 1500m}, claims: [{name: a}]",
            expect![[r#"
                spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "1500m": must be an integer
                spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "1500m": must be an integer
                spec.containers[0].resources.claims[0].name: Not found: "a"
            "#]],
        );
    }
}
