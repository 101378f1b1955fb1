//! Sessions between a client written here and processes and ports in memory, on both protocols.
//!
//! Time is paused: what waits for a deadline gets there at once, and nothing depends on how fast anything is.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod client;
mod fuzz;
mod hostile;
mod port_forward;
mod program;
mod remote_command;
