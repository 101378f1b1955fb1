//! Images from and into tar archives.
//!
//! - [`members`]: the files of an archive, each kept by its digest.
//! - [`import`]: `docker save`'s archives and OCI layouts, read.
//! - [`export`]: an OCI layout, written.

mod export;
mod import;
mod members;

pub(super) use export::export;
pub(super) use import::import;

/// Where the name of an image stands in an OCI layout's index: containerd's whole name, and the standard's, which is
/// often only a tag.
const NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

const LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
const DOCKER_FILE: &str = "manifest.json";
