//! The two versions of control groups: where they are mounted, and what their files are called.
//!
//! Groups are named by their path below the mounts, without a slash in front. Reads and writes the kernel's
//! files; decides no value.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use runtimes::Stats;
use rustix::process::{Pid, Signal, kill_process};

use super::{Refused, directories, values};

/// What wk needs of the kernel. The rest is runc's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Controller {
    Cpu,
    Usage,
    Memory,
    Pids,
}

impl Controller {
    pub(super) const ALL: [Controller; 4] = [
        Controller::Cpu,
        Controller::Usage,
        Controller::Memory,
        Controller::Pids,
    ];

    /// Its name in version 1; version 2 counts usage without a controller.
    fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Usage => "cpuacct",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
        }
    }
}

/// Where a host's groups are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// A tree for each controller, or for several.
    V1 {
        /// In the order of [`Controller::ALL`].
        controllers: [PathBuf; 4],
        /// Every tree, also of controllers that only runc uses, and a version 2 that carries none.
        trees: Vec<PathBuf>,
    },
    /// One tree.
    V2 { tree: PathBuf },
}

impl Layout {
    /// Reads `/proc/<pid>/mountinfo`, and the controllers of version 2.
    ///
    /// # Errors
    /// What is not there, in words.
    pub(super) fn read(mounts: &str) -> Result<Layout, String> {
        let mounts: Vec<CgroupMount> = mounts.lines().filter_map(CgroupMount::parse).collect();
        let first = |name: &str| {
            mounts
                .iter()
                .find(|mount| !mount.v2 && mount.controllers.contains(&name))
                .map(|mount| mount.path.clone())
        };
        let v1 = Controller::ALL.map(|controller| first(controller.name()));
        if let [Some(cpu), Some(usage), Some(memory), Some(pids)] = v1 {
            let mut trees: Vec<PathBuf> = Vec::new();
            for mount in &mounts {
                // The same tree may be mounted again elsewhere: once is enough.
                if !trees.contains(&mount.path) {
                    trees.push(mount.path.clone());
                }
            }
            return Ok(Layout::V1 {
                controllers: [cpu, usage, memory, pids],
                trees,
            });
        }
        let absent_in_v1 = Controller::ALL
            .iter()
            .zip(&v1)
            .filter(|(_, mount)| mount.is_none())
            .map(|(controller, _)| controller.name())
            .collect::<Vec<_>>();
        let Some(unified) = mounts.iter().find(|mount| mount.v2) else {
            return Err(if mounts.is_empty() {
                "no control groups are mounted: mount cgroup2 at /sys/fs/cgroup".to_owned()
            } else {
                format!(
                    "control groups are mounted without {}",
                    absent_in_v1.join(", ")
                )
            });
        };
        let file = unified.path.join("cgroup.controllers");
        let offered = std::fs::read_to_string(&file)
            .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        let absent: Vec<_> = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|name| !offered.split_whitespace().any(|offered| offered == *name))
            .collect();
        if !absent.is_empty() {
            return Err(format!(
                "control groups at {} are without {}",
                unified.path.display(),
                absent.join(", ")
            ));
        }
        Ok(Layout::V2 {
            tree: unified.path.clone(),
        })
    }

    /// A group's directory for a controller.
    pub(super) fn directory(&self, controller: Controller, group: &str) -> PathBuf {
        let group = group.trim_start_matches('/');
        match self {
            Layout::V1 { controllers, .. } => controllers[controller as usize].join(group),
            Layout::V2 { tree } => tree.join(group),
        }
    }

    fn trees(&self) -> &[PathBuf] {
        match self {
            Layout::V1 { trees, .. } => trees,
            Layout::V2 { tree } => std::slice::from_ref(tree),
        }
    }

    /// Hands the controllers to the groups directly beneath the mount.
    pub(super) fn make_top(&self) -> Result<(), Refused> {
        match self {
            Layout::V1 { .. } => Ok(()),
            Layout::V2 { tree } => hand_down(tree),
        }
    }

    /// Makes a group whose parent exists, for groups to be made in it. One that exists is left.
    pub(super) fn make(&self, group: &str) -> Result<(), Refused> {
        for controller in Controller::ALL {
            let directory = self.directory(controller, group);
            match std::fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err((directory, error));
                }
                _ => {}
            }
        }
        match self {
            Layout::V1 { .. } => Ok(()),
            Layout::V2 { tree } => hand_down(&tree.join(group)),
        }
    }

    /// A group's part of a busy processor.
    pub(super) fn set_shares(&self, group: &str, shares: u64) -> Result<(), Refused> {
        match self {
            Layout::V1 { .. } => self.set_weight(group, shares),
            Layout::V2 { .. } => self.set_weight(group, values::weight(shares)),
        }
    }

    /// [`Layout::set_shares`] in the kernel's own unit.
    pub(super) fn set_weight(&self, group: &str, weight: u64) -> Result<(), Refused> {
        let (file, range) = self.weight();
        let weight = weight.clamp(*range.start(), *range.end());
        self.write(Controller::Cpu, group, file, &weight.to_string())
    }

    /// What the chosen groups in a group have been given, in the kernel's own unit.
    pub(super) fn sum_of_weights(
        &self,
        group: &str,
        chosen: impl Fn(&str) -> bool,
    ) -> io::Result<u64> {
        let directory = self.directory(Controller::Cpu, group);
        let mut sum: u64 = 0;
        for name in directories(&directory)?.iter().filter(|name| chosen(name)) {
            sum = sum.saturating_add(number(&directory.join(name).join(self.weight().0))?);
        }
        Ok(sum)
    }

    fn weight(&self) -> (&'static str, std::ops::RangeInclusive<u64>) {
        match self {
            Layout::V1 { .. } => ("cpu.shares", 2..=262_144),
            Layout::V2 { .. } => ("cpu.weight", 1..=10_000),
        }
    }

    /// Microseconds of processor time in a period.
    pub(super) fn set_quota(&self, group: &str, quota: Option<u64>) -> Result<(), Refused> {
        let period = values::PERIOD;
        match self {
            Layout::V1 { .. } => {
                let quota = quota.map_or("-1".to_owned(), |quota| quota.to_string());
                self.write(
                    Controller::Cpu,
                    group,
                    "cpu.cfs_period_us",
                    &period.to_string(),
                )?;
                self.write(Controller::Cpu, group, "cpu.cfs_quota_us", &quota)
            }
            Layout::V2 { .. } => {
                let quota = format!("{} {period}", or_max(quota));
                self.write(Controller::Cpu, group, "cpu.max", &quota)
            }
        }
    }

    /// Bytes.
    pub(super) fn set_memory(&self, group: &str, bytes: Option<u64>) -> Result<(), Refused> {
        match self {
            Layout::V1 { .. } => {
                let bytes = bytes.map_or("-1".to_owned(), |bytes| bytes.to_string());
                self.write(Controller::Memory, group, "memory.limit_in_bytes", &bytes)
            }
            Layout::V2 { .. } => {
                self.write(Controller::Memory, group, "memory.max", &or_max(bytes))
            }
        }
    }

    /// Processes and threads.
    pub(super) fn set_pids(&self, group: &str, pids: Option<u64>) -> Result<(), Refused> {
        self.write(Controller::Pids, group, "pids.max", &or_max(pids))
    }

    fn write(
        &self,
        controller: Controller,
        group: &str,
        file: &str,
        value: &str,
    ) -> Result<(), Refused> {
        let path = self.directory(controller, group).join(file);
        std::fs::write(&path, value).map_err(|error| (path, error))
    }

    /// The file that limits swap; it is there where the kernel counts it.
    pub(super) fn swap_file(&self, group: &str) -> PathBuf {
        let file = match self {
            Layout::V1 { .. } => "memory.memsw.limit_in_bytes",
            Layout::V2 { .. } => "memory.swap.max",
        };
        self.directory(Controller::Memory, group).join(file)
    }

    /// What a group has used.
    pub(super) fn stats(&self, group: &str) -> io::Result<Stats> {
        let usage = self.directory(Controller::Usage, group);
        let memory = self.directory(Controller::Memory, group);
        let (cpu, used, inactive) = match self {
            Layout::V1 { .. } => (
                Duration::from_nanos(number(&usage.join("cpuacct.usage"))?),
                number(&memory.join("memory.usage_in_bytes"))?,
                field(&memory.join("memory.stat"), "total_inactive_file")?,
            ),
            Layout::V2 { .. } => (
                Duration::from_micros(field(&usage.join("cpu.stat"), "usage_usec")?),
                number(&memory.join("memory.current"))?,
                field(&memory.join("memory.stat"), "inactive_file")?,
            ),
        };
        Ok(Stats {
            cpu,
            memory_bytes: used.saturating_sub(inactive),
        })
    }

    /// Processes that the kernel killed in a group for want of memory.
    pub(super) fn oom_kills(&self, group: &str) -> io::Result<u64> {
        let file = match self {
            Layout::V1 { .. } => "memory.oom_control",
            Layout::V2 { .. } => "memory.events",
        };
        let path = self.directory(Controller::Memory, group).join(file);
        field(&path, "oom_kill")
    }

    /// Groups directly in a group.
    pub(super) fn children(&self, group: &str) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for tree in self.trees() {
            names.extend(directories(&tree.join(group))?);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Kills every process in a group and those in it. What cannot be killed keeps the group from going,
    /// which is told then.
    pub(super) fn end_processes(&self, group: &str) {
        match self {
            Layout::V1 { controllers, .. } => {
                // Every container is in the memory controller's tree.
                kill_all(&controllers[Controller::Memory as usize].join(group));
            }
            Layout::V2 { tree } => {
                let directory = tree.join(group);
                // Kernels before 5.14 have no such file.
                if std::fs::write(directory.join("cgroup.kill"), "1").is_err() {
                    kill_all(&directory);
                }
            }
        }
    }

    /// Removes a group and those in it, from the innermost. `Ok` if it is not there.
    pub(super) fn remove(&self, group: &str) -> io::Result<()> {
        self.trees()
            .iter()
            .try_for_each(|tree| remove_tree(&tree.join(group)))
    }
}

