//! The way into a network: addresses for pods, names and Services for their sockets.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    },
    time::Duration,
};

use anyhow::{Context, bail};
use async_trait::async_trait;
use runtimes::{
    Direction, HostPort, Isolated, NetworkError, PodAddress, PodNetwork, PodRef, Protocol, Traffic,
};
use tokio::{net::TcpStream, sync::watch, time::timeout};

use crate::{
    Config, Range,
    directory::{Directory, Frontend, Name, Transport, Update},
    dns::{Answer, Resolver, server::Sockets},
    firewall,
    isolation::Isolation,
    links,
    names::Names,
    namespace::Namespace,
    policy::{self, Policies},
    pool::{self, Pool},
    ruleset,
};

/// How long a pod waits for its node to be given a range before it is told to try again.
const RANGE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a pod waits until what would isolate it is known, before it is told to try again.
const POLICY_DEADLINE: Duration = Duration::from_secs(4);

const NO_NAMESPACES: &str = "containers need a network namespace, which a node with the rootless network cannot make: \
     run wk as root with a new data directory (--network privileged)";

const NO_HOST_PORTS: &str = "the pod's containers have a hostPort, which a node with the rootless network cannot open: run wk as root \
     with a new data directory (--network privileged)";

/// A range below this size has no room beside the reserved addresses.
const MIN_RANGE: u64 = 8;

/// The way into a [`Network`](crate::Network). Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Shared>);

/// What the network's tasks and its handles share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) names: Names,
    /// `None` when rootless.
    pub(crate) namespace: Option<Namespace>,
    /// `None` when rootless.
    pub(crate) isolation: Option<Isolation>,
    /// Where the DNS server listens, once the node's range is known (never when rootless).
    dns_server: OnceLock<SocketAddrV4>,
    /// Its sockets, until it takes them.
    dns_sockets: Mutex<Option<Sockets>>,
    /// Where Services of Functions lead, once the node's range is known, if the node has a gateway.
    functions_listener: OnceLock<SocketAddrV4>,
    /// Its socket, until the gateway takes it.
    functions_socket: Mutex<Option<std::net::TcpListener>>,
    directory: RwLock<Directory>,
    /// Counts changes to Service ports and their endpoints.
    changes: watch::Sender<u64>,
    policies: RwLock<Policies>,
    /// Counts changes to policies and what they select.
    policy_changes: watch::Sender<u64>,
    /// The count that the kernel's rules are of (privileged).
    policies_applied: watch::Sender<u64>,
    pool: Mutex<Option<Pool>>,
    /// The node's range, once it is known and in place.
    range: watch::Sender<Option<Range>>,
    /// Where the proxy listens for each Service port (rootless).
    listeners: RwLock<HashMap<Frontend, SocketAddr>>,
}

impl Shared {
    pub(crate) fn new(config: Config, namespace: Option<Namespace>) -> Self {
        let names = Names::of_node(&config.node_name);
        let isolation = namespace.clone();
        Self {
            isolation: isolation.map(|namespace| Isolation::new(names.clone(), namespace)),
            names,
            config,
            namespace,
            dns_server: OnceLock::new(),
            dns_sockets: Mutex::default(),
            functions_listener: OnceLock::new(),
            functions_socket: Mutex::default(),
            directory: RwLock::default(),
            changes: watch::Sender::new(0),
            policies: RwLock::default(),
            policy_changes: watch::Sender::new(0),
            policies_applied: watch::Sender::new(0),
            pool: Mutex::new(None),
            range: watch::Sender::new(None),
            listeners: RwLock::default(),
        }
    }

    /// Where the node's own DNS server listens.
    pub(crate) fn dns_server(&self) -> Option<SocketAddrV4> {
        self.dns_server.get().copied()
    }

    pub(crate) fn take_dns_sockets(&self) -> Option<Sockets> {
        let sockets = self.dns_sockets.lock();
        sockets.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Opens the DNS server's sockets; without them pods have a network, and no names.
    async fn listen_for_dns(&self, ip: Ipv4Addr) {
        match Sockets::bind(ip).await {
            Ok(sockets) => {
                let _ = self.dns_server.set(sockets.address);
                let mut place = self
                    .dns_sockets
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *place = Some(sockets);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, %ip, "could not listen for DNS: containers find no names");
            }
        }
    }

