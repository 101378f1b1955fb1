//! The apiserver: HTTP in, objects and `Status` out.
//!
//! Objects are JSON values under one structural schema; built-in kinds differ only in their tables.
//! Reading order:
//! - [`field`]: paths into objects and what is wrong at them.
//! - [`schema`]: structural schemas: check, prune; the merges of the three patch types. Pure.
//! - [`encoding`]: bytes to values and back: JSON, YAML.
//! - `name`, `time`: what names may look like; times as texts. Pure.
//! - [`selector`]: label and field selectors. Pure.
//! - [`quantity`]: amounts such as `100m` and `1Gi`. Pure.
//! - [`kinds`]: one file per built-in kind: names, defaults, validation, columns. Pure.
//! - `custom`: kinds that users define. Reading its parts: see there.
//! - [`table`]: objects as `kubectl get` shows them. Pure.
//! - `accept`: media ranges that a client would take. Pure.
//! - [`catalog`]: which kinds are served now. [`discovery`], [`openapi`]: what clients ask about them.
//! - `verbs`, `subresources`: get, list, watch, create, update, patch, delete; written once.
//! - `reviews`: questions put as objects: who may, who am I.
//! - [`admission`], [`auth`], [`error`], [`server`]: around every request.
//! - `metrics_api`: what nodes and pods use, asked of the nodelets.
//! - [`metrics`]: what is counted and measured.
//! - [`codec`]: between what is stored and what clients get. [`object`]: metadata accessors. Pure.
//! - [`proxy`]: the way to a node. `webhook_client`: the way to a webhook. [`serve`]: the TLS listener. `bootstrap`: a cluster's first
//!   objects. `expiry`: the end of Events.

mod accept;
pub mod admission;
pub mod auth;
mod bootstrap;
pub mod catalog;
pub mod codec;
mod custom;
pub mod discovery;
pub mod encoding;
pub mod error;
mod expiry;
pub mod field;
pub mod kinds;
pub mod metrics;
mod metrics_api;
mod name;
pub mod object;
pub mod openapi;
pub mod proxy;
pub mod quantity;
mod reviews;
pub mod schema;
pub mod selector;
pub mod serve;
pub mod server;
mod subresources;
pub mod table;
mod time;
mod verbs;
mod webhook_client;

pub use server::{Apiserver, Config, Limits};
