//! The apiserver through its router, over the in-memory store: requests in, answers out.
//!
//! - [`objects`]: create, get, update, patch, delete. [`lists`]: lists and their views.
//! - [`watches`]: watches. [`services`]: cluster addresses. [`namespaces`]: their life.
//! - [`events`]: their hour. [`hostile`]: whatever is sent, the client is told what is wrong with it.
//! - [`access`]: who may. [`parts`]: subresources. [`clients`]: `kube` in process. [`tls`]: the listener.
//! - [`protobuf`]: bodies in protobuf. [`apply`]: server-side apply, and who owns what.
//! - [`pods`]: what only pods have.
//! - [`versions`]: kinds with several versions of one stored object.

mod access;
mod apply;
mod clients;
mod events;
mod harness;
mod hostile;
mod lists;
mod namespaces;
mod objects;
mod parts;
mod pods;
mod protobuf;
mod services;
mod tls;
mod versions;
mod watches;
