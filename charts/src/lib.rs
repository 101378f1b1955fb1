//! Helm charts.
//!
//! - [`value`]: what templates compute with, as Go would hold it.
//! - [`function`]: what a function of templates is, and what it may ask for.
//! - [`release`]: what is kept of a chart that was installed, and what is done with it.

pub mod function;
pub mod release;
pub mod value;

pub use function::{Environment, Failure, Function, Limits, Lookup, Param};
pub use value::{Element, IntKind, List, Map, Object, Value};