    /// Where Services of Functions lead on this node.
    pub(crate) fn functions_listener(&self) -> Option<SocketAddrV4> {
        self.functions_listener.get().copied()
    }

    pub(crate) fn take_functions_listener(&self) -> Option<std::net::TcpListener> {
        let socket = self.functions_socket.lock();
        socket.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Opens the socket that pods reach Functions by: as root on the node's address on the pods' link, where the kernel
    /// leads what is for their Services; rootless on every address, of which each Service has its own.
    fn listen_for_functions(&self, range: Range) {
        let ip = match self.config.mode {
            crate::Mode::Privileged => pool::host_address(range),
            crate::Mode::Rootless => Ipv4Addr::UNSPECIFIED,
        };
        let opened = std::net::TcpListener::bind((ip, 0)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            Ok((listener, port))
        });
        match opened {
            Ok((listener, port)) => {
                let _ = self.functions_listener.set(SocketAddrV4::new(ip, port));
                let place = self.functions_socket.lock();
                *place.unwrap_or_else(PoisonError::into_inner) = Some(listener);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, %ip, "could not listen for pods: they cannot call Functions");
            }
        }
    }

    /// Whether traffic goes to a Function's Service: the gateway asks the policies about it.
    fn is_way_to_functions(&self, traffic: Traffic) -> bool {
        let IpAddr::V4(ip) = traffic.peer else {
            return false;
        };
        let egress = traffic.direction == Direction::Egress && traffic.protocol == Protocol::Tcp;
        egress
            && self.functions_listener().is_some_and(|listener| {
                let directory = self.directory();
                directory.is_function_port(SocketAddrV4::new(ip, traffic.port))
                    || (traffic.port == listener.port()
                        && directory.function_at(traffic.peer).is_some())
            })
    }

    /// Whether a client is this node itself, rather than a pod or somebody elsewhere.
    pub(crate) fn is_own_client(&self, client: IpAddr, local: IpAddr) -> bool {
        let IpAddr::V4(ip) = client else {
            return client == local;
        };
        if self.is_of_node(client) {
            return true;
        }
        let pod = self.config.cluster_pod_range.contains(ip);
        !pod && (client.is_loopback() || client == local)
    }

    pub(crate) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an update in and tells the data plane.
    pub(crate) fn update(&self, update: Update) {
        let mut directory = self
            .directory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let changed = directory.apply(update);
        drop(directory);
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    pub(crate) fn policies(&self) -> RwLockReadGuard<'_, Policies> {
        self.policies.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn policies_mut(&self) -> RwLockWriteGuard<'_, Policies> {
        self.policies
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a change of a policy, a pod or a namespace in.
    pub(crate) fn update_policies(&self, update: policy::Update) {
        self.policies_mut().apply(update);
        self.policy_changes.send_modify(|count| *count += 1);
    }

    /// The count of changes, which is there now.
    pub(crate) fn subscribe_policies(&self) -> watch::Receiver<u64> {
        let mut changes = self.policy_changes.subscribe();
        changes.mark_changed();
        changes
    }

    /// Says that the kernel has the rules of that count.
    pub(crate) fn policies_applied(&self, count: u64) {
        self.policies_applied.send_replace(count);
    }

    /// Has the kernel decide about a pod's traffic from now on; the count of that change.
    fn police(&self, uid: &str, ip: Ipv4Addr) -> u64 {
        self.policies_mut().add_isolated(uid, ip);
        self.policy_changes.send_modify(|count| *count += 1);
        *self.policy_changes.borrow()
    }

    /// Waits until the kernel has the rules of that count; where there is no policy there are none.
    async fn policed(&self, count: u64) -> Result<(), NetworkError> {
        if !self.policies().any() {
            return Ok(());
        }
        let mut applied = self.policies_applied.subscribe();
        let there = applied.wait_for(|applied| *applied >= count);
        match timeout(POLICY_DEADLINE, there).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(unavailable(
                "the NetworkPolicies that may select the pod are not in place yet".to_owned(),
            )),
        }
    }

    /// Once there is no policy any more.
    pub(crate) fn forget_peers(&self) {
        self.policies_mut().forget_peers();
        self.policy_changes.send_modify(|count| *count += 1);
    }

    /// Whether an address is this node's own, as its pods see it.
    fn is_of_node(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else {
            return false;
        };
        match self.config.mode {
            crate::Mode::Rootless => address == Ipv4Addr::LOCALHOST,
            crate::Mode::Privileged => {
                let range = *self.range.borrow();
                let reserved = [1, 2].map(|place| range.and_then(|range| range.nth(place)));
                reserved.contains(&Some(address))
            }
        }
    }

    fn as_pod_sees(&self, endpoint: SocketAddrV4) -> SocketAddrV4 {
        match (self.config.mode, *self.range.borrow()) {
            (crate::Mode::Privileged, Some(range)) => {
                ruleset::as_pod_sees(endpoint, pool::host_address(range))
            }
            _ => endpoint,
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        let mut changes = self.changes.subscribe();
        changes.mark_changed();
        changes
    }

    pub(crate) fn subscribe_range(&self) -> watch::Receiver<Option<Range>> {
        self.range.subscribe()
    }

    pub(crate) fn listeners(&self) -> RwLockWriteGuard<'_, HashMap<Frontend, SocketAddr>> {
        self.listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self) -> MutexGuard<'_, Option<Pool>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, pod: &PodRef, name: &str) -> Answer {
        let resolver = Resolver {
            directory: &self.directory(),
            domain: &self.config.cluster_domain,
            pods: self.config.cluster_pod_range,
            namespace: &pod.namespace,
        };
        resolver.resolve(name)
    }

    /// Where an address' pod has its sockets; `None` is the host itself.
    fn place_of(&self, address: PodAddress) -> io::Result<Option<Namespace>> {
        let Some(isolation) = &self.isolation else {
            return Ok(None);
        };
        if address.loopback != IpAddr::V4(Ipv4Addr::LOCALHOST) {
            return Ok(self.namespace.clone());
        }
        let IpAddr::V4(ip) = address.ip else {
            return Ok(None);
        };
        // A pod without a namespace of its own is in its node's network.
        let Some(path) = isolation.at(ip) else {
            return Ok(None);
        };
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the pod's network is gone");
        Namespace::find(&path)?.map(Some).ok_or_else(gone)
    }

    /// What a pod with that IP is told of its network.
    fn address(&self, uid: &str, ip: Ipv4Addr) -> PodAddress {
        let isolation = self.isolation.as_ref();
        let isolated = isolation.is_some_and(|isolation| isolation.find(uid).is_some());
        PodAddress {
            ip: ip.into(),
            loopback: match isolated {
                true => Ipv4Addr::LOCALHOST,
                false => self.loopback(ip),
            }
            .into(),
        }
    }

    /// The pod's private loopback address: as far into that range as its IP is into the cluster's.
    fn loopback(&self, ip: Ipv4Addr) -> Ipv4Addr {
        let offset = self.config.cluster_pod_range.offset(ip);
        let address = offset.and_then(|offset| self.config.mode.loopback_range().nth(offset));
        address.expect("the configuration was checked: the loopback range is as large")
    }
}

