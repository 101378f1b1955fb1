//! Which reference is which content: one JSON file, replaced as a whole at every change.
//!
//! Never holds contents; those are files named by their digest.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What a reference was when it was last pulled.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct Entry {
    /// `sha256:…` of the module's bytes.
    pub(super) digest: String,
    pub(super) size_bytes: u64,
    /// For a module that was packed in a container image: `sha256:…` of that image's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<String>,
    /// For a reference to a file: the file as it was, to see whether it was edited since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<FileStamp>,
}

/// What tells an edited file from the one that was read.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct FileStamp {
    pub(super) size_bytes: u64,
    pub(super) modified_nanos: i128,
    pub(super) inode: u64,
}

/// The index and its file.
pub(super) struct Index {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

impl Index {
    /// Reads the index of a store, empty if there is none yet.
    pub(super) fn open(dir: &Path) -> std::io::Result<Index> {
        let path = dir.join("index.json");
        let entries = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let text = format!("{} is not an image index: {error}", path.display());
                std::io::Error::new(std::io::ErrorKind::InvalidData, text)
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Index { path, entries })
    }

    pub(super) fn find(&self, reference: &str) -> Option<&Entry> {
        self.entries.get(reference)
    }

    pub(super) fn list(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter()
    }

    /// Sets a reference and writes the file; after an error the old file still stands.
    pub(super) fn insert(&mut self, reference: &str, entry: Entry) -> std::io::Result<()> {
        if self.entries.get(reference) == Some(&entry) {
            return Ok(());
        }
        self.entries.insert(reference.to_owned(), entry);
        self.write()
    }

    /// Removes a reference and writes the file; what it was, and whether no other is the same content.
    pub(super) fn remove(&mut self, reference: &str) -> std::io::Result<Option<(Entry, bool)>> {
        let Some(entry) = self.entries.remove(reference) else {
            return Ok(None);
        };
        let last = !self
            .entries
            .values()
            .any(|other| other.digest == entry.digest);
        self.write()?;
        Ok(Some((entry, last)))
    }

    fn write(&self) -> std::io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        serde_json::to_writer(&mut file, &self.entries)?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}
