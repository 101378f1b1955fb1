//! The patch types: JSON patch, merge patch, strategic merge patch, and server-side apply
//! ([`apply`]).
//!
//! Each of the first three takes a document and a patch and gives the patched document; none checks the outcome
//! against the schema, that is [`check`](super::check())'s work. All are bounded: a small patch can
//! neither grow a document without end nor nest it deeper than decoding allows.

pub mod apply;
mod json;
mod order;
mod strategic;

use serde_json::Value;

pub use json::json_patch;
pub use strategic::strategic;

/// Why a patch was not applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MergeError {
    /// The patch itself is malformed (400).
    #[error("{0}")]
    Invalid(String),
    /// A `test` operation of a JSON patch did not hold (422).
    #[error("{0}")]
    TestFailed(String),
    /// The patch is well formed but does not fit the document (422).
    #[error("{0}")]
    NotApplicable(String),
}

/// Applies a merge patch (RFC 7386): objects merge, null removes, everything else replaces.
pub fn merge_patch(mut document: Value, patch: Value) -> Value {
    json_patch::merge(&mut document, &patch);
    document
}

#[cfg(test)]
mod tests;
