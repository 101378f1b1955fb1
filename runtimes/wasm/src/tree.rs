//! A container's files as the node reads and writes them for it: its mounts and nothing else.
//!
//! Every path is opened beneath its root by the kernel itself, so neither `..` nor a symbolic link leads
//! out of a mount, even one that is made while this looks. Blocks: not for async threads.

use std::{
    collections::BTreeSet,
    fs::{File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, symlinkat, unlinkat},
};

use crate::mounts::{self, Located, Mounts, Root};

/// What is at a path.
pub(crate) enum Node {
    Directory,
    /// Open for reading.
    File(File),
    /// A symbolic link and where it leads.
    Link(PathBuf),
    /// A device, a socket or a pipe.
    Other,
}

impl Mounts {
    /// What is at an absolute path; a symbolic link there is not followed.
    pub(crate) fn node(&self, path: &str) -> io::Result<Node> {
        let (root, path) = match self.locate(path) {
            Some(Located::File(file)) => {
                return mounts::open(&file.source, OFlag::O_RDONLY).map(Node::File);
            }
            Some(Located::Root(root, path)) => (&self.roots[root], path),
            None if path == "/" || self.names_towards(path).next().is_some() => {
                return Ok(Node::Directory);
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        if root.source.is_none() {
            let found = path.is_empty().then_some(Node::Directory);
            return found.ok_or(io::ErrorKind::NotFound.into());
        }
        let looked = beneath(root, &path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        let kind = looked.metadata()?.file_type();
        if kind.is_dir() {
            Ok(Node::Directory)
        } else if kind.is_symlink() {
            Ok(Node::Link(readlinkat(&looked, "")?.into()))
        } else if kind.is_file() {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            beneath(root, &path, flags).map(Node::File)
        } else {
            Ok(Node::Other)
        }
    }

    /// The names in a directory, sorted.
    pub(crate) fn names(&self, path: &str) -> io::Result<BTreeSet<String>> {
        let towards = self.names_towards(path).map(str::to_owned);
        let mut names: BTreeSet<String> = towards.collect();
        let Some(Located::Root(root, path)) = self.locate(path) else {
            return Ok(names);
        };
        let points = self.points_in(root, &path);
        names.extend(points.map(|(name, _)| name.to_owned()));
        if self.roots[root].source.is_some() {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            for entry in read_dir(&beneath(&self.roots[root], &path, flags)?)? {
                names.extend(entry?.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    /// Makes a directory and those above it, as far as they are not there.
    pub(crate) fn make_dirs(&self, path: &str) -> io::Result<()> {
        match self.locate(path) {
            Some(Located::Root(root, path)) => {
                make_dirs(&self.roots[root], &path)?;
                Ok(())
            }
            Some(Located::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None if matches!(self.node(path), Ok(Node::Directory)) => Ok(()),
            None => Err(Errno::EROFS.into()),
        }
    }

    /// Makes a file, in place of any other thing that is there but a directory.
    pub(crate) fn create(&self, path: &str, mode: u32) -> io::Result<File> {
        let (dir, name) = match self.locate(path) {
            Some(Located::File(file)) if file.read_only => return Err(Errno::EROFS.into()),
            // A mounted file stays what it is: only what it holds is new.
            Some(Located::File(file)) => {
                return mounts::open(&file.source, OFlag::O_WRONLY | OFlag::O_TRUNC);
            }
            Some(Located::Root(root, path)) => self.place(root, &path)?,
            None => return Err(Errno::EROFS.into()),
        };
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(&dir, name.as_str(), flags, Mode::from_bits_truncate(0o600))?;
        let file = File::from(file);
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(file)
    }

    /// Makes a symbolic link, likewise.
    pub(crate) fn link(&self, path: &str, to: &Path) -> io::Result<()> {
        match self.locate(path) {
            Some(Located::Root(root, path)) => {
                let (dir, name) = self.place(root, &path)?;
                Ok(symlinkat(to, &dir, name.as_str())?)
            }
            Some(Located::File(_)) => Err(Errno::EBUSY.into()),
            None => Err(Errno::EROFS.into()),
        }
    }

    /// The directory and name for a new thing; what has the name is removed.
    fn place(&self, root: usize, path: &str) -> io::Result<(File, String)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let dir = make_dirs(&self.roots[root], parent)?;
        match unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok((dir, name.to_owned())),
            Err(error) => Err(error.into()),
        }
    }
}

/// Opens a directory that may be written to, made if it is not there.
fn make_dirs(root: &Root, path: &str) -> io::Result<File> {
    if root.read_only {
        return Err(Errno::EROFS.into());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    match beneath(root, path, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_empty() => {}
        opened => return opened,
    }
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = make_dirs(root, parent)?;
    match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => beneath(root, path, flags),
        Err(error) => Err(error.into()),
    }
}

/// Opens a path in a root's directory, which no link on the way can lead out of.
fn beneath(root: &Root, path: &str, flags: OFlag) -> io::Result<File> {
    let source = root.source.as_ref().ok_or(Errno::EROFS)?;
    let dir = mounts::open(source, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = if path.is_empty() { "." } else { path };
    Ok(File::from(openat2(&dir, path, how)?))
}

fn read_dir(dir: &File) -> io::Result<std::fs::ReadDir> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}
