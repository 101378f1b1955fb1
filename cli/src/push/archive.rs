//! An archive as an image to push: an OCI layout in tar, or what older `docker save`s write.
//!
//! Reads the archive's members where they lie; one with gzip is unpacked into a temporary file first. An image of an
//! OCI layout is sent byte for byte. Blobs are verified by the registry, not here.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use super::content::{Blob, Image, Manifest, digest_of_all};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// As large as a registry takes a manifest.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Lists within lists that are followed.
const MAX_DEPTH: usize = 3;

/// The one image of an archive.
pub(super) fn image(path: &Path) -> Result<Image> {
    let archive = Archive::open(path)?;
    if archive.members.contains_key("index.json") {
        return archive.layout();
    }
    if archive.members.contains_key("manifest.json") {
        return archive.saved();
    }
    bail!("it is neither an OCI layout nor an archive of `docker save`")
}

/// Where the members of an archive lie.
struct Archive {
    file: Arc<File>,
    /// Offset and size by name.
    members: HashMap<String, (u64, u64)>,
}

impl Archive {
    fn open(path: &Path) -> Result<Archive> {
        let mut file = File::open(path)?;
        let mut magic = [0; 2];
        let read = file.read(&mut magic)?;
        file.rewind()?;
        if magic[..read] == [0x1f, 0x8b] {
            let mut unpacked = tempfile::tempfile().context("make a temporary file")?;
            io::copy(&mut MultiGzDecoder::new(file), &mut unpacked).context("unpack it")?;
            unpacked.rewind()?;
            file = unpacked;
        }
        let mut members = HashMap::new();
        let mut tar = tar::Archive::new(&file);
        for entry in tar.entries_with_seek().context("it is no tar archive")? {
            let entry = entry.context("it is no tar archive")?;
            if entry.header().entry_type().is_file() {
                let path = entry.path().context("read a member's name")?;
                let name = path.to_string_lossy();
                let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
                members.insert(name, (entry.raw_file_position(), entry.size()));
            }
        }
        Ok(Archive {
            file: Arc::new(file),
            members,
        })
    }

    fn find(&self, name: &str) -> Result<(u64, u64)> {
        let found = self.members.get(name).copied();
        found.with_context(|| format!("it has no {name}"))
    }

    /// A member as JSON, and its bytes.
    fn document(&self, name: &str) -> Result<(Value, Vec<u8>)> {
        let (offset, size) = self.find(name)?;
        if size > MAX_DOCUMENT {
            bail!("{name} is {size} bytes; at most {MAX_DOCUMENT} are taken");
        }
        let mut bytes = Vec::new();
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.take(size).read_to_end(&mut bytes)?;
        let value = serde_json::from_slice(&bytes).with_context(|| format!("read {name}"))?;
        Ok((value, bytes))
    }

    /// The image of an OCI layout.
    fn layout(&self) -> Result<Image> {
        let (index, _) = self.document("index.json")?;
        let manifests = list(&index["manifests"]);
        let [only] = manifests else {
            bail!(
                "it has {} images: an archive of one is pushed",
                manifests.len()
            );
        };
        let mut image = Image {
            blobs: Vec::new(),
            manifests: Vec::new(),
        };
        self.follow(only, &mut image, 0)?;
        Ok(image)
    }

    /// Adds a manifest and all that it names before it.
    fn follow(&self, descriptor: &Value, image: &mut Image, depth: usize) -> Result<()> {
        let (digest, name) = blob_name(descriptor)?;
        if image.manifests.iter().any(|other| other.digest == digest) {
            return Ok(());
        }
        if depth == MAX_DEPTH {
            bail!("its manifest is a list of lists of lists");
        }
        let (document, bytes) = self.document(&name)?;
        for child in list(&document["manifests"]) {
            self.follow(child, image, depth + 1)?;
        }
        let config = Some(&document["config"]).filter(|config| config.is_object());
        for blob in config.into_iter().chain(list(&document["layers"])) {
            let (digest, name) = blob_name(blob)?;
            if image.blobs.iter().all(|other| other.digest != digest) {
                let (offset, size) = self.find(&name)?;
                image
                    .blobs
                    .push(Blob::of_file(digest, self.file.clone(), offset, size));
            }
        }
        let kind = [&document["mediaType"], &descriptor["mediaType"]];
        let kind = kind.into_iter().find_map(Value::as_str).unwrap_or(MANIFEST);
        image.manifests.push(Manifest::new(kind, bytes));
        Ok(())
    }

    /// The image of an archive of files by their names, which has no manifest for a registry yet.
    fn saved(&self) -> Result<Image> {
        let (saved, _) = self.document("manifest.json")?;
        let images = list(&saved);
        let [only] = images else {
            bail!(
                "it has {} images: an archive of one is pushed",
                images.len()
            );
        };
        let config = only["Config"]
            .as_str()
            .context("its manifest.json names no Config")?;
        let mut blobs = vec![self.hashed(config)?];
        let mut layers = Vec::new();
        for layer in list(&only["Layers"]) {
            let layer = layer
                .as_str()
                .context("its manifest.json names no Layers")?;
            let layer = self.hashed(layer)?;
            layers.push(json!({"mediaType": LAYER, "digest": layer.digest, "size": layer.size}));
            if blobs.iter().all(|other| other.digest != layer.digest) {
                blobs.push(layer);
            }
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": blobs[0].digest, "size": blobs[0].size},
            "layers": layers,
        });
        Ok(Image {
            blobs,
            manifests: vec![Manifest::new(MANIFEST, manifest.to_string().into_bytes())],
        })
    }

    fn hashed(&self, name: &str) -> Result<Blob> {
        let (offset, size) = self.find(name)?;
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(offset))?;
        let digest = digest_of_all(file.take(size)).with_context(|| format!("read {name}"))?;
        Ok(Blob::of_file(digest, self.file.clone(), offset, size))
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A descriptor's digest, and the member that has it.
fn blob_name(descriptor: &Value) -> Result<(String, String)> {
    let digest = descriptor["digest"]
        .as_str()
        .context("a descriptor has no digest")?;
    let (kind, hex) = digest
        .split_once(':')
        .with_context(|| format!("{digest:?} is no digest"))?;
    Ok((digest.to_owned(), format!("blobs/{kind}/{hex}")))
}
