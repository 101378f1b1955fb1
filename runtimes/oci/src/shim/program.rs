//! The shim's program. It is built with this crate, is a part of whatever the crate becomes a part of, and is put where
//! it can be run.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

static PROGRAM: &[u8] = include_bytes!(env!("WK_SHIM"));

const NAME: &str = "wk-shim-";

/// Puts the program into a directory, unless it is there, and says where. Others of former versions are
/// removed; shims that run of them run on.
///
/// # Errors
/// The file system's.
pub(crate) fn install(directory: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let digest = Sha256::digest(PROGRAM);
    let digest: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    let name = format!("{NAME}{digest}");
    let path = directory.join(&name);
    if fs::read(&path).ok().as_deref() != Some(PROGRAM) {
        let mut new = tempfile::NamedTempFile::new_in(directory)?;
        io::Write::write_all(&mut new, PROGRAM)?;
        new.as_file()
            .set_permissions(Permissions::from_mode(0o755))?;
        // Closed before it has its name: a file that is written to cannot be run.
        new.into_temp_path().persist(&path)?;
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let other = entry.file_name();
        if other != *name && other.to_string_lossy().starts_with(NAME) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_there_once_and_former_versions_go() {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        let path = install(&bin).unwrap();
        fs::write(bin.join("wk-shim-0123"), "former").unwrap();
        fs::write(bin.join("another"), "stays").unwrap();
        fs::write(&path, "half").unwrap();
        assert_eq!(install(&bin).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), PROGRAM);
        assert_eq!(fs::read_dir(&bin).unwrap().count(), 2);
        let ended = std::process::Command::new(&path).output().unwrap();
        assert_eq!(ended.status.code(), Some(2));
    }
}
