//! The apiserver: HTTP in, objects and `Status` out.
//!
//! Objects are JSON values under one structural schema; built-in kinds differ only in their tables.
//! Reading order:
//! - [`field`]: paths into objects and what is wrong at them.
//! - [`schema`]: structural schemas: check, prune; the merges of the three patch types. Pure.
//! - [`encoding`]: bytes to values and back: JSON, YAML.
//! - [`selector`]: label and field selectors. Pure.
//! - [`kinds`]: one file per built-in kind: names, defaults, validation, columns. Pure.
//! - [`discovery`], [`openapi`]: what clients ask about the kinds.
//! - [`verbs`], [`subresources`]: get, list, watch, create, update, patch, delete; written once.
//! - [`admission`], [`auth`], [`error`], [`server`]: around every request.

pub mod encoding;
pub mod field;
pub mod kinds;
pub mod quantity;
pub mod schema;
pub mod selector;
