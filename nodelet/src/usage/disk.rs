//! What pods keep on this node's disks: the logs of their containers and their volumes.
//!
//! Measured by walking directories, which nobody does without need: when somebody asks and the last measure is a
//! minute old, and every few seconds for pods that have a limit ([`limits`](super::limits)). A pod that takes more
//! than it may is evicted: its status says that it has failed, and its worker ends what has. Reads directories; writes
//! the status of pods, and Events.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, Volume},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use runtimes::PodRef;
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};
use tracing::{debug, warn};

use super::limits;
use crate::{
    deadline::call,
    host::{self, Room},
    logs,
    pod::{state::EVICTED, worker::Context},
    pods::Pods,
};

/// How old an answer may be.
const OLDEST: Duration = Duration::from_secs(60);
/// Between looks at pods that have limits.
const LIMITS_PERIOD: Duration = Duration::from_secs(10);

/// Space that something takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl std::iter::Sum for Taken {
    fn sum<I: Iterator<Item = Taken>>(parts: I) -> Taken {
        parts.fold(Taken::default(), |sum, part| Taken {
            bytes: sum.bytes + part.bytes,
            inodes: sum.inodes + part.inodes,
        })
    }
}

/// Space on a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Space {
    pub(crate) capacity_bytes: u64,
    pub(crate) available_bytes: u64,
}

/// What a volume takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct VolumeUse {
    pub(crate) name: String,
    /// The claim that it stands for.
    pub(crate) claim: Option<String>,
    pub(crate) taken: Taken,
    /// Of the file system that it is on.
    pub(crate) space: Space,
    /// Whether it counts as the pod's ephemeral storage: an `emptyDir` on disk.
    pub(crate) ephemeral: bool,
}

/// What a pod takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PodDisk {
    pub(crate) pod: PodRef,
    /// Of each container.
    pub(crate) logs: BTreeMap<String, Taken>,
    /// What each container that runs has written outside of its volumes.
    pub(crate) roots: BTreeMap<String, Taken>,
    pub(crate) volumes: Vec<VolumeUse>,
}

impl PodDisk {
    /// The pod's ephemeral storage: logs, what containers write to their roots, and `emptyDir` volumes on disk.
    pub(crate) fn ephemeral(&self) -> Taken {
        let volumes = self.volumes.iter().filter(|volume| volume.ephemeral);
        let volumes = volumes.map(|volume| volume.taken);
        let containers = self.logs.values().chain(self.roots.values()).copied();
        containers.chain(volumes).sum()
    }
}

/// What all pods take, and the disk that they are on.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct DiskUsage {
    pub(crate) time: Timestamp,
    pub(crate) space: Space,
    pub(crate) pods: Vec<PodDisk>,
}

/// The last measure.
type Last = Option<(Instant, Arc<DiskUsage>)>;

/// Measures.
#[derive(Clone)]
pub(crate) struct Disk {
    context: Arc<Context>,
    pods: Pods,
    last: Arc<Mutex<Last>>,
}

impl Disk {
    pub(crate) fn new(context: Arc<Context>, pods: Pods) -> Disk {
        Disk {
            context,
            pods,
            last: Arc::default(),
        }
    }

    /// What pods take, at most a minute ago. Of those who ask at once, one measures.
    pub(crate) async fn now(&self) -> Arc<DiskUsage> {
        let mut last = self.last.lock().await;
        if let Some((at, usage)) = &*last
            && at.elapsed() < OLDEST
        {
            return usage.clone();
        }
        let (time, config) = (self.context.clock.now(), &self.context.config);
        let Room {
            bytes: capacity_bytes,
            free_bytes: available_bytes,
            ..
        } = host::disk(&config.state_dir);
        let usage = Arc::new(DiskUsage {
            time,
            space: Space {
                capacity_bytes,
                available_bytes,
            },
            pods: self.measure(self.pods.list()).await,
        });
        *last = Some((Instant::now(), usage.clone()));
        usage
    }

    /// Evicts pods that take more than they may, until dropped.
    pub(crate) async fn hold_to_limits(self) {
        loop {
            tokio::time::sleep(LIMITS_PERIOD).await;
            let mut pods = self.pods.list();
            pods.retain(|pod| !has_ended(pod) && limits::has_any(pod));
            if pods.is_empty() {
                continue;
            }
            let used = self.measure(pods.clone()).await;
            for (pod, used) in pods.iter().zip(used) {
                if let Some(message) = limits::exceeded(pod, &used) {
                    evict(&self.context, &used.pod, message).await;
                }
            }
        }
    }

