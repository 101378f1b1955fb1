//! Ingress: which HTTP requests from outside reach which Service.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{GROUP, validate_reference};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, address, check, column,
        value::{fill, items, number, part, present, text},
    },
    name,
};

/// The kind.
pub(crate) struct Ingress;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short: &["ing"],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.networking.v1.Ingress",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Class", "The class whose controller acts on it"),
    column::shown("Hosts", "Hosts that its rules are about"),
    column::shown("Address", "Where its load balancer is reached"),
    column::shown("Ports", "Ports that it opens"),
    column::AGE,
];

/// The annotation that named the class before there was a field for it.
const CLASS: &str = "kubernetes.io/ingress.class";
const CLASS_POINTER: &str = "/metadata/annotations/kubernetes.io~1ingress.class";

const IS_ADDRESS: &str = "must be a DNS name, not an IP address";

/// How many hosts a cell shows.
const SHOWN: usize = 3;

impl Kind for Ingress {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn new_status(&self, _object: &Value) -> Value {
        json!({ "loadBalancer": {} })
    }

    fn default(&self, object: &mut Value) {
        fill(object, "spec", json!({}));
        fill(object, "status", self.new_status(&Value::Null));
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        let rules = items(spec, "/rules");
        if rules.is_empty() && !present(spec, "/defaultBackend") {
            errors.invalid(
                &path,
                json!([]),
                "either `defaultBackend` or `rules` must be specified",
            );
        }
        if present(spec, "/defaultBackend") {
            let backend = part(spec, "/defaultBackend");
            validate_backend(&path.field("defaultBackend"), backend, errors);
        }
        for (index, rule) in rules.iter().enumerate() {
            validate_rule(&path.field("rules").index(index), rule, errors);
        }
        for (index, tls) in items(spec, "/tls").iter().enumerate() {
            validate_tls(&path.field("tls").index(index), tls, errors);
        }
        if let Some(class) = part(spec, "/ingressClassName").as_str() {
            let problems = name::subdomain_problems(class);
            check::problems(&path.field("ingressClassName"), class, problems, errors);
            let annotated = text(object, CLASS_POINTER);
            if present(object, CLASS_POINTER) && annotated != class {
                errors.invalid(
                    &Path::root("annotations").field(CLASS),
                    annotated,
                    "must match `ingressClassName` when both are specified",
                );
            }
        }
    }

