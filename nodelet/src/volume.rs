//! Volumes: what a pod's spec lists becomes directories of this node, and a container's mounts point into them.
//!
//! - [`files`]: configMap, secret, downwardAPI and projected volumes, gathered by way of [`objects`], [`token`] and
//!   [`downward`] into a [`payload`], which [`writer`] puts where readers see all or nothing of it.
//! - [`memory`]: file systems in memory. [`host_path`], [`claim`]: what is there already.
//! - [`mounts`](mod@mounts): what a container sees. [`sub_path`]: a part of a volume, and no way out of it; [`binds`]:
//!   mounted for containers. [`ownership`]: whose files are.
//! - [`prepare`](mod@prepare): one volume, found out and made.
//! - [`live`]: what is kept of each pod, and the task that renews files. [`remains`]: pods' directories, and their end.
//!
//! Layout: `<pods_dir>/<uid>/volumes/<kind>/<name>`, and `<memory_dir>/<uid>/<name>` for what is confidential, in one
//! file system in memory where the node may mount, elsewhere with the others. Reads ConfigMaps, Secrets,
//! PersistentVolumeClaims and PersistentVolumes; asks for tokens; writes Events. Never removes what it did not make:
//! paths of the host and PersistentVolumes are given as they are.

mod binds;
pub(crate) mod claim;
mod downward;
pub(crate) mod files;
mod host_path;
pub(crate) mod live;
pub(crate) mod memory;
mod mounts;
mod objects;
mod ownership;
mod payload;
mod prepare;
mod remains;
mod sub_path;
mod token;
mod writer;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use runtimes::PodRef;

use live::PodVolumes;
pub(crate) use live::Volumes;
pub(crate) use mounts::mounts;
pub(crate) use remains::{close, held, open, remove_all_of, remove_pod_directory, tear_down};

use crate::{config::Config, pod::worker::Context};
use prepare::{make, prepare};

/// Between tries to set volumes up, doubled; a change of what is missing comes before.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(16);
/// After a token could not be renewed.
const RENEWAL_RETRY: Duration = Duration::from_secs(30);

/// Why volumes are not set up: a message for each, as Events say them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct VolumeError {
    pub(crate) messages: Vec<String>,
}

/// Sets the pod's volumes up, trying again for as long as it takes, and tells what is missing. Dropped, it leaves
/// what [`tear_down`] removes.
pub(crate) async fn wait_until_set_up(context: &Context, pod: &Arc<Pod>, pod_ref: &PodRef) {
    if used(pod).is_empty() {
        return;
    }
    let entry = context.volumes.enter(pod, pod_ref);
    let mut delay = FIRST_RETRY;
    let mut tried = false;
    loop {
        // Listening begins before looking.
        let mut changed = std::pin::pin!(entry.changed.notified());
        changed.as_mut().enable();
        let Err(error) = set_up(context, pod, pod_ref).await else {
            return;
        };
        // What is written together with its pod may be here a moment later: that is no event.
        if tried {
            for message in error.messages {
                context.note(pod_ref, None, true, "FailedMount", message);
            }
        }
        let pause = if tried { delay } else { FIRST_RETRY };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(pause) => {}
        }
        if tried {
            delay = (delay * 2).min(LONGEST_RETRY);
        }
        tried = true;
    }
}

/// Sets up every volume that a container of the pod uses; what is there already is brought up to date.
///
/// # Errors
/// What is missing or refused, for each volume.
pub(crate) async fn set_up(
    context: &Context,
    pod: &Arc<Pod>,
    pod_ref: &PodRef,
) -> Result<(), VolumeError> {
    let used = used(pod);
    if used.is_empty() {
        return Ok(());
    }
    let entry = context.volumes.enter(pod, pod_ref);
    let _busy = entry.busy.lock().await;
    let mut renew_at = None;
    let (mut prepared, mut messages) = (Vec::new(), Vec::new());
    let pod = entry.known().pod.clone();
    for volume in volumes(&pod).filter(|volume| used.contains(volume.name.as_str())) {
        match prepare(context, &entry, &pod, volume).await {
            Ok((one, renewal)) => {
                prepared.push(one);
                renew_at = renew_at.into_iter().chain(renewal).min();
            }
            Err(message) => messages.push(message),
        }
    }
    messages.extend(make(context, &entry, prepared).await);
    schedule(context, &entry, renew_at);
    if messages.is_empty() {
        Ok(())
    } else {
        Err(VolumeError { messages })
    }
}

