//! Images out of an archive: `docker save`'s, or an OCI layout.
//!
//! Layers are known by the digest that was computed from them, whatever the archive calls them. Where it has no
//! manifest (docker's has none that a registry would know), one is made.

use std::{collections::BTreeMap, io::Read, sync::Arc};

use oci_spec::image::{Descriptor, ImageManifest};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{
        ArchiveError, ImageKind,
        blobs::{Blobs, Lease},
        digest_of,
        index::Entry,
        manifest::{self, Content, Document, MAX_CONFIG, MAX_MANIFEST},
        module,
        name::{self, normal_name},
        packed,
        platform::{self, Platform},
        store::Config,
    },
    DOCKER_FILE, INDEX_FILE, LAYOUT_FILE, NAME, REF_NAME,
    members::{Members, Packing},
};

/// Lists within lists that are looked into.
const MAX_DEPTH: usize = 3;

/// The images of an archive, whose blobs are all in the store.
pub(in crate::images) struct Import {
    /// By normal name.
    pub(in crate::images) entries: Vec<(String, Entry)>,
    /// To be held until the index names them.
    pub(in crate::images) leases: Vec<Lease>,
}

/// An image that an archive tells of.
struct Found {
    names: Vec<String>,
    manifest: Vec<u8>,
    list: Option<String>,
}

/// One image of `docker save`'s `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// Reads an archive to its end and keeps its images. Blocks.
pub(in crate::images) fn import(
    blobs: &Arc<Blobs>,
    config: &Config,
    archive: Box<dyn Read + Send>,
    name: Option<&str>,
) -> Result<Import, ArchiveError> {
    if let Some(name) = name {
        name::parse(name).map_err(|error| {
            ArchiveError::Invalid(format!("invalid image reference {name:?}: {error}"))
        })?;
    }
    let mut members = Members::read(blobs, archive, config.max_image_bytes)?;
    let saved = match members.find(DOCKER_FILE) {
        Some(digest) => read_saved(&members.bytes(digest, MAX_MANIFEST)?)?,
        None => Vec::new(),
    };
    let mut found = match (members.find(LAYOUT_FILE), members.find(INDEX_FILE)) {
        (Some(_), Some(index)) => in_layout(&members, index, &saved)?,
        _ if !saved.is_empty() => in_saved(&members, &saved)?,
        _ => {
            let message = format!(
                "neither an archive of docker save nor an OCI layout: it has no {DOCKER_FILE} and no {INDEX_FILE} with {LAYOUT_FILE}"
            );
            return Err(ArchiveError::Invalid(message));
        }
    };
    if let Some(name) = name {
        let [one] = found.as_mut_slice() else {
            let message = format!(
                "the archive holds {} images: a name is for one",
                found.len()
            );
            return Err(ArchiveError::Invalid(message));
        };
        one.names = vec![name.to_owned()];
    }
    let mut import = Import {
        entries: Vec::new(),
        leases: Vec::new(),
    };
    for image in found {
        if image.names.is_empty() {
            let message = format!(
                "image {} has no name in the archive: give it one (--name)",
                digest_of(&image.manifest)
            );
            return Err(ArchiveError::Invalid(message));
        }
        let names = image.names.join(", ");
        let entry = keep(
            blobs,
            config,
            &mut members,
            image.manifest,
            &mut import.leases,
        )
        .map_err(|error| match error {
            ArchiveError::Invalid(message) => {
                ArchiveError::Invalid(format!("image {names}: {message}"))
            }
            error => error,
        })?;
        for name in image.names {
            name::parse(&name).map_err(|error| {
                ArchiveError::Invalid(format!("invalid image reference {name:?}: {error}"))
            })?;
            let list = image.list.clone();
            let entry = Entry {
                list,
                ..entry.clone()
            };
            import.entries.push((normal_name(&name), entry));
        }
    }
    Ok(import)
}

fn read_saved(bytes: &[u8]) -> Result<Vec<Saved>, ArchiveError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ArchiveError::Invalid(format!(
            "the archive's {DOCKER_FILE} cannot be read: {error}"
        ))
    })
}

