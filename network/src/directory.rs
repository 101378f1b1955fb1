//! What is known of Services and their endpoints, in memory.
//!
//! Fed with whole objects by the watches; answers by name, by ClusterIP and by endpoint. Pure: no
//! task, no IO. Never knows a pod: EndpointSlices say who is ready.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};

use crate::Range;

use function_kinds::FUNCTION_LABEL;

/// The label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The `appProtocol` of a Service's port whose endpoints speak HTTP/2 in the clear.
const H2C: &str = "kubernetes.io/h2c";

/// Namespace and name of an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The transport protocol of a Service port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Where a Service port is reached: its ClusterIP, its number and its protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Frontend {
    pub(crate) address: SocketAddrV4,
    pub(crate) transport: Transport,
}

/// Every Service port with its ready endpoints.
pub(crate) type Frontends = BTreeMap<Frontend, Arc<[SocketAddrV4]>>;

/// A port of the node: on one of its addresses, or unspecified on every one but loopback.
pub(crate) type NodePort = (Ipv4Addr, Transport, u16);

/// Every port of the node with the endpoints that it leads to.
pub(crate) type NodePorts = BTreeMap<NodePort, Arc<[SocketAddrV4]>>;

/// One object that came, changed or went; or all of a kind, after a list.
pub(crate) enum Update {
    Services(Vec<core::Service>),
    Service(core::Service),
    ServiceGone(core::Service),
    Slices(Vec<discovery::EndpointSlice>),
    Slice(discovery::EndpointSlice),
    SliceGone(discovery::EndpointSlice),
    /// The node's ports that lead to a pod of its own, by the pod's uid: all of them.
    HostPorts(String, Vec<(NodePort, SocketAddrV4)>),
}

/// A Service, as far as its traffic is concerned.
#[derive(PartialEq, Eq)]
struct Service {
    /// `None` if it is headless or external.
    cluster_ip: Option<Ipv4Addr>,
    external_name: Option<String>,
    ports: Vec<Port>,
    /// `externalTrafficPolicy: Local`: node ports lead to endpoints of the same node only.
    local: bool,
    /// The Function that it leads to, by way of each node's gateway: it has no endpoints.
    function: Option<String>,
}

#[derive(PartialEq, Eq)]
struct Port {
    name: String,
    transport: Transport,
    number: u16,
    /// Where it is reached on every node; never of an endpoint's port.
    node_port: Option<u16>,
    /// Whether its endpoints speak HTTP/2 from the first byte; never of an endpoint's port.
    h2c: bool,
}

#[derive(PartialEq, Eq)]
struct Slice {
    service: Name,
    ports: Vec<Port>,
    ready: Vec<Address>,
}

#[derive(PartialEq, Eq)]
struct Address {
    address: Ipv4Addr,
    hostname: Option<String>,
}

struct Backends {
    service: Name,
    ready: Arc<[SocketAddrV4]>,
    turn: AtomicUsize,
}

/// Services and endpoints by every way that they are looked up.
#[derive(Default)]
pub(crate) struct Directory {
    services: HashMap<Name, Service>,
    slices: HashMap<Name, Slice>,
    slices_of: HashMap<Name, BTreeSet<Name>>,
    frontends: HashMap<Frontend, Backends>,
    host_ports: BTreeMap<String, Vec<(NodePort, SocketAddrV4)>>,
    /// The Functions (`NAME.NAMESPACE`) of Services' addresses.
    functions: HashMap<Ipv4Addr, Box<str>>,
    function_ports: BTreeSet<SocketAddrV4>,
    services_listed: bool,
    slices_listed: bool,
}

impl Directory {
    /// Takes an update in; whether any Service port or ready endpoint changed, or the directory
    /// became complete.
    pub(crate) fn apply(&mut self, update: Update) -> bool {
        let complete = self.complete();
        self.services_listed |= matches!(update, Update::Services(_));
        self.slices_listed |= matches!(update, Update::Slices(_));
        self.take_in(update) | (self.complete() != complete)
    }

    /// Whether every kind was listed: before that, what is absent may yet come.
    pub(crate) fn complete(&self) -> bool {
        self.services_listed && self.slices_listed
    }

