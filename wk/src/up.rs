//! `wk up`: a whole cluster in this process.
//!
//! Starts every component, tells the user where things are, applies the manifests it was given, and
//! stops everything in order at the first signal; a second signal ends the process at once.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use tokio::{signal::unix, time::Instant};

use crate::{
    autoscaling,
    components::{self, Components},
    data_dir::{self, DataDir},
    gateway, manifests, registry,
    tasks::Tasks,
};

/// Start a cluster, or find the one that is there as it was
#[derive(clap::Args)]
pub(crate) struct Up {
    /// Manifest to apply once the cluster runs: file, directory, URL or - for stdin; may be given several times
    #[arg(short, long = "filename", value_name = "FILE", num_args = 1..)]
    pub(crate) filenames: Vec<String>,
    /// Look into subdirectories of directories too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Where state lives [default: /var/lib/wk as root, else $XDG_DATA_HOME/wk]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Keep objects in this Postgres (postgres://user@host/name) rather than in the data directory
    #[arg(long, value_name = "URL", env = "WK_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,
    /// Where the API is served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:6443")]
    pub(crate) listen: SocketAddr,
    /// This node's name [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Run no pods on this host: its cluster's nodes are others
    #[arg(long, conflicts_with_all = ["max_pods", "pod_manifest_path"])]
    pub(crate) no_node: bool,
    /// How many pods this node takes [default: 16000]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_pods: Option<u32>,
    /// Run the pods whose manifests this directory holds on this node, whatever the API says (static pods)
    #[arg(long, value_name = "DIR")]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// How the scheduler decides: a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1) in YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) scheduler_config: Option<PathBuf>,
    /// Which addresses pods get: their own (privileged, needs root) or loopback ones (rootless)
    #[arg(long, value_enum, default_value_t = NetworkMode::Auto)]
    pub(crate) network: NetworkMode,
    /// Static bearer tokens: a CSV file of token,user,uid,"group1,group2"
    #[arg(long, value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) gateway: gateway::Flags,
    #[command(flatten)]
    pub(crate) registry: registry::Flags,
    #[command(flatten)]
    pub(crate) autoscaling: autoscaling::Flags,
}

/// How pods get their addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum NetworkMode {
    /// As the cluster began; for a new one privileged as root with nft, else rootless
    Auto,
    Privileged,
    Rootless,
}

impl Up {
    /// Runs until a signal or until a component fails.
    pub(crate) async fn run(self) -> Result<()> {
        let begun = Instant::now();
        let mut signals = Signals::new()?;
        let root = match &self.data_dir {
            Some(root) => root.clone(),
            None => data_dir::default_root()?,
        };
        let data = DataDir::open(&root)?;
        let mut tasks = Tasks::default();
        let started = tokio::select! {
            started = components::start(&self, &data, &mut tasks) => started,
            () = signals.next() => return Ok(()),
        };
        let components = match started {
            Ok(components) => components,
            Err(error) => {
                let _ = tasks.drain().await; // the first error is the one to tell
                return Err(error);
            }
        };
        greet(&components, &data, begun.elapsed());
        let manifests = async {
            if !self.filenames.is_empty()
                && let Err(error) =
                    manifests::apply(&components, &self.filenames, self.recursive).await
            {
                eprintln!("error: {error:#}");
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            () = manifests => Ok(()),
            error = tasks.first_end() => Err(error),
            () = signals.next() => Ok(()),
        };
        eprintln!("stopping (once more to stop at once)");
        tokio::select! {
            drained = tasks.drain() => ended.and(drained),
            () = signals.next() => std::process::exit(130),
        }
    }
}

/// Tells where things are and what to type next.
#[expect(clippy::print_stdout, reason = "what the user asked for")]
fn greet(components: &Components, data: &DataDir, took: Duration) {
    let kubeconfig = data.path("admin.kubeconfig");
    println!(
        "wk {} is ready after {:.2} s\n\
         \x20 API         {}\n\
         \x20 kubeconfig  {}\n\
         \x20 objects     {}\n\
         \x20 network     {}\n\
         \x20 containers  {}\n\
         \x20 gateway     {}\n\
         \x20 registry    {}\n\
         \n\
         Next:\n\
         \x20 export KUBECONFIG={}\n\
         \x20 kubectl get nodes               # or: wkctl get nodes\n\
         \x20 kubectl apply -f examples/hello.yaml\n",
        env!("CARGO_PKG_VERSION"),
        took.as_secs_f64(),
        components.url,
        kubeconfig.display(),
        components.objects,
        components.addresses,
        components.containers,
        components.gateway,
        components.registry,
        kubeconfig.display(),
    );
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| unix::signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: listen(unix::SignalKind::interrupt())?,
            terminate: listen(unix::SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
