//! Writes a volume's files so that readers see all of the old ones or all of the new ones.
//!
//! As Kubernetes does it: the files lie in a directory of their own whose name is the time, `..data` is a symbolic
//! link to it, and what users see are links through `..data`. A new set of files is written beside the old one and
//! the link is replaced by a rename. A crash at any moment leaves one complete set; what else it left is removed
//! by the next write.
//!
//! Nothing is forced to disk: after a crash of the host the nodelet compares and writes anew.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::{
        DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown, symlink,
    },
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::payload::Payload;

/// The link to the directory that holds the files.
const DATA: &str = "..data";
const NEXT_DATA: &str = "..data_tmp";

/// Makes the files in `directory` those of `payload`; answers whether anything had to change. `now` names the new
/// set of files. The directory must be there and nobody else may write to it meanwhile.
///
/// # Errors
/// As the file system says, with the path.
pub(crate) fn write(directory: &Path, payload: &Payload, now: Timestamp) -> io::Result<bool> {
    let current = fs::read_link(directory.join(DATA)).ok();
    if let Some(current) = &current
        && holds(&directory.join(current), payload)
    {
        complete(directory, payload, current)?;
        return Ok(false);
    }
    let fresh = new_set(directory, now)?;
    give(directory, payload)?;
    give(&directory.join(&fresh), payload)?;
    write_files(&directory.join(&fresh), payload)?;
    let next = directory.join(NEXT_DATA);
    remove_if_there(&next)?;
    symlink(&fresh, &next).map_err(|error| at(&next, error))?;
    fs::rename(&next, directory.join(DATA)).map_err(|error| at(&next, error))?;
    complete(directory, payload, &fresh)?;
    Ok(true)
}

/// One of the files that are there now.
pub(crate) fn read(directory: &Path, path: &str) -> Option<Vec<u8>> {
    fs::read(directory.join(DATA).join(path)).ok()
}

/// Whether a set of files is exactly this one, modes included.
fn holds(set: &Path, payload: &Payload) -> bool {
    let same = payload.iter().all(|(path, file)| {
        let path = set.join(path);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| {
            metadata.is_file()
                && metadata.mode() & 0o777 == file.mode
                && payload.group().is_none_or(|group| metadata.gid() == group)
                && file.owner.is_none_or(|owner| metadata.uid() == owner)
                && metadata.len() == file.data.len() as u64
        });
        is_file && fs::read(&path).is_ok_and(|data| data == file.data)
    });
    same && count_files(set).is_ok_and(|count| count == payload.iter().count())
}

fn count_files(directory: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() {
            count_files(&entry.path())?
        } else {
            1
        };
    }
    Ok(count)
}

/// Makes a directory for a new set: `..2026_01_02_15_04_05.000000001`, as the time is.
fn new_set(directory: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let time = now.strftime("%Y_%m_%d_%H_%M_%S").to_string();
    let mut part = now.subsec_nanosecond().unsigned_abs();
    loop {
        let name = PathBuf::from(format!("..{time}.{part:09}"));
        match fs::DirBuilder::new()
            .mode(0o755)
            .create(directory.join(&name))
        {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => part += 1,
            Err(error) => return Err(at(&directory.join(&name), error)),
        }
    }
}

/// Gives a directory to the group of its files.
fn give(directory: &Path, payload: &Payload) -> io::Result<()> {
    let Some(group) = payload.group() else {
        return Ok(());
    };
    let give = || {
        chown(directory, None, Some(group))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o2755))
    };
    give().map_err(|error| at(directory, error))
}