    fn take_in(&mut self, update: Update) -> bool {
        match update {
            Update::Service(object) => self.put_service(&object),
            Update::ServiceGone(object) => self.remove_service(&name_of(&object.metadata)),
            Update::Services(objects) => {
                let listed: BTreeSet<_> = objects.iter().map(|o| name_of(&o.metadata)).collect();
                let gone: Vec<_> = keys_outside(&self.services, &listed);
                let removed = gone.iter().filter(|name| self.remove_service(name)).count();
                let put = objects.iter().filter(|o| self.put_service(o)).count();
                removed + put > 0
            }
            Update::Slice(object) => self.put_slice(&object),
            Update::SliceGone(object) => self.remove_slice(&name_of(&object.metadata)),
            Update::Slices(objects) => {
                let listed: BTreeSet<_> = objects.iter().map(|o| name_of(&o.metadata)).collect();
                let gone: Vec<_> = keys_outside(&self.slices, &listed);
                let removed = gone.iter().filter(|name| self.remove_slice(name)).count();
                let put = objects.iter().filter(|o| self.put_slice(o)).count();
                removed + put > 0
            }
            Update::HostPorts(uid, ports) if ports.is_empty() => {
                self.host_ports.remove(&uid).is_some()
            }
            Update::HostPorts(uid, ports) => {
                let changed = self.host_ports.get(&uid) != Some(&ports);
                self.host_ports.insert(uid, ports);
                changed
            }
        }
    }

    /// Every Service port that has a ClusterIP, with its ready endpoints (perhaps none).
    pub(crate) fn frontends(&self) -> Frontends {
        let all = self.frontends.iter();
        all.map(|(frontend, backends)| (*frontend, backends.ready.clone()))
            .collect()
    }

    /// Every port of the node that has these pods, with the ready endpoints that it leads to: those that its pods
    /// ask for, and those that Services have on every node, which come first.
    pub(crate) fn node_ports(&self, own: Range) -> NodePorts {
        let of_pods = self.host_ports.values().flatten();
        let mut all: NodePorts = of_pods
            .map(|(port, pod)| (*port, Arc::from([*pod])))
            .collect();
        for (name, service) in &self.services {
            for port in &service.ports {
                let Some(number) = port.node_port else {
                    continue;
                };
                let ready = self.ready_behind(name, port);
                let wanted = |each: &&SocketAddrV4| !service.local || own.contains(*each.ip());
                let ready = ready.iter().filter(wanted).copied().collect();
                all.insert((Ipv4Addr::UNSPECIFIED, port.transport, number), ready);
            }
        }
        all
    }

    /// The next ready endpoint of a Service port, in turn. `None`: no such port; `Some(None)`: it
    /// has no ready endpoint.
    pub(crate) fn pick(&self, frontend: &Frontend) -> Option<Option<SocketAddrV4>> {
        let backends = self.frontends.get(frontend)?;
        let turn = backends.turn.fetch_add(1, Ordering::Relaxed);
        let index = turn.checked_rem(backends.ready.len());
        Some(index.map(|index| backends.ready[index]))
    }

    /// Whether the endpoint is ready behind that Service port.
    pub(crate) fn ready(&self, frontend: &Frontend, endpoint: &SocketAddrV4) -> bool {
        let backends = self.frontends.get(frontend);
        backends.is_some_and(|backends| backends.ready.contains(endpoint))
    }

    /// Where a request to that port of a Service goes: endpoints take turns, and those that were tried come last.
    pub(crate) fn endpoint(
        &self,
        name: &Name,
        port: PortName<'_>,
        tried: &[SocketAddr],
    ) -> Endpoint {
        let Some(service) = self.services.get(name) else {
            return Endpoint::NoService;
        };
        if let Some(function) = &service.function {
            return Endpoint::Function(function.clone());
        }
        let mut ports = service.ports.iter();
        let port = ports.find(|each| {
            let named = match port {
                PortName::Number(number) => each.number == number,
                PortName::Named(name) => each.name == name,
            };
            named && each.transport == Transport::Tcp
        });
        let Some(port) = port else {
            return Endpoint::NoPort;
        };
        let untried = |ready: &[SocketAddrV4], turn: usize| {
            let all = ready.iter().cycle().skip(turn.checked_rem(ready.len())?);
            let mut all = all.take(ready.len());
            let first = all.clone().next()?;
            let untried = all.find(|address| !tried.contains(&SocketAddr::V4(**address)));
            Some(*untried.unwrap_or(first))
        };
        let frontend = service.cluster_ip.map(|ip| Frontend {
            address: SocketAddrV4::new(ip, port.number),
            transport: port.transport,
        });
        let backends = frontend.and_then(|frontend| self.frontends.get(&frontend));
        let found = match backends {
            Some(backends) => {
                let turn = backends.turn.fetch_add(1, Ordering::Relaxed);
                untried(&backends.ready, turn)
            }
            None => untried(&self.ready_behind(name, port), tried.len()),
        };
        let h2c = port.h2c;
        found.map_or(Endpoint::NotReady, |address| Endpoint::Ready {
            address,
            h2c,
        })
    }

