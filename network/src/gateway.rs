//! The node's gateway: requests from outside, and from pods by a Function's name, to whom they are for.
//!
//! - [`routes`]: which request is whose; pure. [`follow`]: the watches that fill it.
//! - [`listen`]: sockets, TLS, limits, drain. [`link`]: one connection. [`tls`]: certificates.
//! - [`serve`]: one request: its route, its headers, its answer. [`headers`], [`answer`], [`body`]: parts of that;
//!   [`underway`]: what it is until its answer has ended, the access log's line at last.
//! - [`function`]: a Function's revision; [`service`]: the endpoints of a Service; [`upstream`]: connections to
//!   endpoints and pods; [`upgrade`]: tunnels.
//! - [`activator`]: pods of container revisions, and those that wait for them; [`wake`]: asks for the first pod.
//! - [`ingress`]: the class, the status of Ingresses, and Events about conflicts.
//!
//! Reads Functions, FunctionRevisions, their Pods, Ingresses, IngressClasses, Nodes and TLS Secrets; writes the status of
//! Ingresses, their class, Events and the scale of revisions. Never runs code: [`runtimes::Invoke`] does.

mod activator;
mod activity;
mod answer;
mod body;
mod follow;
mod function;
mod headers;
mod ingress;
mod link;
mod listen;
mod metrics;
mod routes;
mod serve;
mod service;
mod tls;
mod underway;
mod upgrade;
mod upstream;
mod wake;

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use kube::Client;
use runtimes::{Invoke, RevisionRef};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use self::metrics::register;
pub use self::{
    activator::DemandSample,
    listen::Listeners,
    tls::{Pem, Sign},
    underway::ACCESS_LOG,
};
use self::{
    routes::{Table, book::Book},
    upstream::Pool,
    wake::Waker,
};
use crate::handle::Shared as Network;

/// The name of this gateway as an Ingress controller.
pub(crate) const CONTROLLER: &str = "wk.dev/gateway";

/// What a gateway is started with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// What Functions' own names are under: `localhost`.
    pub domain: String,
    /// This node's name.
    pub node_name: String,
    /// Bytes of a request's body; more is refused.
    pub max_body: u64,
    /// Connections open at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// A client that has not sent whole headers by then is cut off; so is one without requests on HTTP/1.1.
    pub headers_within: Duration,
    /// A connection on which nothing is answered for so long ends.
    pub idle: Duration,
    /// Whether a line is logged for each request.
    pub access_log: bool,
}

impl Config {
    /// The usual bounds.
    pub fn new(node_name: &str, domain: &str) -> Self {
        Self {
            domain: domain.to_ascii_lowercase(),
            node_name: node_name.to_owned(),
            max_body: 512 * 1024 * 1024,
            max_connections: 4096,
            headers_within: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            access_log: false,
        }
    }
}

/// A gateway, to be [run](Gateway::run).
pub struct Gateway {
    shared: Arc<Shared>,
    client: Client,
    listeners: Listeners,
    wakes: wake::Wakes,
}

/// The way into a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// What its tasks, connections and handles share.
struct Shared {
    config: Config,
    network: Arc<Network>,
    invoke: Arc<dyn Invoke>,
    table: RwLock<Arc<Table>>,
    book: Mutex<Book>,
    /// Counts changes to the book.
    changes: watch::Sender<u64>,
    /// Whether every kind of route was listed.
    listed: watch::Sender<bool>,
    certificates: tls::Certificates,
    pool: Pool,
    waker: Waker,
}

impl Gateway {
    /// Prepares a gateway on open sockets.
    pub fn new(
        config: Config,
        client: Client,
        network: &crate::Handle,
        invoke: Arc<dyn Invoke>,
        sign: Arc<dyn Sign>,
        listeners: Listeners,
    ) -> (Handle, Self) {
        let book = Book::new(&config.domain);
        let (waker, wakes) = Waker::new();
        let shared = Arc::new(Shared {
            network: network.0.clone(),
            invoke,
            table: RwLock::new(Arc::new(book.table())),
            book: Mutex::new(book),
            changes: watch::Sender::new(0),
            listed: watch::Sender::new(false),
            certificates: tls::Certificates::new(sign, &config.domain),
            pool: Pool::default(),
            waker,
            config,
        });
        let handle = Handle(shared.clone());
        let gateway = Self {
            shared,
            client,
            listeners,
            wakes,
        };
        (handle, gateway)
    }

    /// Serves until `stop`; then requests under way end, within a bound.
    ///
    /// # Errors
    /// One of its tasks failed for good.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self {
            shared,
            client,
            listeners,
            wakes,
        } = self;
        let mut tasks = JoinSet::new();
        tasks.spawn(follow::run(shared.clone(), client.clone()));
        tasks.spawn(ingress::run(shared.clone(), client.clone()));
        tasks.spawn(wakes.run(client));
        let serving = listen::run(shared, listeners, stop);
        tokio::select! {
            () = serving => Ok(()),
            Some(ended) = tasks.join_next() => {
                ended??;
                anyhow::bail!("a watch of the gateway ended")
            }
        }
    }
}

impl Handle {
    /// What container revisions were asked for in the last second; those that nobody asked for are left out.
    pub fn demand(&self) -> Vec<(RevisionRef, DemandSample)> {
        let capacities = self.0.book().capacities();
        let all = capacities.iter().map(|capacity| capacity.demand());
        all.filter(|(_, sample)| *sample != DemandSample::default())
            .collect()
    }

    /// Waits until the routes of everything that there was at the start are known.
    pub async fn listed(&self) {
        let mut listed = self.0.listed.subscribe();
        // The sender is the handle's own.
        let _ = listed.wait_for(|listed| *listed).await;
    }
}

impl Shared {
    fn table(&self) -> Arc<Table> {
        let table = self.table.read();
        table.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes changes in, and has requests go by the new table from now on.
    fn update(&self, updates: Vec<routes::book::Update>) {
        let mut book = self.book();
        updates.into_iter().for_each(|update| book.apply(update));
        let table = Arc::new(book.table());
        drop(book);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        self.changes.send_modify(|count| *count += 1);
    }
}
