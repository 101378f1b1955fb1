//! The network against a real kernel: namespaces, routes, nftables and sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;
mod gateway;
mod host;
mod isolation;
mod names;
mod policed;
mod policies;
mod privileged;
mod rootless;
mod services;
mod sockets;
