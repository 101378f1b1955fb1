//! `wk-local`: makes volumes on this node's disk for the claims that ask for one.
//!
//! Watches PersistentVolumeClaims whose `selected-node` is this node and the PersistentVolumes that this node made.
//! Makes a directory `<volumes_dir>/pvc-<uid of the claim>` and a PersistentVolume of that name, makes both larger
//! when the claim grows, and removes both when the claim is gone and the policy is `Delete`.
//!
//! - [`plan`]: what to do about a claim and its volume. Pure.
//! - [`volume`]: the objects and patches that are written. Pure.
//! - [`directory`]: the directories. [`quota`]: how much they may hold, where the file system can say.
//!
//! Each step is safe to repeat, and the directory goes before its volume does: killed anywhere, the next nodelet
//! finds what is left to do. Removes nothing outside its own directory and nothing on word of a cache.

mod directory;
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
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{WatchStreamExt, watcher},
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{
    directory::Directories,
    plan::{Step, plan},
    work::Work,
};
use crate::{
    config::Config,
    deadline::{CallError, call},
    events::{Note, Sink},
};

/// Volumes that are worked on at once.
const AT_ONCE: usize = 8;
/// Tries to end a volume that somebody else changes meanwhile, before there is a pause.
const ATTEMPTS: u32 = 4;

/// What the steps need.
struct Host {
    client: Client,
    config: Arc<Config>,
    events: Sink,
    directories: Directories,
}

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
        let config = watcher::Config::default;
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

/// Whether the API refused what was decided on an older version of the object.
fn is_refusal(error: &anyhow::Error) -> bool {
    let call = error.downcast_ref::<CallError>();
    matches!(call.and_then(CallError::code), Some(403 | 409))
}

impl Host {
    async fn step(
        self: &Arc<Self>,
        step: Step,
        name: &str,
        claim: Option<Arc<PersistentVolumeClaim>>,
        volume: Option<Arc<PersistentVolume>>,
    ) -> anyhow::Result<()> {
        match (step, claim, volume) {
            (Step::Make, Some(claim), _) => {
                let made = self.make(name, &claim).await;
                if let Err(error) = &made {
                    let class = plan::class_name(&claim);
                    let message = format!(
                        "failed to provision volume with StorageClass {class:?}: {error:#}"
                    );
                    self.tell(&claim, true, "ProvisioningFailed", message);
                }
                made
            }
            (Step::Grow, Some(claim), Some(volume)) => {
                let grown = self.grow(name, &claim, &volume).await;
                if let Err(error) = &grown {
                    let message = format!("resize volume {name:?} failed: {error:#}");
                    self.tell(&claim, true, "VolumeResizeFailed", message);
                }
                grown
            }
            (Step::Remove | Step::LetGo, _, Some(volume)) => self.end(name, &volume).await,
            (Step::Tidy, ..) => {
                let name = name.to_owned();
                self.blocking(move |host| host.directories.remove_empty(&name))
                    .await
            }
            _ => Ok(()),
        }
    }

    async fn make(
        self: &Arc<Self>,
        name: &str,
        claim: &PersistentVolumeClaim,
    ) -> anyhow::Result<()> {
        let classes: Api<StorageClass> = Api::all(self.client.clone());
        let class = call(classes.get(plan::class_name(claim)))
            .await
            .context("get the StorageClass")?;
        let size = plan::requested(claim).context("the claim asks for no storage")?;
        let directory = {
            let name = name.to_owned();
            self.blocking(move |host| host.directories.ensure(&name, size))
                .await?
        };
        let wanted = volume::new(name, claim, &class, &directory, &self.config)?;
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        match call(volumes.create(&PostParams::default(), &wanted)).await {
            Ok(_) => {
                info!(volume = name, "volume made");
                let message = format!("Successfully provisioned volume {name}");
                self.tell(claim, false, "ProvisioningSucceeded", message);
                Ok(())
            }
            // Made before: the watch is about to say so.
            Err(error) if error.code() == Some(409) => Ok(()),
            Err(error) => Err(error).context("create the PersistentVolume"),
        }
    }

