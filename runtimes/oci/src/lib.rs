//! OCI containers: images unpacked into layers, run by runc, watched over by a shim each.
//!
//! - [`spec`]: what runc is told of a container.
//! - [`user`]: as whom it runs.
//! - [`seccomp`]: which system calls it may make.
//! - [`cgroup`]: what it may use.

mod cgroup;
mod seccomp;
mod spec;
mod user;
