//! Wires the components: who is started in which order, with which identity and settings.
//!
//! The only place that names implementations. Every component is a task of [`Tasks`].

use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use api::{
    auth::{MASTERS, User},
    kinds::Registry,
    server::Apiserver,
};
use controllers::authority::Authority;
use runtime_oci::OciRuntime;
use runtime_wasm::WasmRuntime;
use runtimes::{Images, Invoke, PodNetwork, Runtime, images::ImageStore};
use store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    authority::ClusterAuthority,
    cluster,
    data_dir::{DataDir, write_private},
    demand::{self, AllGateways},
    gateway, kubeconfig, leader, node_name,
    node_proxy::Nodelets,
    pki::{self, Pair, Subject},
    ranges::{self, Ranges},
    registry::RegistrySource,
    tasks::Tasks,
    tokens,
    up::Up,
};

const ADMIN: &str = "wk-admin";
pub(crate) const NODELET_PORT: u16 = 10250;
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Who signs the tokens of ServiceAccounts, and whom they are for unless they say otherwise.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// How long the API may take to become ready.
const READY: Duration = Duration::from_secs(60);

/// What the rest of `wk up` needs of a running cluster.
pub(crate) struct Components {
    _claim: Option<node_name::Claim>,
    /// Where clients on this host reach the API.
    pub(crate) url: String,
    /// Where objects are kept, in words.
    pub(crate) objects: String,
    /// Which addresses pods and Services get, in words.
    pub(crate) addresses: String,
    /// What runs containers, or why nothing does, in words.
    pub(crate) containers: String,
    /// Where functions and Ingresses are reached, in words.
    pub(crate) gateway: String,
    /// Where images are pushed to, in words.
    pub(crate) registry: String,
    /// A client in this process with the administrator's identity.
    pub(crate) admin: kube::Client,
    /// The network of this host's pods, if it is a node.
    pub(crate) network: Option<network::Handle>,
}