impl Handle {
    /// Gives the network its node's pod range (`Node.spec.podCIDR`). [`Network::run`] does so by
    /// itself when the Node object names one; pods wait until then.
    ///
    /// [`Network::run`]: crate::Network::run
    ///
    /// # Errors
    /// A range outside of the cluster's, another one than before (a restart is needed), or a host
    /// that refuses its routes.
    pub async fn set_pod_range(&self, range: Range) -> anyhow::Result<()> {
        let shared = &self.0;
        let cluster = shared.config.cluster_pod_range;
        if !cluster.covers(&range) || range.size() < MIN_RANGE {
            bail!(
                "the node's pod range {range} must be part of the cluster's, {cluster}, with at least {MIN_RANGE} addresses"
            );
        }
        if let Some(before) = shared.pool().as_ref().map(Pool::range) {
            if before == range {
                return Ok(());
            }
            bail!(
                "the node's pod range was {before} and is now {range}: restart the node to change it"
            );
        }
        if let Some(namespace) = &shared.namespace {
            firewall::prepare(shared, range).await;
            let services = shared.config.service_range;
            links::configure(&shared.names, namespace, range, services)
                .await
                .with_context(|| format!("route the pod range {range}"))?;
            shared.listen_for_dns(pool::host_address(range)).await;
        }
        if shared.config.gateway {
            shared.listen_for_functions(range);
        }
        let mut pool = Pool::new(range);
        if let Some(isolation) = &shared.isolation {
            for (uid, ip) in adopt(isolation, &mut pool).await? {
                shared.police(&uid, ip);
            }
        }
        shared.pool().get_or_insert(pool);
        shared.range.send_replace(Some(range));
        Ok(())
    }

