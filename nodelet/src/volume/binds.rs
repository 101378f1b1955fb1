//! Parts of volumes, mounted once more where nobody but the node can change what is there.
//!
//! A container may put a link in the place of a directory of its volume after that was found, and before its runtime,
//! which knows paths only, mounts it. So what was found is mounted at `<pods_dir>/<uid>/volume-subpaths/<container>/<n>`
//! first, and the runtime is given that path. These mounts lead into volumes that outlive the pod: its directory is
//! removed only when none is left.

use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::fstat,
};

use super::memory;

/// In a pod's directory.
const DIRECTORY: &str = "volume-subpaths";

/// Mounts an open file or directory for the `place`-th mount of a container, in place of what an earlier attempt had.
///
/// # Errors
/// As the kernel says.
pub(super) fn bind(
    pod_directory: &Path,
    container: &str,
    place: usize,
    file: &OwnedFd,
) -> io::Result<PathBuf> {
    let above = pod_directory.join(DIRECTORY).join(container);
    memory::make_private(&above)?;
    let target = above.join(place.to_string());
    remove(&target)?;
    let is_directory = fstat(file)?.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR;
    if is_directory {
        fs::create_dir(&target)?;
    } else {
        fs::File::create_new(&target)?;
    }
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    let none = None::<&str>;
    mount(Some(source.as_str()), &target, none, MsFlags::MS_BIND, none)?;
    Ok(target)
}

/// Unmounts and removes all of a pod's.
///
/// # Errors
/// One is left: nothing above it may be removed.
pub(super) fn clear(pod_directory: &Path) -> io::Result<()> {
    let all = pod_directory.join(DIRECTORY);
    for container in entries(&all)? {
        for target in entries(&container)? {
            remove(&target)?;
        }
        fs::remove_dir(&container)?;
    }
    match fs::remove_dir(&all) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// Unmounts what is mounted at a path, and removes the empty file or directory that is there.
fn remove(target: &Path) -> io::Result<()> {
    let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    loop {
        match umount2(target, flags) {
            // Several may lie on each other.
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // Never what is in it: it is empty, or it is not ours.
    let removed = match fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir(target),
        Ok(_) => fs::remove_file(target),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::volume::sub_path;

    /// A pod's directory, whose mounts go with it.
    struct Bench {
        dir: TempDir,
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            // Otherwise the volume's files would be removed through the mounts.
            let cleared = clear(&self.dir.path().join("pod"));
            assert!(cleared.is_ok() || std::thread::panicking());
        }
    }

    #[test]
    fn what_was_found_stays_what_is_mounted_and_goes_without_its_files() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let bench = Bench {
            dir: TempDir::new().expect("a directory"),
        };
        let (volume, pod) = (
            bench.dir.path().join("volume"),
            bench.dir.path().join("pod"),
        );
        fs::create_dir_all(volume.join("part")).expect("a directory");
        fs::write(volume.join("part/f"), "mine").expect("a file");
        fs::write(volume.join("one"), "file").expect("a file");
        let found = sub_path::open(&volume, "part").expect("found");
        // The container swaps the directory for a link to the host's files.
        fs::rename(volume.join("part"), volume.join("moved")).expect("moved");
        std::os::unix::fs::symlink("/etc", volume.join("part")).expect("a link");
        let target = bind(&pod, "c", 0, &found).expect("mounted");
        assert_eq!(
            fs::read_to_string(target.join("f")).expect("a file"),
            "mine"
        );
        // Another attempt of the container has it anew; a file is mounted as a file.
        let again = bind(&pod, "c", 0, &found).expect("mounted");
        assert_eq!(again, target);
        let one = sub_path::open(&volume, "one").expect("found");
        let one = bind(&pod, "c", 1, &one).expect("mounted");
        assert_eq!(fs::read_to_string(one).expect("a file"), "file");
        clear(&pod).expect("cleared");
        assert!(!pod.join(DIRECTORY).exists());
        assert!(volume.join("moved/f").exists());
        clear(&pod).expect("nothing is left to clear");
    }
}