/// Starts everything and returns once the API is ready.
pub(crate) async fn start(up: &Up, data: &DataDir, tasks: &mut Tasks) -> Result<Components> {
    let today = jiff::Zoned::now().date();
    let scheduling = scheduler_config(up.scheduler_config.as_deref())?;
    let node_name = node_name::choose(up.node_name.as_deref())?;
    let node_ip = node_address();
    let ranges = ranges::choose(up.network, data)?;
    // Alone and rootless, a process shares nothing that is named by its node.
    let shares = up.database.is_some() || ranges.mode == network::Mode::Privileged;
    let claim = (shares && !up.no_node)
        .then(|| node_name::claim(&node_name))
        .transpose()?;
    let tokens = match &up.token_auth_file {
        Some(path) => tokens::read(path)?,
        None => Vec::new(),
    };

    let listener = listen(up.listen).await?;
    let port = listener
        .local_addr()
        .context("read the listener's address")?
        .port();
    let (store, objects) = open_store(up.database.as_deref(), data).await?;
    let ca = cluster::authority(store.as_ref(), today).await?;
    let issuer = api::auth::Issuer {
        url: ISSUER.to_owned(),
        key: cluster::signing_key(store.as_ref()).await?,
    };
    let certificates = Certificates::issue(
        &ca,
        &data.path("pki"),
        &node_name,
        &[node_ip, reachable(up.listen.ip())],
        ranges.first_service,
        today,
    )?;
    let url = format!("https://{}:{port}", reachable(up.listen.ip()));
    let text = kubeconfig::admin(&url, &ca.certificate, &certificates.admin);
    write_private(&data.path("admin.kubeconfig"), &text)?;

    // The API: cache, server, listener.
    let metrics = metrics::Metrics::new();
    metrics.register(reconcile::metrics::register);
    metrics.register(controllers::metrics::register);
    metrics.register(scheduler::metrics::register);
    metrics.register(functions::metrics::register);
    metrics.register(network::metrics::register);
    let store: Arc<dyn Store> =
        Arc::new(metrics.register(|registry| api::metrics::Measured::new(store, registry)));
    let registry = Arc::new(Registry::builtin());
    let codec = Arc::new(api::codec::Codec::new(&registry));
    let (cache, feed) = store::Cache::start(store, codec, store::CacheConfig::default())
        .await
        .context("read the store")?;
    tasks.start_foundation(
        "store",
        async move { feed.await.context("follow the store") },
    );
    let nodelets = Nodelets::new(
        &node_name,
        pki::client_tls(&ca.certificate, &certificates.apiserver_client)?,
        ranges.cluster_pods.parse().expect("a constant range"),
    );
    let limits = api::server::Limits::default();
    let config = api::server::Config {
        service_range: ranges.services.parse().expect("a constant range"),
        advertised: SocketAddr::new(advertised(up.listen.ip(), node_ip), port),
        tokens,
        issuer: issuer.clone(),
        limits: limits.clone(),
        metrics: metrics.clone(),
    };
    let apiserver = Apiserver::new(cache, registry, nodelets.clone(), config);
    let tls = pki::apiserver_tls(&ca.certificate, &certificates.apiserver)?;
    let stop = tasks.stop();
    let shared = up.database.is_some();
    let images = up.registry.open(data, &apiserver, &metrics, shared)?;
    let router = apiserver
        .router()
        .merge(images.router(::registry::Scheme::Https));
    tasks.start("apiserver", async move {
        api::serve::run(listener, tls, router, &limits, stop)
            .await
            .context("serve the API")
    });
    let (stop, bootstrap) = (tasks.stop(), apiserver.clone());
    tasks.start("bootstrap", async move {
        bootstrap.run(stop).await;
        Ok(())
    });
    // Until there are roles, the components below may do nothing.
    tokio::time::timeout(READY, apiserver.authorizing())
        .await
        .context("the API did not become ready")?;

    // The control plane.
    let images = up.registry.serve(tasks, images).await;
    let source = Arc::new(RegistrySource::new(&images, apiserver.clone()));
    let election = shared.then(|| Election {
        // Two processes of one name must not take each other's lease for their own.
        identity: format!("{node_name}_{:08x}", rand::random::<u32>()),
        apiserver: apiserver.clone(),
    });
    let autoscaling = up.autoscaling.autoscaling();
    let authority: Arc<dyn Authority> = Arc::new(ClusterAuthority::new(&ca, issuer)?);
    let client = apiserver.client(User::controller_manager());
    let own = client.clone();
    lead(
        tasks,
        "controllers",
        "kube-controller-manager",
        election.clone(),
        client,
        move |stop| {
            let config = controllers::Config {
                authority: Some(authority.clone()),
                autoscaling,
                ..controllers::Config::default()
            };
            controllers::Controllers::new(own.clone(), config).run(stop)
        },
    );
    let client = apiserver.client(User::scheduler());
    let own = client.clone();
    lead(
        tasks,
        "scheduler",
        "kube-scheduler",
        election.clone(),
        client,
        move |stop| scheduler::Scheduler::new(own.clone(), scheduling.clone()).run(stop),
    );
    let own = images.registry.clone();
    // Of several processes with one storage, one tidies it.
    let registry_election = election.clone().filter(|_| own.is_shared());
    let client = apiserver.client(User::apiserver());
    lead(
        tasks,
        "registry",
        "wk-registry",
        registry_election,
        client,
        move |stop| {
            let own = own.clone();
            async move {
                own.run(stop).await;
                Ok(())
            }
        },
    );

    let node = Node {
        name: &node_name,
        ip: node_ip,
        ranges: &ranges,
        ca: &ca,
        certificates: &certificates,
        metrics: &metrics,
        static_pods: up.pod_manifest_path.clone(),
        max_pods: up.max_pods,
        api: SocketAddr::new(up.listen.ip(), port),
        gateway: up.gateway.is_on(),
    };
    let (network, containers, gateway) = match up.no_node {
        true => {
            let none = "this host runs no pods";
            (None, none.to_owned(), gateway::Started::none(none))
        }
        false => {
            let client = apiserver.client(User::network());
            let network = start_network(tasks, data, &node, client).await?;
            let started = gateway::Start {
                flags: &up.gateway,
                mode: ranges.mode,
                node_name: &node_name,
                node_ip,
                ca: &ca,
                network: &network,
                client: apiserver.client(User::gateway()),
            };
            let demand = demand::Own::default();
            let (containers, invoke) = start_nodelet(
                tasks,
                data,
                node,
                Server {
                    nodelets: &nodelets,
                    beside: demand.router(),
                },
                network.clone(),
                apiserver.client(User::node(&node_name)),
                source,
            )
            .await?;
            let gateway = gateway::start(tasks, started, invoke).await;
            if let Some(handle) = &gateway.handle {
                demand.set(handle.clone());
            }
            (Some(network), containers, gateway)
        }
    };

    let client = apiserver.client(User::functions());
    start_functions(tasks, &up.gateway, &gateway, election, client, nodelets);

    let admin = apiserver.client(User::new(ADMIN, &[MASTERS]));
    tokio::time::timeout(READY, apiserver.ready())
        .await
        .context("the API did not become ready")?;
    let addresses = format!("pods {}, services {}", ranges.cluster_pods, ranges.services);
    Ok(Components {
        _claim: claim,
        registry: images.shown(&url),
        url,
        objects,
        addresses,
        containers,
        gateway: gateway.words,
        admin,
        network,
    })
}

