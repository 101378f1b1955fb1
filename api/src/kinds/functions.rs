//! The group functions.wk.dev: code that requests start. Kinds of our own: their definitions are in
//! `facts/functions-v1-structure.json`, with the parts of pods as pods have them.
//!
//! - `function`, `revision`: the kinds. `template`: the part of a spec that both have.
//! - `route`, `traffic`, `trigger`: what is wrong with those parts of a Function.

mod function;
mod revision;
pub(crate) mod route;
mod template;
mod traffic;
mod trigger;

pub(crate) use function::{Function, readiness};
pub(crate) use revision::FunctionRevision;

/// The group of both.
pub(crate) const GROUP: &str = function_kinds::GROUP;
