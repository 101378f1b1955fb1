//! The apiserver through its router, over the in-memory store: requests in, answers out.
//!
//! - [`objects`]: create, get, update, patch, delete. [`lists`]: lists and their views.
//! - [`watches`]: watches. [`services`]: cluster addresses. [`namespaces`]: their life.
//! - [`access`]: who may. [`parts`]: subresources. [`clients`]: `kube` in process. [`tls`]: the listener.
//! - [`protobuf`]: bodies in protobuf.

mod access;
mod clients;
mod harness;
mod lists;
mod namespaces;
mod objects;
mod parts;
mod protobuf;
mod services;
mod tls;
mod watches;