/// Starts the controller of Functions, with the ways to gateways: requests of triggers go to this host's.
fn start_functions(
    tasks: &mut Tasks,
    flags: &gateway::Flags,
    gateway: &gateway::Started,
    election: Option<Election>,
    client: kube::Client,
    nodelets: Arc<Nodelets>,
) {
    let address = functions::Address {
        domain: flags.domain().to_owned(),
        // The port that was opened, where the flag leaves the choice.
        port: gateway.http.map(|http| http.port()).or(flags.http_port()),
    };
    // The leader calls Functions wherever it is: without a gateway of its own, through that of another node.
    let deliver: Arc<dyn functions::Deliver> = Arc::new(match gateway.inside {
        Some(inside) => functions::HttpDelivery::new(inside, address.clone()),
        None => functions::HttpDelivery::through_nodes(client.clone(), address.clone()),
    });
    let gateways = functions::Gateways {
        demand: Some(Arc::new(AllGateways {
            client: client.clone(),
            nodelets,
        })),
        deliver: Some(deliver),
    };
    let config = functions::Config {
        address,
        ..functions::Config::default()
    };
    let own = client.clone();
    lead(
        tasks,
        "functions",
        "wk-functions",
        election,
        client,
        move |stop| {
            functions::Functions::new(own.clone(), config.clone(), gateways.clone()).run(stop)
        },
    );
}

/// What an election takes: who this process is, and when the API has a place for the lease.
#[derive(Clone)]
struct Election {
    identity: String,
    apiserver: Apiserver,
}

/// Starts a component that only one process of the cluster may run at a time: with an election, by
/// the lease of that name; without, this process is the only one.
fn lead<F>(
    tasks: &mut Tasks,
    name: &'static str,
    lease: &'static str,
    election: Option<Election>,
    client: kube::Client,
    component: impl Fn(CancellationToken) -> F + Send + 'static,
) where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let stop = tasks.stop();
    tasks.start(name, async move {
        let Some(Election {
            identity,
            apiserver,
        }) = election
        else {
            return component(stop).await;
        };
        tokio::select! {
            () = apiserver.ready() => {}
            () = stop.cancelled() => return Ok(()),
        }
        leader::lead(client, lease, &identity, stop, component).await
    });
}

/// What is needed to start this node's network, its nodelet and its server.
struct Node<'a> {
    name: &'a str,
    ip: IpAddr,
    ranges: &'a Ranges,
    ca: &'a Pair,
    certificates: &'a Certificates,
    metrics: &'a metrics::Metrics,
    static_pods: Option<PathBuf>,
    max_pods: Option<u32>,
    /// Where this process serves the API.
    api: SocketAddr,
    /// Whether it has a gateway.
    gateway: bool,
}

/// Who is answered by the nodelet's server, and what it has beside the nodelet's own.
struct Server<'a> {
    /// This process' apiserver, which asks without a connection.
    nodelets: &'a Nodelets,
    beside: axum::Router,
}

