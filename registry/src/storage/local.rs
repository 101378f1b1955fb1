//! What writes that broke off leave in a directory: files named `NAME#NUMBER`, which are no objects.

use std::{
    io,
    path::Path,
    time::{Duration, SystemTime},
};

/// Removes those that nobody has written to for `min_age`; how many.
pub(crate) fn sweep(root: &Path, min_age: Duration) -> io::Result<u64> {
    let mut removed = 0;
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            // Removed with its last object.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                directories.push(entry.path());
                continue;
            }
            let name = entry.file_name();
            let is_remains = name
                .to_string_lossy()
                .rsplit_once('#')
                .is_some_and(|(_, number)| {
                    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
                });
            let written = metadata.modified()?;
            let age = SystemTime::now()
                .duration_since(written)
                .unwrap_or_default();
            if is_remains && age >= min_age {
                std::fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_remains_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("blobs/sha256");
        std::fs::create_dir_all(&below).unwrap();
        for name in ["ab", "ab#1", "ab#x", "c#12"] {
            std::fs::write(below.join(name), "").unwrap();
        }
        assert_eq!(sweep(dir.path(), Duration::from_secs(60)).unwrap(), 0);
        assert_eq!(sweep(dir.path(), Duration::ZERO).unwrap(), 2);
        assert!(below.join("ab").exists() && below.join("ab#x").exists());
    }
}
