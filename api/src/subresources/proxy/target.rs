//! Whom a proxied request is for: `[http:|https:]<name>[:<port>]` of a Service, a pod or a node.

use std::net::{IpAddr, SocketAddr};

use rand::seq::IndexedRandom;
use serde_json::Value;
use store::ResourceKey;

use crate::{
    auth::service_account, error::Error, object, proxy::NodeTarget, subresources::log,
    verbs::call::Call,
};

/// Where a request goes.
#[derive(Debug)]
pub(super) enum Target {
    Nodelet(NodeTarget),
    Address { address: SocketAddr, tls: bool },
}

/// A name as the path has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Named<'a> {
    tls: bool,
    name: &'a str,
    /// A number or a name; empty if there is none.
    port: &'a str,
}

fn parse(text: &str) -> Option<Named<'_>> {
    let parts: Vec<&str> = text.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    let tls = match scheme {
        "" | "http" => false,
        "https" => true,
        _ => return None,
    };
    (!name.is_empty()).then_some(Named { tls, name, port })
}

/// Finds out where the call's request goes.
pub(super) async fn find(call: &Call) -> Result<Target, Error> {
    let names = call.resource.names();
    let named = parse(&call.name).ok_or_else(|| {
        Error::BadRequest(format!(
            "invalid {} request {:?}",
            names.singular, call.name
        ))
    })?;
    call.server.cache.fresh().await?;
    let object = service_account::find(
        &call.server.cache,
        names.plural,
        &call.namespace,
        named.name,
    )
    .ok_or_else(|| call.not_found(named.name))?;
    match names.plural {
        "services" => service(call, named, &object),
        "pods" => pod(named, &object),
        _ => node(call, named),
    }
}

fn unavailable(message: String) -> Error {
    Error::Unavailable {
        message,
        source: None,
    }
}

/// One of a Service's ready endpoints, at random.
fn service(call: &Call, named: Named<'_>, service: &Value) -> Result<Target, Error> {
    let port = port_name(named, service)?;
    let none = || {
        unavailable(format!(
            "no endpoints available for service {:?}",
            call.name
        ))
    };
    let resource = ResourceKey::new("discovery.k8s.io", "endpointslices");
    let slices = call.server.cache.list(&resource, Some(&call.namespace));
    let mut addresses = Vec::new();
    for item in slices.items {
        let of = item.decoded.labels.get("kubernetes.io/service-name");
        if of.is_none_or(|of| of != named.name) {
            continue;
        }
        let slice: Value = serde_json::from_slice(&item.decoded.value).map_err(Error::internal)?;
        addresses.extend(ready(&slice, &port, |endpoint| is_of_pod(call, endpoint)));
    }
    let address = addresses.choose(&mut rand::rng()).copied();
    Ok(Target::Address {
        address: address.ok_or_else(none)?,
        tls: named.tls,
    })
}

/// The name of the Service's port that is meant: by number, by name, or the only one.
fn port_name(named: Named<'_>, service: &Value) -> Result<String, Error> {
    let ports = service["spec"]["ports"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let name_of = |port: &Value| port["name"].as_str().unwrap_or_default().to_owned();
    if let Ok(number) = named.port.parse::<u16>() {
        let found = ports.iter().find(|port| port["port"] == number);
        return found.map(name_of).ok_or_else(|| {
            unavailable(format!(
                "no service port {number} found for service {:?}",
                named.name
            ))
        });
    }
    match ports {
        [only] if named.port.is_empty() => Ok(name_of(only)),
        _ => Ok(named.port.to_owned()),
    }
}

/// The addresses of a slice's ready endpoints at a port.
fn ready(slice: &Value, port: &str, is_of_pod: impl Fn(&Value) -> bool) -> Vec<SocketAddr> {
    let list = |field: &str| slice[field].as_array().cloned().unwrap_or_default();
    let numbers: Vec<u16> = list("ports")
        .iter()
        .filter(|own| own["name"].as_str().unwrap_or_default() == port)
        .filter_map(|own| u16::try_from(own["port"].as_u64()?).ok())
        .collect();
    list("endpoints")
        .iter()
        .filter(|endpoint| endpoint["conditions"]["ready"] != false && is_of_pod(endpoint))
        .filter_map(|endpoint| endpoint["addresses"][0].as_str()?.parse::<IpAddr>().ok())
        .flat_map(|ip| numbers.iter().map(move |port| SocketAddr::new(ip, *port)))
        .collect()
}

/// True if an endpoint is a pod of the Service's namespace that has its address: whoever may write slices
/// must not reach just any address in the apiserver's name.
fn is_of_pod(call: &Call, endpoint: &Value) -> bool {
    let of = &endpoint["targetRef"];
    let name = of["name"].as_str().unwrap_or_default();
    let own = of["namespace"].as_str().unwrap_or(&call.namespace) == call.namespace;
    if of["kind"] != "Pod" || !own {
        return false;
    }
    service_account::find(&call.server.cache, "pods", &call.namespace, name).is_some_and(|pod| {
        let mut ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
        let address = &endpoint["addresses"][0];
        pod["status"]["podIP"] == *address || ips.any(|ip| ip["ip"] == *address)
    })
}

/// A pod, at the port that is named or the first that it declares.
fn pod(named: Named<'_>, pod: &Value) -> Result<Target, Error> {
    let ip = pod["status"]["podIP"].as_str().unwrap_or_default();
    let ip: IpAddr = ip
        .parse()
        .map_err(|_| Error::BadRequest("address not allowed".to_owned()))?;
    let port = match named.port {
        "" => first_port(pod).unwrap_or(if named.tls { 443 } else { 80 }),
        text => container_port(pod, text).ok_or_else(|| {
            Error::BadRequest(format!(
                "invalid port {text:?} of pod {:?}",
                object::name(pod)
            ))
        })?,
    };
    Ok(Target::Address {
        address: SocketAddr::new(ip, port),
        tls: named.tls,
    })
}

fn ports(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|container| container["ports"].as_array().into_iter().flatten())
}

