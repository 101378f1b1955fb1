//! Volumes: what a pod's spec lists becomes directories of this node, and a container's mounts point into them.
//!
//! - [`files`]: configMap, secret, downwardAPI and projected volumes, gathered by way of [`objects`], [`token`] and
//!   [`downward`] into a [`payload`], which [`writer`] puts where readers see all or nothing of it.
//! - [`memory`]: file systems in memory. [`host_path`], [`claim`]: what is there already.
//! - [`mounts`](mod@mounts): what a container sees. [`sub_path`]: a part of a volume, and no way out of it; [`binds`]:
//!   mounted for containers. [`ownership`]: whose files are.
//! - [`live`]: what is kept of each pod, and the task that renews files.
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
mod sub_path;
mod token;
mod writer;

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, Volume, VolumeMount};
use runtimes::PodRef;
use tracing::warn;

pub(crate) use live::Volumes;
use live::{PodVolumes, Source, lock};
pub(crate) use mounts::mounts;

use crate::{
    config::Config,
    pod::{resources, worker::Context},
    quantity,
};
use files::{Gather, Gathered};
use ownership::Owners;
use payload::Payload;

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

/// One volume, ready to be made on disk.
struct Prepared {
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

/// Finds out what a volume is to be, and when it is to be looked at again.
async fn prepare(
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

fn pod_directory(config: &Config, uid: &str) -> PathBuf {
    config.pods_dir.join(uid)
}

fn directory(config: &Config, uid: &str, kind: &str, name: &str) -> PathBuf {
    pod_directory(config, uid)
        .join("volumes")
        .join(kind)
        .join(name)
}

/// Makes prepared volumes on disk, all in one go, and remembers them. Answers what failed.
async fn make(context: &Context, entry: &Arc<PodVolumes>, prepared: Vec<Prepared>) -> Vec<String> {
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
}

impl Prepared {
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

/// Removes a pod's volumes from this node, but for what was there before it.
pub(crate) async fn tear_down(context: &Context, pod_ref: &PodRef) {
    let entry = context.volumes.leave(&pod_ref.uid);
    let (uid, memory) = (pod_ref.uid.clone(), context.volumes.memory());
    let directory = pod_directory(&context.config, &uid);
    let removal = tokio::task::spawn_blocking(move || {
        // Nobody writes to it any more once this is held.
        let mut removed = entry.as_ref().map(|entry| lock(&entry.removed));
        if let Some(removed) = &mut removed {
            **removed = true;
        }
        if let Err(error) = binds::clear(&directory) {
            warn!(%error, directory = %directory.display(), "unmount parts of volumes");
        }
        remove(&directory.join("volumes"));
        if let Some(memory) = memory {
            remove(&memory.join(uid));
        }
    });
    if let Err(error) = removal.await {
        warn!(%error, "remove the volumes of a pod");
    }
}

/// Removes a directory and what is in it, after what is mounted there.
fn remove(directory: &Path) {
    if !directory.exists() {
        return;
    }
    let kinds = fs::read_dir(directory.join("empty-dir"));
    for volume in kinds.into_iter().flatten().flatten() {
        memory::unmount(&volume.path());
    }
    crate::pod::worker::remove_directory(directory);
}

/// Prepares the directories of this node; to be called before any pod is set up.
///
/// # Errors
/// They cannot be made.
pub(crate) fn open(context: &Context) -> std::io::Result<()> {
    memory::make_private(&context.config.pods_dir)?;
    if let Some(directory) = &context.config.memory_dir
        && memory::ensure(directory)?
    {
        context.volumes.keep_in_memory(directory.clone());
    }
    Ok(())
}

/// The uids of pods that have a directory on this node: an earlier process may have been killed.
pub(crate) fn held(context: &Context) -> Vec<String> {
    let directories = directories(context);
    let entries = directories.into_iter().flat_map(|directory| {
        let entries = fs::read_dir(directory).into_iter().flatten();
        entries.flatten().map(|entry| entry.file_name())
    });
    entries.filter_map(|name| name.into_string().ok()).collect()
}

/// Where pods have directories named by their uids.
fn directories(context: &Context) -> Vec<&Path> {
    let config = &context.config;
    let directories = [Some(&config.pods_dir), config.memory_dir.as_ref()];
    directories
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect()
}

/// Removes every directory of a pod that has no worker.
pub(crate) fn remove_all_of(context: &Context, uid: &str) {
    for directory in directories(context) {
        let directory = directory.join(uid);
        for mounted in memory::mounts_below(&directory) {
            memory::unmount(&mounted);
        }
        remove_pod_directory(&directory);
    }
}

/// Removes a pod's directory, unless a part of a volume is still mounted in it: that would be removed with it.
pub(crate) fn remove_pod_directory(directory: &Path) {
    match binds::clear(directory) {
        Ok(()) => crate::pod::worker::remove_directory(directory),
        Err(error) => {
            warn!(%error, directory = %directory.display(), "unmount parts of volumes");
        }
    }
}

/// Gives the memory back that holds Secrets, unless containers outlive this process, which may read them.
pub(crate) async fn close(context: &Context) {
    let Some(directory) = context.volumes.memory() else {
        return;
    };
    for runtime in &context.runtimes {
        let lives_on = runtime.name() != "wasm";
        if lives_on && runtime.list().await.is_ok_and(|list| !list.is_empty()) {
            return;
        }
    }
    memory::unmount(&directory);
}
