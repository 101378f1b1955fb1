//! wk's command line, `wkctl`: a `kubectl` user feels at home.
//!
//! - [`api`]: requests to the apiserver; `upload`: those with large bodies; `query`: their parameters; [`resources`]: what it serves.
//! - [`manifest`], [`apply`], [`wait`]: objects from files, made so, until they are ready; `wk up -f` uses them too.
//! - [`commands`]: one file per command. What they share: `session` (the cluster and where text goes),
//!   `selection` (which objects are meant), `pods` (which pod and container), `follow` (one object until it is as
//!   wanted), `dry_run`.
//! - `remote`: a process in a container and its streams; `terminal`: ours; `forward`: connections to a pod's ports;
//!   `archive`: files as a tar stream; `push`: images to the cluster's registry.
//! - Text, pure: `table`, `columns`, `encode` (YAML and JSON), `duration`, `unified` (differences).
//!
//! Data goes to stdout, everything else to stderr.

pub mod api;
pub mod apply;
mod archive;
mod columns;
pub mod commands;
mod download;
mod dry_run;
mod duration;
mod encode;
mod follow;
mod forward;
pub mod manifest;
mod pods;
mod push;
mod query;
mod remote;
pub mod resources;
mod selection;
mod session;
mod table;
mod terminal;
mod unified;
mod upload;
pub mod wait;
