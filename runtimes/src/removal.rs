//! Removes directories, and counts what is in them, however deep they are.
//!
//! A container may nest directories until a walk that recurses runs out of stack, or of descriptors. These hold
//! one descriptor, and go back up by `..`; where that is not the directory they came from, they stop.
//! Never leaves the file system that the walk began on: what is mounted in a directory is not its own.

use std::{
    collections::HashSet,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};

/// A count of more entries than this ends: it is a figure for users, asked for again and again.
const COUNTED: u64 = 4_000_000;

/// Removes a file or a directory with everything in it; answers the bytes that were freed, 0 if it was not there.
///
/// # Errors
/// The file system's; `EBUSY` where something is mounted in it.
pub fn remove(path: &Path) -> std::io::Result<u64> {
    match remove_at(CWD, path.as_os_str().as_encoded_bytes()) {
        Err(Errno::NOENT) => Ok(0),
        removed => Ok(removed?),
    }
}

/// The same, by its name in an open directory; one that is not there is an error.
///
/// # Errors
/// As [`remove`].
pub fn remove_at(parent: impl AsFd, name: &[u8]) -> Result<u64, Errno> {
    let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if !is_directory(&stat) {
        rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
        return Ok(freed(&stat));
    }
    let mut bytes = freed(&stat);
    let mut walk = Walk::begin(open(&parent, name)?)?;
    let mut on_file = |directory: &OwnedFd, name: &[u8], stat: &Stat| {
        rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
        bytes += freed(stat);
        Ok(())
    };
    walk.read(&mut on_file)?;
    loop {
        if walk.descend(&mut on_file)? {
            continue;
        }
        match walk.ascend()? {
            Some(name) => rustix::fs::unlinkat(&walk.here, name, AtFlags::REMOVEDIR)?,
            None => break,
        }
    }
    rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
    Ok(bytes)
}

/// The bytes of the disk that a directory's contents use; a file of several names counts once.
///
/// Counts also while a container changes the directory: then about what was there.
///
/// # Errors
/// The file system's.
pub fn usage(path: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    let mut entries = 0;
    let mut linked = HashSet::new();
    let mut on_file = |_: &OwnedFd, _: &[u8], stat: &Stat| {
        entries += 1;
        if entries > COUNTED {
            return Err(Errno::OVERFLOW);
        }
        if stat.st_nlink < 2 || linked.insert(stat.st_ino) {
            bytes += blocks(stat);
        }
        Ok(())
    };
    let counted = (|| {
        let mut walk = Walk::begin(open(CWD, path.as_os_str().as_encoded_bytes())?)?;
        walk.read(&mut on_file)?;
        loop {
            match walk.descend(&mut on_file) {
                Ok(true) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Ok(false) => {}
                Err(error) => return Err(error),
            }
            if walk.ascend()?.is_none() {
                return Ok(walk.directories);
            }
        }
    })();
    match counted {
        Ok(directories) => Ok(bytes + directories),
        Err(Errno::OVERFLOW | Errno::STALE) => Ok(bytes),
        Err(Errno::NOENT) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Where a walk is.
struct Walk {
    here: OwnedFd,
    device: u64,
    levels: Vec<Level>,
    /// The bytes of the directories themselves.
    directories: u64,
}

struct Level {
    inode: u64,
    name: Vec<u8>,
    /// Directories in it that are still to be walked.
    pending: Vec<Vec<u8>>,
}

type OnFile<'a> = dyn FnMut(&OwnedFd, &[u8], &Stat) -> Result<(), Errno> + 'a;

impl Walk {
    fn begin(here: OwnedFd) -> Result<Walk, Errno> {
        let stat = rustix::fs::fstat(&here)?;
        let level = Level {
            inode: stat.st_ino,
            name: Vec::new(),
            pending: Vec::new(),
        };
        Ok(Walk {
            here,
            device: stat.st_dev,
            levels: vec![level],
            directories: 0,
        })
    }

    /// Gives everything in this directory but directories, and keeps those for later.
    fn read(&mut self, on_file: &mut OnFile<'_>) -> Result<(), Errno> {
        let mut pending = Vec::new();
        for entry in Dir::read_from(&self.here)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&self.here, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            };
            if !is_directory(&stat) {
                on_file(&self.here, name.to_bytes(), &stat)?;
            } else if stat.st_dev == self.device {
                self.directories += blocks(&stat);
                pending.push(name.to_bytes().to_vec());
            } else {
                return Err(Errno::BUSY);
            }
        }
        if let Some(level) = self.levels.last_mut() {
            level.pending = pending;
        }
        Ok(())
    }

    /// Goes into the next directory of this one; `false` if there is none.
    fn descend(&mut self, on_file: &mut OnFile<'_>) -> Result<bool, Errno> {
        let Some(name) = self.levels.last_mut().and_then(|level| level.pending.pop()) else {
            return Ok(false);
        };
        let next = open(&self.here, &name)?;
        let stat = rustix::fs::fstat(&next)?;
        if stat.st_dev != self.device {
            return Err(Errno::BUSY);
        }
        self.here = next;
        self.levels.push(Level {
            inode: stat.st_ino,
            name,
            pending: Vec::new(),
        });
        self.read(on_file)?;
        Ok(true)
    }

    /// Goes back up; answers the name of what was left, `None` at the top.
    fn ascend(&mut self) -> Result<Option<Vec<u8>>, Errno> {
        let Some(left) = self.levels.pop() else {
            return Ok(None);
        };
        let Some(level) = self.levels.last() else {
            return Ok(None);
        };
        let up = open(&self.here, b"..")?;
        let stat = rustix::fs::fstat(&up)?;
        if (stat.st_dev, stat.st_ino) != (self.device, level.inode) {
            return Err(Errno::STALE);
        }
        self.here = up;
        Ok(Some(left.name))
    }
}

fn open(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

/// A file that has another name is still there.
fn freed(stat: &Stat) -> u64 {
    if stat.st_nlink > 1 && !is_directory(stat) {
        return 0;
    }
    blocks(stat)
}
