//! How much a directory may hold: project quotas, where the file system has them.
//!
//! ext4 (feature `project`, mounted with `prjquota`) and XFS (`pquota`). Each directory is a project of its own, which
//! all that is made in it belongs to. Elsewhere nothing is limited, and that is no error.
//!
//! Reads and sets attributes of directories beneath the root it is given; keeps no list of projects but these.

use std::{
    fs::{self, File},
    io, mem,
    os::fd::AsRawFd,
    path::Path,
};

use nix::libc;

/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR` of `linux/fs.h`.
const GET: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const SET: libc::Ioctl = 0x401c_5820_u32 as libc::Ioctl;
/// New files belong to the project of their directory.
const INHERIT: u32 = 0x200;
/// Projects begin here, clear of those that administrators number by hand.
const FIRST: u32 = 1 << 20;
/// `PRJQUOTA` of `linux/quota.h`, and what limits are counted in.
const PROJECTS: u32 = 2;
const BLOCK: u64 = 1024;
/// The system call `quotactl_fd` (Linux 5.14), the same on every architecture.
const QUOTACTL_FD: libc::c_long = 443;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

/// Lets a directory hold so many bytes; false if its file system cannot see to it.
pub(super) fn limit(root: &Path, directory: &Path, bytes: u64) -> io::Result<bool> {
    let file = File::open(directory)?;
    if !counted(&file) {
        return Ok(false);
    }
    let mut attributes = get(&file)?;
    if attributes.project < FIRST {
        attributes.project = free_project(root);
        attributes.flags |= INHERIT;
        set(&file, &attributes)?;
    }
    allow(&file, attributes.project, bytes.div_ceil(BLOCK).max(1))?;
    Ok(true)
}

/// Takes the limit of a directory away, so that its project can be used again.
pub(super) fn unlimit(directory: &Path) -> io::Result<()> {
    let file = File::open(directory)?;
    if !counted(&file) {
        return Ok(());
    }
    match get(&file)?.project {
        project if project >= FIRST => allow(&file, project, 0),
        _ => Ok(()),
    }
}

/// The first project that no directory beneath the root has.
fn free_project(root: &Path) -> u32 {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| File::open(entry.path()).ok());
    let taken: std::collections::BTreeSet<u32> = files
        .filter_map(|file| get(&file).ok())
        .map(|attributes| attributes.project)
        .collect();
    let mut free = (FIRST..u32::MAX).filter(|project| !taken.contains(project));
    free.next().unwrap_or(u32::MAX)
}

fn get(file: &File) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the descriptor is open, and the structure is the one that this request fills in.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), GET, &raw mut attributes) };
    checked(answer.into()).map(|()| attributes)
}

fn set(file: &File, attributes: &Attributes) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the structure is the one that this request reads.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), SET, &raw const *attributes) };
    checked(answer.into())
}

/// Whether the file system of a file counts what projects hold: the call fails where it does not.
fn counted(file: &File) -> bool {
    let mut info = [0_u64; 3];
    // SAFETY: `Q_GETINFO` writes a `struct if_dqinfo`, of 24 bytes, to the address it is given.
    unsafe { quotactl(file, libc::Q_GETINFO, 0, (&raw mut info).cast()) }.is_ok()
}

/// Limits a project to so many blocks; none is no limit.
fn allow(file: &File, project: u32, blocks: u64) -> io::Result<()> {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut wanted: libc::dqblk = unsafe { mem::zeroed() };
    wanted.dqb_bhardlimit = blocks;
    wanted.dqb_bsoftlimit = blocks;
    wanted.dqb_valid = libc::QIF_BLIMITS;
    // SAFETY: `Q_SETQUOTA` reads one `dqblk` from the address it is given.
    unsafe { quotactl(file, libc::Q_SETQUOTA, project, (&raw mut wanted).cast()) }
}

/// # Safety
/// `address` must be what `command` reads or writes.
unsafe fn quotactl(
    file: &File,
    command: libc::c_int,
    project: u32,
    address: *mut libc::c_void,
) -> io::Result<()> {
    let command = command.cast_unsigned() << 8 | PROJECTS;
    // SAFETY: the caller answers for the address; the other arguments are numbers.
    let answer = unsafe { libc::syscall(QUOTACTL_FD, file.as_raw_fd(), command, project, address) };
    checked(answer)
}

fn checked(answer: libc::c_long) -> io::Result<()> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
