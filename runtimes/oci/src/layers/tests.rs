//! Layers as images have them, unpacked and mounted for real.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use oci_spec::image::{ImageConfiguration, MediaType};
use runtimes::images::{ContainerImage, Layer, digest_of};

use super::{Layers, Limits, archive::Archive, failure::Failure, tree::Tree};

mod digests;
mod entries;
mod hostile;
mod mounts;
mod random;
mod umoci;
mod use_of_layers;

/// A node's directories, with what is mounted in them unmounted at the end.
pub(super) struct Node {
    dir: tempfile::TempDir,
    pub(super) layers: Layers,
}

impl Node {
    pub(super) fn new() -> Node {
        Node::with(Limits::default())
    }

    pub(super) fn with(limits: Limits) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers::open(&dir.path().join("layers"), limits).unwrap();
        std::fs::create_dir(dir.path().join("blobs")).unwrap();
        Node { dir, layers }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A blob in the content store that says to hold this archive.
    pub(super) fn layer(&self, archive: &[u8]) -> Layer {
        self.packed(archive, archive, MediaType::ImageLayer)
    }

    pub(super) fn packed(&self, archive: &[u8], blob: &[u8], media_type: MediaType) -> Layer {
        let digest = digest_of(blob);
        let path = self.path("blobs").join(digest.replace(':', "-"));
        std::fs::write(&path, blob).unwrap();
        Layer {
            digest,
            diff_id: digest_of(archive),
            media_type,
            path,
            size_bytes: blob.len() as u64,
        }
    }

    pub(super) fn image(&self, archives: &[Vec<u8>]) -> ContainerImage {
        image(archives.iter().map(|archive| self.layer(archive)).collect())
    }

    /// The layers that are there.
    pub(super) fn unpacked(&self) -> Vec<String> {
        self.names()
            .into_iter()
            .filter(|name| !name.starts_with('.'))
            .collect()
    }

    /// How many directories are there that are no layers yet, or no more.
    pub(super) fn left_over(&self) -> usize {
        let names = self.names();
        names
            .iter()
            .filter(|name| name.starts_with(super::unpack::UNFINISHED))
            .count()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("layers")).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        entries
            .map(|entry| name(entry).to_string_lossy().into_owned())
            .collect()
    }

    /// Where a container may be; several a node.
    pub(super) fn container(&self, name: &str) -> PathBuf {
        self.path("containers").join(name)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Ok(containers) = std::fs::read_dir(self.path("containers")) else {
            return;
        };
        for container in containers.flatten() {
            let _ = super::overlay::unmount(&container.path());
        }
    }
}

pub(super) fn image(layers: Vec<Layer>) -> ContainerImage {
    ContainerImage {
        digest: "sha256:ab".to_owned(),
        configuration: ImageConfiguration::default(),
        layers,
    }
}

/// Writes an archive from lines such as `dir/ 1777`, `dir/file=contents 0640 1000:1000`, `a -> b` (symlink),
/// `a => b` (hard link).
pub(super) fn archive(lines: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_600_000_000);
        header.set_size(0);
        let mut rest: Vec<&str> = words.collect();
        let (name, contents) = name.split_once('=').unwrap_or((name, ""));
        let link = match rest.first() {
            Some(&"->") => Some(tar::EntryType::Symlink),
            Some(&"=>") => Some(tar::EntryType::Link),
            _ => None,
        };
        if let Some(kind) = link {
            header.set_entry_type(kind);
            header.set_mode(0o777);
            // As it is: `Builder::append_link` would tidy it up.
            header.set_link_name_literal(rest[1]).unwrap();
            rest.drain(..2);
        } else if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
        } else {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(0o644);
            header.set_size(contents.len() as u64);
        }
        for word in rest {
            match word.split_once(':') {
                Some((uid, gid)) => {
                    header.set_uid(uid.parse().unwrap());
                    header.set_gid(gid.parse().unwrap());
                }
                None => header.set_mode(u32::from_str_radix(word, 8).unwrap()),
            }
        }
        append(&mut builder, header, name.as_bytes(), contents.as_bytes());
    }
    builder.into_inner().unwrap()
}

/// Appends an entry under exactly this name, however odd.
pub(super) fn append(
    builder: &mut tar::Builder<Vec<u8>>,
    mut header: tar::Header,
    name: &[u8],
    contents: &[u8],
) {
    if name.len() <= 100 {
        header.as_old_mut().name = [0; 100];
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
    } else {
        let mut long = tar::Header::new_gnu();
        long.set_entry_type(tar::EntryType::GNULongName);
        long.set_size(name.len() as u64);
        long.as_old_mut().name[..4].copy_from_slice(b"long");
        long.set_cksum();
        builder.append(&long, name).unwrap();
    }
    header.set_cksum();
    builder.append(&header, contents).unwrap();
}

/// A directory's tree: a line for each entry, in order, with what tells it from others.
pub(super) fn tree(dir: &Path) -> String {
    use std::{fmt::Write as _, os::unix::fs::FileTypeExt as _};
    fn list(dir: &Path, prefix: &str, text: &mut String) {
        let mut entries: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let metadata = entry.path().symlink_metadata().unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = metadata.file_type();
            let mode = metadata.mode() & 0o7777;
            if kind.is_symlink() {
                let target = std::fs::read_link(entry.path()).unwrap();
                write!(text, "{name} -> {}", target.display()).unwrap();
            } else if kind.is_dir() {
                write!(text, "{name}/ {mode:04o}").unwrap();
                if is_opaque(&entry.path()) {
                    write!(text, " opaque").unwrap();
                }
            } else if kind.is_char_device() && metadata.rdev() == 0 {
                write!(text, "{name} whiteout").unwrap();
            } else if kind.is_file() {
                let contents = std::fs::read(entry.path()).unwrap();
                let contents = String::from_utf8_lossy(&contents);
                write!(text, "{name}={contents} {mode:04o}").unwrap();
                if metadata.nlink() > 1 {
                    write!(text, " {} names", metadata.nlink()).unwrap();
                }
            } else {
                let what = if kind.is_fifo() {
                    "fifo"
                } else if kind.is_char_device() {
                    "character"
                } else {
                    "block"
                };
                write!(text, "{name} {what} {mode:04o}").unwrap();
            }
            if (metadata.uid(), metadata.gid()) != (0, 0) {
                write!(text, " {}:{}", metadata.uid(), metadata.gid()).unwrap();
            }
            text.push('\n');
            if kind.is_dir() {
                list(&entry.path(), &format!("{name}/"), text);
            }
        }
    }
    let mut text = String::new();
    list(dir, "", &mut text);
    text
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(path, super::tree::OPAQUE, &mut value[..]).is_ok()
}

/// Makes an archive's entries beneath a directory, without what surrounds that.
pub(super) fn write_tree(archive: &[u8], dir: &Path) -> Result<(), Failure> {
    let limits = Limits::default();
    let mut tree = Tree::new(dir, &limits)?;
    let mut archive = Archive::new(archive);
    while let Some(entry) = archive.next()? {
        tree.put(&entry, &mut archive)?;
    }
    archive.finish()?;
    tree.finish().map(drop)
}
