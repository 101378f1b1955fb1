//! What the containers of a pod share, in `pods/<uid>`: its interprocess communication and its host name (namespaces,
//! kept by bind mounts), its shared memory, and if it asks for that its processes.
//!
//! No container holds any of it; what holds processes together is one small process (the shim's program, by another
//! name) that belongs to nobody and can do nothing. All is found again after a restart by what is mounted there. Everything here blocks.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::{
        signal::{Signal, kill},
        statfs::statfs,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, sethostname},
};
use runtimes::ContainerSpec;
use wk_shim::{Identity, PAUSE};

/// The size of `/dev/shm`, as with containerd and Docker.
const SHM: &str = "mode=1777,size=65536k";
/// What `statfs` says of a file that is a namespace.
const NAMESPACE: nix::libc::c_long = 0x6e73_6673;
/// What a namespace's holder says once it is confined.
const READY: u8 = b'+';

/// The pods that have something on this host.
#[derive(Clone, Debug)]
pub(crate) struct Pods {
    root: PathBuf,
    /// The shim's program.
    program: PathBuf,
}

/// What a container of a pod shares with the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shared {
    /// `None` is the host's.
    pub(crate) ipc: Option<PathBuf>,
    pub(crate) uts: Option<PathBuf>,
    pub(crate) shm: PathBuf,
    /// The pod's process namespace, if its containers share one.
    pub(crate) processes: Option<PathBuf>,
}

impl Pods {
    pub(crate) fn new(root: PathBuf, program: PathBuf) -> Pods {
        Pods { root, program }
    }

    /// Makes what is missing of what a container's pod shares.
    pub(crate) fn ensure(&self, spec: &ContainerSpec) -> io::Result<Shared> {
        let dir = self.dir(&spec.pod.uid);
        fs::create_dir_all(&dir)?;
        let wanted = &spec.namespaces;
        let mut shared = Shared {
            ipc: None,
            uts: None,
            shm: PathBuf::from("/dev/shm"),
            processes: None,
        };
        let mut missing = Vec::new();
        let mut want = |name, kind| {
            let kept = dir.join(name);
            if !is_namespace(&kept) {
                missing.push((name, kind));
            }
            kept
        };
        if !wanted.host_ipc {
            shared.ipc = Some(want("ipc", CloneFlags::CLONE_NEWIPC));
            shared.shm = shm(&dir)?;
        }
        // With the host's network goes the host's name.
        if wanted.network.is_some() {
            shared.uts = Some(want("uts", CloneFlags::CLONE_NEWUTS));
        }
        namespaces(&dir, missing, &spec.hostname)?;
        if wanted.shared_pid && !wanted.host_pid {
            let joins = [
                wanted.network.as_deref(),
                shared.ipc.as_deref(),
                shared.uts.as_deref(),
            ];
            shared.processes = Some(self.processes(&dir, joins)?);
        }
        Ok(shared)
    }

    /// Ends and removes all that a pod has. `Ok` if it has nothing.
    pub(crate) fn remove(&self, uid: &str) -> io::Result<()> {
        let dir = self.dir(uid);
        if !dir.exists() {
            return Ok(());
        }
        end_holder(&dir)?;
        for name in ["pid", "ipc", "uts", "shm"] {
            unmount(&dir.join(name))?;
        }
        fs::remove_dir_all(&dir)
    }

    /// The uids of those that have something.
    pub(crate) fn list(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.root)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn dir(&self, uid: &str) -> PathBuf {
        self.root.join(uid.replace(['/', '.'], "-"))
    }

