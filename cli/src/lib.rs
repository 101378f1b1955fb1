//! wk's command line, `wkctl`: a `kubectl` user feels at home.
//!
//! - [`api`]: requests to the apiserver; [`resources`]: what it serves.
//! - [`manifest`], [`apply`], [`wait`]: objects from files, made so, until they are ready; `wk up -f` uses them too.
//! - [`commands`]: one file per command.
//!
//! Data goes to stdout, everything else to stderr.

pub mod api;
pub mod apply;
pub mod commands;
mod download;
pub mod manifest;
pub mod resources;
pub mod wait;
