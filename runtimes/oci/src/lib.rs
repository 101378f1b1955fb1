//! OCI containers: images unpacked into layers, run by runc, watched over by a shim each.
//!
//! - [`layers`]: images' layers, unpacked once, and mounted for each container.
//! - [`spec`]: what runc is told of a container; [`user`] as whom it runs, [`seccomp`] which system calls it may make.
//! - [`cgroup`]: what it may use.
//! - [`shim`]: the small process that stays with a container.
//! - [`exec`]: commands that run beside a container's own process; [`console`]: streams of processes.

#![cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "the runtime calls it")
)]

mod cgroup;
mod console;
mod exec;
mod layers;
mod seccomp;
mod shim;
mod spec;
#[cfg(test)]
mod tests;
mod user;
