//! Pods that were deleted while no nodelet looked: their containers, network, volumes and logs are still here.
//!
//! Found once, when the first list of pods is there; ended with the usual grace, since their own is not known any more.
//! What cannot be ended is tried again for as long as the nodelet runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use runtimes::{ContainerId, RuntimeError};
use tracing::{debug, info, warn};

use crate::{
    pod::{
        plan::DEFAULT_GRACE,
        worker::{Context, STOP_SLACK, remove_directory},
    },
    volume,
};

/// Pods that are ended at once.
const CONCURRENT: usize = 64;
/// Between tries to end a container.
const RETRY: Duration = Duration::from_secs(10);

/// What is left of pods that nobody owns: their containers, by uid.
pub(super) type Orphans = BTreeMap<String, Vec<ContainerId>>;

/// Finds what is left of pods that are not `owned`, by uid.
pub(super) async fn find(context: &Context, owned: &(dyn Fn(&str) -> bool + Sync)) -> Orphans {
    let mut orphans = Orphans::new();
    for runtime in &context.runtimes {
        let containers = runtime.list().await.unwrap_or_else(|error| {
            warn!(%error, runtime = runtime.name(), "list containers");
            Vec::new()
        });
        for container in containers {
            if !owned(&container.pod.uid) {
                let all = orphans.entry(container.pod.uid).or_default();
                all.push(container.id);
            }
        }
    }
    let mut others: BTreeSet<String> = context.network.held().into_iter().collect();
    others.extend(volume::held(context));
    others.extend(logs_of(&context.config.log_dir).map(|(uid, _)| uid));
    for uid in others {
        if !owned(&uid) {
            orphans.entry(uid).or_default();
        }
    }
    orphans
}

/// Directories of logs, with the uids of their pods.
fn logs_of(log_dir: &Path) -> impl Iterator<Item = (String, std::path::PathBuf)> {
    let directories = std::fs::read_dir(log_dir).into_iter().flatten().flatten();
    directories.filter_map(|directory| {
        let name = directory.file_name().into_string().ok()?;
        let (_, uid) = name.rsplit_once('_')?;
        let is_uid = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if uid.is_empty() || !uid.chars().all(is_uid) {
            return None;
        }
        Some((uid.to_owned(), directory.path()))
    })
}

/// Ends them all, and removes what they leave.
pub(super) async fn end(context: Arc<Context>, orphans: Orphans) {
    let logs: BTreeMap<_, _> = logs_of(&context.config.log_dir).collect();
    stream::iter(orphans)
        .for_each_concurrent(CONCURRENT, |(uid, containers)| {
            let (context, log) = (&context, logs.get(&uid));
            async move {
                let ends = containers.iter().map(|id| end_container(context, id));
                futures::future::join_all(ends).await;
                if let Err(error) = context.network.remove(&uid).await {
                    warn!(%error, uid, "free a pod's address");
                }
                volume::remove_all_of(context, &uid);
                if let Some(directory) = log {
                    remove_directory(directory);
                }
            }
        })
        .await;
}

/// Ends and removes a container, however often that has to be tried.
async fn end_container(context: &Context, id: &ContainerId) {
    info!(container = %id, "end a container that no pod owns");
    for runtime in &context.runtimes {
        loop {
            let end = async {
                match runtime.stop(id, DEFAULT_GRACE).await {
                    Ok(()) | Err(RuntimeError::NotFound(_)) => runtime.remove(id).await,
                    Err(error) => Err(error),
                }
            };
            match tokio::time::timeout(DEFAULT_GRACE + STOP_SLACK, end).await {
                Ok(Ok(()) | Err(RuntimeError::NotFound(_))) => break,
                Ok(Err(error)) => warn!(%error, container = %id, "end a container"),
                Err(_) => debug!(container = %id, "a runtime did not end a container in time"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}
