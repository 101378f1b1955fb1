//! One volume: found out what it is to be, then made on disk.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::Arc,
};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};

use super::{
    claim, directory,
    files::{self, Gather, Gathered},
    host_path,
    live::{PodVolumes, Source, lock},
    memory,
    ownership::{self, Owners},
    payload::Payload,
    writer,
};
use crate::{
    pod::{resources, worker::Context},
    quantity,
};

/// One volume, ready to be made on disk.
pub(super) struct Prepared {
    /// In the pod's spec.
    name: String,
    /// In messages: of a claim, the PersistentVolume's.
    shown: String,
    source: Source,
    work: Work,
    owners: Owners,
}

/// What is to be done for a volume.
enum Work {
    Files(Payload),
    Directory,
    /// In memory, of at most that size.
    Memory(Option<u64>),
    /// A path of the host that must be of this `hostPath.type`.
    Check(String),
    /// A directory of the host that is a volume, and as such may be given to the pod's group.
    Volume,
}

/// Finds out what a volume is to be, and when it is to be looked at again.
pub(super) async fn prepare(
    context: &Context,
    entry: &PodVolumes,
    pod: &Pod,
    volume: &Volume,
) -> Result<(Prepared, Option<jiff::Timestamp>), String> {
    let name = &volume.name;
    let failed = |why: String| set_up_failed(name, &why);
    let owners = Owners::of(pod);
    let prepared = |source: Source, work: Work| Prepared {
        name: name.clone(),
        shown: name.clone(),
        source,
        work,
        owners,
    };
    let own = |kind: &str, read_only: bool| Source {
        path: directory(&context.config, &entry.uid, kind, name),
        read_only,
        replaced: false,
    };
    if let Some(kind) = files_kind(volume) {
        let memory = context.volumes.memory();
        let mut source = own(kind, true);
        source.replaced = true;
        if let Some(memory) = memory.filter(|_| files::is_confidential(volume)) {
            source.path = memory.join(&*entry.uid).join(name);
        }
        let keys = files::keys(&entry.pod_ref.namespace, volume);
        entry.known().keys.extend(keys);
        let allocatable = context.allocatable();
        let gather = Gather {
            objects: &context.volumes.objects,
            tokens: &context.volumes.tokens,
            pod,
            pod_ref: &entry.pod_ref,
            user: &entry.uid,
            allocatable: &allocatable,
            now: context.clock.now(),
            directory: &source.path,
            owners,
        };
        let Gathered { payload, renew_at } = gather.volume(volume).await.map_err(failed)?;
        return Ok((prepared(source, Work::Files(payload)), renew_at));
    }
    if let Some(empty) = &volume.empty_dir {
        let in_memory = empty.medium.as_deref() == Some("Memory");
        let work = if in_memory && context.volumes.memory().is_some() {
            Work::Memory(memory_size(context, pod, empty))
        } else {
            Work::Directory
        };
        return Ok((prepared(own("empty-dir", false), work), None));
    }
    if let Some(host) = &volume.host_path {
        let source = Source {
            path: PathBuf::from(&host.path),
            read_only: false,
            replaced: false,
        };
        let kind = host.type_.clone().unwrap_or_default();
        return Ok((prepared(source, Work::Check(kind)), None));
    }
    let claim = match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => (
            claim.claim_name.clone(),
            claim.read_only == Some(true),
            false,
        ),
        (None, Some(_)) => (format!("{}-{name}", entry.pod_ref.name), false, true),
        (None, None) => {
            let fields = serde_json::to_value(volume).unwrap_or_default();
            let field = claim::first_other(&fields, &["name"]);
            return Err(failed(format!(
                "volumes[].{field} is not supported: this node knows configMap, downwardAPI, emptyDir, ephemeral, \
                 hostPath, persistentVolumeClaim, projected and secret"
            )));
        }
    };
    let (claim, read_only, own) = claim;
    let node = context.volumes.node.borrow().clone();
    let found = claim::resolve(
        &context.client,
        node.as_deref(),
        &entry.pod_ref,
        &claim,
        own,
    );
    let found = found.await.map_err(|claim::Unclaimed(why)| {
        if why.starts_with("MountVolume") {
            why
        } else {
            format!(
                "Unable to attach or mount volumes: unmounted volumes=[{name}], unattached volumes=[], failed to \
                 process volumes=[{name}]: {why}"
            )
        }
    })?;
    let source = Source {
        path: found.path,
        read_only,
        replaced: false,
    };
    let work = match found.kind {
        claim::Kind::Local => Work::Volume,
        claim::Kind::HostPath(kind) => Work::Check(kind),
    };
    let mut prepared = prepared(source, work);
    prepared.shown = found.volume;
    Ok((prepared, None))
}