fn write_files(set: &Path, payload: &Payload) -> io::Result<()> {
    for (path, file) in payload.iter() {
        let path = set.join(path);
        if let Some(parent) = path.parent().filter(|parent| *parent != set) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .map_err(|error| at(parent, error))?;
            let between = parent.ancestors().take_while(|above| *above != set);
            for directory in between {
                give(directory, payload)?;
            }
        }
        let write = || -> io::Result<()> {
            let mut open = fs::OpenOptions::new();
            let mut out = open.write(true).create_new(true).mode(0o600).open(&path)?;
            out.write_all(&file.data)?;
            if file.owner.is_some() || payload.group().is_some() {
                fchown(&out, file.owner, payload.group())?;
            }
            // Not the mode of its making, which the process' mask would cut.
            out.set_permissions(fs::Permissions::from_mode(file.mode))
        };
        write().map_err(|error| at(&path, error))?;
    }
    Ok(())
}

/// Gives every file of the payload its way through `..data`, and removes ways and sets that are no longer used.
fn complete(directory: &Path, payload: &Payload, current: &Path) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload
        .iter()
        .filter_map(|(path, _)| path.split('/').next())
        .collect();
    for name in &wanted {
        let (link, target) = (directory.join(name), Path::new(DATA).join(name));
        if fs::read_link(&link).is_ok_and(|old| old == target) {
            continue;
        }
        remove_if_there(&link)?;
        symlink(&target, &link).map_err(|error| at(&link, error))?;
    }
    for entry in fs::read_dir(directory).map_err(|error| at(directory, error))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let path = entry.path();
        if name == NEXT_DATA {
            remove_if_there(&path)?;
        } else if name.starts_with("..") {
            if name != DATA && Path::new(name) != current {
                remove_if_there(&path)?;
            }
        } else if !wanted.contains(name)
            && fs::read_link(&path).is_ok_and(|target| target.starts_with(DATA))
        {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, error)),
        _ => Ok(()),
    }
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    type Files = BTreeMap<String, (String, u32)>;

    fn now() -> Timestamp {
        Timestamp::from_second(1_767_225_600).expect("a time")
    }

    fn payload(files: &[(&str, &str)]) -> Payload {
        let mut payload = Payload::default();
        for (path, data) in files {
            payload
                .put(path, data.as_bytes().to_vec(), 0o640)
                .expect("a path");
        }
        payload
    }

    /// What a reader of the volume sees: names without `..`, through all links.
    fn seen(directory: &Path) -> Files {
        fn walk(path: &Path, prefix: &str, files: &mut Files) {
            for entry in fs::read_dir(path).expect("a directory") {
                let entry = entry.expect("an entry");
                let name = entry.file_name().into_string().expect("text");
                if name.starts_with("..") {
                    continue;
                }
                let (path, name) = (entry.path(), format!("{prefix}{name}"));
                let metadata = fs::metadata(&path).expect("no link leads nowhere");
                if metadata.is_dir() {
                    walk(&path, &format!("{name}/"), files);
                } else {
                    let text = fs::read_to_string(&path).expect("a file");
                    files.insert(name, (text, metadata.permissions().mode() & 0o777));
                }
            }
        }
        let mut files = Files::new();
        walk(directory, "", &mut files);
        files
    }

    fn wanted(payload: &Payload) -> Files {
        let file = |(path, file): (&str, &super::super::payload::File)| {
            let text = String::from_utf8_lossy(&file.data).into_owned();
            (path.to_owned(), (text, file.mode))
        };
        payload.iter().map(file).collect()
    }

    #[test]
    fn files_change_together_and_an_unchanged_volume_is_left_alone() {
        let dir = TempDir::new().expect("a directory");
        let first = payload(&[("a", "1"), ("d/e", "2")]);
        assert!(write(dir.path(), &first, now()).expect("written"));
        assert_eq!(seen(dir.path()), wanted(&first));
        let set = fs::read_link(dir.path().join(DATA)).expect("a link");
        assert_eq!(set, Path::new("..2026_01_01_00_00_00.000000000"));
        assert!(!write(dir.path(), &first, now()).expect("nothing to write"));
        let second = payload(&[("a", "3"), ("f", "4")]);
        assert!(write(dir.path(), &second, now()).expect("written"));
        assert_eq!(seen(dir.path()), wanted(&second));
        assert!(!dir.path().join(set).exists(), "the old set stays");
        assert_eq!(read(dir.path(), "f").as_deref(), Some(b"4".as_slice()));
        // A reader that holds the volume's directory finds `a` by way of two links.
        let link = fs::read_link(dir.path().join("a")).expect("a link");
        assert_eq!(link, Path::new("..data/a"));
    }

    #[test]
    fn files_are_of_their_group_and_a_token_of_its_user() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = TempDir::new().expect("a directory");
        let mut payload = Payload::of_group(Some(4321));
        payload.put("d/a", b"1".to_vec(), 0o644).expect("a path");
        payload
            .put_for(Some(1234), "token", b"2".to_vec(), 0o600)
            .expect("a path");
        assert!(write(dir.path(), &payload, now()).expect("written"));
        let seen = |path: &str| {
            let metadata = fs::metadata(dir.path().join(path)).expect(path);
            let mode = metadata.mode() & 0o7777;
            (format!("{mode:o}"), metadata.uid(), metadata.gid())
        };
        assert_eq!(seen("d/a"), ("644".to_owned(), 0, 4321));
        assert_eq!(seen("token"), ("640".to_owned(), 1234, 4321));
        assert_eq!(seen("d"), ("2755".to_owned(), 0, 4321));
        assert_eq!(seen(""), ("2755".to_owned(), 0, 4321));
        assert!(!write(dir.path(), &payload, now()).expect("nothing to write"));
    }

    #[test]
    fn a_changed_mode_and_a_damaged_file_are_written_anew() {
        let dir = TempDir::new().expect("a directory");
        let first = payload(&[("a", "1")]);
        write(dir.path(), &first, now()).expect("written");
        fs::write(dir.path().join("a"), "").expect("damaged");
        assert!(write(dir.path(), &first, now()).expect("written"));
        let mut second = Payload::default();
        second.put("a", b"1".to_vec(), 0o400).expect("a path");
        assert!(write(dir.path(), &second, now()).expect("written"));
        assert_eq!(seen(dir.path()), wanted(&second));
    }

    /// Where a crash can leave a volume between two writes: with remains of a set that never became the volume's,
    /// a link that was not renamed, no links for users, or links to what is gone.
    fn crash(directory: &Path, how: u8) {
        if how & 1 != 0 {
            let set = directory.join("..2025_12_31_00_00_00.000000000/x");
            fs::create_dir_all(set).expect("a directory");
        }
        if how & 2 != 0 {
            let _ = symlink("..gone", directory.join(NEXT_DATA));
        }
        if how & 4 != 0 {
            for entry in fs::read_dir(directory).expect("a directory").flatten() {
                if !entry.file_name().to_string_lossy().starts_with("..") {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        if how & 8 != 0 {
            let _ = symlink("..data/stale", directory.join("stale"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn after_any_crash_the_next_write_leaves_exactly_its_files(
            sets in proptest::collection::vec(
                (proptest::collection::btree_map("[ab]{1,2}(/[ab]{1,2})?", "[xy]{0,2}", 0..4), 0..16_u8),
                1..5,
            ),
        ) {
            let dir = TempDir::new().expect("a directory");
            for (files, how) in sets {
                let mut payload = Payload::default();
                // A path cannot be a file and a directory at once.
                for (path, data) in &files {
                    if !files.keys().any(|other| other.starts_with(&format!("{path}/"))) {
                        payload.put(path, data.clone().into_bytes(), DEFAULT).expect("a path");
                    }
                }
                write(dir.path(), &payload, now()).expect("written");
                prop_assert_eq!(seen(dir.path()), wanted(&payload));
                let own = fs::read_dir(dir.path()).expect("a directory").flatten()
                    .filter(|entry| entry.file_name().to_string_lossy().starts_with("..")).count();
                prop_assert_eq!(own, 2, "the link and its set are all that is there");
                crash(dir.path(), how);
            }
        }
    }

    const DEFAULT: u32 = 0o644;
}
