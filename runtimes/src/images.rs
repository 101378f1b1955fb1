//! Images: what a reference names, pulled once and kept by digest.
//!
//! The contract is [`Images`]; [`ImageStore`] keeps it over a directory: references to files and to
//! OCI registries, contents by their sha256, an index of which reference is which content. In reading order:
//!
//! - `store`: the contract kept; `index`: which reference is which; `name`: which references are the same.
//! - `pull`: from a reference to its content; `registry`, `hosts`: who is asked; [`Source`]: the cluster's own
//!   registry; `download`, `partial`: one blob.
//! - `manifest`, `platform`, `module`, `packed`: what images hold, checked.
//! - `archive`: images from and into tar archives.
//! - `blobs`: the files; `container`: what a container image in them says.

mod archive;
mod blobs;
mod container;
mod download;
mod file;
mod hosts;
mod index;
mod manifest;
mod module;
mod name;
mod packed;
mod partial;
mod platform;
mod pull;
mod registry;
mod source;
mod store;

pub use container::{ContainerImage, Layer};
pub use name::{is_name, normal_name, repository};
pub use source::{REGISTRY, Source, SourceError};
pub use store::{Config, ImageStore};

use std::{
    io::{Read, Write},
    path::PathBuf,
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// What kind of thing an image holds; it decides which runtime runs it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// A WebAssembly component or core module (binary or text).
    Wasm,
    /// A root file system for a container.
    Oci,
}

/// An image on this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// As the pod's spec names it; in a list of all images, its normal name ([`normal_name`]).
    pub reference: String,
    /// `sha256:…` of the content that runs: of a module's bytes, of a container image's manifest.
    pub digest: String,
    /// `sha256:…` by which the registry that it came from has it for every platform: of the list of platforms, if
    /// there is one, else of the manifest. None of what came from a file.
    pub origin: Option<String>,
    pub kind: ImageKind,
    /// In the content store: the module's file, or the container image's manifest, beside which are its other
    /// blobs, named by their digests ([`ContainerImage`]).
    pub path: PathBuf,
    /// Of the module; of a container image, its blobs together.
    pub size_bytes: u64,
}

/// When to ask the source although the image is here; as `imagePullPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// A registry account.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    Anonymous,
    Basic {
        username: String,
        password: String,
    },
    /// The ServiceAccount that a pod runs as: for the cluster's own registry ([`Source`]), to which the node vouches
    /// for it. Never leaves the process.
    ServiceAccount {
        namespace: String,
        name: String,
    },
}

/// Why an image is not here, by the reason that a container's `waiting` state shows.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// `InvalidImageName`: the reference cannot be parsed.
    #[error("invalid image reference {reference:?}: {message}")]
    InvalidName { reference: String, message: String },
    /// `ErrImageNeverPull`: the policy is Never and it is not here.
    #[error("image {reference:?} is not present with pull policy of Never")]
    NeverPull { reference: String },
    /// `ErrImagePull`: the source does not have it, refuses, or gave something that is no image.
    #[error("failed to pull image {reference:?}: {message}")]
    Pull { reference: String, message: String },
    /// The node's disk refuses.
    #[error("failed to remove image {reference:?}: {message}")]
    Remove { reference: String, message: String },
}

/// Why an archive of images was not read or written.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum ArchiveError {
    /// The archive, or the names given with it, are at fault.
    #[error("{0}")]
    Invalid(String),
    /// There is no such image here.
    #[error("image {reference:?} is not present")]
    NotFound { reference: String },
    /// The node's disk or the way to the reader failed.
    #[error("{0}")]
    Unavailable(String),
}

/// What has come of a pull that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    pub received_bytes: u64,
    /// Of what is to be fetched, as far as it is known; 0 until the source has told.
    pub total_bytes: u64,
}

/// The images of a node.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// Makes the image that `reference` names present and answers it; a pull of the same reference
    /// that is under way is shared.
    async fn ensure(
        &self,
        reference: &str,
        policy: PullPolicy,
        credentials: &[Credentials],
    ) -> Result<Image, ImageError>;

    /// The image that `reference` names, if it is here: whichever of its names it was pulled by.
    async fn find(&self, reference: &str) -> Option<Image>;

    /// Every image that is here, by its normal name.
    async fn list(&self) -> Result<Vec<Image>, ImageError>;

    /// Gives the content of an image that is here another name: it stays when the first comes to mean something else.
    ///
    /// # Errors
    /// The image is not here any more, or the name cannot be written down.
    async fn pin(&self, image: &Image, name: &str) -> Result<Image, ImageError>;

    /// Forgets a reference, and of its content what no other image needs; the bytes freed.
    async fn remove(&self, reference: &str) -> Result<u64, ImageError>;

    /// Frees what pulls that failed have left, and what tags that moved on have named, if it is older than
    /// `min_age`; the bytes freed.
    async fn tidy(&self, min_age: Duration) -> Result<u64, ImageError>;

    /// Takes the images of an archive, as `docker save` writes it or an OCI layout in tar, with gzip or without.
    /// They get the names that the archive has for them; or `name`, if it holds one image.
    async fn import(
        &self,
        archive: Box<dyn Read + Send>,
        name: Option<&str>,
    ) -> Result<Vec<Image>, ArchiveError>;

    /// Writes images as an OCI layout in tar, which `docker load` reads too.
    async fn export(
        &self,
        references: &[String],
        archive: Box<dyn Write + Send>,
    ) -> Result<(), ArchiveError>;

    /// How far the pull of `reference` is, if one is under way.
    fn progress(&self, reference: &str) -> Option<Progress>;
}

/// `sha256:…` of these bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    format!("sha256:{}", hex(&sha2::Sha256::digest(bytes)))
}

/// In lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(digits, "{byte:02x}").expect("a String takes whatever is written to it");
    }
    digits
}

/// What to say of a module that is more than the node takes.
fn too_big(size: u64, max_bytes: u64) -> String {
    format!("is {size} bytes or more; this node takes modules of at most {max_bytes}")
}
