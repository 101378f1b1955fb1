//! What containers need of a host, and whether this one has it.
//!
//! Reads `/proc`, looks for programs, and tries one overlay mount below the state directory.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use oci_spec::runtime::Capability;

use crate::spec::{Host, capabilities};

/// What this host offers.
///
/// # Errors
/// What it lacks, in a user's words.
pub(crate) fn look() -> Result<Host, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("containers need root: run wk as root".to_owned());
    }
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("/proc/self/status cannot be read: {error}"))?;
    let capabilities = capabilities::permitted(&status);
    if !capabilities.contains(&Capability::SysAdmin) {
        return Err("containers need the capability SYS_ADMIN, which this process does not have: run wk without a \
             sandbox that takes it away"
            .to_owned());
    }
    let release = nix::sys::utsname::uname()
        .map_err(|error| format!("the kernel does not say its version: {error}"))?;
    Ok(Host {
        capabilities,
        unified: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        recursive_read_only: at_least(&release.release().to_string_lossy(), (5, 12)),
    })
}

fn at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || parts.next().and_then(|part| part.parse::<u32>().ok());
    matches!((next(), next()), (Some(major), Some(minor)) if (major, minor) >= wanted)
}

/// A program by its path, or by its name in `PATH`.
pub(crate) fn find_program(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return is_file(program).then(|| program.to_owned());
    }
    let path = env::var_os("PATH")?;
    let mut places = env::split_paths(&path).map(|dir| dir.join(program));
    places.find(|place| is_file(place))
}

fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Mounts an overlay below `dir` and unmounts it.
///
/// # Errors
/// The kernel cannot, or not with layers on this file system.
pub(crate) fn try_overlay(dir: &Path) -> Result<(), String> {
    let refused = |error: &dyn std::fmt::Display| {
        format!(
            "containers need overlayfs, which does not work in {}: {error}",
            dir.display()
        )
    };
    let trial = tempfile::Builder::new()
        .prefix("overlay-")
        .tempdir_in(dir)
        .map_err(|error| refused(&error))?;
    let make = |name: &str| -> io::Result<PathBuf> {
        let path = trial.path().join(name);
        fs::create_dir(&path)?;
        Ok(path)
    };
    let mounted = || -> io::Result<()> {
        let (lower, upper, work, at) = (make("lower")?, make("upper")?, make("work")?, make("at")?);
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        let kind = Some("overlay");
        mount(kind, &at, kind, MsFlags::empty(), Some(options.as_str()))?;
        umount2(&at, MntFlags::MNT_DETACH)?;
        Ok(())
    };
    mounted().map_err(|error| refused(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_their_numbers() {
        assert!(at_least("6.18.5-amd64", (5, 12)));
        assert!(at_least("5.12.0", (5, 12)));
        assert!(!at_least("5.4.0-150-generic", (5, 12)));
        assert!(!at_least("strange", (5, 12)));
    }

    #[test]
    fn a_program_is_found_by_name_or_path() {
        assert!(find_program(Path::new("sh")).is_some_and(|path| path.is_absolute()));
        assert_eq!(find_program(Path::new("/bin/sh")), Some("/bin/sh".into()));
        assert_eq!(find_program(Path::new("wk-no-such-program")), None);
        assert_eq!(find_program(Path::new("/bin")), None);
    }
}