    /// Where a process on the host reaches that port of a Service: the ClusterIP itself, or rootless
    /// a port of the proxy, which is another one where the host refuses ports below 1024. `None` if
    /// there is no such Service port, or the proxy does not listen yet.
    pub fn host_address(&self, namespace: &str, service: &str, port: u16) -> Option<SocketAddr> {
        let name = Name {
            namespace: namespace.to_owned(),
            name: service.to_owned(),
        };
        let frontend = self.0.directory().frontend(&name, port)?;
        if self.0.namespace.is_some() {
            return Some(frontend.address.into());
        }
        if self.0.directory().is_function_port(frontend.address) {
            let port = self.0.functions_listener()?.port();
            return Some(SocketAddrV4::new(*frontend.address.ip(), port).into());
        }
        let listeners = self
            .0
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.get(&frontend).copied()
    }

    /// The name outside the cluster that an ExternalName Service of this name leads to: what the
    /// host's resolver is to be asked instead.
    pub fn external_name(&self, pod: &PodRef, name: &str) -> Option<String> {
        match self.0.answer(pod, name) {
            Answer::Outside(target) => Some(target),
            Answer::Addresses(_) | Answer::Unknown => None,
        }
    }

    /// Takes the node's namespace, link, routes and rules off the host; pods lose their network. Stop
    /// the network first: running, it would put its rules back.
    ///
    /// # Errors
    /// The host refuses.
    pub async fn teardown(&self) -> anyhow::Result<()> {
        match self.0.namespace {
            Some(_) => crate::teardown(&self.0.config.node_name).await,
            None => Ok(()),
        }
    }
}

/// Gives the pods that an earlier run isolated their addresses, and what is missing of their network.
async fn adopt(isolation: &Isolation, pool: &mut Pool) -> anyhow::Result<Vec<(String, Ipv4Addr)>> {
    let found = isolation.adopt().await;
    let mut adopted = Vec::new();
    for (uid, ip) in found.context("find the pods of the last run")? {
        if pool.add(&uid, Some(ip)) != Some(ip) {
            // Of another range than the node's now: it is given another address.
            pool.remove(&uid);
            continue;
        }
        if let Err(error) = isolation.ensure(&uid, ip, pool.range()).await {
            // Tried again when the pod is added.
            let error = format!("{error:#}");
            tracing::warn!(uid, error, "could not take over a pod's network");
        }
        adopted.push((uid, ip));
    }
    Ok(adopted)
}

/// How long a pod on this node may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Connects to the first of some addresses that does not refuse.
fn connect_to_first(addresses: &[IpAddr], port: u16) -> io::Result<std::net::TcpStream> {
    let mut refused = io::ErrorKind::ConnectionRefused.into();
    for ip in addresses {
        let address = SocketAddr::new(*ip, port);
        match std::net::TcpStream::connect_timeout(&address, CONNECT_DEADLINE) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => refused = error,
            connected => return connected,
        }
    }
    Err(refused)
}

fn unavailable(message: String) -> NetworkError {
    NetworkError::Unavailable {
        message,
        source: None,
    }
}

#[async_trait]
impl PodNetwork for Handle {
    fn declare(&self, pod: &PodRef, labels: &BTreeMap<String, String>) {
        self.0.policies_mut().declare(pod, labels.clone());
    }