/// The images of an OCI layout, a content once by all its names.
fn in_layout(members: &Members, index: &str, saved: &[Saved]) -> Result<Vec<Found>, ArchiveError> {
    let index = members.bytes(index, MAX_MANIFEST)?;
    let Document::Index(entries) = manifest::parse(&index).map_err(ArchiveError::Invalid)? else {
        let message = format!("the archive's {INDEX_FILE} is no index");
        return Err(ArchiveError::Invalid(message));
    };
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for descriptor in &entries {
        let (manifest, list) = resolve(members, descriptor)?;
        let digest = digest_of(&manifest);
        let image = found.entry(digest).or_insert_with(|| Found {
            names: Vec::new(),
            manifest,
            list,
        });
        let annotations = descriptor.annotations().as_ref();
        let annotation = |key| annotations.and_then(|all| all.get(key));
        // The standard's is often a tag alone.
        let whole = |name: &&String| name.contains(['/', ':']);
        let name = annotation(NAME).or_else(|| annotation(REF_NAME).filter(whole));
        let tags = match name {
            Some(name) => vec![name.clone()],
            None => tags(members, saved, &image.manifest),
        };
        for name in tags {
            if !image.names.contains(&name) {
                image.names.push(name);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The names that docker's file beside the layout has for an image.
fn tags(members: &Members, saved: &[Saved], manifest: &[u8]) -> Vec<String> {
    let Ok(Document::Image(manifest)) = manifest::parse(manifest) else {
        return Vec::new();
    };
    let config = manifest.config().digest().as_ref();
    let mut saved = saved.iter();
    let own = saved.find(|saved| members.find(&saved.config) == Some(config));
    own.and_then(|saved| saved.repo_tags.clone())
        .unwrap_or_default()
}

/// Follows a descriptor to the manifest for this host; and the list it was chosen from.
fn resolve(
    members: &Members,
    descriptor: &Descriptor,
) -> Result<(Vec<u8>, Option<String>), ArchiveError> {
    let mut digest = descriptor.digest().to_string();
    let mut list = None;
    for _ in 0..MAX_DEPTH {
        let bytes = members.bytes(&digest, MAX_MANIFEST)?;
        match manifest::parse(&bytes).map_err(ArchiveError::Invalid)? {
            Document::Image(_) => return Ok((bytes, list)),
            Document::Index(entries) => {
                let entry = platform::choose(&entries, &Platform::host());
                let entry = entry.map_err(ArchiveError::Invalid)?;
                list.get_or_insert(digest);
                digest = entry.digest().to_string();
            }
        }
    }
    let message = format!("{} is a list of lists of lists", descriptor.digest());
    Err(ArchiveError::Invalid(message))
}

/// The images of `docker save`, with manifests made for them.
fn in_saved(members: &Members, saved: &[Saved]) -> Result<Vec<Found>, ArchiveError> {
    saved
        .iter()
        .map(|saved| from_saved(members, saved))
        .collect()
}

fn from_saved(members: &Members, saved: &Saved) -> Result<Found, ArchiveError> {
    let lacks = |path: &str| {
        ArchiveError::Invalid(format!(
            "the archive lacks {path:?}, which its {DOCKER_FILE} names"
        ))
    };
    let size = |digest: &str| members.size(digest).unwrap_or(0);
    let config = members
        .find(&saved.config)
        .ok_or_else(|| lacks(&saved.config))?;
    let mut layers = Vec::with_capacity(saved.layers.len());
    for path in &saved.layers {
        let digest = members.find(path).ok_or_else(|| lacks(path))?;
        let kind = match members.packing(digest)? {
            Packing::Plain => "application/vnd.oci.image.layer.v1.tar",
            Packing::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Packing::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        };
        layers.push(json!({"mediaType": kind, "digest": digest, "size": size(digest)}));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config, "size": size(config),
        },
        "layers": layers,
    });
    Ok(Found {
        names: saved.repo_tags.clone().unwrap_or_default(),
        manifest: manifest.to_string().into_bytes(),
        list: None,
    })
}

/// Checks an image and puts its blobs into the store; what the index is to say of it, its list left out.
fn keep(
    blobs: &Arc<Blobs>,
    config: &Config,
    members: &mut Members,
    manifest: Vec<u8>,
    leases: &mut Vec<Lease>,
) -> Result<Entry, ArchiveError> {
    let image = match manifest::parse(&manifest).map_err(ArchiveError::Invalid)? {
        Document::Image(image) => image,
        Document::Index(_) => {
            return Err(ArchiveError::Invalid("its manifest is a list".to_owned()));
        }
    };
    match manifest::content(&image).map_err(ArchiveError::Invalid)? {
        Content::Module(layer) => {
            let bytes = members.bytes(layer.digest().as_ref(), config.max_bytes)?;
            keep_module(blobs, &bytes, &manifest, leases)
        }
        Content::Container {
            config: own,
            layers,
        } => {
            let bytes = members.bytes(own.digest().as_ref(), MAX_CONFIG)?;
            let start = manifest::entry_point(&bytes).map_err(ArchiveError::Invalid)?;
            if let Some(path) = start {
                let bytes = find_packed(members, &layers, &path, config.max_bytes)?;
                return keep_module(blobs, &bytes, &manifest, leases);
            }
            let checked = manifest::check_config(&bytes, layers.len(), &Platform::host());
            let checked = checked.map_err(ArchiveError::Invalid)?;
            check_plain(members, &layers, checked.rootfs().diff_ids())?;
            keep_container(blobs, members, &image, manifest, leases)
        }
    }
}

/// A layer that is not packed is itself what the configuration names.
fn check_plain(
    members: &Members,
    layers: &[Descriptor],
    diff_ids: &[String],
) -> Result<(), ArchiveError> {
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let digest: &str = layer.digest().as_ref();
        if members.packing(digest)? == Packing::Plain && digest != diff_id {
            let message = format!("layer {digest} is not {diff_id}, which its configuration names");
            return Err(ArchiveError::Invalid(message));
        }
    }
    Ok(())
}

fn keep_container(
    blobs: &Arc<Blobs>,
    members: &mut Members,
    image: &ImageManifest,
    manifest: Vec<u8>,
    leases: &mut Vec<Lease>,
) -> Result<Entry, ArchiveError> {
    let lease = |digest: &str| blobs.lease(digest).map_err(ArchiveError::Invalid);
    let mut needed = Vec::new();
    let mut size_bytes = manifest.len() as u64;
    for descriptor in image.layers().iter().chain([image.config()]) {
        let lease = lease(descriptor.digest().as_ref())?;
        members.persist(blobs, &lease)?;
        let metadata = std::fs::metadata(lease.path());
        let metadata =
            metadata.map_err(|error| ArchiveError::Unavailable(blobs.in_words(&error)))?;
        if metadata.len() != descriptor.size() {
            let message = format!(
                "{} is {} bytes; its manifest says {}",
                descriptor.digest(),
                metadata.len(),
                descriptor.size()
            );
            return Err(ArchiveError::Invalid(message));
        }
        size_bytes += metadata.len();
        needed.push(lease.digest());
        leases.push(lease);
    }
    let digest = digest_of(&manifest);
    let own = lease(&digest)?;
    blobs
        .write(&own, &manifest)
        .map_err(ArchiveError::Unavailable)?;
    leases.push(own);
    Ok(Entry {
        kind: ImageKind::Oci,
        size_bytes,
        blobs: needed,
        ..Entry::module(digest, 0)
    })
}

fn find_packed(
    members: &Members,
    layers: &[Descriptor],
    path: &str,
    max_bytes: u64,
) -> Result<Vec<u8>, ArchiveError> {
    for layer in layers.iter().rev() {
        let mut file = members.open(layer.digest().as_ref())?;
        let found = packed::find(&mut file, path, max_bytes).map_err(ArchiveError::Invalid)?;
        if let Some(bytes) = found {
            return Ok(bytes);
        }
    }
    let message = format!("its entry point {path} is in none of its layers");
    Err(ArchiveError::Invalid(message))
}

fn keep_module(
    blobs: &Arc<Blobs>,
    bytes: &[u8],
    manifest: &[u8],
    leases: &mut Vec<Lease>,
) -> Result<Entry, ArchiveError> {
    module::check(bytes).map_err(ArchiveError::Invalid)?;
    let lease = blobs
        .lease(&digest_of(bytes))
        .map_err(ArchiveError::Invalid)?;
    blobs
        .write(&lease, bytes)
        .map_err(ArchiveError::Unavailable)?;
    let entry = Entry {
        manifest: Some(digest_of(manifest)),
        ..Entry::module(lease.digest(), bytes.len() as u64)
    };
    leases.push(lease);
    Ok(entry)
}
