//! The runtime with the real runc, real overlays and control groups: as root, with Debian's `runc` and `busybox-static`.

mod conformance;
mod containers;
mod node;