    async fn add(&self, pod: &PodRef, wanted: Option<IpAddr>) -> Result<PodAddress, NetworkError> {
        let mut range = self.0.subscribe_range();
        let late = timeout(RANGE_DEADLINE, range.wait_for(Option::is_some))
            .await
            .is_err();
        if late {
            let node = &self.0.config.node_name;
            return Err(unavailable(format!(
                "node {node:?} has no pod range yet (spec.podCIDR)"
            )));
        }
        let wanted = match wanted {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => None,
        };
        let ip = {
            let mut pool = self.0.pool();
            let pool = pool
                .as_mut()
                .expect("the pool is made before the range is announced");
            pool.add(&pod.uid, wanted)
                .ok_or_else(|| NetworkError::Exhausted {
                    range: pool.range().to_string(),
                })?
        };
        // Its address is known before it is isolated, and it is isolated before it runs.
        let mut changes = self.0.policy_changes.subscribe();
        let declared = self.0.policies_mut().add_own(pod, ip.into());
        if declared && self.0.policies().any() {
            // The kernel has to learn whose address it is.
            self.0.policy_changes.send_modify(|count| *count += 1);
        }
        let known = changes.wait_for(|_| self.0.policies().knows(pod));
        if timeout(POLICY_DEADLINE, known).await.is_err() {
            return Err(unavailable(
                "the NetworkPolicies that may select the pod are not known yet".to_owned(),
            ));
        }
        // One of the last run that was not whole.
        let isolation = self.0.isolation.as_ref();
        if isolation.is_some_and(|i| i.holds(&pod.uid) && i.find(&pod.uid).is_none()) {
            self.isolate(&pod.uid).await?;
        }
        Ok(self.0.address(&pod.uid, ip))
    }

    fn find(&self, uid: &str) -> Option<PodAddress> {
        let ip = self.0.pool().as_ref()?.find(uid)?;
        Some(self.0.address(uid, ip))
    }

    async fn isolate(&self, uid: &str) -> Result<Isolated, NetworkError> {
        let Some(isolation) = &self.0.isolation else {
            return Err(NetworkError::Unsupported(NO_NAMESPACES.to_owned()));
        };
        let known = self
            .0
            .pool()
            .as_ref()
            .map(|pool| (pool.find(uid), pool.range()));
        let Some((Some(ip), range)) = known else {
            return Err(unavailable(format!("pod {uid} has no address")));
        };
        if isolation.find(uid) != Some(ip) {
            // It is policed before it is there.
            self.0.policed(self.0.police(uid, ip)).await?;
            let made = isolation.ensure(uid, ip, range).await;
            made.map_err(|error| unavailable(format!("make the pod's network: {error:#}")))?;
        }
        self.isolated(uid)
            .ok_or_else(|| unavailable(format!("pod {uid} was removed")))
    }

    fn isolated(&self, uid: &str) -> Option<Isolated> {
        let isolation = self.0.isolation.as_ref()?;
        let ip = isolation.find(uid)?;
        Some(Isolated {
            address: self.0.address(uid, ip),
            namespace: isolation.path(uid),
        })
    }

    fn open(&self, uid: &str, ports: &[HostPort]) -> Result<(), NetworkError> {
        if self.0.namespace.is_none() && !ports.is_empty() {
            return Err(NetworkError::Unsupported(NO_HOST_PORTS.to_owned()));
        }
        let ip = self.0.pool().as_ref().and_then(|pool| pool.find(uid));
        let Some(ip) = ip else {
            return Err(unavailable(format!("pod {uid} has no address")));
        };
        let ports = ports.iter().map(|port| {
            let transport = match port.protocol {
                Protocol::Tcp => Transport::Tcp,
                Protocol::Udp => Transport::Udp,
            };
            let node_port = (port.address, transport, port.port);
            (node_port, SocketAddrV4::new(ip, port.to))
        });
        self.0
            .update(Update::HostPorts(uid.to_owned(), ports.collect()));
        Ok(())
    }

