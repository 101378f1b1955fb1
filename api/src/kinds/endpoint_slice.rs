//! EndpointSlice: the addresses behind a Service.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, check, column,
    value::{each, fill, fill_text, items, number, part, present, text},
};
use crate::{
    field::{FieldErrors, Path},
    name,
};

/// The kind.
pub(crate) struct EndpointSlice;

static NAMES: Names = Names {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    short: &[],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.discovery.v1.EndpointSlice",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("AddressType", "IPv4, IPv6 or FQDN"),
    column::shown("Ports", "Ports of every endpoint"),
    column::shown("Endpoints", "Addresses of the endpoints"),
    column::AGE,
];

/// How many ports or addresses a cell shows.
const SHOWN: usize = 3;

impl Kind for EndpointSlice {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn default(&self, object: &mut Value) {
        fill(object, "endpoints", Vec::<Value>::new());
        fill(object, "ports", Vec::<Value>::new());
        for port in each(object, "ports") {
            fill(port, "name", "");
            fill_text(port, "protocol", "TCP");
        }
    }

    fn counted(&self) -> &[&'static str] {
        &["endpoints", "ports"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("addressType");
        match text(object, "/addressType") {
            "" => errors.required(&path, ""),
            _ => check::one_of(
                &path,
                part(object, "/addressType"),
                &["FQDN", "IPv4", "IPv6"],
                errors,
            ),
        }
        validate_endpoints(object, errors);
        validate_ports(object, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        check::immutable(
            &Path::root("addressType"),
            object,
            old,
            "/addressType",
            errors,
        );
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ports = items(object, "/ports").iter().map(|port| {
            number(port, "/port").map_or_else(|| "*".to_owned(), |port| port.to_string())
        });
        let addresses = items(object, "/endpoints")
            .iter()
            .flat_map(|endpoint| items(endpoint, "/addresses"))
            .map(|address| address.as_str().unwrap_or_default().to_owned());
        vec![
            column::name(object),
            text(object, "/addressType").into(),
            some_of(ports.collect()),
            some_of(addresses.collect()),
            column::age(object, now),
        ]
    }
}

/// The first few, and how many there are besides.
fn some_of(all: Vec<String>) -> Value {
    if all.is_empty() {
        return "<unset>".into();
    }
    let mut text = all[..all.len().min(SHOWN)].join(",");
    if all.len() > SHOWN {
        text.push_str(&format!(" + {} more...", all.len() - SHOWN));
    }
    text.into()
}

fn validate_endpoints(object: &Value, errors: &mut FieldErrors) {
    let path = Path::root("endpoints");
    let endpoints = items(object, "/endpoints");
    if endpoints.len() > 1000 {
        check::too_many(&path, endpoints.len(), 1000, errors);
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(index).field("addresses");
        let addresses = items(endpoint, "/addresses");
        if addresses.is_empty() {
            errors.required(&path, "must contain at least 1 address");
        }
        if addresses.len() > 100 {
            check::too_many(&path, addresses.len(), 100, errors);
        }
        for (index, address) in addresses.iter().enumerate() {
            let path = path.index(index);
            let address = address.as_str().unwrap_or_default();
            match text(object, "/addressType") {
                "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => {
                    errors.invalid(&path, address, "must be a valid IPv4 address");
                }
                "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => {
                    errors.invalid(&path, address, "must be a valid IPv6 address");
                }
                "FQDN" => {
                    check::problems(&path, address, name::subdomain_problems(address), errors);
                }
                _ => {}
            }
        }
    }
}

fn validate_ports(object: &Value, errors: &mut FieldErrors) {
    let mut seen = check::Seen::new();
    for (index, port) in items(object, "/ports").iter().enumerate() {
        let path = Path::root("ports").index(index);
        let given = text(port, "/name");
        check::unique(&path.field("name"), given, &mut seen, errors);
        if !given.is_empty() {
            check::problems(
                &path.field("name"),
                given,
                name::label_problems(given),
                errors,
            );
        }
        if present(port, "/port") {
            check::port(&path.field("port"), part(port, "/port"), errors);
        }
        check::one_of(
            &path.field("protocol"),
            part(port, "/protocol"),
            &["SCTP", "TCP", "UDP"],
            errors,
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row};

    #[test]
    fn a_row_shows_three_addresses_and_counts_the_rest() {
        expect!["s|IPv4|80|10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...|60m"].assert_eq(&row(
            &EndpointSlice,
            "{metadata: {name: s}, addressType: IPv4, ports: [{port: 80}], endpoints: \
             [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}, \
             {addresses: [10.0.0.4]}]}",
        ));
    }

    #[test]
    fn addresses_are_of_its_type() {
        expect![[r#"
            endpoints[0].addresses[0]: Invalid value: "::1": must be a valid IPv4 address
            endpoints[1].addresses: Required value: must contain at least 1 address
            ports[1].name: Duplicate value: ""
        "#]]
        .assert_eq(&errors(
            &EndpointSlice,
            "{addressType: IPv4, endpoints: [{addresses: ['::1']}, {addresses: []}], ports: [{port: \
             80}, {port: 81}]}",
        ));
    }
}
