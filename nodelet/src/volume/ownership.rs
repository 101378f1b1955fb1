//! Whose a pod's volumes are: its `fsGroup`'s, and a token's file the user's that all its containers run as.
//!
//! As the kubelet does it: files and directories get the group, its rights, and directories the bit that passes the
//! group on. A container may change the volume while this walks it, links included: everything is opened first, without
//! following a link, and changed as what it is. Only as root: nobody else may give files away.

use std::{
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::stat::{FileStat, Mode, fstat},
    unistd::{Gid, fchownat},
};

/// Rights that the group gets of files, of read-only volumes' files, and of directories besides.
const WRITABLE: u32 = 0o660;
const READABLE: u32 = 0o440;
const DIRECTORY: u32 = 0o2110;

/// Whose a pod's volumes are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Owners {
    /// The user that every container of the pod runs as.
    pub(crate) user: Option<u32>,
    /// `fsGroup`.
    pub(crate) group: Option<u32>,
    /// Volumes whose root is the group's are taken to be so throughout: `OnRootMismatch`, and a pod that runs already.
    pub(crate) trusts_root: bool,
}

impl Owners {
    /// Of the pod's volumes; nobody's if this process may not give files away.
    pub(crate) fn of(pod: &Pod) -> Owners {
        if !nix::unistd::geteuid().is_root() {
            return Owners::default();
        }
        let spec = pod.spec.as_ref();
        let context = spec.and_then(|spec| spec.security_context.as_ref());
        let group = context.and_then(|context| context.fs_group);
        let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
        let status = pod.status.iter();
        let mut statuses = status.flat_map(|status| status.container_statuses.iter().flatten());
        let ran = statuses.any(|status| status.container_id.is_some());
        Owners {
            user: user(pod),
            group: group.and_then(|group| u32::try_from(group).ok()),
            trusts_root: policy == Some("OnRootMismatch") || ran,
        }
    }
}

/// The user that all the containers of a pod run as, if they say so and agree.
fn user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref();
    let of_pod = of_pod.and_then(|context| context.run_as_user);
    let of = |container: &Container| {
        let own = container.security_context.as_ref();
        own.and_then(|context| context.run_as_user).or(of_pod)
    };
    let mut all = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let first = of(all.next()?)?;
    let agreed = all.all(|container| of(container) == Some(first));
    u32::try_from(first).ok().filter(|_| agreed)
}

/// Gives a volume, with everything in it, to the pod's group.
///
/// # Errors
/// As the file system says.
pub(crate) fn give(volume: &Path, owners: Owners, read_only: bool) -> io::Result<()> {
    let Some(group) = owners.group else {
        return Ok(());
    };
    let rights = if read_only { READABLE } else { WRITABLE };
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(volume, flags, Mode::empty())?;
    let stat = fstat(&root)?;
    let wanted = if is(&stat, nix::libc::S_IFDIR) {
        rights | DIRECTORY
    } else {
        rights
    };
    if owners.trusts_root && stat.st_gid == group && stat.st_mode & wanted == wanted {
        return Ok(());
    }
    let mut waiting = vec![PathBuf::from(".")];
    while let Some(path) = waiting.pop() {
        let directory = match open_below(&root, &path) {
            // It went, or is something else by now.
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => continue,
            opened => opened?,
        };
        for entry in fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))? {
            let name = entry?.file_name();
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = match openat(&directory, Path::new(&name), flags, Mode::empty()) {
                Err(Errno::ENOENT) => continue,
                opened => opened?,
            };
            if give_one(&file, group, rights)? {
                waiting.push(path.join(name));
            }
        }
    }
    // The root last: it says that all is done.
    give_one(&root, group, rights).map(drop)
}