    /// What these pods take, in their order.
    async fn measure(&self, pods: Vec<Arc<Pod>>) -> Vec<PodDisk> {
        let mut roots = self.roots(&pods).await;
        let this = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let measure = |pod: &Arc<Pod>| {
                let used = this.measure_pod(pod);
                let roots = roots.remove(&used.pod.uid).unwrap_or_default();
                PodDisk { roots, ..used }
            };
            pods.iter().map(measure).collect()
        });
        work.await.unwrap_or_else(|error| {
            warn!(%error, "measure what pods keep on disk");
            Vec::new()
        })
    }

    /// What the containers of these pods that run have written to their roots, by the pods' uids.
    async fn roots(&self, pods: &[Arc<Pod>]) -> HashMap<String, BTreeMap<String, Taken>> {
        let uids: HashSet<&str> = pods
            .iter()
            .filter_map(|pod| pod.metadata.uid.as_deref())
            .collect();
        let mut roots = HashMap::<String, BTreeMap<String, Taken>>::new();
        for (pod, container, id) in self.pods.running() {
            if !uids.contains(pod.uid.as_str()) {
                continue;
            }
            let mut bytes = 0;
            for runtime in &self.context.runtimes {
                match runtime.disk_bytes(&id).await {
                    Ok(more) => bytes += more,
                    Err(error) => debug!(%error, container = %id, "measure a container's root"),
                }
            }
            if bytes > 0 {
                let taken = Taken { bytes, inodes: 0 };
                let of_pod = roots.entry(pod.uid).or_default();
                of_pod.insert(container.to_string(), taken);
            }
        }
        roots
    }

    fn measure_pod(&self, pod: &Pod) -> PodDisk {
        let metadata = &pod.metadata;
        let pod_ref = PodRef {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        };
        let logs = logs::pod_directory(&self.context.config.log_dir, &pod_ref);
        let logs = fs::read_dir(logs).into_iter().flatten().flatten();
        let logs = logs.filter_map(|entry| {
            let container = entry.file_name().into_string().ok()?;
            Some((container, taken(&entry.path())))
        });
        let sources = self.context.volumes.find(&pod_ref.uid);
        let sources = sources.map(|entry| entry.known().sources.clone());
        let sources = sources.unwrap_or_default();
        let volumes = pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten());
        let volumes = volumes.filter_map(|volume| {
            let path = &sources.get(&volume.name)?.path;
            volume_use(&pod_ref, volume, path)
        });
        PodDisk {
            logs: logs.collect(),
            roots: BTreeMap::new(),
            volumes: volumes.collect(),
            pod: pod_ref,
        }
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Fails a pod for good. One that could not be told is found again by the next look.
async fn evict(context: &Context, pod: &PodRef, message: String) {
    let now = Time(context.clock.now());
    let body = json!({
        // The uid keeps this off another pod that has taken the name.
        "metadata": {"uid": pod.uid},
        "status": {"phase": "Failed", "reason": EVICTED, "message": message, "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
            "message": message, "lastTransitionTime": now,
        }]},
    });
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &pod.namespace);
    let (params, patch) = (PatchParams::default(), Patch::Strategic(body));
    match call(pods.patch_status(&pod.name, &params, &patch)).await {
        Ok(_) => context.note(pod, None, true, EVICTED, message),
        // Gone, or another pod of that name.
        Err(error) if matches!(error.code(), Some(404 | 409)) => {}
        Err(error) => {
            let PodRef {
                namespace, name, ..
            } = pod;
            warn!(%error, namespace, name, "evict a pod");
        }
    }
}

/// `None` for paths of the host: what is there is not the pod's.
fn volume_use(pod: &PodRef, volume: &Volume, path: &Path) -> Option<VolumeUse> {
    if volume.host_path.is_some() {
        return None;
    }
    let claim = match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.name, volume.name)),
        (None, None) => None,
    };
    let Room {
        bytes: capacity_bytes,
        free_bytes: available_bytes,
        ..
    } = host::disk(path);
    let empty = volume.empty_dir.as_ref();
    let taken = match &claim {
        // Of any size: what its file system says is known at once.
        Some(_) => Taken {
            bytes: capacity_bytes.saturating_sub(available_bytes),
            inodes: 0,
        },
        None => taken(path),
    };
    Some(VolumeUse {
        name: volume.name.clone(),
        claim,
        taken,
        space: Space {
            capacity_bytes,
            available_bytes,
        },
        ephemeral: empty.is_some_and(|empty| empty.medium.as_deref() != Some("Memory")),
    })
}

/// What a directory takes with all that is in it: blocks on disk, a file with several names once. What cannot be
/// read counts nothing; links are not followed.
pub(crate) fn taken(path: &Path) -> Taken {
    let mut sum = Taken::default();
    let mut linked = HashSet::new();
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.nlink() > 1
            && !metadata.is_dir()
            && !linked.insert((metadata.dev(), metadata.ino()))
        {
            continue;
        }
        sum.bytes += metadata.blocks() * 512;
        sum.inodes += 1;
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_file_counts_once_and_what_a_link_leads_to_does_not() {
        let (dir, other) = (
            TempDir::new().expect("a directory"),
            TempDir::new().expect("a directory"),
        );
        let empty = taken(dir.path());
        fs::create_dir(dir.path().join("d")).expect("a directory");
        fs::write(dir.path().join("d/a"), vec![1; 100_000]).expect("a file");
        fs::hard_link(dir.path().join("d/a"), dir.path().join("b")).expect("a name");
        fs::write(other.path().join("big"), vec![1; 1 << 20]).expect("a file");
        symlink(other.path(), dir.path().join("link")).expect("a link");
        let used = taken(dir.path());
        assert_eq!(used.inodes, empty.inodes + 3);
        let grown = used.bytes - empty.bytes;
        assert!((100_000..200_000).contains(&grown), "{grown}");
        assert_eq!(taken(&dir.path().join("none")), Taken::default());
    }
}
