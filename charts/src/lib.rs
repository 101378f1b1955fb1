//! Helm charts.
//!
//! - [`value`]: what templates compute with, as Go would hold it.
//! - [`function`]: what a function of templates is, and what it may ask for.

pub mod function;
pub mod value;

pub use function::{Environment, Failure, Function, Limits, Lookup, Param};
pub use value::{Element, IntKind, List, Map, Object, Value};
