//! Wires the parts of a nodelet and runs them.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use runtimes::{Images, Invoke, Notice, PodNetwork, Runtime, Serve};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::Config,
    events::{self, Note, Sink},
    functions::{self, Functions, Table},
    image_gc::ImageGc,
    inotify::Changes,
    metrics::Running,
    node::{object, report::Reporter},
    pod::worker::Context,
    pods::{Loop, Pods},
    probe::{self, Probes},
    provisioner::Provisioner,
    server,
    services::Services,
    sessions::Sessions,
    static_pods::{Mirrors, StaticPods},
    usage::{Sampler, Usage, disk::Disk},
    volume::{self, Volumes},
};

/// Statuses of pods that are written at once.
const STATUS_WRITES: usize = 64;

/// Runs the pods of one node.
pub struct Nodelet {
    context: Arc<Context>,
    pods: Pods,
    usage: Usage,
    disk: Disk,
    sessions: Sessions,
    node: watch::Sender<Option<Arc<Node>>>,
    notes: mpsc::Receiver<Note>,
    changes: Changes,
    functions: Option<Functions>,
}

/// The way into a running nodelet.
#[derive(Clone)]
pub struct Handle {
    context: Arc<Context>,
    pods: Pods,
    usage: Usage,
    disk: Disk,
    sessions: Sessions,
    probes: probe::counts::Counts,
    changes: Changes,
    node: watch::Receiver<Option<Arc<Node>>>,
}

impl Handle {
    /// The nodelet's own HTTP server: `/containerLogs/{namespace}/{pod}/{container}`, `/exec/…` and `/attach/…` alike,
    /// `/portForward/{namespace}/{pod}`, `/pods`, `/stats/summary`,
    /// `/metrics`, `/metrics/probes`, `/metrics/resource`, `/healthz`. It asks nobody who they are: serve it with [`serve`](crate::serve) or in process.
    pub fn router(&self) -> Router {
        server::router(
            self.context.clone(),
            self.pods.clone(),
            self.usage.clone(),
            self.disk.clone(),
            self.probes.clone(),
            self.changes.clone(),
            self.sessions.clone(),
        )
    }

    /// This node's object as the API last gave it, and its changes: `spec.podCIDR` for the pod network.
    pub fn node(&self) -> watch::Receiver<Option<Arc<Node>>> {
        self.node.clone()
    }
}

impl Nodelet {
    /// A nodelet for the node that `config` names. Nothing runs before [`Nodelet::run`].
    ///
    /// # Errors
    /// What [`Config::validate`] refuses.
    pub fn new(
        client: Client,
        config: Config,
        runtimes: Vec<Arc<dyn Runtime>>,
        images: Arc<dyn Images>,
        network: Arc<dyn PodNetwork>,
    ) -> anyhow::Result<(Nodelet, Handle)> {
        Nodelet::with_clock(client, config, runtimes, images, network, Clock::Host)
    }

    pub(crate) fn with_clock(
        client: Client,
        mut config: Config,
        runtimes: Vec<Arc<dyn Runtime>>,
        images: Arc<dyn Images>,
        network: Arc<dyn PodNetwork>,
        clock: Clock,
    ) -> anyhow::Result<(Nodelet, Handle)> {
        config.validate()?;
        let runs = runtimes.iter().map(|runtime| runtime.name());
        config.labels.extend(runs.map(|name| {
            (
                format!("{}{name}", object::RUNTIME_LABELS),
                "true".to_owned(),
            )
        }));
        let (events, notes) = Sink::new();
        let starts = Semaphore::new(config.concurrent_starts);
        let (config, pods, node) = (Arc::new(config), Pods::default(), watch::Sender::new(None));
        config.metrics.register(|registry| {
            registry.register_collector(Box::new(Running {
                pods: pods.clone(),
                node_name: config.node_name.clone(),
            }));
        });
        let usage = Usage::default();
        let volumes = Volumes::new(client.clone(), node.subscribe());
        let sessions = Sessions::new(&config.metrics);
        let probes = Probes::new(clock.now());
        let changes = Changes::new();
        let services = Services::new();
        let context = Context {
            client,
            config,
            runtimes,
            images,
            network,
            services,
            volumes,
            events,
            clock,
            starts,
            writes: Semaphore::new(STATUS_WRITES),
            probes,
            mirrors: Mirrors::default(),
            functions: Table::default(),
        };
        context.config.metrics.register(|registry| {
            let table = context.functions.clone();
            registry.register_collector(Box::new(functions::Metrics(table)));
        });
        let context = Arc::new(context);
        let disk = Disk::new(context.clone(), pods.clone());
        let handle = Handle {
            probes: context.probes.counts.clone(),
            context: context.clone(),
            pods: pods.clone(),
            usage: usage.clone(),
            disk: disk.clone(),
            sessions: sessions.clone(),
            changes: changes.clone(),
            node: node.subscribe(),
        };
        Ok((
            Nodelet {
                context,
                pods,
                usage,
                disk,
                sessions,
                node,
                notes,
                changes,
                functions: None,
            },
            handle,
        ))
    }