    /// The process namespace of a pod, and the process that holds it.
    fn processes(&self, dir: &Path, joins: [Option<&Path>; 3]) -> io::Result<PathBuf> {
        let kept = dir.join("pid");
        if holder(dir)?.is_some() && is_namespace(&kept) {
            return Ok(kept);
        }
        end_holder(dir)?;
        unmount(&kept)?;
        let joins: Vec<OwnedFd> = joins
            .into_iter()
            .flatten()
            .map(|path| File::open(path).map(OwnedFd::from))
            .collect::<io::Result<_>>()?;
        let root = dir.join("empty");
        fs::create_dir_all(&root)?;
        let mut command = Command::new(&self.program);
        command
            .arg0(PAUSE)
            .env_clear()
            .current_dir(&root)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = apart(move || {
            for namespace in &joins {
                setns(namespace, CloneFlags::empty())?;
            }
            unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)?;
            command.spawn()
        })?;
        // Before anything can go wrong: who comes later ends it.
        let pid = i32::try_from(child.id()).expect("a process number is small");
        let identity = Identity::of(pid)?;
        fs::write(dir.join("pause"), identity.to_string())?;
        let mut said = Vec::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_end(&mut said)?;
        }
        if said != [READY] {
            let status = child.wait()?;
            return Err(io::Error::other(format!(
                "the pod's process namespace has no first process: it ended with {status}"
            )));
        }
        // A wish: what holds a pod together is not what to end where memory is short.
        let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), "-998");
        bind(&PathBuf::from(format!("/proc/{pid}/ns/pid")), &kept)?;
        Ok(kept)
    }
}

/// The process that holds the pod's processes together, if it is alive.
fn holder(dir: &Path) -> io::Result<Option<Identity>> {
    let text = match fs::read_to_string(dir.join("pause")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    // Half written by one that was interrupted: then no container has joined it.
    let Ok(known) = text.parse::<Identity>() else {
        return Ok(None);
    };
    // A child of this process that has ended keeps its number until somebody asks for its end.
    let flags = Some(WaitPidFlag::WNOHANG);
    let has_ended = matches!(
        waitpid(Pid::from_raw(known.pid), flags),
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
    );
    let is_there = !has_ended && Identity::of(known.pid).is_ok_and(|there| there == known);
    Ok(is_there.then_some(known))
}

/// Kills the holder, and so all processes of its namespace.
fn end_holder(dir: &Path) -> io::Result<()> {
    if let Some(holder) = holder(dir)? {
        let pid = Pid::from_raw(holder.pid);
        match kill(pid, Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
        // Not this process' child if a former one has started it: then its end is nobody's business here.
        let _ = waitpid(pid, None);
    }
    Ok(())
}

/// Makes namespaces, each kept by a bind mount; one of names has the host's name.
fn namespaces(
    dir: &Path,
    missing: Vec<(&'static str, CloneFlags)>,
    hostname: &str,
) -> io::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let (dir, hostname) = (dir.to_owned(), hostname.to_owned());
    apart(move || {
        for (name, kind) in missing {
            unshare(kind)?;
            if kind == CloneFlags::CLONE_NEWUTS {
                sethostname(&hostname)?;
            }
            let own = PathBuf::from("/proc/thread-self/ns").join(name);
            bind(&own, &dir.join(name))?;
        }
        Ok(())
    })
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type().0 == NAMESPACE)
}

/// Mounts a file over another, which is made.
fn bind(source: &Path, at: &Path) -> io::Result<()> {
    File::create(at)?;
    let none = None::<&str>;
    Ok(mount(Some(source), at, none, MsFlags::MS_BIND, none)?)
}

/// Unmounts what is mounted at a path, as often as it is. `Ok` if nothing is.
fn unmount(at: &Path) -> io::Result<()> {
    use nix::errno::Errno;
    loop {
        match umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The pod's shared memory.
fn shm(dir: &Path) -> io::Result<PathBuf> {
    let at = dir.join("shm");
    fs::create_dir_all(&at)?;
    if fs::metadata(&at)?.dev() == fs::metadata(dir)?.dev() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
        mount(Some("shm"), &at, Some("tmpfs"), flags, Some(SHM))?;
    }
    Ok(at)
}

/// Does what changes a thread's namespaces in a thread that ends with it.
fn apart<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("namespaces".to_owned());
    match thread.spawn(work)?.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
