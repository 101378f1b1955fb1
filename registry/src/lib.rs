//! The built-in OCI registry: images and other artifacts, pushed and pulled by the protocol of the OCI distribution
//! specification 1.1.
//!
//! Needs no database: content by its digest, links of repositories to it and tags are objects of an object store (a
//! directory, or S3), each of which appears whole or not at all. A repository is `NAMESPACE/NAME[/…]`. Reading order:
//!
//! - [`digest`], [`name`]: what identifies content and where it is. Pure.
//! - [`access`]: who may do what, asked of whoever wires the registry.
//! - [`storage`]: the object store and its layout.
//! - [`registry`]: the registry itself; `owner`: whose its repositories are; `uploads`: blobs on their way; `blobs`: those that are there; `manifests`,
//!   `tags`, `referrers`: what names them; `catalog`: which repositories there are; `quota`: how much a namespace may keep.
//! - [`manifest`]: what a manifest says. Pure.
//! - [`collect`]: removes what nothing names any more; `touched`: and not what is linked to meanwhile.
//! - [`error`]: refusals as the specification words them. [`http`]: the protocol.
//!
//! Never decides who a caller is, and never holds a blob in memory.

#![warn(missing_docs)]

pub mod access;
mod blobs;
mod catalog;
mod collect;
pub mod digest;
pub mod error;
mod http;
#[cfg(test)]
mod in_memory;
mod manifest;
mod manifests;
pub mod metrics;
pub mod name;
mod owner;
mod quota;
mod referrers;
mod registry;
pub mod storage;
mod tags;
mod touched;
mod uploads;

pub use access::{Access, Action, Caller, Unavailable};
pub use blobs::Blob;
pub use collect::Collected;
pub use digest::Digest;
pub use error::Error;
pub use http::Scheme;
pub use manifests::Manifest;
pub use name::{Reference, Repository};
pub use registry::{Config, Registry};
pub use storage::Storage;
