//! One process per data directory, by an advisory lock on a file in it.
//!
//! The kernel drops the lock with the process, however it ends; the file stays. Its text, the holder's
//! process id, is for the message only.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::Path,
};

use crate::OpenError;

/// The file that is locked.
const FILE: &str = "store.lock";

/// Holds the directory until it is dropped.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(directory: &Path) -> Result<Self, OpenError> {
        let unwritable = |source| OpenError::Unwritable {
            directory: directory.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(FILE))
            .map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without a readable id the message is only less exact.
                drop(file.read_to_string(&mut holder));
                return Err(OpenError::InUse {
                    directory: directory.to_owned(),
                    pid: holder.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        file.set_len(0).map_err(unwritable)?;
        writeln!(file, "{}", std::process::id()).map_err(unwritable)?;
        Ok(Self { _file: file })
    }
}
