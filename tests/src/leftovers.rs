//! Containers outlive the process that made them, so that a cluster that is killed leaves some: they are ended
//! here, with their control groups.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::Sandbox;

const SOON: Duration = Duration::from_secs(20);

/// Ends what a node keeps running whose process is gone, as far as that is possible: it is called when a test
/// may have failed already.
pub(crate) fn end(data: &Path, sandbox: &Sandbox) {
    let oci = data.join("oci");
    let groups = groups(&oci);
    let state = oci.join("runc");
    for id in names(&state) {
        let root = state.display().to_string();
        sandbox.run("runc", &["--root", &root, "delete", "--force", &id]);
    }
    let deadline = Instant::now() + SOON;
    while groups.iter().any(|group| !removed(group)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The node's own control group, in every tree.
fn groups(oci: &Path) -> Vec<PathBuf> {
    let containers = oci.join("containers");
    let root = names(&containers).into_iter().find_map(|name| {
        let text = fs::read(containers.join(name).join("config.json")).ok()?;
        let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let path = config["linux"]["cgroupsPath"].as_str()?.to_owned();
        Some(path.split('/').nth(1)?.to_owned())
    });
    let Some(root) = root else {
        return Vec::new();
    };
    let mount = Path::new("/sys/fs/cgroup");
    let trees = names(mount).into_iter().map(|tree| mount.join(tree));
    trees
        .chain([mount.to_owned()])
        .map(|tree| tree.join(&root))
        .collect()
}

/// Kills what is in a group and removes it and those in it; answers whether it is gone.
fn removed(group: &Path) -> bool {
    for name in names(group) {
        let child = group.join(name);
        if child.is_dir() {
            removed(&child);
        }
    }
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    let _ = fs::remove_dir(group);
    !group.exists()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
