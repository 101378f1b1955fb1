//! The node's ports that pods ask for, and which of them cannot both be had. Pure.

use k8s_openapi::api::core::v1::{ContainerPort, Pod};

use super::{Place, Refusal};
use crate::config::ReservedPort;

/// What stands for every address of the node.
const ANY: &str = "0.0.0.0";

/// A port of the node that a pod asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HostPort {
    address: String,
    protocol: String,
    number: i32,
}

impl HostPort {
    /// Those of containers that run on; on the node's network, each port of theirs.
    pub(crate) fn wanted(pod: &Pod) -> Vec<HostPort> {
        let Some(spec) = &pod.spec else {
            return Vec::new();
        };
        let on_host = spec.host_network == Some(true);
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars =
            sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let containers = spec.containers.iter().chain(sidecars);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        ports
            .filter_map(|port| HostPort::of(port, on_host))
            .collect()
    }

    fn of(port: &ContainerPort, on_host: bool) -> Option<HostPort> {
        let given = |text: &Option<String>, otherwise: &str| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            text.unwrap_or(otherwise).to_owned()
        };
        let number = port.host_port.filter(|number| *number > 0);
        Some(HostPort {
            address: given(&port.host_ip, ANY),
            protocol: given(&port.protocol, "TCP"),
            number: number.or(on_host.then_some(port.container_port))?,
        })
    }

    fn clashes(&self, other: &HostPort) -> bool {
        self.number == other.number
            && self.protocol == other.protocol
            && (self.address == other.address || self.address == ANY || other.address == ANY)
    }
}

impl From<&ReservedPort> for HostPort {
    fn from(port: &ReservedPort) -> HostPort {
        let address = port.address.ip();
        HostPort {
            address: match address.is_unspecified() {
                true => ANY.to_owned(),
                false => address.to_string(),
            },
            protocol: "TCP".to_owned(),
            number: port.address.port().into(),
        }
    }
}

/// Refuses a pod that asks for a port which another pod, or the node itself, has.
pub(super) fn free(pod: &Pod, place: &Place<'_>) -> Result<(), Refusal> {
    let refuse = |detail: &str| {
        let message = "node(s) didn't have free ports for the requested pod ports";
        Err(Refusal {
            reason: "NodePorts",
            message: format!("Predicate NodePorts failed: {message}{detail}"),
        })
    };
    for wanted in HostPort::wanted(pod) {
        let mut reserved = place.reserved_ports.iter();
        if let Some(own) = reserved.find(|own| wanted.clashes(&HostPort::from(*own))) {
            let ReservedPort { address, what } = own;
            let HostPort {
                number, protocol, ..
            } = wanted;
            return refuse(&format!(
                ": on this node {what} listens on {address}, so hostPort {number}/{protocol} is not free"
            ));
        }
        if place.taken_ports.iter().any(|taken| wanted.clashes(taken)) {
            return refuse("");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Ports written as a container's, with `host` before those of a pod on the node's network.
    fn ports(text: &str) -> Vec<HostPort> {
        let (on_host, text) = match text.strip_prefix("host ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let ports: Vec<_> = text
            .split_whitespace()
            .map(|port| {
                let (address, rest) = port.split_once(':').unwrap_or(("", port));
                let (number, protocol) = rest.split_once('/').unwrap_or((rest, "TCP"));
                let number: i32 = number.parse().unwrap();
                let name = if on_host { "containerPort" } else { "hostPort" };
                let mut port = json!({"containerPort": 1, "hostIP": address, "protocol": protocol});
                port[name] = number.into();
                port
            })
            .collect();
        let container = json!({"name": "c", "ports": ports});
        let once = json!({"name": "i", "ports": [{"containerPort": 1, "hostPort": 7}]});
        let spec =
            json!({"hostNetwork": on_host, "containers": [container], "initContainers": [once]});
        HostPort::wanted(&serde_json::from_value(json!({"spec": spec})).unwrap())
    }

    #[track_caller]
    fn check(one: &str, other: &str, clash: bool) {
        let (one, other) = (ports(one), ports(other));
        let any = |left: &[HostPort], right: &[HostPort]| {
            let mut left = left.iter();
            left.any(|left| right.iter().any(|right| left.clashes(right)))
        };
        assert_eq!(any(&one, &other), clash);
        assert_eq!(any(&other, &one), clash);
    }

    #[test]
    fn ports_clash_by_number_protocol_and_address() {
        check("80", "80", true);
        check("80", "81", false);
        check("80/TCP", "80/UDP", false);
        check("192.0.2.1:80", "192.0.2.2:80", false);
        check("192.0.2.1:80", "192.0.2.1:80", true);
        check("192.0.2.1:80", "80", true);
        check("81 80", "82 80", true);
    }

    #[test]
    fn on_the_nodes_network_every_port_is_the_nodes() {
        check("host 80", "80", true);
        check("host 80", "host 80", true);
        check("host 80", "host 81", false);
    }

    #[test]
    fn a_container_that_ends_before_the_others_start_holds_no_port() {
        check("80", "7", false);
    }
}