fn number(port: &Value) -> Option<u16> {
    u16::try_from(port["containerPort"].as_u64()?).ok()
}

fn first_port(pod: &Value) -> Option<u16> {
    ports(pod).find_map(number)
}

fn container_port(pod: &Value, text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0).or_else(|| {
        ports(pod)
            .find(|port| port["name"] == text)
            .and_then(number)
    })
}

/// A node's nodelet, or whatever else listens on the node.
fn node(call: &Call, named: Named<'_>) -> Result<Target, Error> {
    let nodelet = log::node(call, named.name)?;
    let port = match named.port {
        "" => return Ok(Target::Nodelet(nodelet)),
        text => text
            .parse::<u16>()
            .map_err(|_| Error::BadRequest(format!("invalid node request {:?}", call.name)))?,
    };
    if port == nodelet.port {
        return Ok(Target::Nodelet(nodelet));
    }
    let ip: IpAddr = nodelet
        .address
        .parse()
        .map_err(|_| Error::BadRequest("address not allowed".to_owned()))?;
    Ok(Target::Address {
        address: SocketAddr::new(ip, port),
        tls: named.tls,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Expect) {
        let shown = parse(text).map(|named| {
            let scheme = if named.tls { "https" } else { "http" };
            format!("{scheme} {} {}", named.name, named.port)
        });
        expected.assert_eq(&shown.unwrap_or_else(|| "nothing".to_owned()));
    }

    #[test]
    fn a_name_may_have_a_scheme_and_a_port() {
        check("web", expect!["http web "]);
        check("web:80", expect!["http web 80"]);
        check("https:web:api", expect!["https web api"]);
        check(":web:80", expect!["http web 80"]);
        check("http:web:", expect!["http web "]);
        check("ftp:web:80", expect!["nothing"]);
        check(":80", expect!["nothing"]);
        check("a:b:c:d", expect!["nothing"]);
    }

    #[test]
    fn a_port_is_meant_by_number_by_name_or_because_it_is_the_only_one() {
        let one = json!({"spec": {"ports": [{"name": "http", "port": 80}]}});
        let two =
            json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "api", "port": 81}]}});
        let name = |text: &str, service: &Value| {
            port_name(parse(text).expect("a name"), service).map_err(|error| error.to_string())
        };
        assert_eq!(name("web", &one), Ok("http".to_owned()));
        assert_eq!(name("web", &two), Ok(String::new()));
        assert_eq!(name("web:81", &two), Ok("api".to_owned()));
        assert_eq!(name("web:api", &two), Ok("api".to_owned()));
        assert_eq!(
            name("web:9", &two),
            Err(r#"no service port 9 found for service "web""#.to_owned())
        );
    }

    #[test]
    fn only_ready_endpoints_of_pods_are_used() {
        let slice = json!({
            "ports": [{"name": "http", "port": 8080}, {"name": "api", "port": 9090}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}, "targetRef": {"kind": "Pod"}},
                {"addresses": ["10.0.0.3"]},
            ],
        });
        let found = ready(&slice, "http", |endpoint| {
            endpoint["targetRef"]["kind"] == "Pod"
        });
        assert_eq!(found, ["10.0.0.1:8080".parse().expect("an address")]);
        assert_eq!(ready(&slice, "", |_| true), []);
    }
}
