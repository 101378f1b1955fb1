//! The runtime with the real runc, real overlays and control groups: as root, with Debian's `runc` and `busybox-static`.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod conformance;
mod containers;
mod node;
