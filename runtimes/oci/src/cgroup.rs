//! Control groups: what a pod and its containers may use of the host, and what they used.
//!
//! Below one group of wk's own the tree is the kubelet's: guaranteed pods directly beneath it, the others
//! in `burstable` and `besteffort`; a pod's group (`pod<uid>`) has the sums of its containers, and runc makes
//! the containers' groups in it with the values that [`Cgroups::resources`] gives. What a class of pods gets
//! of a busy processor is the sum of its pods' shares, and next to nothing for `besteffort`.
//!
//! Works on version 1 (also beside a version 2 that carries nothing: "hybrid") and on version 2, wherever
//! they are mounted. Keeps nothing in memory: the tree is the truth, so that a restart loses nothing. With its
//! last pod the whole tree goes. Never touches a group outside its own.
//!
//! Swap: no container gets any where the kernel counts it. Where a container on version 1 has no memory limit,
//! nothing can be said about its swap, and it may.

mod layout;
mod values;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use oci_spec::runtime::LinuxResources;
use runtimes::{ContainerSpec, PodResources, Qos, RuntimeError, Stats};

use layout::{Controller, Layout};

/// How many processes and threads a pod may have, if nothing else is said: more than a healthy one needs,
/// and too few to take a host's process numbers from everybody else.
pub(crate) const DEFAULT_PIDS: u64 = 4096;

/// How often a group that is still busy is tried to be removed, and how long to wait between.
const REMOVALS: usize = 100;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(20);

/// The classes that have a group of their own.
const CLASSES: [&str; 2] = ["burstable", "besteffort"];

/// The groups of one wk on this host.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    tree: Arc<Tree>,
}

#[derive(Debug)]
struct Tree {
    layout: Layout,
    /// The name of wk's own group.
    root: String,
    /// For each pod; `None` is unlimited.
    pids: Option<u64>,
    /// The kernel counts swap, so that it can be limited.
    counts_swap: bool,
    /// Held while groups come or go, for the sums of classes and the end of the tree.
    changing: Mutex<()>,
}

impl Cgroups {
    /// Finds out how this host does control groups, and that groups can be made: wk's own is `root`, a single
    /// name.
    ///
    /// # Errors
    /// What this host lacks, in words.
    pub(crate) fn find(root: &str) -> Result<Cgroups, String> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| format!("/proc/self/mountinfo cannot be read: {error}"))?;
        Cgroups::read(&mounts, root)
    }

    /// [`Cgroups::find`] with this list of mounts.
    fn read(mounts: &str, root: &str) -> Result<Cgroups, String> {
        let layout = Layout::read(mounts)?;
        let mut tree = Tree {
            layout,
            root: root.to_owned(),
            pids: Some(DEFAULT_PIDS),
            counts_swap: false,
            changing: Mutex::new(()),
        };
        tree.ensure_classes().map_err(|(path, error)| {
            format!(
                "control groups cannot be made ({}: {error}): wk needs to be root and /sys/fs/cgroup mounted \
                 for writing",
                path.display()
            )
        })?;
        tree.counts_swap = tree.layout.swap_file(&tree.root).exists();
        tree.remove_if_idle();
        Ok(Cgroups {
            tree: Arc::new(tree),
        })
    }

    /// With another limit to the processes and threads of each pod; `None` is unlimited.
    #[must_use]
    pub(crate) fn with_pids(self, pids: Option<u64>) -> Cgroups {
        let tree = Arc::into_inner(self.tree).expect("nobody else has it before it is in use");
        Cgroups {
            tree: Arc::new(Tree { pids, ..tree }),
        }
    }

    /// The container's group, as runc wants it (`linux.cgroupsPath`) and the other functions here do:
    /// `/<root>/<class>/pod<uid>/<name>_<attempt>`.
    pub(crate) fn path(&self, spec: &ContainerSpec) -> String {
        let pod = self
            .tree
            .pod(class_of(spec.pod_resources.qos), &spec.pod.uid);
        let attempt = spec.id.0.rsplit('/').next().unwrap_or_default();
        format!("/{pod}/{}_{attempt}", part(&spec.name))
    }

    /// Makes the pod's group and those above it, with their values. Done again, it corrects them.
    ///
    /// # Errors
    /// The kernel refuses a group or a value.
    pub(crate) async fn ensure_pod(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let (tree, uid, resources) = (
            Arc::clone(&self.tree),
            spec.pod.uid.clone(),
            spec.pod_resources,
        );
        tokio::task::spawn_blocking(move || tree.ensure_pod(&uid, &resources))
            .await
            .expect("making groups does not panic")
            .map_err(|(path, error)| RuntimeError::Unavailable {
                message: format!("control group {} cannot be set", path.display()),
                source: Some(error.into()),
            })
    }

    /// What one container may use, for runc's configuration: no devices, which are none of this module's.
    pub(crate) fn resources(&self, spec: &ContainerSpec) -> LinuxResources {
        values::of_container(spec, &self.tree.layout, self.tree.counts_swap)
    }

    /// What a container has used: processor time, and memory without the files that it could give back at once.
    ///
    /// # Errors
    /// The group is gone, or its files say nothing sensible.
    pub(crate) fn stats(&self, path: &str) -> io::Result<Stats> {
        self.tree.layout.stats(path)
    }

    /// How many of a container's processes the kernel has killed for want of memory; 0 when nobody knows.
    /// Certain only once the container has ended.
    pub(crate) fn oom_kills(&self, path: &str) -> u64 {
        self.tree.layout.oom_kills(path).unwrap_or(0)
    }

    /// Ends what still runs in a pod's groups and removes them, also those that runc left. `Ok` if there are
    /// none.
    ///
    /// # Errors
    /// A group stays busy.
    pub(crate) async fn remove_pod(&self, uid: &str) -> io::Result<()> {
        let mut tries = 0;
        loop {
            let (tree, uid) = (Arc::clone(&self.tree), uid.to_owned());
            let removed = tokio::task::spawn_blocking(move || tree.remove_pod(&uid))
                .await
                .expect("removing groups does not panic");
            tries += 1;
            match removed {
                Err(error) if tries < REMOVALS && error.kind() == io::ErrorKind::ResourceBusy => {
                    tokio::time::sleep(BETWEEN_REMOVALS).await;
                }
                removed => return removed,
            }
        }
    }

    /// The uids of all pods that have groups: what a crash may have left.
    ///
    /// # Errors
    /// The tree cannot be read.
    pub(crate) fn pods(&self) -> io::Result<BTreeSet<String>> {
        self.tree.pods()
    }
}

