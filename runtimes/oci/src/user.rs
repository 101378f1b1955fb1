//! As whom a container's first process runs: what the image says, what its own lists of users and groups make of that,
//! and what the pod says instead.
//!
//! Reads `/etc/passwd` and `/etc/group` below the container's root, following no link out of it; writes nothing.
//! Source of the rules: the image specification's `User`, and containerd's reading of a pod's security context.

use std::{fs::File, io::Read as _, os::fd::AsRawFd as _, path::Path};

use runtimes::{ContainerSpec, RuntimeError, Security};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2};

/// How much of a list of users or groups is read; a longer one is refused.
const MAX_BYTES: u64 = 4 << 20;

/// Whose rights a process has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups, the primary one first.
    pub(crate) groups: Vec<u32>,
}

/// Finds out as whom the container whose files are at `root` runs.
///
/// # Errors
/// `Config` if it would run as root and must not; `Invalid` if the image names somebody whom its lists do not know.
pub(crate) fn resolve(
    root: &Path,
    spec: &ContainerSpec,
    image_user: &str,
) -> Result<Identity, RuntimeError> {
    verify_non_root(spec, image_user)?;
    let lists = Lists {
        passwd: read(root, "etc/passwd")?,
        group: read(root, "etc/group")?,
    };
    lists
        .identity(image_user, &spec.security)
        .map_err(RuntimeError::Invalid)
}

/// Refuses to run as root a container that must not, in the kubelet's words.
fn verify_non_root(spec: &ContainerSpec, image_user: &str) -> Result<(), RuntimeError> {
    if !spec.security.non_root {
        return Ok(());
    }
    let of = format!(
        "(pod: \"{}_{}({})\", container: {})",
        spec.pod.name, spec.pod.namespace, spec.pod.uid, spec.name
    );
    let user = image_user.split(':').next().unwrap_or_default();
    let uid = if user.is_empty() {
        Some(0)
    } else {
        user.parse::<u32>().ok()
    };
    let message = match (spec.security.user, uid) {
        (Some(0), _) => format!("container's runAsUser breaks non-root policy {of}"),
        (Some(_), _) => return Ok(()),
        (None, Some(0)) => {
            format!("container has runAsNonRoot and image will run as root {of}")
        }
        (None, Some(_)) => return Ok(()),
        (None, None) => format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {of}"
        ),
    };
    Err(RuntimeError::Config(message))
}

/// A file below the root as text; empty if there is none.
fn read(root: &Path, file: &str) -> Result<String, RuntimeError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        RuntimeError::Invalid(format!("the container's /{file} cannot be read: {error}"))
    };
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        openat(CWD, root, directory, Mode::empty()).map_err(|error| RuntimeError::Unavailable {
            message: format!("open the container's root {}", root.display()),
            source: Some(error.into()),
        })?;
    // Looked at before it is opened: an image may have made it a pipe or a device, which opening alone sets going.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened = match openat2(&root, file, flags, Mode::empty(), resolve) {
        Ok(opened) => opened,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    let stat = rustix::fs::fstat(&opened).map_err(|error| unreadable(&error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(unreadable(&"it is no regular file"));
    }
    let held = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let mut bytes = Vec::new();
    File::open(held)
        .map_err(|error| unreadable(&error))?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(unreadable(&format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// An image's own users and groups, as their files have them.
struct Lists {
    passwd: String,
    group: String,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Lists {
    /// Whom an image's `User` and a pod's settings mean.
    fn identity(&self, image_user: &str, security: &Security) -> Result<Identity, String> {
        let pods = security.user.map(|uid| uid.to_string());
        let (name, group) = match &pods {
            Some(uid) => (uid.as_str(), ""),
            None => image_user.split_once(':').unwrap_or((image_user, "")),
        };
        let name = if name.is_empty() { "0" } else { name };
        // A number is a uid, whatever users the image calls by it.
        let number = name.parse::<u32>().ok();
        let found = self.users().find(|user| match number {
            Some(uid) => user.uid == uid,
            None => user.name == name,
        });
        let (uid, usual) = match (&found, number) {
            (Some(user), _) => (user.uid, user.gid),
            (None, Some(uid)) => (uid, 0),
            (None, None) => {
                return Err(format!(
                    "unable to find user {name}: no matching entries in passwd file"
                ));
            }
        };
        let gid = match (security.group, group) {
            (Some(gid), _) => gid,
            (None, "") => usual,
            (None, group) => self.gid(group)?,
        };
        let mut groups = vec![gid];
        if let Some(user) = found.filter(|_| !security.only_these_groups) {
            let of_user = self.groups().filter(|group| group.has(user.name));
            groups.extend(of_user.map(|group| group.gid));
        }
        groups.extend(&security.groups);
        let mut seen = std::collections::HashSet::new();
        groups.retain(|gid| seen.insert(*gid));
        Ok(Identity { uid, gid, groups })
    }

    fn gid(&self, name: &str) -> Result<u32, String> {
        if let Ok(gid) = name.parse() {
            return Ok(gid);
        }
        let found = self.groups().find(|group| group.name == name);
        found.map(|group| group.gid).ok_or_else(|| {
            format!("unable to find group {name}: no matching entries in group file")
        })
    }

    /// Lines that are no users are passed over.
    fn users(&self) -> impl Iterator<Item = User<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            Some(User {
                name: fields.next()?,
                uid: fields.nth(1)?.trim().parse().ok()?,
                gid: fields.next()?.trim().parse().ok()?,
            })
        })
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            Some(Group {
                name: fields.next()?,
                gid: fields.nth(1)?.trim().parse().ok()?,
                members: fields.next().unwrap_or_default(),
            })
        })
    }
}

impl Group<'_> {
    fn has(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member.trim() == user)
    }
}

#[cfg(test)]
mod tests;
