//! Images: what a reference names, pulled once and kept by digest.
//!
//! The contract is [`Images`]; [`ImageStore`] keeps it over a directory: references to files and to
//! OCI registries, contents by their sha256, an index of which reference is which content.

mod container;
mod file;
mod hosts;
mod index;
mod packed;
mod registry;
mod store;

pub use container::{ContainerImage, Layer};
pub use store::{Config, ImageStore};

use std::path::PathBuf;

use async_trait::async_trait;

/// What kind of thing an image holds; it decides which runtime runs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageKind {
    /// A WebAssembly component or core module (binary or text).
    Wasm,
    /// A root file system for a container.
    Oci,
}

/// An image on this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// As the pod's spec names it.
    pub reference: String,
    /// `sha256:…` of the content that runs: of a module's bytes, of a container image's manifest.
    pub digest: String,
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
    Basic { username: String, password: String },
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

    /// Every image that is here.
    async fn list(&self) -> Result<Vec<Image>, ImageError>;

    /// Forgets a reference, and its content if no other reference has it; the bytes freed.
    async fn remove(&self, reference: &str) -> Result<u64, ImageError>;
}

/// `sha256:…` of these bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let mut digest = String::from("sha256:");
    for byte in sha2::Sha256::digest(bytes) {
        use std::fmt::Write as _;
        write!(digest, "{byte:02x}").expect("a String takes whatever is written to it");
    }
    digest
}
