//! The apiserver through its router, over the in-memory store: requests in, answers out.
//!
//! - [`objects`]: create, get, update, patch, delete. [`lists`]: lists and their views.
//! - [`watches`]: watches. [`services`]: cluster addresses. [`namespaces`]: their life.
//! - [`events`]: their hour. [`hostile`]: whatever is sent, the client is told what is wrong with it.
//! - [`access`]: who may. [`parts`]: subresources. [`clients`]: `kube` in process. [`tls`]: the listener.
//! - [`protobuf`]: bodies in protobuf.
//! - [`custom_resources`], [`custom_versions`]: kinds that users define.
//! - [`versions`]: kinds with several versions of one stored object.

mod access;
mod clients;
mod custom_resources;
mod custom_versions;
mod events;
mod harness;
mod hostile;
mod lists;
mod namespaces;
mod objects;
mod parts;
mod protobuf;
mod services;
mod tls;
mod versions;
mod watches;
