//! Custom resources: kinds that CustomResourceDefinitions define, served like the built-in ones.
//!
//! Reading order:
//! - [`definition`]: a definition as the resources that it defines. [`kind`]: one version of one, as
//!   the verbs see it. [`columns`]: its table. [`path`]: the paths that definitions name fields by.
//! - [`cel`]: rules in CEL: what they may cost, and what they say of an object.
//! - [`conversion`]: between the stored version and the others.
//! - [`follow`]: keeps the catalog as the definitions say. [`controller`]: their conditions, and the
//!   removal of a kind's objects before its definition goes. [`status`]: what the conditions are.
//! - [`intern`]: names that live as long as the process.

pub(crate) mod cel;
pub(crate) mod columns;
pub(crate) mod controller;
pub(crate) mod conversion;
pub(crate) mod definition;
pub(crate) mod follow;
pub(crate) mod intern;
pub(crate) mod kind;
pub(crate) mod path;
pub(crate) mod status;