/// Starts the network of this node's pods.
async fn start_network(
    tasks: &mut Tasks,
    data: &DataDir,
    node: &Node<'_>,
    client: kube::Client,
) -> Result<network::Handle> {
    let ranges = node.ranges;
    let config = network::Config {
        node_name: node.name.to_owned(),
        mode: ranges.mode,
        pod_range: ranges
            .own_pods
            .map(|range| range.parse().expect("a constant range")),
        cluster_pod_range: ranges.cluster_pods.parse().expect("a constant range"),
        service_range: ranges.services.parse().expect("a constant range"),
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        gateway: node.gateway,
        state_dir: data.path("state"),
    };
    let (network, task) = network::Network::start(config, client).await.with_context(|| {
        match ranges.mode {
            network::Mode::Privileged => "set up the pods' network (loopback addresses need no privilege: --network rootless)",
            network::Mode::Rootless => "set up the pods' network",
        }
    })?;
    let stop = tasks.stop();
    tasks.start("network", task.run(stop));
    Ok(network)
}

/// Starts the runtimes, the nodelet and the nodelet's server; the apiserver of this process asks it directly. Answers
/// what runs containers, or why nothing does, in words; and what answers requests to functions.
async fn start_nodelet(
    tasks: &mut Tasks,
    data: &DataDir,
    node: Node<'_>,
    server: Server<'_>,
    network: network::Handle,
    client: kube::Client,
    source: Arc<RegistrySource>,
) -> Result<(String, Arc<dyn Invoke>)> {
    let network: Arc<dyn PodNetwork> = Arc::new(network);
    let wasm = WasmRuntime::new(runtime_wasm::Config {
        code_cache: data.path("code"),
        network: network.clone(),
    })
    .context("start the WebAssembly runtime")?;
    let wasm = Arc::new(wasm);
    let mut runtimes: Vec<Arc<dyn Runtime>> = vec![wasm.clone()];
    let mut unavailable_runtimes = BTreeMap::new();
    let containers = match container_runtime(data, node.ranges.mode).await {
        Ok(oci) => {
            let version = oci.version();
            runtimes.push(Arc::new(oci));
            version
        }
        Err(lack) => {
            let words = format!("only components run here: {lack}");
            unavailable_runtimes.insert("oci", lack);
            words
        }
    };
    let images: Arc<dyn Images> = Arc::new(
        ImageStore::open(
            data.path("images"),
            runtimes::images::Config {
                hosts_dir: Some(data.path("certs.d")),
                source: Some(source),
                ..runtimes::images::Config::default()
            },
        )
        .context("open the image store")?,
    );
    let listener = nodelet_listener(node.ip).await?;
    let usual = nodelet::Config::new(node.name, vec![node.ip], data.root());
    let own = listener
        .local_addr()
        .context("read the nodelet's address")?;
    let reserved = [(own, "the nodelet"), (node.api, "the apiserver")];
    let config = nodelet::Config {
        port: own.port(),
        reserved_ports: reserved
            .map(|(address, what)| nodelet::ReservedPort { address, what })
            .into(),
        pod_range: match node.ranges.own_pods {
            Some(range) => nodelet::PodRange::Fixed(range.to_owned()),
            None => nodelet::PodRange::Assigned,
        },
        metrics: node.metrics.clone(),
        static_pods: node.static_pods,
        max_pods: node.max_pods.unwrap_or(usual.max_pods),
        cluster_dns: node.ranges.dns().into_iter().collect(),
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        unavailable_runtimes,
        ..usual
    };
    let (mut nodelet, handle) = nodelet::Nodelet::new(client, config, runtimes, images, network)?;
    let invoke = nodelet.serve_functions(wasm);
    let router = handle.router().merge(server.beside);
    server.nodelets.set_own(router.clone());
    let tls = pki::nodelet_tls(&node.ca.certificate, &node.certificates.nodelet)?;
    let stop = tasks.stop();
    tasks.start(
        "nodelet server",
        nodelet::serve(listener, tls, router, stop),
    );
    let stop = tasks.stop();
    tasks.start("nodelet", nodelet.run(stop));
    Ok((containers, invoke))
}

/// What runs ordinary containers, if this host can; otherwise what it lacks, in words for users.
async fn container_runtime(data: &DataDir, mode: network::Mode) -> Result<OciRuntime, String> {
    // One of its own for each data directory: several processes may share a host.
    let digest = runtimes::images::digest_of(data.root().as_os_str().as_bytes());
    let group = format!("wk-{}", &digest["sha256:".len()..][..12]);
    let config = runtime_oci::Config::new(data.path("oci"), group);
    let runtime = tokio::task::spawn_blocking(move || OciRuntime::new(config))
        .await
        .expect("looking at the host does not panic")?;
    if mode == network::Mode::Rootless {
        return Err(
            "containers need addresses of their own, and this cluster's pods have loopback addresses \
             (--network rootless)"
                .to_owned(),
        );
    }
    Ok(runtime)
}

