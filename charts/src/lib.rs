//! Helm charts.
//!
//! - [`format`](mod@format): values as text, as Go's `fmt` writes them.

pub mod format;
pub mod function;
mod functions;
pub mod value;

pub use function::{Environment, Failure, Function, Limits, Lookup, Param};
pub use value::{Element, IntKind, List, Map, Object, Value};
