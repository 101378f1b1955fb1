//! What is wrong with a pod's spec, in a pod or in a template.

use serde_json::Value;

use std::{collections::HashSet, net::IpAddr};

use super::{affinity, container, ephemeral, resources, security, volume};
use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        check,
        value::{entries, items, part, present, text},
    },
    name,
};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks a template's spec that stands at `path`.
pub(crate) fn template(path: &Path, pod: &Value, errors: &mut FieldErrors) {
    spec(path, pod, errors);
    if !items(pod, "/ephemeralContainers").is_empty() {
        errors.forbidden(
            &path.field("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// Checks a spec that stands at `path`.
pub(crate) fn spec(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let volumes = volume::validate(&path.field("volumes"), items(spec, "/volumes"), errors);
    validate_containers(path, spec, volumes, errors);
    validate_policies(path, spec, errors);
    validate_times(path, spec, errors);
    check::labels(&path.field("nodeSelector"), spec, "/nodeSelector", errors);
    validate_names(path, spec, errors);
    security::validate_pod(path, spec, errors);
    affinity::validate(path, spec, errors);
    affinity::validate_spread(path, spec, errors);
    for (index, toleration) in items(spec, "/tolerations").iter().enumerate() {
        validate_toleration(&path.field("tolerations").index(index), toleration, errors);
    }
    validate_addresses(path, spec, errors);
    validate_gates(path, spec, errors);
    for (resource, amount) in entries(spec, "/overhead") {
        let path = path.field("overhead").key(resource);
        resources::validate_amount(&path, resource, amount, errors);
    }
    if present(spec, "/os") {
        let os = path.field("os").field("name");
        match text(spec, "/os/name") {
            "" => errors.required(&os, ""),
            given => check::one_of(&os, &given.into(), &["linux", "windows"], errors),
        }
    }
}

fn validate_names(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    for (field, problems) in [
        (
            "nodeName",
            name::subdomain_problems as fn(&str) -> Vec<String>,
        ),
        ("serviceAccountName", name::subdomain_problems),
        ("priorityClassName", name::subdomain_problems),
        ("runtimeClassName", name::subdomain_problems),
        ("hostname", name::label_problems),
        ("subdomain", name::label_problems),
        ("hostnameOverride", name::subdomain_problems),
    ] {
        let given = spec.get(field).and_then(Value::as_str).unwrap_or_default();
        if !given.is_empty() {
            check::problems(&path.field(field), given, problems(given), errors);
        }
    }
    for (index, secret) in items(spec, "/imagePullSecrets").iter().enumerate() {
        if text(secret, "/name").is_empty() {
            let path = path.field("imagePullSecrets").index(index);
            errors.required(&path.field("name"), "");
        }
    }
    let mut seen = check::Seen::new();
    for (index, claim) in items(spec, "/resourceClaims").iter().enumerate() {
        let path = path.field("resourceClaims").index(index);
        let given = text(claim, "/name");
        if given.is_empty() {
            errors.required(&path.field("name"), "");
        } else {
            check::problems(
                &path.field("name"),
                given,
                name::label_problems(given),
                errors,
            );
            check::unique(&path.field("name"), given, &mut seen, errors);
        }
        let named = ["/resourceClaimName", "/resourceClaimTemplateName"]
            .iter()
            .filter(|pointer| present(claim, pointer))
            .count();
        let problem = match named {
            0 => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            1 => continue,
            _ => {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            }
        };
        errors.invalid(&path, claim.clone(), problem);
    }
}

fn validate_containers(
    path: &Path,
    spec: &Value,
    volumes: HashSet<&str>,
    errors: &mut FieldErrors,
) {
    let context = container::Context::of(spec, volumes);
    if items(spec, "/containers").is_empty() {
        errors.required(&path.field("containers"), "");
    }
    let mut names = check::Seen::new();
    for (list, pointer) in [
        ("containers", "/containers"),
        ("initContainers", "/initContainers"),
    ] {
        let mut ports = check::Seen::new();
        let containers = items(spec, pointer);
        for (index, one) in containers.iter().enumerate() {
            let path = path.field(list).index(index);
            container::validate(&path, one, &context, errors);
            if list == "initContainers" {
                container::validate_init(&path, one, errors);
            }
            let given = text(one, "/name");
            if !given.is_empty() {
                check::unique(&path.field("name"), given, &mut names, errors);
            }
        }
        if list == "containers" {
            container::validate_host_ports(&path.field(list), containers, &mut ports, errors);
        }
    }
    ephemeral::validate(path, spec, &context, &mut names, errors);
}

fn validate_policies(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    for (field, supported) in [
        ("restartPolicy", &["Always", "OnFailure", "Never"][..]),
        (
            "dnsPolicy",
            &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        ),
        ("preemptionPolicy", &["PreemptLowerPriority", "Never"]),
    ] {
        let value = spec.get(field).unwrap_or(&Value::Null);
        check::one_of(&path.field(field), value, supported, errors);
    }
    let dns = path.field("dnsConfig");
    if text(spec, "/dnsPolicy") == "None" && items(spec, "/dnsConfig/nameservers").is_empty() {
        errors.required(
            &dns.field("nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
    }
}

fn validate_times(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    check::not_negative(
        &path.field("terminationGracePeriodSeconds"),
        part(spec, "/terminationGracePeriodSeconds"),
        errors,
    );
    let deadline = part(spec, "/activeDeadlineSeconds");
    if present(spec, "/activeDeadlineSeconds")
        && !deadline
            .as_i64()
            .is_some_and(|seconds| (1..=i64::from(i32::MAX)).contains(&seconds))
    {
        errors.invalid(
            &path.field("activeDeadlineSeconds"),
            deadline.clone(),
            "must be between 1 and 2147483647, inclusive",
        );
    }
}

pub(crate) fn validate_toleration(path: &Path, toleration: &Value, errors: &mut FieldErrors) {
    let (key, operator) = (text(toleration, "/key"), text(toleration, "/operator"));
    if !key.is_empty() {
        check::problems(
            &path.field("key"),
            key,
            name::qualified_problems(key),
            errors,
        );
    } else if operator != "Exists" {
        errors.invalid(
            &path.field("operator"),
            operator,
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        );
    }
    match operator {
        "" | "Equal" => {
            let value = text(toleration, "/value");
            check::problems(
                &path.field("value"),
                value,
                name::label_value_problems(value),
                errors,
            );
        }
        "Exists" => {
            if !text(toleration, "/value").is_empty() {
                errors.invalid(
                    &path.field("operator"),
                    operator,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
        }
        other => errors.not_supported(&path.field("operator"), other, &["Equal", "Exists"]),
    }
    if !text(toleration, "/effect").is_empty() {
        check::one_of(
            &path.field("effect"),
            part(toleration, "/effect"),
            EFFECTS,
            errors,
        );
    }
    if present(toleration, "/tolerationSeconds") && text(toleration, "/effect") != "NoExecute" {
        errors.push(
            &path.field("effect"),
            Cause::Invalid,
            part(toleration, "/effect").clone(),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
}

/// Addresses and names that the pod's own files hold.
fn validate_addresses(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    const MOST_SERVERS: usize = 3;
    const MOST_SEARCHES: usize = 32;
    let address = |path: &Path, given: &str, errors: &mut FieldErrors| {
        if given.parse::<IpAddr>().is_err() {
            errors.invalid(
                path,
                given,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
    };
    for (index, alias) in items(spec, "/hostAliases").iter().enumerate() {
        let path = path.field("hostAliases").index(index);
        address(&path.field("ip"), text(alias, "/ip"), errors);
        for (index, host) in items(alias, "/hostnames").iter().enumerate() {
            let host = host.as_str().unwrap_or_default();
            let path = path.field("hostnames").index(index);
            check::problems(&path, host, name::subdomain_problems(host), errors);
        }
    }
    let path = path.field("dnsConfig");
    let servers = items(spec, "/dnsConfig/nameservers");
    if servers.len() > MOST_SERVERS {
        errors.invalid(
            &path.field("nameservers"),
            Value::from(servers),
            format!("must not have more than {MOST_SERVERS} nameservers"),
        );
    }
    for (index, server) in servers.iter().enumerate() {
        let path = path.field("nameservers").index(index);
        address(&path, server.as_str().unwrap_or_default(), errors);
    }
    let searches = items(spec, "/dnsConfig/searches");
    if searches.len() > MOST_SEARCHES {
        errors.invalid(
            &path.field("searches"),
            Value::from(searches),
            format!("must not have more than {MOST_SEARCHES} search paths"),
        );
    }
    for (index, search) in searches.iter().enumerate() {
        let search = search.as_str().unwrap_or_default();
        let plain = search.strip_suffix('.').unwrap_or(search).replace('_', "a");
        if search != "." {
            let path = path.field("searches").index(index);
            check::problems(&path, search, name::subdomain_problems(&plain), errors);
        }
    }
    for (index, option) in items(spec, "/dnsConfig/options").iter().enumerate() {
        if text(option, "/name").is_empty() {
            errors.required(&path.field("options").index(index), "must not be empty");
        }
    }
}

/// What the pod waits for before it is scheduled or ready.
fn validate_gates(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    for (index, gate) in items(spec, "/readinessGates").iter().enumerate() {
        let given = text(gate, "/conditionType");
        check::problems(
            &path
                .field("readinessGates")
                .index(index)
                .field("conditionType"),
            given,
            name::qualified_problems(given),
            errors,
        );
    }
    let mut seen = check::Seen::new();
    for (index, gate) in items(spec, "/schedulingGates").iter().enumerate() {
        let path = path.field("schedulingGates").index(index);
        let given = text(gate, "/name");
        check::problems(&path, given, name::qualified_problems(given), errors);
        check::unique(&path, given, &mut seen, errors);
    }
    if !items(spec, "/schedulingGates").is_empty() && !text(spec, "/nodeName").is_empty() {
        errors.forbidden(
            &path.field("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::kinds::{pod::Pod, tests::errors};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        expect.assert_eq(&errors(&Pod, &format!("{{spec: {{{spec}}}}}")));
    }

    #[test]
    fn a_pod_has_containers() {
        check(
            "",
            expect![[r#"
            spec.containers: Required value
        "#]],
        );
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        check(
            "restartPolicy: x, activeDeadlineSeconds: 0, nodeName: A_, tolerations: [{key: a, operator: \
             Exists, value: b}], volumes: [{name: v}, {name: v}], containers: [{name: a, image: i}, \
             {name: a}]",
            expect![[r#"
                spec.volumes[1].name: Duplicate value: "v"
                spec.containers[1].image: Required value
                spec.containers[1].name: Duplicate value: "a"
                spec.restartPolicy: Unsupported value: "x": supported values: "Always", "OnFailure", "Never"
                spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
                spec.nodeName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.tolerations[0].operator: Invalid value: "Exists": value must be empty when `operator` is 'Exists'
            "#]],
        );
    }

    #[test]
    fn gates_aliases_and_servers_are_checked() {
        check(
            "containers: [{name: a, image: i, ports: [{containerPort: 1, hostPort: 80}]}, {name: b, image: i, \
             ports: [{containerPort: 2, hostPort: 80}]}], initContainers: [{name: c, image: i, \
             readinessProbe: {tcpSocket: {port: 1}}}], schedulingGates: [{name: a}, {name: a}], nodeName: n1, \
             hostAliases: [{ip: x, hostnames: [A]}], dnsConfig: {nameservers: [1.1.1.1, x, 1.1.1.3, \
             1.1.1.4], options: [{}]}, os: {name: mac}, overhead: {cpu: -1}, resourceClaims: [{name: r}]",
            expect![[r#"
                spec.containers[1].ports[0].hostPort: Duplicate value: "TCP//80"
                spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
                spec.resourceClaims[0]: Invalid value: {"name":"r"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`
                spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
                spec.hostAliases[0].hostnames[0]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","x","1.1.1.3","1.1.1.4"]: must not have more than 3 nameservers
                spec.dnsConfig.nameservers[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
                spec.dnsConfig.options[0]: Required value: must not be empty
                spec.schedulingGates[1]: Duplicate value: "a"
                spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared
                spec.overhead[cpu]: Invalid value: "-1": must be greater than or equal to 0
                spec.os.name: Unsupported value: "mac": supported values: "linux", "windows"
            "#]],
        );
    }
}
