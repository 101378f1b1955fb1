//! Label and field selectors, as `?labelSelector=` and `?fieldSelector=` spell them.
//!
//! Pure: text in, a predicate out. The error texts are Kubernetes' own.

mod fields;
mod labels;
mod lexer;

pub use fields::FieldSelector;
pub use labels::LabelSelector;

/// Why a selector cannot be read (400).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

#[cfg(test)]
mod tests;