    /// The Function (`NAME.NAMESPACE`) whose Service has an address.
    pub(crate) fn function_at(&self, address: IpAddr) -> Option<Box<str>> {
        let IpAddr::V4(address) = address else {
            return None;
        };
        self.functions.get(&address).cloned()
    }

    /// Whether a Service's port leads to a Function.
    pub(crate) fn is_function_port(&self, address: SocketAddrV4) -> bool {
        self.function_ports.contains(&address)
    }

    /// The Service ports that lead to Functions.
    pub(crate) fn function_ports(&self) -> &BTreeSet<SocketAddrV4> {
        &self.function_ports
    }

    /// Where a port of a named Service is reached.
    pub(crate) fn frontend(&self, name: &Name, port: u16) -> Option<Frontend> {
        let service = self.services.get(name)?;
        let port = service.ports.iter().find(|each| each.number == port)?;
        Some(Frontend {
            address: SocketAddrV4::new(service.cluster_ip?, port.number),
            transport: port.transport,
        })
    }

    /// A Service's address, if it has one.
    pub(crate) fn cluster_ip(&self, name: &Name) -> Option<Ipv4Addr> {
        self.services.get(name)?.cluster_ip
    }

    /// What a Service's name leads to; `None` if there is no such Service.
    pub(crate) fn lookup(&self, name: &Name) -> Option<Lookup> {
        let service = self.services.get(name)?;
        if let Some(target) = &service.external_name {
            return Some(Lookup::Alias(target.clone()));
        }
        Some(Lookup::Addresses(match service.cluster_ip {
            Some(address) => vec![address],
            None => self.endpoint_addresses(name, |_| true),
        }))
    }

    /// The ready endpoints of a Service that answer to a hostname, given or made of their address
    /// (`10-64-0-5`).
    pub(crate) fn lookup_endpoint(&self, service: &Name, hostname: &str) -> Vec<Ipv4Addr> {
        self.endpoint_addresses(service, |endpoint| endpoint.name() == hostname)
    }

    /// A Service's ports: name, protocol and number.
    pub(crate) fn ports(&self, name: &Name) -> Vec<(&str, Transport, u16)> {
        let service = self.services.get(name);
        let ports = service.into_iter().flat_map(|service| &service.ports);
        ports.map(Port::parts).collect()
    }