    async fn grow(
        self: &Arc<Self>,
        name: &str,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> anyhow::Result<()> {
        let size = plan::requested(claim).context("the claim asks for no storage")?;
        let limited = name.to_owned();
        self.blocking(move |host| host.directories.ensure(&limited, size))
            .await?;
        let params = PatchParams::default();
        if let Some(patch) = volume::larger(volume, claim) {
            let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
            call(volumes.patch(name, &params, &Patch::Merge(patch)))
                .await
                .context("make the PersistentVolume larger")?;
        }
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default());
        let patch = Patch::Merge(volume::grown(claim));
        match call(claims.patch_status(&claim.name_any(), &params, &patch)).await {
            Ok(_) => {
                let message = "Resize volume succeeded".to_owned();
                self.tell(claim, false, "VolumeResizeSuccessful", message);
                Ok(())
            }
            // It changed meanwhile, which the watch is about to say.
            Err(error) if error.code() == Some(409) => Ok(()),
            Err(error) => Err(error).context("tell the claim"),
        }
    }

    /// Removes a volume, or lets it go and keeps its directory.
    async fn end(self: &Arc<Self>, name: &str, seen: &PersistentVolume) -> anyhow::Result<()> {
        let mut attempts = 1;
        loop {
            match self.try_to_end(name, seen).await {
                // The controllers take their finalizer away at the same time.
                Err(error) if attempts < ATTEMPTS && is_refusal(&error) => attempts += 1,
                ended => return ended,
            }
        }
    }

    /// The same once, decided anew from what the API has now.
    async fn try_to_end(
        self: &Arc<Self>,
        name: &str,
        seen: &PersistentVolume,
    ) -> anyhow::Result<()> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = match call(volumes.get(name)).await {
            Ok(volume) if volume.uid() == seen.uid() => volume,
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some(404) => return Ok(()),
            Err(error) => return Err(error).context("get the PersistentVolume"),
        };
        match plan(&self.config.node_name, None, Some(&volume)) {
            Step::Remove => self.remove(name, &volume).await?,
            Step::LetGo => {}
            _ => return Ok(()),
        }
        let gone = if volume.metadata.deletion_timestamp.is_some() {
            let patch = Patch::Merge(volume::let_go(&volume));
            call(volumes.patch(name, &PatchParams::default(), &patch))
                .await
                .map(drop)
        } else {
            let params = DeleteParams::default().preconditions(Preconditions {
                uid: volume.uid(),
                resource_version: None,
            });
            call(volumes.delete(name, &params)).await.map(drop)
        };
        match gone {
            Err(error) if error.code() == Some(404) => Ok(()),
            outcome => outcome.context("delete the PersistentVolume"),
        }
    }

    async fn remove(self: &Arc<Self>, name: &str, volume: &PersistentVolume) -> anyhow::Result<()> {
        let path = plan::path(volume).unwrap_or_default().to_owned();
        let removed = name.to_owned();
        let outcome = self
            .blocking(move |host| host.directories.remove(&removed, path.as_ref()))
            .await;
        match &outcome {
            Ok(()) => info!(volume = name, "volume removed"),
            Err(error) => self.events.send(Note {
                kind: "PersistentVolume",
                namespace: String::new(),
                name: name.to_owned(),
                uid: volume.uid().unwrap_or_default(),
                field: None,
                warning: true,
                reason: "VolumeFailedDelete",
                message: format!("{error:#}"),
            }),
        }
        outcome
    }

    /// Does what may block on the disk.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let host = self.clone();
        tokio::task::spawn_blocking(move || work(&host))
            .await
            .context("work on the disk")?
    }

    fn tell(
        &self,
        claim: &PersistentVolumeClaim,
        warning: bool,
        reason: &'static str,
        message: String,
    ) {
        self.events.send(Note {
            kind: "PersistentVolumeClaim",
            namespace: claim.namespace().unwrap_or_default(),
            name: claim.name_any(),
            uid: claim.uid().unwrap_or_default(),
            field: None,
            warning,
            reason,
            message,
        });
    }
}
