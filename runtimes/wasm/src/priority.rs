//! How much CPU a thread gets beside the process' others.

/// Lets the calling thread stand back: `nice` is what the kernel calls it, from 0 to 19. What the kernel
/// does not allow is left as it is: it is no matter of being right.
#[expect(unsafe_code, reason = "setpriority has no safe wrapper in nix")]
pub(crate) fn lower(nice: i32) {
    // SAFETY: takes and returns plain numbers. On Linux, 0 names the calling thread alone.
    let failed = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, nice) } != 0;
    if failed {
        tracing::debug!(nice, "a thread's priority stays as it is");
    }
}
