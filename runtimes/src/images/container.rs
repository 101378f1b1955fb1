//! What a container image in the content store says of itself: its manifest and its configuration.
//!
//! Reads blobs that are there and verified; never pulls, never unpacks.

use std::path::PathBuf;

use oci_spec::image::{ImageConfiguration, ImageManifest, MediaType};

use super::{Image, ImageKind};

/// A container image, ready to be unpacked.
#[derive(Clone, Debug)]
pub struct ContainerImage {
    /// `sha256:…` of the manifest.
    pub digest: String,
    pub configuration: ImageConfiguration,
    /// From the lowest to the uppermost.
    pub layers: Vec<Layer>,
}

/// One layer of a container image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layer {
    /// `sha256:…` of the blob, packed as it is.
    pub digest: String,
    /// `sha256:…` of the archive that the blob unpacks to: what tells equal layers.
    pub diff_id: String,
    pub media_type: MediaType,
    /// The blob in the content store.
    pub path: PathBuf,
    pub size_bytes: u64,
}

impl ContainerImage {
    /// Reads a container image's manifest and configuration.
    ///
    /// # Errors
    /// The image is of another kind, its blobs cannot be read, or they do not fit each other.
    pub fn read(image: &Image) -> Result<ContainerImage, String> {
        let reference = &image.reference;
        if image.kind != ImageKind::Oci {
            return Err(format!("image {reference:?} is no container image"));
        }
        let unreadable = |what: &str, error: &dyn std::fmt::Display| {
            format!("the {what} of image {reference:?} cannot be read: {error}")
        };
        let manifest = ImageManifest::from_file(&image.path)
            .map_err(|error| unreadable("manifest", &error))?;
        let blobs = image.path.parent().unwrap_or(&image.path);
        let blob =
            |descriptor: &oci_spec::image::Descriptor| blobs.join(descriptor.digest().digest());
        let configuration = ImageConfiguration::from_file(blob(manifest.config()))
            .map_err(|error| unreadable("configuration", &error))?;
        let diff_ids = configuration.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            return Err(format!(
                "image {reference:?} has {} layers, but its configuration tells of {}",
                manifest.layers().len(),
                diff_ids.len()
            ));
        }
        let layers = manifest.layers().iter().zip(diff_ids);
        let layers = layers.map(|(descriptor, diff_id)| Layer {
            digest: descriptor.digest().to_string(),
            diff_id: diff_id.clone(),
            media_type: descriptor.media_type().clone(),
            path: blob(descriptor),
            size_bytes: descriptor.size(),
        });
        Ok(ContainerImage {
            digest: image.digest.clone(),
            layers: layers.collect(),
            configuration,
        })
    }
}
