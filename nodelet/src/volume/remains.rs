//! The directories of this node's pods: made before any pod is set up, and removed with their pods.
//!
//! Nothing that is mounted in a pod's directory is removed with it: neither file systems in memory that are in use, nor
//! parts of volumes that outlive the pod.

use std::{
    fs,
    path::{Path, PathBuf},
};

use runtimes::PodRef;
use tracing::warn;

use super::{binds, live::lock, memory, pod_directory};
use crate::pod::worker::{Context, remove_directory};

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
    remove_directory(directory);
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
        Ok(()) => remove_directory(directory),
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
