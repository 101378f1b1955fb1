//! wk's command line, `wkctl`: a `kubectl` user feels at home.
//!
//! - [`api`]: requests to the apiserver; `query`: their parameters; [`resources`]: what it serves.
//! - [`manifest`], [`apply`], [`wait`]: objects from files, made so, until they are ready; `wk up -f` uses them too.
//! - [`commands`]: one file per command. What they share: `session` (the cluster and where text goes),
//!   `selection` (which objects are meant), `follow` (one object until it is as wanted), `dry_run`.
//! - Text, pure: `table`, `columns`, `encode` (YAML and JSON), `duration`.
//!
//! Data goes to stdout, everything else to stderr.

pub mod api;
pub mod apply;
mod columns;
pub mod commands;
mod download;
mod dry_run;
mod duration;
mod encode;
mod follow;
pub mod manifest;
mod query;
pub mod resources;
mod selection;
mod session;
mod table;
pub mod wait;
