//! Images into an archive: an OCI layout in tar, with the file beside it that `docker load` reads.
//!
//! The same images give the same bytes. A module gets a manifest made for it, as artifacts of WebAssembly have one.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::Arc,
};

use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use super::{
    super::{
        ArchiveError, Image, ImageKind,
        blobs::{Blobs, Lease},
        digest_of, file,
        manifest::{self, Content, Document},
        name::normal_name,
    },
    DOCKER_FILE, INDEX_FILE, LAYOUT_FILE, NAME, REF_NAME,
};

/// What goes into an archive.
#[derive(Default)]
struct Layout {
    /// Of the index.
    manifests: Vec<Value>,
    /// For docker.
    saved: Vec<Value>,
    blobs: BTreeMap<String, Blob>,
}

/// Where a blob of the archive is.
enum Blob {
    Stored(Lease),
    Made(Vec<u8>),
}

/// Writes images to the archive's end. Blocks.
pub(in crate::images) fn export(
    blobs: &Arc<Blobs>,
    images: &[Image],
    archive: Box<dyn Write + Send>,
) -> Result<(), ArchiveError> {
    let mut layout = Layout::default();
    for image in images {
        layout.add(blobs, image)?;
    }
    let broken =
        |error: std::io::Error| ArchiveError::Unavailable(format!("write the archive: {error}"));
    layout.write(tar::Builder::new(archive)).map_err(broken)
}

impl Layout {
    fn add(&mut self, blobs: &Arc<Blobs>, image: &Image) -> Result<(), ArchiveError> {
        let name = normal_name(&image.reference);
        if file::find_path(&name).is_some() {
            let message = format!("image {name} is a file on the node: copy that");
            return Err(ArchiveError::Invalid(message));
        }
        let (digest, size) = match image.kind {
            ImageKind::Wasm => self.add_module(blobs, image)?,
            ImageKind::Oci => self.add_container(blobs, image, &name)?,
        };
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        self.manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest, "size": size,
            "annotations": {NAME: name, REF_NAME: tag},
        }));
        Ok(())
    }

    /// The manifest's digest and size.
    fn add_container(
        &mut self,
        blobs: &Arc<Blobs>,
        image: &Image,
        name: &str,
    ) -> Result<(String, usize), ArchiveError> {
        let broken = |error: String| {
            ArchiveError::Unavailable(format!("the manifest of image {name:?}: {error}"))
        };
        let bytes = std::fs::read(&image.path).map_err(|error| broken(error.to_string()))?;
        let Document::Image(manifest) = manifest::parse(&bytes).map_err(broken)? else {
            return Err(broken("is a list".to_owned()));
        };
        let Content::Container { config, layers } = manifest::content(&manifest).map_err(broken)?
        else {
            return Err(broken("is a module's".to_owned()));
        };
        let path = |descriptor: &Descriptor| blob_path(descriptor.digest().as_ref());
        // A digest is no tag to docker.
        let tags = (!name.contains('@')).then(|| vec![name]);
        self.saved.push(json!({
            "Config": path(&config),
            "RepoTags": tags,
            "Layers": layers.iter().map(path).collect::<Vec<_>>(),
        }));
        for descriptor in layers.iter().chain([&config]) {
            let digest = descriptor.digest().to_string();
            let lease = blobs.lease(&digest).map_err(broken)?;
            self.blobs.insert(digest, Blob::Stored(lease));
        }
        let size = bytes.len();
        self.blobs.insert(image.digest.clone(), Blob::Made(bytes));
        Ok((image.digest.clone(), size))
    }

    /// The made manifest's digest and size.
    fn add_module(
        &mut self,
        blobs: &Arc<Blobs>,
        image: &Image,
    ) -> Result<(String, usize), ArchiveError> {
        let lease = blobs
            .lease(&image.digest)
            .map_err(ArchiveError::Unavailable)?;
        let config = json!({
            "architecture": "wasm", "os": "wasip2", "layerDigests": [image.digest],
        });
        let config = config.to_string().into_bytes();
        let config_digest = digest_of(&config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.wasm.config.v0+json",
                "digest": config_digest, "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/wasm",
                "digest": image.digest, "size": image.size_bytes,
            }],
        });
        let manifest = manifest.to_string().into_bytes();
        let (digest, size) = (digest_of(&manifest), manifest.len());
        self.blobs.insert(image.digest.clone(), Blob::Stored(lease));
        self.blobs.insert(config_digest, Blob::Made(config));
        self.blobs.insert(digest.clone(), Blob::Made(manifest));
        Ok((digest, size))
    }

    fn write(self, mut archive: tar::Builder<Box<dyn Write + Send>>) -> std::io::Result<()> {
        let mut append = |path: &str, size: u64, content: &mut dyn Read| {
            let mut header = tar::Header::new_ustar();
            header.set_size(size);
            header.set_mode(0o644);
            header.set_mtime(0);
            archive.append_data(&mut header, path, content)
        };
        let mut append_json = |path: &str, value: Value| {
            let bytes = value.to_string().into_bytes();
            append(path, bytes.len() as u64, &mut bytes.as_slice())
        };
        append_json(LAYOUT_FILE, json!({"imageLayoutVersion": "1.0.0"}))?;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": self.manifests,
        });
        append_json(INDEX_FILE, index)?;
        if !self.saved.is_empty() {
            append_json(DOCKER_FILE, self.saved.into())?;
        }
        for (digest, blob) in self.blobs {
            match blob {
                Blob::Made(bytes) => {
                    append(
                        &blob_path(&digest),
                        bytes.len() as u64,
                        &mut bytes.as_slice(),
                    )?;
                }
                Blob::Stored(lease) => {
                    let mut file = std::fs::File::open(lease.path())?;
                    let size = file.metadata()?.len();
                    append(&blob_path(&digest), size, &mut file)?;
                }
            }
        }
        let mut inner = archive.into_inner()?;
        inner.flush()
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}