/// Writes the files of a pod's volumes anew if they are to be others.
async fn refresh(context: &Context, entry: &Arc<PodVolumes>) {
    let _busy = entry.busy.lock().await;
    let (pod, made): (_, Vec<String>) = {
        let known = entry.known();
        (known.pod.clone(), known.sources.keys().cloned().collect())
    };
    let mut renew_at = None;
    let (mut prepared, mut messages) = (Vec::new(), Vec::new());
    for volume in volumes(&pod)
        .filter(|volume| files::is_made_of_objects(volume) && made.contains(&volume.name))
    {
        match prepare(context, entry, &pod, volume).await {
            Ok((one, renewal)) => {
                prepared.push(one);
                renew_at = renew_at.into_iter().chain(renewal).min();
            }
            Err(message) => messages.push(message),
        }
    }
    messages.extend(make(context, entry, prepared).await);
    if messages.is_empty() {
        schedule(context, entry, renew_at);
    } else {
        // The old files stay; what is missing is looked for again.
        context.volumes.stale.add_later(&entry.uid, RENEWAL_RETRY);
    }
    for message in messages {
        context.note(&entry.pod_ref, None, true, "FailedMount", message);
    }
}

fn schedule(context: &Context, entry: &PodVolumes, renew_at: Option<jiff::Timestamp>) {
    if let Some(at) = renew_at {
        let left = at.duration_since(context.clock.now());
        let left = Duration::try_from(left).unwrap_or_default();
        let least = Duration::from_secs(1);
        context.volumes.stale.add_later(&entry.uid, left.max(least));
    }
}

/// Names of the volumes that some container of the pod uses: the others are not set up, as in Kubernetes.
fn used(pod: &Pod) -> HashSet<&str> {
    containers(pod).into_iter().flat_map(used_by).collect()
}

/// A container's mounts and the environment that it reads from files.
type Uses<'a> = (&'a [VolumeMount], &'a [k8s_openapi::api::core::v1::EnvVar]);

fn containers(pod: &Pod) -> Vec<Uses<'_>> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let usual = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|container| {
            (
                container.volume_mounts.as_deref().unwrap_or_default(),
                container.env.as_deref().unwrap_or_default(),
            )
        });
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| {
        (
            container.volume_mounts.as_deref().unwrap_or_default(),
            container.env.as_deref().unwrap_or_default(),
        )
    });
    usual.chain(ephemeral).collect()
}

fn used_by<'a>((mounts, env): Uses<'a>) -> impl Iterator<Item = &'a str> {
    let mounted = mounts.iter().map(|mount| mount.name.as_str());
    let read = env.iter().filter_map(|variable| {
        let from = variable.value_from.as_ref()?.file_key_ref.as_ref()?;
        Some(from.volume_name.as_str())
    });
    mounted.chain(read)
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
}

fn pod_directory(config: &Config, uid: &str) -> PathBuf {
    config.pods_dir.join(uid)
}

fn directory(config: &Config, uid: &str, kind: &str, name: &str) -> PathBuf {
    pod_directory(config, uid)
        .join("volumes")
        .join(kind)
        .join(name)
}

/// A small file of a volume, and of nothing outside it.
///
/// # Errors
/// It is not there, is no file, is longer than `most_bytes`, is no text, or its path leads out of the volume.
pub(crate) fn read_file(volume: &Path, path: &str, most_bytes: u64) -> std::io::Result<String> {
    sub_path::read(volume, path, most_bytes)
}

/// Whether every volume that a container mounts is set up.
pub(crate) fn is_set_up_for(context: &Context, pod_ref: &PodRef, container: &Container) -> bool {
    let env = container.env.as_deref().unwrap_or_default();
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let mut used = used_by((mounts, env)).peekable();
    if used.peek().is_none() {
        return true;
    }
    let entry = context.volumes.find(&pod_ref.uid);
    entry.is_some_and(|entry| used.all(|name| entry.known().sources.contains_key(name)))
}
