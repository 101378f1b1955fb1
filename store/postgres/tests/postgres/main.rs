//! The Postgres back end, on a real server.

mod conformance;
mod server;
mod sharing;
