//! Takes the steps: directories, requests to the API, Events.
//!
//! Each may be cut short anywhere and taken again.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use tracing::info;

use super::{
    directory::Directories,
    plan::{self, Step, plan},
    volume,
};
use crate::{
    config::Config,
    deadline::{CallError, call},
    events::{Note, Sink},
};

/// Tries to end a volume that somebody else changes meanwhile, before there is a pause.
const ATTEMPTS: u32 = 4;

/// What the steps need.
pub(super) struct Host {
    pub(super) client: Client,
    pub(super) config: Arc<Config>,
    pub(super) events: Sink,
    pub(super) directories: Directories,
}

/// Whether the API refused what was decided on an older version of the object.
fn is_refusal(error: &anyhow::Error) -> bool {
    let call = error.downcast_ref::<CallError>();
    matches!(call.and_then(CallError::code), Some(403 | 409))
}

impl Host {
    /// Takes a step for one volume.
    pub(super) async fn step(
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
