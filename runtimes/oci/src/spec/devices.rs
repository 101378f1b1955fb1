//! The host's devices that a container may use, beside those that every container has (runc's: `/dev/null` and the like).
//!
//! [`find`] and [`all`] read the host; [`rules`] is pure.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use runtimes::{Device, RuntimeError};
use rustix::fs::{major, minor};

/// What of `/dev` is no device of the host's, or is each container's own.
const NOT_THESE: &[&str] = &["console", "fd", "mqueue", "pts", "shm"];
/// How deep `/dev` is looked through.
const MAX_DEPTH: usize = 8;

/// A device, and what may be done with it (`rwm`: read, write, make a node of it).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) device: LinuxDevice,
    pub(crate) access: &'static str,
}

/// Those that a spec names.
///
/// # Errors
/// `Invalid`: one is not there, or is no device.
pub(crate) fn find(devices: &[Device]) -> Result<Vec<Found>, RuntimeError> {
    let find = |device: &Device| {
        let source = device.source.display().to_string();
        let metadata = fs::metadata(&device.source)
            .map_err(|error| RuntimeError::Invalid(format!("device {source:?}: {error}")))?;
        let found = found(&metadata, device.destination.clone())
            .ok_or_else(|| RuntimeError::Invalid(format!("{source:?} is not a device node")))?;
        let access = if device.read_only { "r" } else { "rwm" };
        Ok(Found { access, ..found })
    };
    devices.iter().map(find).collect()
}

/// All of the host's, as a privileged container has them.
pub(crate) fn all(dev: &Path) -> io::Result<Vec<Found>> {
    let mut devices = Vec::new();
    collect(dev, Path::new("/dev"), MAX_DEPTH, &mut devices)?;
    Ok(devices)
}

fn collect(dir: &Path, within: &Path, depth: usize, devices: &mut Vec<Found>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if hidden || NOT_THESE.iter().any(|one| name == *one) {
            continue;
        }
        // Without following links: what they mean comes by itself.
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let destination = within.join(&name);
        if metadata.is_dir() {
            if depth > 0 {
                collect(&entry.path(), &destination, depth - 1, devices)?;
            }
        } else {
            devices.extend(found(&metadata, destination));
        }
    }
    Ok(())
}

fn found(metadata: &fs::Metadata, destination: PathBuf) -> Option<Found> {
    let kind = metadata.file_type();
    let kind = if kind.is_char_device() {
        LinuxDeviceType::C
    } else if kind.is_block_device() {
        LinuxDeviceType::B
    } else {
        return None;
    };
    let mut device = LinuxDevice::default();
    device
        .set_path(destination)
        .set_typ(kind)
        .set_major(major(metadata.rdev()).into())
        .set_minor(minor(metadata.rdev()).into())
        .set_file_mode(Some(metadata.mode() & 0o777))
        .set_uid(Some(metadata.uid()))
        .set_gid(Some(metadata.gid()));
    Some(Found {
        device,
        access: "rwm",
    })
}

/// What a container's processes may do with devices: nothing but this, and what runc allows to all.
pub(super) fn rules(privileged: bool, devices: &[Found]) -> Vec<LinuxDeviceCgroup> {
    let rule = |allow: bool, access: &str| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow)
            .set_access(Some(access.to_owned()))
            .set_typ(None);
        rule
    };
    if privileged {
        return vec![rule(true, "rwm")];
    }
    let mut rules = vec![rule(false, "rwm")];
    rules.extend(devices.iter().map(|found| {
        let mut rule = rule(true, found.access);
        rule.set_typ(Some(found.device.typ()))
            .set_major(Some(found.device.major()))
            .set_minor(Some(found.device.minor()));
        rule
    }));
    rules
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn device(source: &str, read_only: bool) -> Device {
        Device {
            source: source.into(),
            destination: "/dev/mine".into(),
            read_only,
        }
    }

    #[test]
    fn a_device_is_known_by_its_numbers() {
        let found = find(&[device("/dev/null", true)]).unwrap();
        assert_eq!((found[0].device.major(), found[0].device.minor()), (1, 3));
        expect![[r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"r"}]"#]]
            .assert_eq(&serde_json::to_string(&rules(false, &found)).unwrap());
        expect![[r#"[{"allow":true,"access":"rwm"}]"#]]
            .assert_eq(&serde_json::to_string(&rules(true, &found)).unwrap());
    }

    #[test]
    fn what_is_no_device_is_named() {
        let error = find(&[device("/dev", false)]).unwrap_err();
        expect![[r#""/dev" is not a device node"#]].assert_eq(&error.to_string());
        let error = find(&[device("/dev/wk-none", false)]).unwrap_err();
        expect![[r#"device "/dev/wk-none": No such file or directory (os error 2)"#]]
            .assert_eq(&error.to_string());
    }

    #[test]
    fn a_privileged_container_has_all_but_terminals_of_others() {
        let found = all(Path::new("/dev")).unwrap();
        let at = |path: &str| found.iter().any(|one| one.device.path() == Path::new(path));
        assert!(at("/dev/null"));
        assert!(
            !found
                .iter()
                .any(|one| one.device.path().starts_with("/dev/pts"))
        );
    }
}
