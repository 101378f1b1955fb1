//! The first process of a process namespace that a pod's containers share: it takes in orphans, and holds the namespace
//! until it is killed.
//!
//! The containers see it, and one of them may be allowed to look into other processes: hence it has an empty root, no
//! capability and a user of its own before it says that it is ready. It opens nothing after that.

use std::io::{self, Write as _};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Gid, Uid},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    process::{chdir, pivot_root},
    thread::{
        CapabilitySet, remove_capability_from_bounding_set, set_name, set_no_new_privs,
        set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use crate::children::Children;

/// As whom nobody else runs.
const NOBODY: u32 = 65535;
/// What it says once it is confined.
const READY: &[u8] = b"+";

/// Confines itself, its working directory becoming its root, and stays. The mount namespace must be its own.
pub(crate) fn run() -> io::Result<()> {
    set_name(c"pause")?;
    let mut children = Children::adopt()?;
    confine()?;
    io::stdout().write_all(READY)?;
    io::stdout().flush()?;
    // Its end is what is waited for.
    rustix::stdio::dup2_stdout(io::stdin())?;
    loop {
        let mut files = [PollFd::new(&children, PollFlags::IN)];
        match poll(&mut files, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        children.reap();
        children.forget();
    }
}

fn confine() -> io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV | MountFlags::RDONLY;
    let empty = std::env::current_dir()?;
    mount("empty", &empty, "tmpfs", flags, Some(c"size=4k,mode=755"))?;
    chdir(&empty)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // A kernel that does not know it.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    // With the user go the capabilities.
    set_thread_res_uid(user, user, user)?;
    set_no_new_privs(true)?;
    Ok(())
}