/// The nodelet's usual port, or any other if a second node of this host has it.
async fn nodelet_listener(ip: IpAddr) -> Result<TcpListener> {
    match TcpListener::bind((ip, NODELET_PORT)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => TcpListener::bind((ip, 0))
            .await
            .with_context(|| format!("listen on {ip} for the nodelet")),
        Err(error) => {
            Err(error).with_context(|| format!("listen on {ip}:{NODELET_PORT} for the nodelet"))
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!(
                "cannot serve the API on {address}: another process listens there; name another address with --listen"
            )
        }
        Err(error) => Err(error).with_context(|| format!("cannot serve the API on {address}")),
    }
}

/// Where a client on this host connects to a listener.
fn reachable(ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() {
        Ipv4Addr::LOCALHOST.into()
    } else {
        ip
    }
}

/// Where pods and other hosts connect to a listener.
fn advertised(ip: IpAddr, node_ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() { node_ip } else { ip }
}

/// How the scheduler decides: as this file says, or as Kubernetes does by default.
fn scheduler_config(file: Option<&Path>) -> Result<scheduler::Config> {
    let Some(file) = file else {
        return Ok(scheduler::Config::default());
    };
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("read {shown}"))?;
    scheduler::Config::read(&text).map_err(|why| anyhow!("--scheduler-config {shown}: {why}"))
}

async fn open_store(database: Option<&str>, data: &DataDir) -> Result<(Arc<dyn Store>, String)> {
    match database {
        Some(url) => {
            let store = store_postgres::connect(url).await.map_err(unusable)?;
            cluster::check_identity(data, store.cluster_id())?;
            Ok((Arc::new(store), "Postgres".to_owned()))
        }
        None => {
            let dir = data.path("store");
            let store = store_sqlite::open(&dir)
                .await
                .context("open the database")?;
            cluster::check_identity(data, store.cluster_id())?;
            Ok((Arc::new(store), format!("{} (SQLite)", dir.display())))
        }
    }
}

/// Why the database cannot be used: the store's words are for a store that worked before.
fn unusable(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Unavailable { message, .. } => anyhow!("cannot use --database: {message}"),
        error => anyhow::Error::new(error).context("open the database"),
    }
}

/// The address that this host uses towards others; its loopback address if it has no route.
/// Nothing is sent.
fn node_address() -> IpAddr {
    let towards_others = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?; // a documentation address: only the route counts
        Ok(socket.local_addr()?.ip())
    };
    towards_others().unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// The certificates of this process.
struct Certificates {
    apiserver: Pair,
    /// Shown by the apiserver to nodelets.
    apiserver_client: Pair,
    nodelet: Pair,
    admin: Pair,
}

impl Certificates {
    fn issue(
        ca: &Pair,
        dir: &Path,
        node_name: &str,
        addresses: &[IpAddr],
        first_service: Ipv4Addr,
        today: jiff::civil::Date,
    ) -> Result<Self> {
        let mut names = vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
            first_service.to_string(),
            "kubernetes".to_owned(),
            "kubernetes.default".to_owned(),
            "kubernetes.default.svc".to_owned(),
            "kubernetes.default.svc.cluster.local".to_owned(),
            node_name.to_owned(),
        ];
        names.extend(addresses.iter().map(IpAddr::to_string));
        names.sort();
        names.dedup();
        let mut node_names = vec![node_name.to_owned()];
        node_names.extend(addresses.iter().map(IpAddr::to_string));
        let issue = |name: &str, user: &str, groups: &[&str], names: &[String]| {
            cluster::leaf(
                dir,
                name,
                ca,
                &Subject {
                    user,
                    groups,
                    names,
                },
                today,
            )
        };
        Ok(Self {
            apiserver: issue("apiserver", "wk-apiserver", &[], &names)?,
            apiserver_client: issue("apiserver-client", "system:apiserver", &[MASTERS], &[])?,
            nodelet: issue(
                "nodelet",
                &format!("system:node:{node_name}"),
                &["system:nodes"],
                &node_names,
            )?,
            admin: issue("admin", ADMIN, &[MASTERS], &[])?,
        })
    }
}