/// How much of the node's memory an `emptyDir` may take: no more than its limit, its pod's and the node's.
fn memory_size(context: &Context, pod: &Pod, empty: &EmptyDirVolumeSource) -> Option<u64> {
    let limit = empty.size_limit.as_ref().map(|limit| limit.0.as_str());
    let limit = limit.and_then(quantity::units).filter(|size| *size > 0);
    let of_pod = resources::of_pod(pod).limits.memory_bytes;
    let node = context.allocatable().remove("memory");
    let node = node.and_then(|memory| quantity::units(&memory));
    [limit, of_pod, node].into_iter().flatten().min()
}

fn set_up_failed(volume: &str, why: &str) -> String {
    format!("MountVolume.SetUp failed for volume {volume:?} : {why}")
}

/// The directory name of a kind of volume that is made of objects.
fn files_kind(volume: &Volume) -> Option<&'static str> {
    if volume.config_map.is_some() {
        Some("configmap")
    } else if volume.secret.is_some() {
        Some("secret")
    } else if volume.downward_api.is_some() {
        Some("downward-api")
    } else {
        volume.projected.as_ref().map(|_| "projected")
    }
}

/// Makes prepared volumes on disk, all in one go, and remembers them. Answers what failed.
pub(super) async fn make(
    context: &Context,
    entry: &Arc<PodVolumes>,
    prepared: Vec<Prepared>,
) -> Vec<String> {
    if prepared.is_empty() {
        return Vec::new();
    }
    let (entry, now) = (entry.clone(), context.clock.now());
    let work = tokio::task::spawn_blocking(move || {
        let removed = lock(&entry.removed);
        if *removed {
            return Vec::new();
        }
        let mut messages = Vec::new();
        for mut one in prepared {
            let digest = one.digest();
            let same = digest.is_some() && entry.known().written.get(&one.name) == digest.as_ref();
            if !same && let Err(why) = one.make(now) {
                messages.push(set_up_failed(&one.shown, &why));
                continue;
            }
            let mut known = entry.known();
            if let Some(digest) = digest {
                known.written.insert(one.name.clone(), digest);
            }
            known.sources.insert(one.name, one.source);
        }
        messages
    });
    match work.await {
        Ok(messages) => messages,
        Err(error) => vec![format!("Unable to attach or mount volumes: {error}")],
    }
}

impl Prepared {
    /// Of the files, so that those that are right already need not be read.
    fn digest(&self) -> Option<u64> {
        let Work::Files(payload) = &self.work else {
            return None;
        };
        let mut hasher = DefaultHasher::new();
        payload.hash(&mut hasher);
        Some(hasher.finish())
    }

    fn make(&mut self, now: jiff::Timestamp) -> Result<(), String> {
        let path = &self.source.path;
        let text = |error: std::io::Error| error.to_string();
        match &self.work {
            Work::Files(payload) => {
                memory::make(path, 0o755).map_err(text)?;
                writer::write(path, payload, now).map(drop).map_err(text)
            }
            Work::Directory => {
                memory::make(path, 0o777).map_err(text)?;
                self.give_new()
            }
            Work::Memory(size) => {
                memory::make(path, 0o777).map_err(text)?;
                memory::mount_shared(path, *size).map_err(text)?;
                self.give_new()
            }
            Work::Volume => {
                host_path::check(path, "Directory")?;
                self.source.path = path.canonicalize().map_err(text)?;
                if self.source.read_only {
                    return Ok(());
                }
                self.give(self.owners)
            }
            Work::Check(kind) => {
                host_path::check(path, kind)?;
                // Links of the host lead where they lead now; runtimes follow none.
                self.source.path = path.canonicalize().map_err(text)?;
                Ok(())
            }
        }
    }

    /// Gives a volume that was empty to the pod's group, unless that has been done.
    fn give_new(&self) -> Result<(), String> {
        self.give(Owners {
            trusts_root: true,
            ..self.owners
        })
    }

    fn give(&self, owners: Owners) -> Result<(), String> {
        ownership::give(&self.source.path, owners, false)
            .map_err(|error| format!("applyFSGroup failed for vol {}: {error}", self.shown))
    }
}