/// Gives one file, link or directory to the group; true if it is a directory.
fn give_one(file: &OwnedFd, group: u32, rights: u32) -> io::Result<bool> {
    let stat = fstat(file)?;
    let is_directory = is(&stat, nix::libc::S_IFDIR);
    if stat.st_gid != group {
        fchownat(
            file,
            "",
            None,
            Some(Gid::from_raw(group)),
            AtFlags::AT_EMPTY_PATH,
        )?;
    }
    if is(&stat, nix::libc::S_IFLNK) {
        return Ok(false);
    }
    let rights = if is_directory {
        rights | DIRECTORY
    } else {
        rights
    };
    // After the change of its owner, which may have taken bits away.
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let mode = fs::metadata(&path)?.mode() & 0o7777;
    if mode & rights != rights {
        fs::set_permissions(&path, Permissions::from_mode(mode | rights))?;
    }
    Ok(is_directory)
}

fn is(stat: &FileStat, kind: u32) -> bool {
    stat.st_mode & nix::libc::S_IFMT == kind
}

fn open_below(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(root, path, how)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    fn is_root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    fn owners(group: u32, trusts_root: bool) -> Owners {
        Owners {
            user: None,
            group: Some(group),
            trusts_root,
        }
    }

    /// Mode and group.
    fn seen(path: &Path) -> (String, u32) {
        let metadata = fs::symlink_metadata(path).expect("it is there");
        (format!("{:o}", metadata.mode() & 0o7777), metadata.gid())
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
    }

    #[test]
    fn everything_in_the_volume_and_nothing_out_of_it_is_given_to_the_group() {
        if !is_root() {
            return;
        }
        let dir = TempDir::new().expect("a directory");
        let (volume, outside) = (dir.path().join("volume"), dir.path().join("outside"));
        fs::create_dir_all(volume.join("a/b")).expect("directories");
        fs::create_dir(&outside).expect("a directory");
        for file in [volume.join("a/b/f"), outside.join("secret")] {
            fs::write(&file, "").expect("a file");
            chmod(&file, 0o600);
        }
        symlink("../../outside", volume.join("a/out")).expect("a link");
        symlink(outside.join("secret"), volume.join("s")).expect("a link");
        for path in [&volume, &volume.join("a"), &volume.join("a/b"), &outside] {
            chmod(path, 0o700);
        }
        let before = (seen(&outside), seen(&outside.join("secret")));
        give(&volume, owners(4321, false), false).expect("given");
        assert_eq!(seen(&volume), ("2770".to_owned(), 4321));
        assert_eq!(seen(&volume.join("a/b")), ("2770".to_owned(), 4321));
        assert_eq!(seen(&volume.join("a/b/f")), ("660".to_owned(), 4321));
        assert_eq!(seen(&volume.join("s")).1, 4321);
        assert_eq!((seen(&outside), seen(&outside.join("secret"))), before);
    }

    #[test]
    fn a_root_that_is_right_is_trusted_only_where_the_policy_says_so() {
        if !is_root() {
            return;
        }
        let dir = TempDir::new().expect("a directory");
        let file = dir.path().join("f");
        give(dir.path(), owners(99, false), false).expect("given");
        fs::write(&file, "").expect("a file");
        chmod(&file, 0o600);
        give(dir.path(), owners(99, true), false).expect("given");
        assert_eq!(seen(&file).0, "600");
        give(dir.path(), owners(99, false), true).expect("given");
        assert_eq!(seen(&file), ("640".to_owned(), 99));
        give(dir.path(), owners(98, true), false).expect("given");
        assert_eq!(seen(&file), ("660".to_owned(), 98));
    }

    #[test]
    fn a_tokens_user_is_the_one_that_all_containers_agree_on() {
        let check = |spec: Value, want: Option<u32>| {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
            assert_eq!(user(&pod), want, "{pod:?}");
        };
        let of = |user: Value| json!({"name": "c", "securityContext": {"runAsUser": user}});
        let plain = json!({"name": "c"});
        check(json!({"containers": [plain]}), None);
        check(json!({"containers": [of(json!(5)), of(json!(5))]}), Some(5));
        check(json!({"containers": [of(json!(5)), of(json!(6))]}), None);
        check(json!({"containers": [of(json!(5)), plain]}), None);
        let pod = json!({"runAsUser": 7});
        check(
            json!({"containers": [plain, of(json!(7))], "securityContext": pod}),
            Some(7),
        );
        check(
            json!({"initContainers": [of(json!(0))], "containers": [plain], "securityContext": pod}),
            None,
        );
    }
}
