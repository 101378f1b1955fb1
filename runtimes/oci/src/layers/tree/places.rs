//! The directories of a layer that entries are made in: found without leaving it, made where they are missing.

use std::{collections::VecDeque, os::fd::OwnedFd, rc::Rc};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, ResolveFlags, Uid},
    io::Errno,
};

use super::{
    OPEN_DIRECTORY, Tree, is_whiteout,
    names::{check_length, join, split},
    openat, replace_by_directory,
};
use crate::layers::failure::Failure;

/// So many symlinks may one path lead through: as many as the kernel follows.
const SYMLINKS: usize = 40;
/// So many directories may be walked to resolve such paths, for each entry that a layer may have.
const STEPS: u64 = 8;
/// So much is remembered of directories' paths: a hundred times what large images need.
const REMEMBERED_BYTES: usize = 128 << 20;

/// A directory of the layer.
pub(super) struct Place {
    /// From the layer's root, without symlinks; empty for the root.
    pub(super) path: Vec<u8>,
    pub(super) fd: OwnedFd,
}

impl Tree<'_> {
    /// The directory that an entry is made in; made if it is not there.
    pub(super) fn place(&mut self, path: &[u8]) -> Result<Rc<Place>, Failure> {
        if let Some((name, place)) = &self.last
            && name == path
        {
            return Ok(place.clone());
        }
        let place = match self.open(path) {
            Ok(fd) => Place {
                path: path.to_vec(),
                fd,
            },
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                let place = self.resolve(path, true)?;
                place.expect("what is missing was made")
            }
            Err(error) => return Err(self.failed(path, error)),
        };
        let place = Rc::new(place);
        self.last = Some((path.to_vec(), place.clone()));
        Ok(place)
    }

    /// A directory of the layer, if it has it.
    pub(super) fn find(&mut self, path: &[u8]) -> Result<Option<Place>, Failure> {
        match self.open(path) {
            Ok(fd) => Ok(Some(Place {
                path: path.to_vec(),
                fd,
            })),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => self.resolve(path, false),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// Opens a directory on a path without symlinks.
    pub(super) fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(
            &self.root,
            path,
            OPEN_DIRECTORY,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
        )
    }

    /// Walks to a directory component by component, symlinks as if the layer's root were `/`, and makes what
    /// is missing if asked to; else `None`.
    fn resolve(&mut self, path: &[u8], make: bool) -> Result<Option<Place>, Failure> {
        let components = |path: &[u8]| -> Vec<Vec<u8>> {
            let parts = path.split(|byte| *byte == b'/');
            parts
                .filter(|part| !part.is_empty())
                .map(<[u8]>::to_vec)
                .collect()
        };
        let mut rest = VecDeque::from(components(path));
        let mut here = Place {
            path: Vec::new(),
            fd: self.open(&[]).map_err(|error| self.failed(&[], error))?,
        };
        let mut symlinks = 0;
        while let Some(name) = rest.pop_front() {
            self.step()?;
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    let up = split(&here.path).map_or(Vec::new(), |(up, _)| up.to_vec());
                    let fd = self.open(&up).map_err(|error| self.failed(&up, error))?;
                    here = Place { path: up, fd };
                    continue;
                }
                _ => {}
            }
            let next = join(&here.path, &name);
            check_length(&next, self.limits)?;
            let target = match openat(&here.fd, &name) {
                Ok(fd) => {
                    here = Place { path: next, fd };
                    continue;
                }
                Err(Errno::NOENT) if make => {
                    here = self.imply(&here, &name, next)?;
                    continue;
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let stat = rustix::fs::statat(&here.fd, &name, AtFlags::SYMLINK_NOFOLLOW);
                    let stat = stat.map_err(|error| self.failed(&next, error))?;
                    match FileType::from_raw_mode(stat.st_mode) {
                        FileType::Symlink => rustix::fs::readlinkat(&here.fd, &name, Vec::new())
                            .map_err(|error| self.failed(&next, error))?
                            .into_bytes(),
                        _ if make && is_whiteout(&stat) => {
                            self.last = None;
                            let fd = replace_by_directory(&here.fd, &name);
                            let fd = fd.map_err(|error| self.failed(&next, error))?;
                            here = Place { path: next, fd };
                            continue;
                        }
                        _ if make => return Err(self.failed(&next, Errno::NOTDIR)),
                        _ => return Ok(None),
                    }
                }
                Err(error) => return Err(self.failed(&next, error)),
            };
            symlinks += 1;
            if symlinks > SYMLINKS {
                return Err(self.failed(path, Errno::LOOP));
            }
            if target.first() == Some(&b'/') {
                let fd = self.open(&[]).map_err(|error| self.failed(&[], error))?;
                here = Place {
                    path: Vec::new(),
                    fd,
                };
            }
            for component in components(&target).into_iter().rev() {
                rest.push_front(component);
            }
        }
        Ok(Some(here))
    }

    fn imply(&mut self, parent: &Place, name: &[u8], path: Vec<u8>) -> Result<Place, Failure> {
        let make = || {
            rustix::fs::mkdirat(&parent.fd, name, Mode::RWXU)?;
            let fd = openat(&parent.fd, name)?;
            rustix::fs::fchown(&fd, Some(Uid::ROOT), Some(Gid::ROOT))?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
            Ok(fd)
        };
        let fd = make().map_err(|error| self.failed(&path, error))?;
        self.remember(&path)?;
        self.implied.insert(path.clone());
        Ok(Place { path, fd })
    }

    pub(super) fn remember(&mut self, path: &[u8]) -> Result<(), Failure> {
        self.remembered += path.len();
        if self.remembered > REMEMBERED_BYTES {
            return Err(Failure::Image(format!(
                "the paths of its directories are together longer than {REMEMBERED_BYTES} bytes"
            )));
        }
        Ok(())
    }

    /// A step of a walk: symlinks may make one of thousands out of a short path, again and again.
    fn step(&mut self) -> Result<(), Failure> {
        self.steps += 1;
        if self.steps > self.limits.entries.saturating_mul(STEPS) {
            return Err(Failure::Image(
                "its entries' paths lead through too many symlinks".to_owned(),
            ));
        }
        Ok(())
    }
}
