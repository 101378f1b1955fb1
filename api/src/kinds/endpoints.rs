//! Endpoints: the addresses behind a Service, as it was before EndpointSlices.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, check, column,
    value::{each, fill_text, items, number, part, text},
};
use crate::{
    field::{FieldErrors, Path},
    name,
};

/// The kind.
pub(crate) struct Endpoints;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short: &["ep"],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.core.v1.Endpoints",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Endpoints", "Addresses and ports"),
    column::AGE,
];

/// How many endpoints a table shows.
const SHOWN: usize = 3;

impl Kind for Endpoints {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    }

    fn default(&self, object: &mut Value) {
        for subset in each(object, "subsets") {
            for port in each(subset, "ports") {
                fill_text(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        for (index, subset) in items(object, "/subsets").iter().enumerate() {
            validate_subset(&Path::root("subsets").index(index), subset, errors);
        }
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            shown(object).into(),
            column::age(object, now),
        ]
    }
}

fn validate_subset(path: &Path, subset: &Value, errors: &mut FieldErrors) {
    let lists = ["addresses", "notReadyAddresses"];
    if lists
        .iter()
        .all(|list| items(&subset[*list], "").is_empty())
    {
        errors.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for list in lists {
        for (index, address) in items(&subset[list], "").iter().enumerate() {
            validate_address(&path.field(list).index(index), address, errors);
        }
    }
    let ports = items(subset, "/ports");
    for (index, port) in ports.iter().enumerate() {
        let path = path.field("ports").index(index);
        let given = text(port, "/name");
        if given.is_empty() && ports.len() > 1 {
            errors.required(&path.field("name"), "");
        } else if !given.is_empty() {
            check::problems(
                &path.field("name"),
                given,
                name::label_problems(given),
                errors,
            );
        }
        check::port(&path.field("port"), part(port, "/port"), errors);
        check::one_of(
            &path.field("protocol"),
            part(port, "/protocol"),
            &["SCTP", "TCP", "UDP"],
            errors,
        );
    }
}

fn validate_address(path: &Path, address: &Value, errors: &mut FieldErrors) {
    let ip = text(address, "/ip");
    let ip_path = path.field("ip");
    match ip.parse::<IpAddr>() {
        Err(_) => errors.invalid(
            &ip_path,
            ip,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        Ok(parsed) => {
            if let Some(problem) = not_reachable(parsed) {
                errors.invalid(&ip_path, ip, problem);
            }
        }
    }
    let hostname = text(address, "/hostname");
    if !hostname.is_empty() {
        check::problems(
            &path.field("hostname"),
            hostname,
            name::label_problems(hostname),
            errors,
        );
    }
    let node = text(address, "/nodeName");
    if !node.is_empty() {
        check::problems(
            &path.field("nodeName"),
            node,
            name::subdomain_problems(node),
            errors,
        );
    }
}

/// Why an address cannot be that of an endpoint.
fn not_reachable(address: IpAddr) -> Option<String> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let link_multicast = match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    let what = if address.is_unspecified() {
        return Some(format!("may not be unspecified ({address})"));
    } else if address.is_loopback() {
        "loopback range (127.0.0.0/8, ::1/128)"
    } else if link_local {
        "link-local range (169.254.0.0/16, fe80::/10)"
    } else if link_multicast {
        "link-local multicast range (224.0.0.0/24, ff02::/10)"
    } else {
        return None;
    };
    Some(format!("may not be in the {what}"))
}

/// Every address with every port: `10.0.0.1:80,10.0.0.2:80 + 3 more...`.
fn shown(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in items(object, "/subsets") {
        let addresses = items(subset, "/addresses");
        let ports = items(subset, "/ports");
        if ports.is_empty() {
            all.extend(addresses.iter().map(|one| text(one, "/ip").to_owned()));
        }
        for port in ports {
            let port = number(port, "/port").unwrap_or(0);
            all.extend(addresses.iter().map(|one| match text(one, "/ip") {
                v6 if v6.contains(':') => format!("[{v6}]:{port}"),
                v4 => format!("{v4}:{port}"),
            }));
        }
    }
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    match (all.is_empty(), more) {
        (true, _) => "<none>".to_owned(),
        (_, 0) => all.join(","),
        _ => format!("{} + {more} more...", all.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row};

    #[track_caller]
    fn check(subsets: &str, expect: Expect) {
        expect.assert_eq(&errors(&Endpoints, &format!("{{subsets: [{subsets}]}}")));
    }

    #[test]
    fn addresses_can_be_reached() {
        check(
            "{ports: [{port: 0}, {port: 1, name: A, protocol: x}]}, {addresses: [{ip: 127.0.0.1, hostname: \
             A}, {ip: x}, {ip: 169.254.0.1}, {ip: 10.0.0.1}]}",
            expect![[r#"
                subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`
                subsets[0].ports[0].name: Required value
                subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
                subsets[0].ports[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                subsets[0].ports[1].protocol: Unsupported value: "x": supported values: "SCTP", "TCP", "UDP"
                subsets[1].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
                subsets[1].addresses[0].hostname: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                subsets[1].addresses[1].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
                subsets[1].addresses[2].ip: Invalid value: "169.254.0.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)
            "#]],
        );
    }

    #[test]
    fn a_row_shows_the_first_endpoints() {
        expect!["web|<none>|60m"].assert_eq(&row(&Endpoints, "{metadata: {name: web}}"));
        expect!["web|10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...|60m"].assert_eq(&row(
            &Endpoints,
            "{metadata: {name: web}, subsets: [{addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}], ports: \
             [{port: 80}, {port: 81}]}]}",
        ));
    }
}
