//! The Postgres back end, on a real server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod server;
mod sharing;
