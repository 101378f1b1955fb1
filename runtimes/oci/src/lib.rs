//! OCI containers: images unpacked into layers, run by runc, watched over by a shim each.
//!
//! - [`shim`]: the small process that stays with a container.
//! - [`exec`]: commands that run beside a container's own process.
//! - [`console`]: streams of processes.

#![cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "the runtime calls it")
)]

mod console;
mod exec;
mod shim;
#[cfg(test)]
mod tests;