    /// The ready endpoints of a Service: hostname (given or made of the address), address and ports.
    pub(crate) fn endpoints(&self, service: &Name) -> Vec<Member<'_>> {
        let slices = self.slices_of.get(service).into_iter().flatten();
        let slices = slices.filter_map(|name| self.slices.get(name));
        let members = slices.flat_map(|slice| {
            slice.ready.iter().map(|endpoint| Member {
                hostname: endpoint.name(),
                address: endpoint.address,
                ports: slice.ports.iter().map(Port::parts).collect(),
            })
        });
        let mut members: Vec<_> = members.collect();
        members.sort_by_key(|member| member.address);
        members
    }

    /// Whether a namespace has any Service.
    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        self.services.keys().any(|name| name.namespace == namespace)
    }

    /// The names of an address: of the Service that has it, and of headless Services' endpoints.
    pub(crate) fn names_of(&self, address: Ipv4Addr) -> Vec<(&Name, Option<String>)> {
        let services = self.services.iter();
        let services = services.filter(|(_, service)| service.cluster_ip == Some(address));
        let mut names: Vec<_> = services.map(|(name, _)| (name, None)).collect();
        for slice in self.slices.values() {
            let service = self.services.get(&slice.service);
            let headless =
                |service: &Service| service.cluster_ip.is_none() && service.external_name.is_none();
            if !service.is_some_and(headless) {
                continue;
            }
            let here = slice.ready.iter().filter(|each| each.address == address);
            names.extend(here.map(|endpoint| (&slice.service, Some(endpoint.name()))));
        }
        names.sort();
        names
    }

    fn endpoint_addresses(
        &self,
        service: &Name,
        wanted: impl Fn(&Address) -> bool,
    ) -> Vec<Ipv4Addr> {
        let slices = self.slices_of.get(service).into_iter().flatten();
        let endpoints = slices
            .filter_map(|name| self.slices.get(name))
            .flat_map(|slice| &slice.ready);
        let found: BTreeSet<_> = endpoints.filter(|e| wanted(e)).map(|e| e.address).collect();
        found.into_iter().collect()
    }

    fn put_service(&mut self, object: &core::Service) -> bool {
        let name = name_of(&object.metadata);
        let service = Service::read(object);
        if self.services.get(&name) == Some(&service) {
            return false;
        }
        if let Some(before) = self.services.remove(&name) {
            self.forget_function(&before);
        }
        if let (Some(function), Some(ip)) = (&service.function, service.cluster_ip) {
            let key = format!("{function}.{}", name.namespace).into_boxed_str();
            self.functions.insert(ip, key);
            self.function_ports.extend(service.function_ports());
        }
        self.services.insert(name.clone(), service);
        self.connect(&name);
        true
    }

    fn remove_service(&mut self, name: &Name) -> bool {
        let known = self.services.remove(name);
        if let Some(before) = &known {
            self.forget_function(before);
        }
        self.connect(name);
        known.is_some()
    }

    fn forget_function(&mut self, before: &Service) {
        for port in before.function_ports() {
            self.functions.remove(port.ip());
            self.function_ports.remove(&port);
        }
    }

    fn put_slice(&mut self, object: &discovery::EndpointSlice) -> bool {
        let name = name_of(&object.metadata);
        let Some(slice) = Slice::read(object) else {
            return self.remove_slice(&name);
        };
        if self.slices.get(&name) == Some(&slice) {
            return false;
        }
        self.remove_slice(&name);
        let service = slice.service.clone();
        self.slices_of
            .entry(service.clone())
            .or_default()
            .insert(name.clone());
        self.slices.insert(name, slice);
        self.connect(&service);
        true
    }

    fn remove_slice(&mut self, name: &Name) -> bool {
        let Some(slice) = self.slices.remove(name) else {
            return false;
        };
        if let Some(names) = self.slices_of.get_mut(&slice.service) {
            names.remove(name);
            if names.is_empty() {
                self.slices_of.remove(&slice.service);
            }
        }
        self.connect(&slice.service);
        true
    }

    /// Works a Service's frontends out anew; each keeps whose turn it is.
    fn connect(&mut self, name: &Name) {
        let wanted = self.wanted_frontends(name);
        self.frontends.retain(|frontend, backends| {
            backends.service != *name || wanted.iter().any(|(each, _)| each == frontend)
        });
        for (frontend, ready) in wanted {
            let before = self.frontends.get(&frontend);
            let turn = before.map_or(0, |backends| backends.turn.load(Ordering::Relaxed));
            let backends = Backends {
                service: name.clone(),
                ready,
                turn: AtomicUsize::new(turn),
            };
            self.frontends.insert(frontend, backends);
        }
    }

    fn wanted_frontends(&self, name: &Name) -> Vec<(Frontend, Arc<[SocketAddrV4]>)> {
        let Some(service) = self.services.get(name) else {
            return Vec::new();
        };
        let Some(cluster_ip) = service.cluster_ip.filter(|_| service.function.is_none()) else {
            return Vec::new();
        };
        let frontend = |port: &Port| Frontend {
            address: SocketAddrV4::new(cluster_ip, port.number),
            transport: port.transport,
        };
        let ports = service.ports.iter();
        ports
            .map(|port| (frontend(port), self.ready_behind(name, port)))
            .collect()
    }

    /// The ready endpoints of one Service port: a slice's port is the Service's of the same name.
    fn ready_behind(&self, service: &Name, port: &Port) -> Arc<[SocketAddrV4]> {
        let mut ready = BTreeSet::new();
        let slices = self.slices_of.get(service).into_iter().flatten();
        for slice in slices.filter_map(|name| self.slices.get(name)) {
            let same = |other: &&Port| other.name == port.name && other.transport == port.transport;
            let Some(target) = slice.ports.iter().find(same) else {
                continue;
            };
            let endpoints = slice.ready.iter();
            ready.extend(endpoints.map(|e| SocketAddrV4::new(e.address, target.number)));
        }
        ready.into_iter().collect()
    }
}

