//! The apiserver through its router, over the in-memory store: requests in, answers out.
//!
//! - [`objects`]: create, get, update, patch, delete. [`lists`]: lists and their views.
//! - [`answers`]: how all of them are written. [`watches`]: watches. [`services`]: cluster addresses. [`namespaces`]: their life.
//! - [`events`]: their hour. [`hostile`], [`hostile_kinds`], [`hostile_parts`]: whatever is sent, the client is told what is
//!   wrong with it.
//! - [`access`]: who may. [`parts`]: subresources. [`clients`]: `kube` in process. [`tls`]: the listener.
//! - [`protobuf`]: bodies in protobuf.
//! - [`custom_resources`], [`custom_versions`]: kinds that users define.
//! - [`rbac`], [`tokens`], [`impersonation`], [`reviews`]: identities and roles. [`proxy`]: what pods serve.
//! - [`admission`]: the built-in plugins. [`quota`]: what a namespace may hold. [`webhooks`]: those of
//!   others, served by [`hooks`].
//! - [`protobuf`]: bodies in protobuf. [`apply`]: server-side apply, and who owns what;
//!   [`apply_kubectl`]: as kubectl sees it; [`transactions`]: several as one write.
//! - [`pods`]: what only pods have; [`streams`]: the ways into them.
//! - [`pods`]: what only pods have.
//! - [`storage`]: the default StorageClass, and what guards claims and volumes.
//! - [`usage`]: what nodes and pods use.
//! - [`versions`]: kinds with several versions of one stored object.

mod access;
mod admission;
mod answers;
mod apply;
mod apply_kubectl;
mod certificates;
mod clients;
mod custom_apply;
mod custom_resources;
mod custom_versions;
mod events;
mod harness;
mod hooks;
mod hostile;
mod hostile_kinds;
mod hostile_parts;
mod impersonation;
mod lists;
mod namespaces;
mod nodes;
mod objects;
mod parts;
mod pods;
mod protobuf;
mod proxy;
mod quota;
mod rbac;
mod reviews;
mod services;
mod storage;
mod streams;
mod tls;
mod tokens;
mod transactions;
mod usage;
mod versions;
mod watches;
mod webhooks;
