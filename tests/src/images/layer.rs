//! A layer: files by their paths, packed so that the same files make the same bytes.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};

use super::hex;

/// User and group.
pub(super) type Owner = u64;

enum Entry {
    Directory,
    File(Vec<u8>),
    Link(PathBuf),
}

/// Files that are not packed yet.
#[derive(Default)]
pub(super) struct Layer {
    entries: BTreeMap<PathBuf, (Entry, u32, Owner)>,
}

/// A layer as it is sent.
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    /// `sha256:…` of what is packed.
    pub(super) diff_id: String,
}

impl Layer {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Paths are without a slash in front.
    pub(super) fn directory(&mut self, path: impl Into<PathBuf>, mode: u32, owner: Owner) {
        self.entries
            .insert(path.into(), (Entry::Directory, mode, owner));
    }

    pub(super) fn file(&mut self, path: impl Into<PathBuf>, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.entries
            .insert(path.into(), (Entry::File(bytes.into()), mode, 0));
    }

    pub(super) fn link(&mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) {
        self.entries
            .insert(path.into(), (Entry::Link(target.into()), 0o777, 0));
    }

    /// Takes every file beneath a directory that is `wanted`, as root's.
    pub(super) fn tree(&mut self, root: &Path, wanted: impl Fn(&Path) -> bool) -> io::Result<()> {
        let mut left = vec![PathBuf::new()];
        while let Some(inside) = left.pop() {
            for entry in fs::read_dir(root.join(&inside))? {
                let entry = entry?;
                let path = inside.join(entry.file_name());
                if !wanted(&path) {
                    continue;
                }
                let metadata = entry.metadata()?;
                let mode = metadata.permissions().mode() & 0o7777;
                if metadata.is_dir() {
                    self.directory(&path, mode, 0);
                    left.push(path);
                } else if metadata.is_symlink() {
                    self.link(&path, fs::read_link(entry.path())?);
                } else {
                    self.file(&path, mode, fs::read(entry.path())?);
                }
            }
        }
        Ok(())
    }

    /// # Panics
    /// When memory ends.
    pub(super) fn pack(self) -> Packed {
        let pack = || -> io::Result<Vec<u8>> {
            let mut archive = tar::Builder::new(Vec::new());
            for (path, (entry, mode, owner)) in self.entries {
                let mut header = tar::Header::new_gnu();
                header.set_mode(mode);
                header.set_uid(owner);
                header.set_gid(owner);
                header.set_size(0);
                match entry {
                    Entry::Directory => {
                        header.set_entry_type(tar::EntryType::Directory);
                        archive.append_data(&mut header, path, io::empty())?;
                    }
                    Entry::Link(target) => {
                        header.set_entry_type(tar::EntryType::Symlink);
                        archive.append_link(&mut header, path, target)?;
                    }
                    Entry::File(bytes) => {
                        header.set_size(bytes.len() as u64);
                        archive.append_data(&mut header, path, bytes.as_slice())?;
                    }
                }
            }
            archive.into_inner()
        };
        let archive = pack().expect("memory can be written");
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        let bytes = packed
            .write_all(&archive)
            .and_then(|()| packed.finish())
            .expect("memory can be written");
        Packed {
            bytes,
            diff_id: format!("sha256:{}", hex(&Sha256::digest(&archive))),
        }
    }
}