/// A port of a Service, as an Ingress names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PortName<'a> {
    Number(u16),
    Named(&'a str),
}

/// Where a request to a Service goes.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Endpoint {
    Ready {
        address: SocketAddrV4,
        /// Whether it speaks HTTP/2 from the first byte.
        h2c: bool,
    },
    /// It is a Function's Service, of the same namespace.
    Function(String),
    NoService,
    NoPort,
    NotReady,
}

/// A ready endpoint of a Service.
pub(crate) struct Member<'a> {
    pub(crate) hostname: String,
    pub(crate) address: Ipv4Addr,
    /// Name, protocol and number.
    pub(crate) ports: Vec<(&'a str, Transport, u16)>,
}

/// What a Service's name leads to.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Lookup {
    Addresses(Vec<Ipv4Addr>),
    /// `spec.externalName`.
    Alias(String),
}

impl Service {
    /// Where it leads to its Function, if it does.
    fn function_ports(&self) -> Vec<SocketAddrV4> {
        let Some(ip) = self.cluster_ip.filter(|_| self.function.is_some()) else {
            return Vec::new();
        };
        let ports = self.ports.iter();
        let tcp = ports.filter(|port| port.transport == Transport::Tcp);
        tcp.map(|port| SocketAddrV4::new(ip, port.number)).collect()
    }

    fn read(object: &core::Service) -> Self {
        let Some(spec) = &object.spec else {
            return Self {
                cluster_ip: None,
                external_name: None,
                ports: Vec::new(),
                local: false,
                function: None,
            };
        };
        let external = spec.type_.as_deref() == Some("ExternalName");
        let selects = spec.selector.as_ref().is_some_and(|all| !all.is_empty());
        let labels = object.metadata.labels.as_ref();
        let function = labels.and_then(|labels| labels.get(FUNCTION_LABEL));
        let on_nodes = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
        let cluster_ip = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok());
        let ports = spec.ports.iter().flatten();
        Self {
            cluster_ip: cluster_ip.filter(|_| !external),
            external_name: spec.external_name.clone().filter(|_| external),
            ports: ports
                .filter_map(|port| {
                    let node_port = port.node_port.filter(|number| on_nodes && *number != 0);
                    Some(Port {
                        node_port: node_port.and_then(|number| u16::try_from(number).ok()),
                        h2c: port.app_protocol.as_deref() == Some(H2C),
                        ..Port::read(port.name.as_deref(), port.protocol.as_deref(), port.port)?
                    })
                })
                .collect(),
            local: on_nodes && spec.external_traffic_policy.as_deref() == Some("Local"),
            function: function.filter(|_| !selects && !external).cloned(),
        }
    }
}

impl Address {
    /// The name that it answers to within its Service.
    fn name(&self) -> String {
        let dashed = || self.address.to_string().replace('.', "-");
        self.hostname.clone().unwrap_or_else(dashed)
    }
}

impl Port {
    fn parts(&self) -> (&str, Transport, u16) {
        (&self.name, self.transport, self.number)
    }