/// A group's path and why it cannot be set.
type Refused = (PathBuf, io::Error);

impl Tree {
    /// The group of a class of pods, without a slash in front.
    fn class(&self, class: Option<&str>) -> String {
        match class {
            Some(class) => format!("{}/{class}", self.root),
            None => self.root.clone(),
        }
    }

    fn pod(&self, class: Option<&str>, uid: &str) -> String {
        format!("{}/pod{}", self.class(class), part(uid))
    }

    /// The places where a pod's group may be.
    fn places(&self, uid: &str) -> impl Iterator<Item = String> {
        classes().map(move |class| self.pod(class, uid))
    }

    fn ensure_classes(&self) -> Result<(), Refused> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shares = values::shares(u64::try_from(processors).unwrap_or(1).saturating_mul(1000));
        self.layout.make_top()?;
        self.layout.make(&self.root)?;
        self.layout.set_shares(&self.root, shares)?;
        for class in CLASSES {
            self.layout.make(&self.class(Some(class)))?;
        }
        self.layout
            .set_shares(&self.class(Some("besteffort")), values::LEAST_SHARES)
    }

    fn ensure_pod(&self, uid: &str, resources: &PodResources) -> Result<(), Refused> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.ensure_classes()?;
        let class = class_of(resources.qos);
        let pod = self.pod(class, uid);
        let limits = resources.limits;
        self.layout.make(&pod)?;
        self.layout
            .set_shares(&pod, values::pod_shares(resources))?;
        self.layout
            .set_quota(&pod, limits.cpu_millis.map(values::quota))?;
        self.layout.set_memory(&pod, limits.memory_bytes)?;
        self.layout.set_pids(&pod, self.pids)?;
        self.sum_up_burstable()
    }

    /// Burstable pods together get what they get one by one.
    fn sum_up_burstable(&self) -> Result<(), Refused> {
        let group = self.class(Some("burstable"));
        let sum = self
            .layout
            .sum_of_weights(&group, |name| name.starts_with("pod"))
            .map_err(|error| (self.layout.directory(Controller::Cpu, &group), error))?;
        self.layout.set_weight(&group, sum)
    }

    fn remove_pod(&self, uid: &str) -> io::Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        for place in self.places(uid) {
            self.layout.end_processes(&place);
            self.layout.remove(&place)?;
        }
        if !self.remove_if_idle() {
            // Corrected with the next pod if it fails.
            let _ = self.sum_up_burstable();
        }
        Ok(())
    }

    /// Removes the tree if it holds no pod; answers whether that is so.
    fn remove_if_idle(&self) -> bool {
        let idle = self.pods().is_ok_and(|pods| pods.is_empty());
        if idle {
            // A group of no use harms nobody: what is busy stays.
            let _ = self.layout.remove(&self.root);
        }
        idle
    }

    fn pods(&self) -> io::Result<BTreeSet<String>> {
        let mut pods = BTreeSet::new();
        for class in classes() {
            let names = self.layout.children(&self.class(class))?;
            pods.extend(
                names
                    .iter()
                    .filter_map(|name| name.strip_prefix("pod"))
                    .map(str::to_owned),
            );
        }
        Ok(pods)
    }
}

/// Where pods' groups are: beneath the root, and in the classes.
fn classes() -> impl Iterator<Item = Option<&'static str>> {
    std::iter::once(None).chain(CLASSES.map(Some))
}

fn class_of(qos: Qos) -> Option<&'static str> {
    match qos {
        Qos::Guaranteed => None,
        Qos::Burstable => Some("burstable"),
        Qos::BestEffort => Some("besteffort"),
    }
}

/// A name as one part of a path.
fn part(name: &str) -> String {
    name.replace('/', "_")
}

/// Names of directories in a directory; none if there is no such directory.
fn directories(path: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
