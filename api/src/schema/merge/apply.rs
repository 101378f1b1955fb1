//! Server-side apply: who owns which field, and what follows from it when somebody writes.
//!
//! Semantics are those of Kubernetes (KEP-555, structured-merge-diff), driven by the schema alone.
//! Reading order:
//! - [`element`]: the steps of a path as `managedFields` spells them.
//! - [`field_set`]: sets of paths (`fieldsV1`) and their algebra.
//! - [`atom`]: which values are one to their owners, and which are shared field by field.
//! - [`set_of`], [`compare`](mod@compare), [`overlay`](mod@overlay), [`remove`](mod@remove): the set of
//!   an object, the difference of two, one laid over another, fields taken out.
//! - [`managers`]: the entries of `metadata.managedFields`.
//! - [`conflict`]: what an apply may not take from others.
//! - [`last_applied`]: objects that `kubectl apply` made without the server's help.
//! - [`ownership`]: an apply, and every other write.
//!
//! Pure: the time is passed in. Objects have been checked against the schema before.

mod atom;
mod compare;
mod conflict;
mod element;
mod field_set;
mod last_applied;
mod managers;
mod overlay;
mod ownership;
mod remove;
mod set_of;
#[cfg(test)]
mod tests;

pub use compare::{Difference, compare};
pub use conflict::{Conflict, Conflicts};
pub use field_set::FieldSet;
pub use managers::{Entry, Managers, Operation, Said, Writer};
pub use overlay::overlay;
pub use ownership::{Applied, ApplyError, Reach, apply, update};
pub use remove::remove;
pub use set_of::set_of;
