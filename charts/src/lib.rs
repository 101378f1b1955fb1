//! Helm charts.
//!
//! - [`value`]: what templates compute with, as Go would hold it.
//! - [`function`]: what a function of templates is, and what it may ask for.
//! - [`format`](mod@format): values as text, as Go's `fmt` writes them.
//! - [`template`]: Go's templates, parsed and executed; `functions`: what they may call beyond what is Go's own.
//! - [`yaml`], [`json`]: reading and writing as Helm does.
//! - [`values`]: what users give a chart, over its defaults.
//! - [`chart`]: a chart as it is stored, its subcharts, its schema.
//! - [`render`]: from a chart and values to manifests, hooks and notes.
//! - [`fetch`]: charts from registries and repositories.
//! - [`lint`]: what is wrong or odd with a chart.
//! - [`release`]: what is kept of a chart that was installed, and what is done with it.

pub mod chart;
pub mod fetch;
mod float;
pub mod format;
pub mod function;
mod functions;
pub mod json;
pub mod lint;
pub mod release;
pub mod render;
pub mod semver;
pub mod template;
pub mod value;
pub mod values;
pub mod yaml;

pub use function::{Environment, Failure, Function, Limits, Lookup, Param};
pub use value::{Element, IntKind, List, Map, Object, Value};
