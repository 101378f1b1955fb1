//! How much CPU a thread gets beside the process' others, and for how long at a time.

use std::time::Duration;

use nix::libc;

/// Lets the calling thread stand back: `nice` is what the kernel calls it, from 0 to 19. What the kernel
/// does not allow is left as it is: it is no matter of being right.
#[expect(unsafe_code, reason = "setpriority has no safe wrapper in nix")]
pub(crate) fn lower(nice: i32) {
    // SAFETY: takes and returns plain numbers. On Linux, 0 names the calling thread alone.
    let failed = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } != 0;
    if failed {
        tracing::debug!(nice, "a thread's priority stays as it is");
    }
}

/// Lets the calling thread run no longer than `turn` at a time while others wait for its core, where the
/// kernel shares cores by such turns (Linux 6.12); without, a thread that computes keeps one that was woken
/// waiting for milliseconds. Its `nice` is said anew, since the kernel takes both at once.
#[expect(unsafe_code, reason = "sched_setattr has no safe wrapper in nix")]
pub(crate) fn shorten_turns(nice: i32, turn: Duration) {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: turn.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a struct that outlives the call. 0 names the calling thread.
    let failed =
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
    if failed {
        tracing::debug!(?turn, "a thread's turns stay as they are");
    }
}
