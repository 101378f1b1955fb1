//! Images that are files on the node: `file:///absolute/path.wasm`, `file://relative/path.wat`.
//!
//! A relative path is relative to the working directory of the process. Nothing is ever written here.

use std::{
    fs::Metadata,
    io::{ErrorKind, Read},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::index::FileStamp;

/// The path that a reference names, if it is one to a file.
pub(super) fn find_path(reference: &str) -> Option<PathBuf> {
    reference.strip_prefix("file://").map(PathBuf::from)
}

/// Identifies the file's present content; `None` if it cannot be read.
pub(super) fn find_stamp(path: &Path) -> Option<FileStamp> {
    std::fs::metadata(path)
        .ok()
        .map(|metadata| stamp(&metadata))
}

/// Reads a file of at most `max_bytes`.
pub(super) fn read(path: &Path, max_bytes: u64) -> Result<(Vec<u8>, FileStamp), String> {
    let shown = path.display();
    if path.as_os_str().is_empty() {
        return Err("file:// names no file: write file:///absolute/path.wasm".to_owned());
    }
    let in_words = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => format!("file {} does not exist", absolute(path).display()),
        ErrorKind::PermissionDenied => format!("file {shown} may not be read by this process"),
        _ => format!("file {shown}: {error}"),
    };
    let irregular = || format!("{shown} is not a regular file");
    // Looked at first: opening alone sets some devices going, and waits for a pipe's other end.
    if !std::fs::metadata(path).map_err(in_words)?.is_file() {
        return Err(irregular());
    }
    let file = std::fs::File::options()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path)
        .map_err(in_words)?;
    let metadata = file.metadata().map_err(in_words)?;
    if !metadata.is_file() {
        return Err(irregular());
    }
    if metadata.len() > max_bytes {
        return Err(super::too_big(metadata.len(), max_bytes));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(max_bytes)
        .read_to_end(&mut bytes)
        .map_err(in_words)?;
    Ok((bytes, stamp(&metadata)))
}

fn stamp(metadata: &Metadata) -> FileStamp {
    FileStamp {
        size_bytes: metadata.len(),
        modified_nanos: i128::from(metadata.mtime()) * 1_000_000_000
            + i128::from(metadata.mtime_nsec()),
        inode: metadata.ino(),
    }
}

/// As a user can look it up, whatever the process' working directory is.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
