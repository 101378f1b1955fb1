//! Service: a stable address in front of pods.
//!
//! Addresses are allocated by the verbs; here is what a Service may say and what it may not change.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Column, Kind, Names, Subresource, check, column,
    not_acted_on::{self, SERVICE},
    value::{child, each, entries, fill, fill_text, find, items, number, part, plain, put, text},
    write,
};
use crate::{
    field::{Cause, FieldErrors, Path},
    name,
};

/// The kind.
pub(crate) struct Service;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short: &["svc"],
    categories: &["all"],
    namespaced: true,
    definition: "io.k8s.api.core.v1.Service",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Type", "How it is reached"),
    column::shown("Cluster-IP", "Its address in the cluster"),
    column::shown("External-IP", "Its addresses outside"),
    column::shown("Port(s)", "Its ports"),
    column::AGE,
    column::wide("Selector", "Labels of its pods"),
];

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

impl Kind for Service {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Proxy, Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            default_spec(spec);
        }
        fill(object, "status", json!({ "loadBalancer": {} }));
    }

    fn name_problems(&self, name: &str) -> Vec<String> {
        name::letter_label_problems(name)
    }

    fn prepare_create(&self, object: &mut Value) {
        put(object, "status", json!({ "loadBalancer": {} }));
    }

    /// A client that sends no address means the one that was allocated; one that changes the type alone does
    /// not mean the node ports of the type before.
    fn prepare_update(&self, object: &mut Value, old: &Value) {
        write::keep_status(object, old);
        drop_node_ports(object, old);
        if text(object, "/spec/type") == "ExternalName" || text(old, "/spec/type") == "ExternalName"
        {
            return;
        }
        if let Some(spec) = find(object, "spec") {
            for field in ["clusterIP", "clusterIPs"] {
                fill(
                    spec,
                    field,
                    part(old, "/spec").get(field).cloned().unwrap_or_default(),
                );
                if spec.get(field).is_some_and(Value::is_null) {
                    put(spec, field, Value::Null);
                }
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        check::one_of(
            &path.field("type"),
            part(object, "/spec/type"),
            TYPES,
            errors,
        );
        check::one_of(
            &path.field("sessionAffinity"),
            part(object, "/spec/sessionAffinity"),
            &["ClientIP", "None"],
            errors,
        );
        check::labels(&path.field("selector"), object, "/spec/selector", errors);
        validate_addresses(&path, object, errors);
        validate_ports(&path, object, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let address = text(old, "/spec/clusterIP");
        let allocated = |object: &Value| text(object, "/spec/type") != "ExternalName";
        if !address.is_empty()
            && allocated(object)
            && allocated(old)
            && text(object, "/spec/clusterIP") != address
        {
            errors.invalid(
                &Path::root("spec").field("clusterIPs").index(0),
                json!([text(object, "/spec/clusterIP")]),
                "may not change once set",
            );
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        not_acted_on::warnings("", object, SERVICE)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![
            ("spec.clusterIP", text(object, "/spec/clusterIP").to_owned()),
            ("spec.type", text(object, "/spec/type").to_owned()),
        ]
    }

    fn field_names(&self) -> &[&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let selector: Vec<_> = entries(object, "/spec/selector")
            .map(|(key, value)| format!("{key}={}", plain(value)))
            .collect();
        vec![
            column::name(object),
            text(object, "/spec/type").into(),
            column::or_none(text(object, "/spec/clusterIP")),
            external(object),
            ports(object),
            column::age(object, now),
            column::or_none(&selector.join(",")),
        ]
    }
}

/// Takes away what the type before was given and this one has not.
fn drop_node_ports(object: &mut Value, old: &Value) {
    let on_nodes =
        |object: &Value| ["NodePort", "LoadBalancer"].contains(&text(object, "/spec/type"));
    if on_nodes(object) || !on_nodes(old) {
        return;
    }
    if let Some(spec) = find(object, "spec") {
        for field in ["externalTrafficPolicy", "allocateLoadBalancerNodePorts"] {
            if spec.get(field) == part(old, "/spec").get(field) {
                put(spec, field, Value::Null);
            }
        }
        for port in each(spec, "ports") {
            let had = items(old, "/spec/ports").iter();
            let mut had = had.filter_map(|port| number(port, "/nodePort"));
            if number(port, "/nodePort").is_some_and(|own| had.any(|had| had == own)) {
                put(port, "nodePort", Value::Null);
            }
        }
    }
}

fn default_spec(spec: &mut Value) {
    fill_text(spec, "type", "ClusterIP");
    fill_text(spec, "sessionAffinity", "None");
    if text(spec, "/sessionAffinity") == "ClientIP"
        && let Some(config) = child(spec, "sessionAffinityConfig")
        && let Some(client) = child(config, "clientIP")
    {
        fill(client, "timeoutSeconds", 10_800);
    }
    for port in each(spec, "ports") {
        fill_text(port, "protocol", "TCP");
        if matches!(plain(part(port, "/targetPort")).as_str(), "" | "0") {
            put(port, "targetPort", part(port, "/port").clone());
        }
    }
    let kind = text(spec, "/type").to_owned();
    if kind == "ExternalName" {
        return;
    }
    fill(spec, "internalTrafficPolicy", "Cluster");
    if kind == "NodePort" || kind == "LoadBalancer" {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
    fill(spec, "ipFamilies", json!(["IPv4"]));
    fill(spec, "ipFamilyPolicy", "SingleStack");
    let address = text(spec, "/clusterIP").to_owned();
    if !address.is_empty() {
        fill(spec, "clusterIPs", json!([address]));
    } else if let Some(first) = part(spec, "/clusterIPs/0").as_str().map(str::to_owned) {
        put(spec, "clusterIP", first.into());
    }
}

fn validate_addresses(path: &Path, object: &Value, errors: &mut FieldErrors) {
    let address = text(object, "/spec/clusterIP");
    if text(object, "/spec/type") == "ExternalName" {
        if !address.is_empty() && address != "None" {
            errors.forbidden(
                &path.field("clusterIPs"),
                "may not be set for ExternalName services",
            );
        }
        let target = text(object, "/spec/externalName");
        let path = path.field("externalName");
        if target.is_empty() {
            errors.required(&path, "");
        } else {
            let bare = target.strip_suffix('.').unwrap_or(target);
            check::problems(&path, bare, name::subdomain_problems(bare), errors);
        }
        return;
    }
    if !address.is_empty() && address != "None" && address.parse::<std::net::IpAddr>().is_err() {
        errors.invalid(
            &path.field("clusterIPs").index(0),
            address,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
    }
    if address == "None" && ["NodePort", "LoadBalancer"].contains(&text(object, "/spec/type")) {
        errors.invalid(
            &path.field("clusterIPs").index(0),
            address,
            format!(
                "may not be set to 'None' for {} services",
                text(object, "/spec/type")
            ),
        );
    }
    if let Some(first) = part(object, "/spec/clusterIPs/0").as_str()
        && first != address
    {
        errors.invalid(
            &path.field("clusterIP"),
            address,
            "must match first value in `clusterIPs`",
        );
    }
}

fn validate_ports(path: &Path, object: &Value, errors: &mut FieldErrors) {
    let path = path.field("ports");
    let list = items(object, "/spec/ports");
    let portless =
        text(object, "/spec/type") == "ExternalName" || text(object, "/spec/clusterIP") == "None";
    if list.is_empty() && !portless {
        errors.required(&path, "");
    }
    let mut names = check::Seen::new();
    let mut numbers = HashSet::new();
    for (index, port) in list.iter().enumerate() {
        let path = path.index(index);
        let given = text(port, "/name");
        if !given.is_empty() {
            check::problems(
                &path.field("name"),
                given,
                name::label_problems(given),
                errors,
            );
            check::unique(&path.field("name"), given, &mut names, errors);
        } else if list.len() > 1 {
            errors.required(&path.field("name"), "");
        }
        check::port(&path.field("port"), part(port, "/port"), errors);
        if text(port, "/protocol").is_empty() {
            errors.required(&path.field("protocol"), "");
        }
        check::one_of(
            &path.field("protocol"),
            part(port, "/protocol"),
            &["SCTP", "TCP", "UDP"],
            errors,
        );
        match part(port, "/targetPort") {
            Value::String(target) => {
                let path = path.field("targetPort");
                check::problems(&path, target, name::port_problems(target), errors);
            }
            target => check::port(&path.field("targetPort"), target, errors),
        }
        if number(port, "/nodePort").unwrap_or(0) != 0 && text(object, "/spec/type") == "ClusterIP"
        {
            errors.forbidden(
                &path.field("nodePort"),
                "may not be used when `type` is 'ClusterIP'",
            );
        }
        let number = (text(port, "/protocol"), number(port, "/port"));
        if !numbers.insert(number) {
            let shown = json!({ "protocol": number.0, "port": number.1 });
            errors.push(&path, Cause::Duplicate, shown, "");
        }
    }
}

fn external(object: &Value) -> Value {
    let listed: Vec<_> = items(object, "/spec/externalIPs")
        .iter()
        .map(plain)
        .collect();
    match text(object, "/spec/type") {
        "ExternalName" => column::or_none(text(object, "/spec/externalName")),
        "LoadBalancer" => {
            let mut all: Vec<_> = items(object, "/status/loadBalancer/ingress")
                .iter()
                .map(|ingress| match text(ingress, "/ip") {
                    "" => text(ingress, "/hostname").to_owned(),
                    ip => ip.to_owned(),
                })
                .collect();
            all.extend(listed);
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",").into()
            }
        }
        _ => column::or_none(&listed.join(",")),
    }
}

fn ports(object: &Value) -> Value {
    let all: Vec<_> = items(object, "/spec/ports")
        .iter()
        .map(|port| {
            let own = plain(part(port, "/port"));
            let protocol = text(port, "/protocol");
            match number(port, "/nodePort") {
                Some(outside) if outside > 0 => format!("{own}:{outside}/{protocol}"),
                _ => format!("{own}/{protocol}"),
            }
        })
        .collect();
    column::or_none(&all.join(","))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row, update_errors};

    #[track_caller]
    fn check(yaml: &str, expect: Expect) {
        expect.assert_eq(&errors(&Service, yaml));
    }

    #[test]
    fn a_port_is_enough() {
        expect![[r#"{"spec":{"internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"None","type":"ClusterIP"},"status":{"loadBalancer":{}}}"#]]
        .assert_eq(&defaulted(&Service, "{spec: {ports: [{port: 80}]}}"));
    }

    #[test]
    fn everything_wrong_with_ports_is_said_at_once() {
        check(
            "{spec: {}}",
            expect![[r#"
            spec.ports: Required value
        "#]],
        );
        check(
            "{spec: {ports: [{port: 0}, {name: A, port: 80, targetPort: a--b}, {name: x, port: 80}]}}",
            expect![[r#"
                spec.ports[0].name: Required value
                spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
                spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
                spec.ports[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.ports[1].targetPort: Invalid value: "a--b": must not contain consecutive hyphens
                spec.ports[2]: Duplicate value: {"port":80,"protocol":"TCP"}
            "#]],
        );
    }

    #[test]
    fn an_address_once_given_stays() {
        let old = "{spec: {clusterIP: 10.43.0.9, ports: [{port: 80}]}}";
        expect![""].assert_eq(&update_errors(
            &Service,
            old,
            "{spec: {ports: [{port: 81}]}}",
        ));
        expect![[r#"
            spec.clusterIPs[0]: Invalid value: ["10.43.0.8"]: may not change once set
        "#]]
        .assert_eq(&update_errors(
            &Service,
            old,
            "{spec: {clusterIP: 10.43.0.8, ports: [{port: 81}]}}",
        ));
    }

    #[test]
    fn a_row_shows_address_and_ports() {
        expect!["web|ClusterIP|10.43.0.9|<none>|80/TCP|60m|app=web"].assert_eq(&row(
            &Service,
            "{metadata: {name: web}, spec: {clusterIP: 10.43.0.9, selector: {app: web}, ports: \
             [{port: 80}]}}",
        ));
    }
}
