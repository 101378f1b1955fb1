//! Makes an archive's entries beneath a directory, as a lower directory of an overlay.
//!
//! Whatever an entry says, nothing outside the directory is touched: names lose their leading slashes and may
//! not hold `..`; each call to the kernel names one component in an open directory and follows no symlink; a
//! directory of a path that is a symlink in this layer is resolved by us, as if the layer were the whole file
//! system (containerd and umoci do so). What a layer's own entries made may be replaced by later ones.
//!
//! In an overlay's terms: `.wh.x` becomes a character device 0/0 named `x`; `.wh..wh..opq` marks its directory
//! opaque, and so is a directory that replaces something else, for what was there before it is not to show
//! through. The attributes `trusted.overlay.*` are the overlay's own and never taken from an archive.

mod names;
mod places;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::BufRead,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    Limits,
    archive::{Archive, Attributes, Contents, Entry, Kind},
    failure::{Failure, shown},
    removal,
};
use names::{clean, join, refused, split};
use places::Place;

/// The attribute by which an overlay hides what lower layers have in a directory.
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

pub(super) struct Tree<'a> {
    dir: PathBuf,
    root: OwnedFd,
    limits: &'a Limits,
    entries: u64,
    steps: u64,
    remembered: usize,
    /// The directory that an entry was last made in, and what the archive calls it: entries come together.
    last: Option<(Vec<u8>, Rc<Place>)>,
    /// Directories made only because something is in them: the layer says nothing of their attributes.
    implied: BTreeSet<Vec<u8>>,
    /// When directories were modified, set at the end: each entry made in one changes it.
    modified: BTreeMap<Vec<u8>, Timespec>,
}

