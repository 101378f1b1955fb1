//! `wk-local`: makes volumes on this node's disk for the claims that ask for one.
//!
//! Watches PersistentVolumeClaims whose `selected-node` is this node and the PersistentVolumes that this node made.
//! Makes a directory `<volumes_dir>/pvc-<uid of the claim>` and a PersistentVolume of that name, makes both larger
//! when the claim grows, and removes both when the claim is gone and the policy is `Delete`.
//!
//! - [`plan`]: what to do about a claim and its volume. Pure.
//! - [`host`]: takes those steps.
//! - [`volume`]: the objects and patches that are written. Pure.
//! - [`directory`]: the directories. [`quota`]: how much they may hold, where the file system can say.
//!
//! Each step is safe to repeat, and the directory goes before its volume does: killed anywhere, the next nodelet
//! finds what is left to do. Removes nothing outside its own directory and nothing on word of a cache.

mod directory;
mod host;
mod plan;
#[expect(unsafe_code, reason = "project quotas have no safe interface")]
mod quota;
#[cfg(test)]
mod tests;
mod volume;
mod work;

use std::{collections::HashMap, sync::Arc};

use anyhow::Context as _;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::{
    directory::Directories,
    host::Host,
    plan::{NODE, plan},
    work::Work,
};
use crate::{config::Config, events::Sink};

/// Volumes that are worked on at once.
const AT_ONCE: usize = 8;

/// Makes and removes the volumes of this node.
pub(crate) struct Provisioner {
    host: Arc<Host>,
    /// By the name that their volume has or would have.
    claims: HashMap<String, Arc<PersistentVolumeClaim>>,
    /// By name.
    volumes: HashMap<String, Arc<PersistentVolume>>,
    work: Work,
    running: JoinSet<(String, anyhow::Result<()>)>,
}

impl Provisioner {
    /// A provisioner that has seen nothing yet.
    ///
    /// # Errors
    /// The current directory, which a relative `volumes_dir` is below, cannot be found.
    pub(crate) fn new(client: Client, config: Arc<Config>, events: Sink) -> anyhow::Result<Self> {
        let root = std::path::absolute(&config.volumes_dir)
            .with_context(|| format!("find the directory {}", config.volumes_dir.display()))?;
        let directories = Directories::new(root);
        Ok(Self {
            host: Arc::new(Host {
                client,
                config,
                events,
                directories,
            }),
            claims: HashMap::new(),
            volumes: HashMap::new(),
            work: Work::default(),
            running: JoinSet::new(),
        })
    }

    /// Works until `stop`; what is under way then is left, to be found again.
    ///
    /// # Errors
    /// A step panicked.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        // The API lets a node list what asks for it, or is its own, and nothing else.
        let own = format!("{NODE}={}", self.host.config.node_name);
        let config = || watcher::Config::default().fields(&own);
        let claims = watcher(
            Api::<PersistentVolumeClaim>::all(self.host.client.clone()),
            config(),
        )
        .modify(|claim| claim.metadata.managed_fields = None)
        .default_backoff();
        let volumes = watcher(
            Api::<PersistentVolume>::all(self.host.client.clone()),
            config(),
        )
        .modify(|volume| volume.metadata.managed_fields = None)
        .default_backoff();
        let (mut claims, mut volumes) = (std::pin::pin!(claims), std::pin::pin!(volumes));
        let (mut listed_claims, mut listed_volumes) = (None, None);
        loop {
            // Until both lists are in, what is missing may only be unseen.
            if listed_claims.is_some() && listed_volumes.is_some() {
                self.start(Instant::now());
            }
            let due = self.work.next_due();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => {
                    let (name, outcome) = ended.context("a step of the provisioner panicked")?;
                    self.settle(name, outcome);
                }
                Some(event) = claims.next() => match event {
                    Ok(event) => self.see_claim(event, &mut listed_claims),
                    Err(error) => debug!(%error, "watch claims"),
                },
                Some(event) = volumes.next() => match event {
                    Ok(event) => self.see_volume(event, &mut listed_volumes),
                    Err(error) => debug!(%error, "watch volumes"),
                },
                () = sleep_until(due) => {}
            }
        }
        self.running.shutdown().await;
        Ok(())
    }

    fn see_claim(&mut self, event: watcher::Event<PersistentVolumeClaim>, listed: &mut Option<()>) {
        match event {
            watcher::Event::Init => {
                let names: Vec<String> = self.claims.drain().map(|(name, _)| name).collect();
                self.work.add(names);
            }
            watcher::Event::InitApply(claim) | watcher::Event::Apply(claim) => {
                let name = plan::volume_name(&claim);
                if plan::is_asked(&claim, &self.host.config.node_name) {
                    self.claims.insert(name.clone(), Arc::new(claim));
                    self.work.add([name]);
                } else if self.claims.remove(&name).is_some() {
                    self.work.add([name]);
                }
            }
            watcher::Event::Delete(claim) => {
                let name = plan::volume_name(&claim);
                self.claims.remove(&name);
                self.work.add([name]);
            }
            watcher::Event::InitDone => {
                // Directories that a killed nodelet left behind.
                self.work.add(self.host.directories.names());
                *listed = Some(());
            }
        }
    }

    fn see_volume(&mut self, event: watcher::Event<PersistentVolume>, listed: &mut Option<()>) {
        match event {
            watcher::Event::Init => {
                let names: Vec<String> = self.volumes.drain().map(|(name, _)| name).collect();
                self.work.add(names);
            }
            watcher::Event::InitApply(volume) | watcher::Event::Apply(volume) => {
                if plan::is_own(&volume, &self.host.config.node_name) {
                    let name = volume.name_any();
                    self.volumes.insert(name.clone(), Arc::new(volume));
                    self.work.add([name]);
                }
            }
            watcher::Event::Delete(volume) => {
                let name = volume.name_any();
                if self.volumes.remove(&name).is_some() {
                    self.work.add([name]);
                }
            }
            watcher::Event::InitDone => *listed = Some(()),
        }
    }

    fn start(&mut self, now: Instant) {
        while self.running.len() < AT_ONCE {
            let Some(name) = self.work.take(now) else {
                return;
            };
            let (claim, volume) = (self.claims.get(&name), self.volumes.get(&name));
            let step = plan(
                &self.host.config.node_name,
                claim.map(Arc::as_ref),
                volume.map(Arc::as_ref),
            );
            let (claim, volume) = (claim.cloned(), volume.cloned());
            let host = self.host.clone();
            self.running.spawn(async move {
                let outcome = host.step(step, &name, claim, volume).await;
                (name, outcome)
            });
        }
    }

    fn settle(&mut self, name: String, outcome: anyhow::Result<()>) {
        if let Err(error) = &outcome {
            warn!(
                volume = name,
                error = format!("{error:#}"),
                "a volume is not as it should be"
            );
        }
        self.work.done(name, outcome.is_ok(), Instant::now());
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