    fn held(&self) -> Vec<String> {
        let pool = self.0.pool();
        let mut uids: BTreeSet<String> = pool.iter().flat_map(Pool::uids).cloned().collect();
        drop(pool);
        if let Some(isolation) = &self.0.isolation {
            match isolation.held() {
                Ok(held) => uids.extend(held),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "could not list the pods' namespaces");
                }
            }
        }
        uids.into_iter().collect()
    }

    async fn remove(&self, uid: &str) -> Result<(), NetworkError> {
        self.0.update(Update::HostPorts(uid.to_owned(), Vec::new()));
        if let Some(isolation) = &self.0.isolation {
            let ip = self.0.pool().as_ref().and_then(|pool| pool.find(uid));
            let removed = isolation.remove(uid, ip).await;
            removed.map_err(|error| unavailable(format!("{error:#}")))?;
        }
        if let Some(pool) = self.0.pool().as_mut() {
            pool.remove(uid);
        }
        self.0.policies_mut().remove_own(uid);
        self.0.policy_changes.send_modify(|count| *count += 1);
        Ok(())
    }

    fn enter(&self) -> io::Result<()> {
        self.0.namespace.as_ref().map_or(Ok(()), Namespace::enter)
    }

    async fn connect(&self, address: PodAddress, port: u16) -> io::Result<TcpStream> {
        let place = self.0.place_of(address)?;
        let (answer, connected) =
            tokio::sync::oneshot::channel::<io::Result<std::net::TcpStream>>();
        // A thread of its own: one that has entered a pod's network is of no other use.
        std::thread::Builder::new()
            .name("pod-connect".to_owned())
            .spawn(move || {
                let connect = || {
                    if let Some(namespace) = &place {
                        namespace.enter()?;
                    }
                    let stream = connect_to_first(&[address.ip, address.loopback], port)?;
                    stream.set_nonblocking(true)?;
                    Ok(stream)
                };
                // Nobody waits any more: the connection closes.
                let _ = answer.send(connect());
            })?;
        let connected = connected.await.map_err(io::Error::other)?;
        TcpStream::from_std(connected?)
    }

    fn resolve(&self, pod: &PodRef, name: &str) -> Option<Vec<IpAddr>> {
        match self.0.answer(pod, name) {
            Answer::Addresses(addresses) => Some(addresses.into_iter().map(IpAddr::V4).collect()),
            Answer::Outside(_) | Answer::Unknown => None,
        }
    }

    fn route(
        &self,
        _pod: &PodRef,
        destination: SocketAddr,
        protocol: Protocol,
    ) -> Option<SocketAddr> {
        let SocketAddr::V4(address) = destination else {
            return Some(destination);
        };
        let directory = self.0.directory();
        let transport = match protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        };
        if protocol == Protocol::Tcp && directory.is_function_port(address) {
            let listener = self.0.functions_listener()?;
            // As root the kernel leads it there, and the gateway is told where it was to go.
            return Some(match self.0.config.mode {
                crate::Mode::Privileged => destination,
                crate::Mode::Rootless => SocketAddrV4::new(*address.ip(), listener.port()).into(),
            });
        }
        if let Some(endpoint) = directory.pick(&Frontend { address, transport }) {
            return endpoint.map(|endpoint| self.0.as_pod_sees(endpoint).into());
        }
        let service = self.0.config.service_range.contains(*address.ip());
        (!service).then_some(destination)
    }

    fn allows(&self, pod: &PodRef, traffic: Traffic) -> bool {
        // A node reaches its own pods, whatever the policies say: its probes do.
        let from_node = traffic.direction == Direction::Ingress && self.0.is_of_node(traffic.peer);
        // In a namespace of its own a pod's loopback is nobody else's.
        let isolated = self.0.isolation.as_ref().and_then(|i| i.find(&pod.uid));
        let to_itself = isolated.is_some() && traffic.peer.is_loopback();
        from_node
            || to_itself
            || self.0.is_way_to_functions(traffic)
            || self.0.policies().allows(pod, traffic)
    }

    fn is_of_cluster(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else {
            return false;
        };
        let config = &self.0.config;
        config.cluster_pod_range.contains(address) || config.service_range.contains(address)
    }
}
