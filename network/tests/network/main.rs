//! The network against a real kernel: namespaces, routes, nftables and sockets.

mod cluster;
mod privileged;
mod rootless;
mod sockets;
