//! The files of a tar archive, each in a file of no name of ours, known by its path in the archive and its digest.
//!
//! The archive is hostile: its paths name nothing but its own members, and its links only those.

use std::{
    collections::HashMap,
    io::{Read, Write as _},
    path::{Component, Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tempfile::TempPath;

use super::super::{
    ArchiveError,
    blobs::{Blobs, Lease},
    hex,
};

/// More files than any image's archive has.
const MAX_MEMBERS: usize = 10_000;

/// Links that lead to links.
const MAX_LINKS: usize = 8;

/// The files of an archive.
pub(super) struct Members {
    files: HashMap<PathBuf, String>,
    links: HashMap<PathBuf, PathBuf>,
    contents: HashMap<String, Content>,
}

/// A file's content, once however often it is in the archive.
struct Content {
    place: Place,
    size: u64,
}

enum Place {
    /// Closed: an archive has more files than a process may have open.
    Temporary(TempPath),
    /// Under its digest's name: another image of the archive may need it still.
    Stored(PathBuf),
}

/// How a layer is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Members {
    /// Reads an archive to its end; `max_bytes` bounds its files together.
    pub(super) fn read(
        blobs: &Blobs,
        mut archive: Box<dyn Read + Send>,
        max_bytes: u64,
    ) -> Result<Members, ArchiveError> {
        let unreadable = |error: std::io::Error| {
            ArchiveError::Invalid(format!("the archive cannot be read: {error}"))
        };
        let mut magic = Vec::new();
        let mut start = archive.by_ref().take(2);
        start.read_to_end(&mut magic).map_err(unreadable)?;
        let zipped = magic == [0x1f, 0x8b];
        let whole = std::io::Cursor::new(magic).chain(archive);
        let reader: Box<dyn Read> = if zipped {
            Box::new(flate2::read::MultiGzDecoder::new(whole))
        } else {
            Box::new(whole)
        };
        let mut members = Members {
            files: HashMap::new(),
            links: HashMap::new(),
            contents: HashMap::new(),
        };
        let mut left = max_bytes;
        let mut archive = tar::Archive::new(reader);
        // Raw: an extension that gives a member another name or size is none of these archives', and may be endless.
        let entries = archive.entries().map_err(unreadable)?.raw(true);
        for (count, entry) in entries.enumerate() {
            let mut entry = entry.map_err(unreadable)?;
            if count == MAX_MEMBERS {
                let message = format!("the archive has more than {MAX_MEMBERS} files");
                return Err(ArchiveError::Invalid(message));
            }
            let Some(path) = entry.path().ok().and_then(|path| plain(&path)) else {
                continue;
            };
            let kind = entry.header().entry_type();
            if kind.is_file() {
                if entry.size() > left {
                    let message = format!(
                        "the archive is larger than the {max_bytes} bytes that this node takes"
                    );
                    return Err(ArchiveError::Invalid(message));
                }
                left -= entry.size();
                let digest = members.keep(blobs, &mut entry)?;
                members.files.insert(path, digest);
            } else if (kind.is_symlink() || kind.is_hard_link())
                && let Ok(Some(target)) = entry.link_name()
            {
                let base = match kind.is_symlink() {
                    true => path.parent().unwrap_or(Path::new("")),
                    false => Path::new(""),
                };
                members
                    .links
                    .extend(plain(&base.join(target)).map(|target| (path, target)));
            }
        }
        Ok(members)
    }

    /// Writes a file of the archive to one of ours; its digest.
    fn keep(&mut self, blobs: &Blobs, entry: &mut impl Read) -> Result<String, ArchiveError> {
        let disk = |error: std::io::Error| ArchiveError::Unavailable(blobs.in_words(&error));
        let mut file = blobs.temporary().map_err(disk)?;
        let mut sha256 = Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = entry.read(&mut buffer).map_err(|error| {
                ArchiveError::Invalid(format!("the archive cannot be read: {error}"))
            })?;
            if read == 0 {
                break;
            }
            sha256.update(&buffer[..read]);
            file.write_all(&buffer[..read]).map_err(disk)?;
            size += read as u64;
        }
        let digest = format!("sha256:{}", hex(&sha256.finalize()));
        let place = Place::Temporary(file.into_temp_path());
        let content = Content { place, size };
        self.contents.entry(digest.clone()).or_insert(content);
        Ok(digest)
    }

    /// The digest of the file at a path, links followed.
    pub(super) fn find(&self, path: &str) -> Option<&str> {
        let mut path = plain(Path::new(path))?;
        for _ in 0..MAX_LINKS {
            if let Some(digest) = self.files.get(&path) {
                return Some(digest);
            }
            path = self.links.get(&path)?.clone();
        }
        None
    }

    /// The size of a content that is here.
    pub(super) fn size(&self, digest: &str) -> Option<u64> {
        self.contents.get(digest).map(|content| content.size)
    }

    /// How a content is packed.
    pub(super) fn packing(&self, digest: &str) -> Result<Packing, ArchiveError> {
        let mut magic = Vec::new();
        let mut file = self.open(digest)?.take(4);
        file.read_to_end(&mut magic)
            .map_err(|error| unreadable(&error))?;
        Ok(match magic.as_slice() {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
            _ => Packing::Plain,
        })
    }

    /// A small content.
    pub(super) fn bytes(&self, digest: &str, max_bytes: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        let mut file = self.open(digest)?.take(max_bytes + 1);
        file.read_to_end(&mut bytes)
            .map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 > max_bytes {
            let message = format!("{digest} is longer than {max_bytes} bytes");
            return Err(ArchiveError::Invalid(message));
        }
        Ok(bytes)
    }

    /// Opens a content that is here.
    pub(super) fn open(&self, digest: &str) -> Result<std::fs::File, ArchiveError> {
        let content = self.contents.get(digest).ok_or_else(|| {
            ArchiveError::Invalid(format!(
                "the archive lacks {digest}, which its manifest names"
            ))
        })?;
        let opened = match &content.place {
            Place::Temporary(path) => std::fs::File::open(path),
            Place::Stored(path) => std::fs::File::open(path),
        };
        opened.map_err(|error| unreadable(&error))
    }

    /// Puts a content under its digest's name, where it is not yet.
    pub(super) fn persist(&mut self, blobs: &Blobs, lease: &Lease) -> Result<(), ArchiveError> {
        if lease.path().exists() {
            return Ok(());
        }
        // It is checked before that it is here.
        let Some(content) = self.contents.get_mut(&lease.digest()) else {
            return Ok(());
        };
        let stored = Place::Stored(lease.path());
        if let Place::Temporary(path) = std::mem::replace(&mut content.place, stored) {
            let disk = |error: std::io::Error| ArchiveError::Unavailable(blobs.in_words(&error));
            let synced = std::fs::File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(disk)?;
            let persisted = path.persist(lease.path());
            persisted.map_err(|error| disk(error.error))?;
        }
        Ok(())
    }
}

fn unreadable(error: &std::io::Error) -> ArchiveError {
    ArchiveError::Unavailable(format!("read what the archive held: {error}"))
}

/// A path within the archive; `None` if it leads out of it.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => plain.push(part),
            Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(plain)
}
