//! Structural schemas: what an object of a definition looks like, and what follows from it.
//!
//! Built-in kinds and custom resources share one model. Reading order:
//! - [`model`]: the [`Schema`] itself.
//! - [`builtin`](mod@builtin): the definitions of Kubernetes 1.36, parsed when they are first asked for.
//! - `custom`, `limits`: a custom resource's `openAPIV3Schema` as that model, and what values must hold to.
//! - [`check`](mod@check): types, normal forms and unknown fields of an object.
//! - `defaults`, `validate`: what a custom resource's schema fills in, and what it refuses.
//! - [`merge`]: JSON patch, merge patch, strategic merge patch, server-side apply.
//!
//! Pure: no clock, no IO. Nothing here knows a kind, and nothing here decides what a request
//! may do: callers turn unknown fields into warnings or refusals.

#[cfg(test)]
pub(crate) mod arbitrary;
mod builtin;
mod check;
mod custom;
mod defaults;
mod format;
mod limits;
pub mod merge;
mod model;
pub(crate) mod trail;
mod validate;

pub use builtin::{builtin, definition, definitions};
pub use check::{Checked, TypeError, check};
pub(crate) use custom::custom;
pub(crate) use defaults::default;
pub(crate) use limits::pattern;
pub use model::{ListType, PatchStrategy, Schema};
pub(crate) use model::{Rule, Shape};
pub(crate) use validate::{correlated, validate};