    fn validate_status(&self, object: &Value, _old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("status").field("loadBalancer").field("ingress");
        let points = items(object, "/status/loadBalancer/ingress");
        for (index, point) in points.iter().enumerate() {
            let path = path.index(index);
            let (ip, host) = (text(point, "/ip"), text(point, "/hostname"));
            if !ip.is_empty() {
                address::validate(&path.field("ip"), ip, errors);
            }
            if !host.is_empty() {
                let path = path.field("hostname");
                check::problems(&path, host, name::subdomain_problems(host), errors);
                if host.parse::<IpAddr>().is_ok() {
                    errors.invalid(&path, host, IS_ADDRESS);
                }
            }
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        if present(object, CLASS_POINTER) {
            warnings.push(format!(
                "annotation \"{CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"
            ));
        }
        warnings
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ports = if items(object, "/spec/tls").is_empty() {
            "80"
        } else {
            "80, 443"
        };
        vec![
            column::name(object),
            column::or_none(text(object, "/spec/ingressClassName")),
            hosts(object).into(),
            addresses(object).into(),
            ports.into(),
            column::age(object, now),
        ]
    }
}

fn validate_host(path: &Path, host: &str, errors: &mut FieldErrors) {
    let problems = if host.contains('*') {
        name::wildcard_problems(host)
    } else {
        name::subdomain_problems(host)
    };
    check::problems(path, host, problems, errors);
}

fn validate_rule(path: &Path, rule: &Value, errors: &mut FieldErrors) {
    let host = text(rule, "/host");
    if !host.is_empty() {
        let path = path.field("host");
        if host.parse::<IpAddr>().is_ok() {
            errors.invalid(&path, host, IS_ADDRESS);
        }
        validate_host(&path, host, errors);
    }
    if !present(rule, "/http") {
        return;
    }
    let path = path.field("http").field("paths");
    let paths = items(rule, "/http/paths");
    if paths.is_empty() {
        errors.required(&path, "");
    }
    for (index, one) in paths.iter().enumerate() {
        validate_path(&path.index(index), one, errors);
    }
}

fn validate_path(at: &Path, one: &Value, errors: &mut FieldErrors) {
    let given = text(one, "/path");
    let path = at.field("path");
    match part(one, "/pathType").as_str() {
        None => {
            errors.required(&at.field("pathType"), "pathType must be specified");
            return;
        }
        Some("Exact" | "Prefix") => {
            if !given.starts_with('/') {
                errors.invalid(&path, given, "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if given.contains(part) {
                    errors.invalid(&path, given, format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if given.ends_with(end) {
                    errors.invalid(&path, given, format!("cannot end with '{end}'"));
                }
            }
        }
        Some("ImplementationSpecific") => {
            if !given.is_empty() && !given.starts_with('/') {
                errors.invalid(&path, given, "must be an absolute path");
            }
        }
        Some(other) => errors.not_supported(
            &at.field("pathType"),
            other,
            &["Exact", "ImplementationSpecific", "Prefix"],
        ),
    }
    validate_backend(&at.field("backend"), part(one, "/backend"), errors);
}

fn validate_backend(path: &Path, backend: &Value, errors: &mut FieldErrors) {
    match (present(backend, "/resource"), present(backend, "/service")) {
        (true, true) => {
            errors.invalid(path, "", "cannot set both resource and service backends");
        }
        (true, false) => {
            validate_reference(&path.field("resource"), part(backend, "/resource"), errors);
        }
        (false, true) => validate_service(path, part(backend, "/service"), errors),
        (false, false) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn validate_service(path: &Path, service: &Value, errors: &mut FieldErrors) {
    let at = path.field("service");
    match text(service, "/name") {
        "" => errors.required(&at.field("name"), ""),
        given => {
            let problems = name::letter_label_problems(given);
            check::problems(&at.field("name"), given, problems, errors);
        }
    }
    let port = at.field("port");
    let named = text(service, "/port/name");
    match (named, number(service, "/port/number").unwrap_or_default()) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", _) => check::port(&port.field("number"), part(service, "/port/number"), errors),
        (_, 0) => {
            let problems = name::port_problems(named);
            check::problems(&port.field("name"), named, problems, errors);
        }
        _ => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}

fn validate_tls(path: &Path, tls: &Value, errors: &mut FieldErrors) {
    for (index, host) in items(tls, "/hosts").iter().enumerate() {
        let host = host.as_str().unwrap_or_default();
        validate_host(&path.field("hosts").index(index), host, errors);
    }
    let secret = text(tls, "/secretName");
    if !secret.is_empty() {
        let problems = name::subdomain_problems(secret);
        check::problems(&path.field("secretName"), secret, problems, errors);
    }
}

/// The first few hosts; `*` if a rule is about all of them.
fn hosts(object: &Value) -> String {
    let mut hosts: Vec<&str> = items(object, "/spec/rules")
        .iter()
        .map(|rule| text(rule, "/host"))
        .filter(|host| !host.is_empty())
        .collect();
    let more = hosts.len().saturating_sub(SHOWN);
    hosts.truncate(SHOWN);
    match (hosts.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (_, 0) => hosts.join(","),
        _ => format!("{} + {more} more...", hosts.join(",")),
    }
}

fn addresses(object: &Value) -> String {
    let mut addresses: Vec<&str> = items(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|point| match text(point, "/ip") {
            "" => text(point, "/hostname"),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.join(",")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row, status_errors};

    #[track_caller]
    fn check(yaml: &str, expect: Expect) {
        expect.assert_eq(&errors(&Ingress, yaml));
    }

    const SERVICE: &str = "{service: {name: web, port: {number: 80}}}";

    #[test]
    fn it_says_where_requests_go() {
        check(
            "{spec: {}}",
            expect![[r#"
                spec: Invalid value: []: either `defaultBackend` or `rules` must be specified
            "#]],
        );
        check(
            &format!("{{spec: {{defaultBackend: {SERVICE}}}}}"),
            expect![""],
        );
        check(
            "{spec: {defaultBackend: {}, rules: [{host: 1.2.3.4, http: {}}, {host: '*a.b'}]}}",
            expect![[r#"
                spec.defaultBackend: Invalid value: "": resource or service backend is required
                spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address
                spec.rules[0].http.paths: Required value
                spec.rules[1].host: Invalid value: "*a.b": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            "#]],
        );
    }

    #[test]
    fn a_path_has_a_type_and_is_one() {
        let path = |path: &str| {
            format!("{{spec: {{rules: [{{http: {{paths: [{{{path}, backend: {SERVICE}}}]}}}}]}}}}")
        };
        check(&path("path: /, pathType: Prefix"), expect![""]);
        check(
            &path("path: /"),
            expect![[r#"
                spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified
            "#]],
        );
        check(
            &path("path: a//b/.., pathType: Exact"),
            expect![[r#"
                spec.rules[0].http.paths[0].path: Invalid value: "a//b/..": must be an absolute path
                spec.rules[0].http.paths[0].path: Invalid value: "a//b/..": must not contain '//'
                spec.rules[0].http.paths[0].path: Invalid value: "a//b/..": cannot end with '/..'
            "#]],
        );
        check(
            &path("path: a, pathType: exact"),
            expect![[r#"
                spec.rules[0].http.paths[0].pathType: Unsupported value: "exact": supported values: "Exact", "ImplementationSpecific", "Prefix"
            "#]],
        );
    }

    #[test]
    fn a_backend_is_a_port_of_a_service_or_an_object() {
        let backend = |backend: &str| format!("{{spec: {{defaultBackend: {{{backend}}}}}}}");
        check(
            &backend("service: {name: Web, port: {name: http, number: 80}}"),
            expect![[r#"
                spec.defaultBackend.service.name: Invalid value: "Web": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
                spec.defaultBackend: Invalid value: "": cannot set both port name & port number
            "#]],
        );
        check(
            &backend("service: {name: web}"),
            expect![[r#"
                spec.defaultBackend: Required value: port name or number is required
            "#]],
        );
        check(
            &backend("resource: {name: a/b}"),
            expect![[r#"
                spec.defaultBackend.resource.kind: Required value: kind is required
                spec.defaultBackend.resource.name: Invalid value: "a/b": may not contain '/'
            "#]],
        );
    }

    #[test]
    fn a_load_balancer_has_addresses_and_names() {
        expect![[r#"
            status.loadBalancer.ingress[0].ip: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            status.loadBalancer.ingress[1].hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address
        "#]]
        .assert_eq(&status_errors(
            &Ingress,
            "{status: {loadBalancer: {ingress: [{ip: a}, {hostname: 1.2.3.4}]}}}",
        ));
    }

    #[test]
    fn a_row_shows_class_hosts_and_addresses() {
        expect!["i|nginx|a,b,c + 1 more...|10.0.0.1,lb.example.com|80, 443|60m"].assert_eq(&row(
            &Ingress,
            "{metadata: {name: i}, spec: {ingressClassName: nginx, tls: [{}], rules: [{host: a}, \
             {host: b}, {host: c}, {host: d}]}, status: {loadBalancer: {ingress: [{hostname: \
             lb.example.com}, {ip: 10.0.0.1}]}}}",
        ));
        expect!["i|<none>|*||80|60m"].assert_eq(&row(&Ingress, "{metadata: {name: i}}"));
    }
}