    /// `None` for protocols that are not carried (SCTP).
    fn read(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Self> {
        Some(Self {
            name: name.unwrap_or_default().to_owned(),
            transport: match protocol.unwrap_or("TCP") {
                "TCP" => Transport::Tcp,
                "UDP" => Transport::Udp,
                _ => return None,
            },
            number: u16::try_from(number).ok()?,
            node_port: None,
            h2c: false,
        })
    }
}

impl Slice {
    /// `None` if it belongs to no Service or is not of IPv4 addresses.
    fn read(object: &discovery::EndpointSlice) -> Option<Self> {
        let labels = object.metadata.labels.as_ref()?;
        if object.address_type != "IPv4" {
            return None;
        }
        let ports = object.ports.iter().flatten();
        Some(Self {
            service: Name {
                namespace: object.metadata.namespace.clone().unwrap_or_default(),
                name: labels.get(SERVICE_NAME)?.clone(),
            },
            ports: ports
                .filter_map(|p| Port::read(p.name.as_deref(), p.protocol.as_deref(), p.port?))
                .collect(),
            ready: object
                .endpoints
                .iter()
                .flatten()
                .filter_map(Address::read_ready)
                .collect(),
        })
    }
}

impl Address {
    /// `None` unless it is ready; unsaid means ready, as in the Kubernetes API.
    fn read_ready(endpoint: &discovery::Endpoint) -> Option<Self> {
        let conditions = endpoint.conditions.as_ref();
        if !conditions.and_then(|c| c.ready).unwrap_or(true) {
            return None;
        }
        Some(Self {
            address: endpoint.addresses.first()?.parse().ok()?,
            hostname: endpoint.hostname.clone(),
        })
    }
}

pub(crate) fn name_of(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> Name {
    Name {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

fn keys_outside<V>(map: &HashMap<Name, V>, listed: &BTreeSet<Name>) -> Vec<Name> {
    map.keys()
        .filter(|name| !listed.contains(*name))
        .cloned()
        .collect()
}

/// Directories from a few lines of text, for tests.
#[cfg(test)]
pub(crate) mod fixture {
    use serde_json::json;

    use super::*;

    /// `default/web 10.43.0.5 http:80/TCP`; in place of the ClusterIP `headless` or `>name.outside`. With
    /// a node port `http:80/TCP:30080`, and at last `local` where its endpoints are the node's own.
    pub(crate) fn service(line: &str) -> core::Service {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (namespace, name) = words[0].split_once('/').unwrap();
        let local = words.last() == Some(&"local");
        let ports = words[2..].iter().filter(|word| **word != "local");
        let ports: Vec<_> = ports.map(|word| port(word)).collect();
        let on_nodes = ports.iter().any(|port| !port["nodePort"].is_null());
        let spec = match words[1].strip_prefix('>') {
            Some(target) => json!({"type": "ExternalName", "externalName": target}),
            None => json!({
                "type": if on_nodes { "NodePort" } else { "ClusterIP" },
                "externalTrafficPolicy": if local { "Local" } else { "Cluster" },
                "clusterIP": words[1].replace("headless", "None"),
                "ports": ports,
            }),
        };
        let metadata = json!({"namespace": namespace, "name": name});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    /// `default/web-1 web http:8080/TCP 10.64.0.5 10.64.0.6! 10.64.0.7=db-0`: the second endpoint is
    /// not ready, the third has a hostname.
    pub(crate) fn slice(line: &str) -> discovery::EndpointSlice {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (namespace, name) = words[0].split_once('/').unwrap();
        let (ports, endpoints): (Vec<&str>, Vec<&str>) =
            words[2..].iter().copied().partition(|w| w.contains(':'));
        let endpoints = endpoints.into_iter().map(|word| {
            let (word, hostname) = word
                .split_once('=')
                .map_or((word, None), |(w, h)| (w, Some(h)));
            let ready = !word.ends_with('!');
            let address = word.trim_end_matches('!');
            json!({"addresses": [address], "conditions": {"ready": ready}, "hostname": hostname})
        });
        serde_json::from_value(json!({
            "addressType": "IPv4",
            "metadata": {"namespace": namespace, "name": name, "labels": {SERVICE_NAME: words[1]}},
            "ports": ports.into_iter().map(port).collect::<Vec<_>>(),
            "endpoints": endpoints.collect::<Vec<_>>(),
        }))
        .unwrap()
    }

    /// Lines that begin with `service` or `slice`, taken in one after another; with a `-` in front
    /// they are taken out.
    pub(crate) fn directory(text: &str) -> Directory {
        let mut directory = Directory::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (what, rest) = line.split_once(' ').unwrap();
            directory.apply(match what {
                "service" => Update::Service(service(rest)),
                "-service" => Update::ServiceGone(service(rest)),
                "slice" => Update::Slice(slice(rest)),
                "-slice" => Update::SliceGone(slice(rest)),
                _ => panic!("{line:?}"),
            });
        }
        directory
    }

    fn port(word: &str) -> serde_json::Value {
        let (name, rest) = word.split_once(':').unwrap();
        let (number, rest) = rest.split_once('/').unwrap();
        let (protocol, node_port) = rest
            .split_once(':')
            .map_or((rest, None), |(protocol, port)| (protocol, Some(port)));
        let node_port = node_port.map(|port| port.parse::<u16>().unwrap());
        json!({
            "name": name,
            "port": number.parse::<u16>().unwrap(),
            "protocol": protocol,
            "nodePort": node_port,
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{fixture::*, *};

    #[track_caller]
    fn check(text: &str, expected: Expect) {
        let mut seen = String::new();
        for (frontend, ready) in directory(text).frontends() {
            let ready: Vec<_> = ready.iter().map(ToString::to_string).collect();
            seen += &format!(
                "{} {}: {}\n",
                frontend.address,
                frontend.transport,
                ready.join(" ")
            );
        }
        expected.assert_eq(&seen);
    }

    #[test]
    fn a_service_port_leads_to_the_ready_endpoints_port_of_the_same_name() {
        check(
            "service default/web 10.43.0.5 http:80/TCP dns:53/UDP
             slice default/web-1 web http:8080/TCP dns:5353/UDP 10.64.0.5 10.64.0.6!
             slice default/web-2 web http:9090/TCP 10.64.0.7
             slice other/web-1 web http:8080/TCP 10.64.0.8",
            expect![[r#"
                10.43.0.5:53 udp: 10.64.0.5:5353
                10.43.0.5:80 tcp: 10.64.0.5:8080 10.64.0.7:9090
            "#]],
        );
    }

    #[test]
    fn an_endpoint_that_is_no_longer_ready_leaves() {
        check(
            "service default/web 10.43.0.5 :80/TCP
             slice default/web-1 web :80/TCP 10.64.0.5 10.64.0.6
             slice default/web-1 web :80/TCP 10.64.0.5! 10.64.0.6",
            expect![[r#"
                10.43.0.5:80 tcp: 10.64.0.6:80
            "#]],
        );
    }

    #[test]
    fn endpoints_may_come_before_their_service() {
        check(
            "slice default/web-1 web :80/TCP 10.64.0.5
             service default/web 10.43.0.5 :80/TCP",
            expect![[r#"
                10.43.0.5:80 tcp: 10.64.0.5:80
            "#]],
        );
    }

    #[test]
    fn what_goes_away_is_gone_from_every_index() {
        check(
            "service default/a 10.43.0.5 :80/TCP
             service default/b 10.43.0.6 :80/TCP
             slice default/a-1 a :80/TCP 10.64.0.5
             slice default/b-1 b :80/TCP 10.64.0.6
             -service default/a 10.43.0.5 :80/TCP
             -slice default/b-1 b :80/TCP 10.64.0.6",
            expect![[r#"
                10.43.0.6:80 tcp: 
            "#]],
        );
    }

    #[test]
    fn headless_and_external_services_and_sctp_have_no_frontend() {
        check(
            "service default/headless headless :80/TCP
             service default/outside >example.org
             service default/sctp 10.43.0.7 :80/SCTP",
            expect![""],
        );
    }

    #[test]
    fn a_list_removes_what_it_does_not_name() {
        let mut directory = directory(
            "service default/a 10.43.0.5 :80/TCP
             service default/b 10.43.0.6 :80/TCP",
        );
        let kept = service("default/b 10.43.0.6 :80/TCP");
        assert!(directory.apply(Update::Services(vec![kept.clone()])));
        assert_eq!(directory.frontends().len(), 1);
        assert!(
            !directory.apply(Update::Services(vec![kept])),
            "nothing changed"
        );
    }

    #[test]
    fn the_directory_is_complete_when_both_kinds_were_listed() {
        let mut directory = Directory::default();
        assert!(!directory.apply(Update::Services(Vec::new())) && !directory.complete());
        assert!(directory.apply(Update::Slices(Vec::new())) && directory.complete());
    }

    #[test]
    fn ready_endpoints_take_turns_and_keep_them_over_changes() {
        let mut directory = directory(
            "service default/web 10.43.0.5 :80/TCP
             slice default/web-1 web :80/TCP 10.64.0.5 10.64.0.6",
        );
        let frontend = *directory.frontends().keys().next().unwrap();
        let pick =
            |directory: &Directory| directory.pick(&frontend).unwrap().unwrap().ip().octets()[3];
        assert_eq!(
            [pick(&directory), pick(&directory), pick(&directory)],
            [5, 6, 5]
        );
        directory.apply(Update::Slice(slice(
            "default/web-1 web :80/TCP 10.64.0.5 10.64.0.6 10.64.0.7!",
        )));
        assert_eq!(pick(&directory), 6);
    }
}
