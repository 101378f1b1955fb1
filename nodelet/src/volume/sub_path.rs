//! Finds what lies at a path below a volume and nowhere else.
//!
//! A container may write to its volumes, links included, and do so while this runs. So the kernel walks the path
//! (`openat2` with `RESOLVE_BENEATH`), and the answer is where that ended: a path without links. The runtime of
//! components follows none when it opens a mount's source, so a link that is put there afterwards leads nowhere; for
//! containers, whose runtime mounts by path, what was opened is mounted aside ([`binds`](super::binds)).

use std::{
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{Mode, fstat, mkdirat},
};

/// How often the kernel is asked again when names change under its walk.
const TRIES: usize = 32;

/// Where `path` below `volume` is, without symbolic links. Directories that are missing are made, with the volume's
/// own mode.
///
/// # Errors
/// The path leads outside, or the file system refuses.
pub(crate) fn find(volume: &Path, path: &str) -> io::Result<PathBuf> {
    place(&open(volume, path)?)
}

/// The same, opened: it stays what it is whatever is put in its place.
///
/// # Errors
/// As [`find`].
pub(crate) fn open(volume: &Path, path: &str) -> io::Result<OwnedFd> {
    let root = nix::fcntl::open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let steps = steps(path)?;
    match open_below(&root, &steps.join("/"), OFlag::O_PATH) {
        Err(Errno::ENOENT) => {}
        Err(Errno::EXDEV) => return Err(outside(path)),
        found => return Ok(found?),
    }
    let mode = fstat(&root)?.st_mode & 0o2777;
    let mut at = String::new();
    for step in steps {
        let parent = open_below(&root, &at, OFlag::O_PATH)?;
        let made = mkdirat(&parent, step, Mode::from_bits_truncate(mode));
        if !at.is_empty() {
            at.push('/');
        }
        at.push_str(step);
        match made {
            Ok(()) => {
                // The process' mask may have cut the mode.
                let made = open_below(&root, &at, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
                let path = format!("/proc/self/fd/{}", made.as_raw_fd());
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            }
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(open_below(&root, &at, OFlag::O_PATH)?)
}

/// Where an open file is.
fn place(file: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The text of a file below `volume`.
///
/// # Errors
/// The path leads outside or to something that is no file, or the file is longer than `most_bytes` or no text.
pub(crate) fn read(volume: &Path, path: &str, most_bytes: u64) -> io::Result<String> {
    let root = nix::fcntl::open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    // A pipe would be waited at.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let mut file = match open_below(&root, &steps(path)?.join("/"), flags) {
        Err(Errno::EXDEV) => return Err(outside(path)),
        found => File::from(found?),
    };
    let metadata = file.metadata()?;
    let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    if !metadata.is_file() {
        return refuse("it is not a file".to_owned());
    }
    if metadata.len() > most_bytes {
        return refuse(format!("it is longer than {most_bytes} bytes"));
    }
    let mut text = String::new();
    file.by_ref().take(most_bytes).read_to_string(&mut text)?;
    Ok(text)
}

/// The names that a path consists of.
fn steps(path: &str) -> io::Result<Vec<&str>> {
    let invalid =
        |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} {why}"));
    let mut steps = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => steps.push(name.to_str().expect("it is a part of text")),
            Component::CurDir => {}
            Component::ParentDir => return Err(invalid("must not contain '..'")),
            Component::RootDir | Component::Prefix(_) => {
                return Err(invalid("must not be an absolute path"));
            }
        }
    }
    Ok(steps)
}

fn outside(path: &str) -> io::Error {
    let message = format!("{path:?} leads out of the volume");
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}

fn open_below(root: &impl AsFd, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { "." } else { path };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut outcome = Err(Errno::EAGAIN);
    for _ in 0..TRIES {
        outcome = openat2(root.as_fd(), path, how);
        if !matches!(outcome, Err(Errno::EAGAIN | Errno::EINTR)) {
            break;
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    /// A volume with a secret beside it.
    struct Bench {
        dir: TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            let dir = TempDir::new().expect("a directory");
            fs::create_dir(dir.path().join("volume")).expect("a directory");
            fs::create_dir(dir.path().join("outside")).expect("a directory");
            fs::write(dir.path().join("outside/secret"), "s").expect("a file");
            Bench { dir }
        }

        fn volume(&self) -> PathBuf {
            let volume = self.dir.path().join("volume");
            volume.canonicalize().expect("it is there")
        }

        /// Where the path leads, as seen from the volume.
        fn open(&self, path: &str) -> Result<PathBuf, String> {
            let place = find(&self.volume(), path).map_err(|error| error.to_string())?;
            let below = place.strip_prefix(self.volume());
            Ok(below.expect("it is in the volume").to_owned())
        }
    }

    #[test]
    fn what_is_missing_is_made_and_what_is_there_is_found() {
        let bench = Bench::new();
        assert_eq!(bench.open("a/b"), Ok("a/b".into()));
        assert!(bench.volume().join("a/b").is_dir());
        fs::set_permissions(bench.volume(), fs::Permissions::from_mode(0o2777)).expect("changed");
        assert_eq!(bench.open("shared"), Ok("shared".into()));
        let made = fs::metadata(bench.volume().join("shared")).expect("it is made");
        assert_eq!(made.permissions().mode() & 0o7777, 0o2777);
        fs::write(bench.volume().join("a/file"), "f").expect("a file");
        assert_eq!(bench.open("a/./file"), Ok("a/file".into()));
        assert_eq!(bench.open("."), Ok("".into()));
    }

    #[test]
    fn links_within_the_volume_are_followed_and_those_out_of_it_are_not() {
        let bench = Bench::new();
        let volume = bench.volume();
        fs::create_dir(volume.join("real")).expect("a directory");
        symlink("real", volume.join("inside")).expect("a link");
        assert_eq!(bench.open("inside/new"), Ok("real/new".into()));
        symlink("../outside", volume.join("up")).expect("a link");
        symlink("/etc", volume.join("absolute")).expect("a link");
        symlink("nowhere", volume.join("dangling")).expect("a link");
        for path in ["up", "up/secret", "up/new", "absolute", "absolute/passwd"] {
            let error = bench.open(path).expect_err(path);
            assert_eq!(error, format!("{path:?} leads out of the volume"));
        }
        assert!(!bench.dir.path().join("outside/new").exists());
        assert!(bench.open("dangling").is_err());
        assert!(!volume.join("nowhere").exists());
        let error = read(&volume, "up/secret", 10).expect_err("it is outside");
        assert_eq!(error.to_string(), "\"up/secret\" leads out of the volume");
        for path in ["..", "../outside", "real/../../outside", "/etc"] {
            bench.open(path).expect_err(path);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        /// The volume holds links to everywhere; no path through them ends outside.
        #[test]
        fn no_path_leads_outside(path in "([a-d.]|\\.\\.|secret|/){0,8}|([a-d]/){0,4}[a-d]") {
            let bench = Bench::new();
            let volume = bench.volume();
            fs::create_dir(volume.join("a")).expect("a directory");
            symlink("..", volume.join("a/b")).expect("a link");
            symlink("../..", volume.join("b")).expect("a link");
            symlink(bench.dir.path().join("outside"), volume.join("c")).expect("a link");
            symlink("../../outside", volume.join("a/d")).expect("a link");
            // The place is checked to be in the volume.
            let _ = bench.open(&path);
            let left = fs::read_dir(bench.dir.path().join("outside")).expect("a directory").count();
            prop_assert_eq!(left, 1, "something was made outside");
        }
    }
}