    /// Answers requests to functions whose images are components, by a runtime that does. Nothing is answered before
    /// [`Nodelet::run`].
    pub fn serve_functions(&mut self, serve: Arc<dyn Serve>) -> Arc<dyn Invoke> {
        let functions = Functions::new(self.context.clone(), serve);
        self.functions = Some(functions.clone());
        Arc::new(functions)
    }

    /// What workers share, and the Events they write, for tests of what needs no more.
    #[cfg(test)]
    pub(crate) fn into_context(self) -> (Arc<Context>, mpsc::Receiver<Note>) {
        (self.context, self.notes)
    }

    /// Registers the node and runs its pods until `stop`. Containers are left as they are: what runs outside this
    /// process goes on, and is found again.
    ///
    /// # Errors
    /// A directory cannot be made, a runtime cannot be asked, or a task panicked.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Nodelet {
            context,
            pods,
            usage,
            disk,
            sessions,
            node,
            notes,
            changes,
            functions,
        } = self;
        let config = &context.config;
        tokio::fs::create_dir_all(&config.log_dir)
            .await
            .with_context(|| format!("create the log directory {}", config.log_dir.display()))?;
        let static_pods = StaticPods::new(
            config.static_pods.as_deref(),
            &config.node_name,
            &changes,
            context.mirrors.clone(),
            node.subscribe(),
            context.client.clone(),
        );
        volume::open(&context).with_context(|| {
            format!("create the directory of pods {}", config.pods_dir.display())
        })?;
        let node_seen = node.subscribe();
        let reporter = Reporter {
            config: config.clone(),
            client: context.client.clone(),
            runtimes: context
                .runtimes
                .iter()
                .map(|runtime| runtime.version())
                .collect(),
            images: context.images.clone(),
            events: context.events.clone(),
            clock: context.clock,
            node,
        };
        let pods_loop = Loop::new(context.clone(), pods.clone(), static_pods, node_seen);
        let mut helpers = JoinSet::new();
        helpers.spawn(changes.clone().run());
        helpers.spawn(context.services.clone().run(context.client.clone()));
        helpers.spawn(events::run(
            notes,
            context.client.clone(),
            config.node_name.clone(),
            context.clock,
        ));
        let sampler = Sampler {
            usage,
            pods: pods.clone(),
            runtimes: context.runtimes.clone(),
            clock: context.clock,
        };
        helpers.spawn(sampler.run());
        helpers.spawn(ImageGc::new(context.clone(), pods.clone()).run());
        for runtime in &context.runtimes {
            if let Some(notices) = runtime.notices() {
                helpers.spawn(tell(notices, context.clone()));
            }
        }
        let provisioner = Provisioner::new(
            context.client.clone(),
            config.clone(),
            context.events.clone(),
        )?;
        helpers.spawn(volume::live::run(context.clone()));
        helpers.spawn(disk.hold_to_limits());
        let mut parts = JoinSet::new();
        parts.spawn(provisioner.run(stop.clone()));
        parts.spawn(reporter.run(stop.clone()));
        parts.spawn(pods_loop.run(stop.clone()));
        if let Some(functions) = functions {
            parts.spawn(functions.run(stop.clone()));
        }
        // The first part that fails stops the other; helpers end with this function.
        let mut outcome = Ok(());
        while let Some(ended) = parts.join_next().await {
            let ended = ended
                .context("a part of the nodelet panicked")
                .and_then(|ended| ended);
            if ended.is_err() && outcome.is_ok() {
                stop.cancel();
                outcome = ended;
            }
        }
        sessions.end().await;
        helpers.shutdown().await;
        volume::close(&context).await;
        outcome
    }
}

#[cfg(test)]
mod tests;

/// Makes Events of what runtimes say of containers.
async fn tell(mut notices: mpsc::Receiver<Notice>, context: Arc<Context>) {
    while let Some(notice) = notices.recv().await {
        let container = Some((notice.container.as_str(), false));
        context.note(&notice.pod, container, true, notice.reason, notice.message);
    }
}
