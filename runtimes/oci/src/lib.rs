//! OCI containers: images unpacked into layers, run by runc, watched over by a shim each.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the runtime that uses it follows")
)]
mod cgroup;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the runtime that uses it follows")
)]
mod layers;
