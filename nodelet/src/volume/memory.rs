//! File systems in memory: one for all Secrets and tokens of the node, and one for each `emptyDir` of medium Memory.
//!
//! Only where this process may mount; elsewhere the same directories are on disk, the owner's alone.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::{TMPFS_MAGIC, statfs},
};
use tracing::{info, warn};

/// Mounts a file system in memory at `directory`, or finds the one that an earlier process left there. False if this
/// process may not mount.
pub(crate) fn ensure(directory: &Path) -> io::Result<bool> {
    make_private(directory)?;
    if is_mounted(directory) {
        return Ok(true);
    }
    if !nix::unistd::geteuid().is_root() {
        return Ok(false);
    }
    match mount_at(directory, "mode=0700") {
        Ok(()) => Ok(true),
        Err(error) => {
            info!(%error, directory = %directory.display(), "Secrets are kept on disk: nothing can be mounted here");
            Ok(false)
        }
    }
}

/// Mounts one that everybody may write to, of at most `size_bytes`. One that is there stays as it is.
///
/// # Errors
/// As the kernel says.
pub(crate) fn mount_shared(directory: &Path, size_bytes: Option<u64>) -> io::Result<()> {
    if is_mounted(directory) {
        return Ok(());
    }
    let size = size_bytes.map_or_else(String::new, |size| format!(",size={size}"));
    mount_at(directory, &format!("mode=0777{size}"))
}

fn mount_at(directory: &Path, options: &str) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let try_mount = |options: &str| {
        mount(
            Some("tmpfs"),
            directory,
            Some("tmpfs"),
            flags,
            Some(options),
        )
    };
    // Kernels before 6.4 do not know how to keep one out of swap.
    match try_mount(&format!("{options},noswap")) {
        Err(Errno::EINVAL) => Ok(try_mount(options)?),
        outcome => Ok(outcome?),
    }
}

/// Whether a file system in memory begins at this directory.
pub(crate) fn is_mounted(directory: &Path) -> bool {
    let is_memory = statfs(directory).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC);
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let above = directory.parent().and_then(device);
    is_memory && device(directory) != above
}

/// Unmounts what is mounted at this directory; what is in use goes on until it is not.
pub(crate) fn unmount(directory: &Path) {
    if is_mounted(directory)
        && let Err(error) = umount2(directory, MntFlags::MNT_DETACH)
    {
        warn!(%error, directory = %directory.display(), "unmount a volume");
    }
}

/// Every mount below a directory, innermost first.
pub(crate) fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(unescaped(path)))
        .filter(|path| path.starts_with(directory) && path != directory)
        .collect();
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    found
}

/// A path as `mountinfo` writes it, with octal escapes for blanks.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// Makes a directory that is its owner's alone, and those above it.
pub(crate) fn make_private(directory: &Path) -> io::Result<()> {
    make(directory, 0o700)
}

/// Makes a directory of this mode if it is not there, and those above it as their owner's alone.
pub(crate) fn make(directory: &Path, mode: u32) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(above)?;
    }
    match fs::DirBuilder::new().mode(mode).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // The process' mask may have cut the mode.
        _ => fs::set_permissions(directory, fs::Permissions::from_mode(mode)),
    }
}
