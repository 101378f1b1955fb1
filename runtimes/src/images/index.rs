//! Which reference is which content: one JSON file, replaced as a whole at every change.
//!
//! References are kept by their normal names ([`normal_name`]): all that name the same image find it.
//! Never holds contents; those are files named by their digest.

use std::{
    collections::{BTreeMap, HashSet},
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    ImageKind,
    name::{self, normal_name},
};

/// What a reference was when it was last pulled.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct Entry {
    /// `sha256:…` of the module's bytes, or of the container image's manifest.
    pub(super) digest: String,
    pub(super) size_bytes: u64,
    #[serde(default = "wasm")]
    pub(super) kind: ImageKind,
    /// For a module from a registry: `sha256:…` of its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<String>,
    /// `sha256:…` of the list of platforms that the image was chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) list: Option<String>,
    /// Of a container image, beside the manifest: its configuration and its layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) blobs: Vec<String>,
    /// For a reference to a file: the file as it was, to see whether it was edited since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<FileStamp>,
}

/// What all were, when an index said nothing of kinds.
fn wasm() -> ImageKind {
    ImageKind::Wasm
}

impl Entry {
    /// A module, of which nothing more is known.
    pub(super) fn module(digest: String, size_bytes: u64) -> Entry {
        Entry {
            digest,
            size_bytes,
            kind: ImageKind::Wasm,
            manifest: None,
            list: None,
            blobs: Vec::new(),
            file: None,
        }
    }

    /// Every blob that the image needs.
    pub(super) fn needs(&self) -> impl Iterator<Item = &str> {
        let blobs = self.blobs.iter().chain([&self.digest]);
        blobs.map(String::as_str)
    }

    /// The digest by which its registry has it for every platform.
    pub(super) fn origin(&self) -> Option<&str> {
        let own = (self.kind == ImageKind::Oci).then_some(&self.digest);
        let origin = self.list.as_ref().or(self.manifest.as_ref()).or(own);
        origin.map(String::as_str)
    }

    /// Whether a registry knows the image by this digest.
    fn is_known_as(&self, digest: &str) -> bool {
        let own = (self.kind == ImageKind::Oci).then_some(&self.digest);
        let known = [own, self.manifest.as_ref(), self.list.as_ref()];
        known.into_iter().flatten().any(|known| known == digest)
    }
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
        let entries: BTreeMap<String, Entry> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let text = format!("{} is not an image index: {error}", path.display());
                std::io::Error::new(std::io::ErrorKind::InvalidData, text)
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let entries = entries.into_iter();
        Ok(Index {
            path,
            // An older index has them as pods wrote them.
            entries: entries
                .map(|(reference, entry)| (normal_name(&reference), entry))
                .collect(),
        })
    }

    /// What a reference names: by its own name or, with a digest, whatever of its repository has that digest.
    pub(super) fn find(&self, reference: &str) -> Option<&Entry> {
        let name = normal_name(reference);
        if let Some(entry) = self.entries.get(&name) {
            return Some(entry);
        }
        let (repository, digest) = name.split_once('@')?;
        let mut entries = self.entries.iter();
        entries
            .find(|(other, entry)| {
                name::repository(other) == repository && entry.is_known_as(digest)
            })
            .map(|(_, entry)| entry)
    }

    /// By their normal names.
    pub(super) fn list(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter()
    }

    /// Every blob that an image needs.
    pub(super) fn needed(&self) -> HashSet<&str> {
        self.entries.values().flat_map(Entry::needs).collect()
    }

    /// Sets a reference and writes the file; after an error the old file still stands.
    pub(super) fn insert(&mut self, reference: &str, entry: Entry) -> std::io::Result<()> {
        let name = normal_name(reference);
        if self.entries.get(&name) == Some(&entry) {
            return Ok(());
        }
        let old = self.entries.insert(name.clone(), entry);
        let written = self.write();
        if written.is_err() {
            match old {
                Some(old) => self.entries.insert(name, old),
                None => self.entries.remove(&name),
            };
        }
        written
    }

    /// Removes a reference and writes the file; the blobs that no other image needs.
    pub(super) fn remove(&mut self, reference: &str) -> std::io::Result<Vec<String>> {
        let name = normal_name(reference);
        let Some(entry) = self.entries.remove(&name) else {
            return Ok(Vec::new());
        };
        if let Err(error) = self.write() {
            self.entries.insert(name, entry);
            return Err(error);
        }
        let needed = self.needed();
        let free = entry.needs().filter(|digest| !needed.contains(digest));
        Ok(free.map(str::to_owned).collect())
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
