//! How a container ends whose shim has gone. It runs on; nobody will see its exit code.
//!
//! What Kubernetes shows for such ends is 137: containerd says so of a task whose shim has gone, and the
//! kubelet of a container that it cannot find (`ContainerStatusUnknown`). So that is the code here too.

use std::time::{Duration, SystemTime};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};
use wk_shim::Identity;

use super::Ended;

/// How often a process is looked at that cannot be waited for.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until the container's first process has ended. `None`: there never was one.
pub(super) async fn wait(process: Option<Identity>) -> Ended {
    if let Some(process) = process {
        gone(process).await;
    }
    Ended {
        code: 137,
        finished_at: SystemTime::now(),
        known: false,
    }
}

async fn gone(process: Identity) {
    let Some(pid) = Pid::from_raw(process.pid) else {
        return;
    };
    let opened = pidfd_open(pid, PidfdFlags::empty());
    // Looked at while it is held: otherwise the number might be another's.
    if !is_there(process) {
        return;
    }
    #[expect(
        deprecated,
        reason = "what takes its place is unsafe code; an owned file stays open"
    )]
    let watched = opened
        .map_err(std::io::Error::from)
        .and_then(|pidfd| AsyncFd::with_interest(pidfd, Interest::READABLE));
    if let Ok(pidfd) = watched
        && pidfd.readable().await.is_ok()
    {
        return;
    }
    while is_there(process) {
        tokio::time::sleep(LOOK).await;
    }
}

fn is_there(process: Identity) -> bool {
    Identity::of(process.pid).is_ok_and(|there| there == process)
}