impl<'a> Tree<'a> {
    /// An empty layer in `dir`, which is there and empty.
    pub(super) fn new(dir: &Path, limits: &'a Limits) -> Result<Tree<'a>, Failure> {
        let root = rustix::fs::openat(CWD, dir, OPEN_DIRECTORY, Mode::empty());
        let tree = Tree {
            root: root.map_err(|error| Failure::node("open", dir, error))?,
            dir: dir.to_owned(),
            limits,
            entries: 0,
            steps: 0,
            remembered: 0,
            last: None,
            implied: BTreeSet::from([Vec::new()]),
            modified: BTreeMap::new(),
        };
        rustix::fs::fchmod(&tree.root, Mode::from_raw_mode(0o755))
            .map_err(|error| Failure::node("chmod", dir, error))?;
        Ok(tree)
    }

    /// Makes one entry; a file's contents are read from the archive.
    pub(super) fn put<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), Failure> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Failure::Image(format!(
                "it has more than {} entries, the limit for a layer",
                self.limits.entries
            )));
        }
        let path = clean(&entry.name, self.limits)?;
        let Some((parent, base)) = split(&path) else {
            return self.put_root(entry);
        };
        for component in parent.split(|byte| *byte == b'/') {
            if component.starts_with(b".wh..wh.") {
                return Ok(());
            }
            if component.starts_with(b".wh.") {
                return Err(refused(
                    &entry.name,
                    "is in a directory named as a whiteout",
                ));
            }
        }
        match base.strip_prefix(b".wh.") {
            Some(b".wh..opq") => self.put_opaque(parent),
            // What AUFS kept for itself.
            Some(name) if name.starts_with(b".wh.") => Ok(()),
            Some(b"" | b"." | b"..") => Err(refused(&entry.name, "is a whiteout of no name")),
            Some(name) => self.put_whiteout(parent, name),
            None => self.put_named(parent, base, &path, entry, archive),
        }
    }

    /// Sets what could not be set before; answers the directories that the layer implies, empty for its root.
    pub(super) fn finish(self) -> Result<BTreeSet<Vec<u8>>, Failure> {
        for (path, modified) in &self.modified {
            match self.open(path) {
                Ok(fd) => rustix::fs::futimens(&fd, &timestamps(*modified))
                    .map_err(|error| self.failed(path, error))?,
                // Something else has its name by now.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(self.failed(path, error)),
            }
        }
        Ok(self.implied)
    }

    fn put_root(&mut self, entry: &Entry) -> Result<(), Failure> {
        if !matches!(entry.kind, Kind::Directory) {
            return Err(refused(&entry.name, "would replace the layer's root"));
        }
        self.implied.remove(&Vec::new());
        self.set_directory(&self.root, &[], entry)?;
        self.modified.insert(Vec::new(), entry.attributes.modified);
        Ok(())
    }

    fn put_opaque(&mut self, parent: &[u8]) -> Result<(), Failure> {
        let parent = self.place(parent)?;
        self.implied.remove(&parent.path);
        set_opaque(&parent.fd).map_err(|error| self.failed(&parent.path, error))
    }

    /// A whiteout hides what lower layers have: of a directory of this one, the contents from below.
    fn put_whiteout(&mut self, parent: &[u8], name: &[u8]) -> Result<(), Failure> {
        let parent = self.place(parent)?;
        let device = rustix::fs::makedev(0, 0);
        let made = rustix::fs::mknodat(
            &parent.fd,
            name,
            FileType::CharacterDevice,
            Mode::empty(),
            device,
        );
        let path = join(&parent.path, name);
        let opaque = match made {
            Err(Errno::EXIST) => match openat(&parent.fd, name) {
                Ok(fd) => {
                    self.implied.remove(&path);
                    set_opaque(&fd)
                }
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(error) => Err(error),
            },
            made => made,
        };
        opaque.map_err(|error| self.failed(&path, error))
    }

    fn put_named<R: BufRead>(
        &mut self,
        parent: &[u8],
        base: &[u8],
        name: &[u8],
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), Failure> {
        let parent = self.place(parent)?;
        let path = join(&parent.path, base);
        let node = |kind, device| {
            move |fd: &OwnedFd, name: &[u8]| rustix::fs::mknodat(fd, name, kind, Mode::RUSR, device)
        };
        match &entry.kind {
            Kind::Directory => return self.put_directory(&parent, base, name, path, entry),
            Kind::Link(target) => return self.put_link(&parent, base, &path, target),
            Kind::File(contents) => {
                let file = self.make(&parent, base, &path, |fd, name| {
                    let flags = OFlags::WRONLY
                        | OFlags::CREATE
                        | OFlags::EXCL
                        | OFlags::NOFOLLOW
                        | OFlags::CLOEXEC;
                    rustix::fs::openat(fd, name, flags, Mode::RUSR | Mode::WUSR)
                })?;
                return self.fill(&file, &path, contents, entry, archive);
            }
            Kind::Symlink(target) if target.is_empty() => {
                return Err(refused(name, "is a symlink to nothing"));
            }
            Kind::Symlink(target) => self.make(&parent, base, &path, |fd, name| {
                rustix::fs::symlinkat(target.as_slice(), fd, name)
            })?,
            Kind::Fifo => self.make(&parent, base, &path, node(FileType::Fifo, 0))?,
            Kind::Character(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                self.make(
                    &parent,
                    base,
                    &path,
                    node(FileType::CharacterDevice, device),
                )?;
            }
            Kind::Block(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                self.make(&parent, base, &path, node(FileType::BlockDevice, device))?;
            }
        }
        self.set_node(&parent, base, entry)
            .map_err(|error| self.failed(&path, error))
    }

    /// A directory that is there keeps its contents; something else gives way to an opaque one.
    fn put_directory(
        &mut self,
        parent: &Place,
        base: &[u8],
        name: &[u8],
        path: Vec<u8>,
        entry: &Entry,
    ) -> Result<(), Failure> {
        let made = rustix::fs::mkdirat(&parent.fd, base, Mode::RWXU);
        let mut opened = match made {
            Ok(()) | Err(Errno::EXIST) => openat(&parent.fd, base),
            Err(error) => Err(error),
        };
        if matches!(opened, Err(Errno::NOTDIR | Errno::LOOP)) {
            self.last = None;
            opened = replace_by_directory(&parent.fd, base);
        }
        let fd = opened.map_err(|error| self.failed(&path, error))?;
        self.set_directory(&fd, &path, entry)?;
        self.implied.remove(&path);
        self.remember(&path)?;
        self.modified
            .insert(path.clone(), entry.attributes.modified);
        self.last = Some((name.to_vec(), Rc::new(Place { path, fd })));
        Ok(())
    }

    fn put_link(
        &mut self,
        parent: &Place,
        base: &[u8],
        path: &[u8],
        target: &[u8],
    ) -> Result<(), Failure> {
        let missing = || {
            Failure::Image(format!(
                "its entry {} is a hard link to {}, which is no file of this layer",
                shown(path),
                shown(target)
            ))
        };
        let cleaned = clean(target, self.limits)?;
        let (target_parent, target_base) = split(&cleaned).ok_or_else(missing)?;
        let target_parent = self.find(target_parent)?.ok_or_else(missing)?;
        let stat = |place: &Place, name: &[u8]| {
            rustix::fs::statat(&place.fd, name, AtFlags::SYMLINK_NOFOLLOW)
        };
        let found = match stat(&target_parent, target_base) {
            Ok(found) if !is_directory(&found) && !is_whiteout(&found) => found,
            Ok(_) | Err(Errno::NOENT) => return Err(missing()),
            Err(error) => return Err(self.failed(path, error)),
        };
        if stat(parent, base).is_ok_and(|there| id(&there) == id(&found)) {
            return Ok(());
        }
        self.make(parent, base, path, |fd, name| {
            rustix::fs::linkat(&target_parent.fd, target_base, fd, name, AtFlags::empty())
        })
        .map_err(|failure| match failure {
            // It was in the directory that the link replaces.
            Failure::Node(_) if stat(&target_parent, target_base).is_err() => missing(),
            failure => failure,
        })
    }

    fn fill<R: BufRead>(
        &self,
        file: &OwnedFd,
        path: &[u8],
        contents: &Contents,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), Failure> {
        archive.read_contents(contents, |mut offset, mut bytes| {
            while !bytes.is_empty() {
                match rustix::io::pwrite(file, bytes, offset) {
                    Ok(written) => {
                        bytes = &bytes[written..];
                        offset += written as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(self.failed(path, error)),
                }
            }
            Ok(())
        })?;
        let set = || {
            if contents.has_holes() {
                rustix::fs::ftruncate(file, contents.size)?;
            }
            let Attributes { mode, modified, .. } = entry.attributes;
            // In this order: a new owner takes away the mode's upper bits and the capabilities.
            let (uid, gid) = owner(&entry.attributes);
            rustix::fs::fchown(file, uid, gid)?;
            rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
            set_xattrs(entry, |name, value| {
                rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
            })?;
            rustix::fs::futimens(file, &timestamps(modified))
        };
        set().map_err(|error| self.failed(path, error))
    }

    fn set_directory(&self, fd: &OwnedFd, path: &[u8], entry: &Entry) -> Result<(), Failure> {
        let set = || {
            let (uid, gid) = owner(&entry.attributes);
            rustix::fs::fchown(fd, uid, gid)?;
            rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.attributes.mode))?;
            set_xattrs(entry, |name, value| {
                rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
            })
        };
        set().map_err(|error| self.failed(path, error))
    }

    /// Attributes of what cannot be opened: a symlink, a device, a FIFO, just made in `parent`.
    fn set_node(&self, parent: &Place, base: &[u8], entry: &Entry) -> Result<(), Errno> {
        use std::os::fd::AsRawFd as _;
        let (uid, gid) = owner(&entry.attributes);
        rustix::fs::chownat(&parent.fd, base, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        if !matches!(entry.kind, Kind::Symlink(_)) {
            let mode = Mode::from_raw_mode(entry.attributes.mode);
            rustix::fs::chmodat(&parent.fd, base, mode, AtFlags::empty())?;
        }
        if !entry.xattrs.is_empty() {
            let directory = format!("/proc/self/fd/{}/", parent.fd.as_raw_fd());
            let path = [directory.as_bytes(), base].concat();
            set_xattrs(entry, |name, value| {
                rustix::fs::lsetxattr(path.as_slice(), name, value, XattrFlags::empty())
            })?;
        }
        let times = timestamps(entry.attributes.modified);
        rustix::fs::utimensat(&parent.fd, base, &times, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Makes something under a name, in place of what this layer has made under it before.
    fn make<T>(
        &mut self,
        parent: &Place,
        base: &[u8],
        path: &[u8],
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Failure> {
        match make(&parent.fd, base) {
            Err(Errno::EXIST) => {
                self.last = None;
                self.remove(parent, base, path)?;
                make(&parent.fd, base)
            }
            made => made,
        }
        .map_err(|error| self.failed(path, error))
    }

    fn remove(&mut self, parent: &Place, base: &[u8], path: &[u8]) -> Result<(), Failure> {
        let removed = removal::remove_at(&parent.fd, base);
        removed.map_err(|error| self.failed(path, error))?;
        let (beneath, beyond) = ([path, b"/"].concat(), [path, b"0"].concat());
        let known: Vec<Vec<u8>> = {
            let modified = self.modified.range(beneath.clone()..beyond.clone());
            let implied = self.implied.range(beneath..beyond);
            modified
                .map(|(path, _)| path)
                .chain(implied)
                .cloned()
                .collect()
        };
        for path in known.iter().map(Vec::as_slice).chain([path]) {
            self.modified.remove(path);
            self.implied.remove(path);
        }
        Ok(())
    }

    fn failed(&self, path: &[u8], error: Errno) -> Failure {
        Failure::entry(path, &self.dir, error)
    }
}

fn openat(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, name, OPEN_DIRECTORY, Mode::empty())
}

/// What is below a name that something else had is not to show through.
fn replace_by_directory(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
    rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
    let fd = openat(parent, name)?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
    set_opaque(&fd)?;
    Ok(fd)
}

fn set_opaque(fd: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fsetxattr(fd, OPAQUE, b"y", XattrFlags::empty())
}

/// Attributes that this file system does not keep, or not for such a file, are left out, as elsewhere.
fn set_xattrs(
    entry: &Entry,
    mut set: impl FnMut(&[u8], &[u8]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    for (name, value) in &entry.xattrs {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        match set(name, value) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn owner(attributes: &Attributes) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(attributes.uid)),
        Some(Gid::from_raw(attributes.gid)),
    )
}

fn timestamps(modified: Timespec) -> Timestamps {
    Timestamps {
        last_access: modified,
        last_modification: modified,
    }
}

fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