/// A line of `mountinfo` that is about control groups.
struct CgroupMount<'a> {
    path: PathBuf,
    v2: bool,
    /// Of version 1.
    controllers: Vec<&'a str>,
}

impl CgroupMount<'_> {
    fn parse(line: &str) -> Option<CgroupMount<'_>> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let v2 = match filesystem.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = filesystem.nth(1).unwrap_or_default();
        Some(CgroupMount {
            path: PathBuf::from(unescape(mount.split(' ').nth(4)?)),
            v2,
            controllers: options.split(',').collect(),
        })
    }
}

/// The kernel writes blanks and backslashes of paths in octal.
fn unescape(path: &str) -> String {
    [
        (r"\040", " "),
        (r"\011", "\t"),
        (r"\012", "\n"),
        (r"\134", r"\"),
    ]
    .iter()
    .fold(path.to_owned(), |path, (escaped, plain)| {
        path.replace(escaped, plain)
    })
}

/// Lets the groups in a group of version 2 have limits.
fn hand_down(directory: &Path) -> Result<(), Refused> {
    let path = directory.join("cgroup.subtree_control");
    std::fs::write(&path, "+cpu +memory +pids").map_err(|error| (path, error))
}

fn kill_all(directory: &Path) {
    for child in directories(directory).unwrap_or_default() {
        kill_all(&directory.join(child));
    }
    let processes = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        if let Some(pid) = Pid::from_raw(pid) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    for child in directories(directory)? {
        remove_tree(&directory.join(child))?;
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn or_max(limit: Option<u64>) -> String {
    limit.map_or("max".to_owned(), |limit| limit.to_string())
}

fn number(path: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| strange(path))
}

/// The number after a name at a line's start.
fn field(path: &Path, name: &str) -> io::Result<u64> {
    std::fs::read_to_string(path)?
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| strange(path))
}

fn strange(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} says nothing sensible", path.display()),
    )
}
