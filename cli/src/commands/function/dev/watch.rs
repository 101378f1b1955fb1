//! What `dev` looks at: the files of a project that a person writes. Looks again and again: that works on every file
//! system, and a project has few files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Directories that builds write to, or that hold no source; and all whose names begin with a dot.
const SKIPPED: [&str; 4] = ["target", "node_modules", "build", "__pycache__"];
/// What a build writes beside the source.
const WRITTEN: [&str; 3] = ["Cargo.lock", "package-lock.json", "go.sum"];
/// More files than this are no function's project.
const MOST: usize = 20_000;

/// When each file was changed last, and how long it is.
pub(super) type Files = BTreeMap<PathBuf, (SystemTime, u64)>;

/// What is looked at.
pub(super) enum Watched {
    File(PathBuf),
    Directory {
        path: PathBuf,
        /// Components in it are what a build made.
        is_built: bool,
    },
}

impl Watched {
    /// Waits until the files differ from what was seen, and then until they have come to rest.
    pub(super) async fn changed(&self, seen: &Files) -> Result<()> {
        let mut before = None;
        loop {
            let now = self.look()?;
            if before.as_ref() == Some(&now) {
                return Ok(());
            }
            before = (now != *seen).then_some(now);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The files as they are.
    ///
    /// # Errors
    /// The directory went, or holds too many.
    pub(super) fn look(&self) -> Result<Files> {
        match self {
            // An editor may take it away for a moment.
            Self::File(path) => Ok(stamp(path).into_iter().collect()),
            Self::Directory { path, is_built } => look(path, *is_built),
        }
    }
}

fn stamp(path: &Path) -> Option<(PathBuf, (SystemTime, u64))> {
    let about = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let time = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Some((path.to_owned(), (time, about.len())))
}

fn look(directory: &Path, is_built: bool) -> Result<Files> {
    let mut files = Files::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        let entries = match std::fs::read_dir(&next) {
            Ok(entries) => entries,
            // It went while this looked.
            Err(_) if next != directory => continue,
            Err(error) => return Err(error).with_context(|| format!("read {}", next.display())),
        };
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            if name.starts_with('.') {
                // Editors keep what is not saved yet in such files.
                continue;
            }
            if path.is_dir() {
                if !SKIPPED.contains(&&*name) {
                    left.push(path);
                }
                continue;
            }
            let is_made = is_built && name.ends_with(".wasm");
            if !is_made && !WRITTEN.contains(&&*name) {
                files.extend(stamp(&path));
            }
            if files.len() > MOST {
                bail!(
                    "{}: more than {MOST} files: this is no function's project",
                    directory.display()
                );
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_writes_is_watched_and_what_a_build_writes_is_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "src/main.rs",
            "Cargo.toml",
            "Cargo.lock",
            "target/x.rs",
            ".main.rs.swp",
            ".git/HEAD",
            "function.wasm",
            "wit/function.wit",
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let seen = |is_built| -> Vec<String> {
            let path = dir.path().to_owned();
            let files = Watched::Directory { path, is_built }.look().unwrap();
            let names = files.keys().map(|path| path.strip_prefix(dir.path()));
            names
                .map(|name| name.unwrap().display().to_string())
                .collect()
        };
        assert_eq!(
            seen(true),
            ["Cargo.toml", "src/main.rs", "wit/function.wit"]
        );
        assert!(seen(false).contains(&"function.wasm".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_the_files_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wat");
        let watched = Watched::File(path.clone());
        std::fs::write(&path, "1").unwrap();
        let seen = watched.look().unwrap();
        // Nothing changed: it waits.
        let early = tokio::time::timeout(10 * LOOK, watched.changed(&seen)).await;
        assert!(early.is_err());
        std::fs::write(&path, "12").unwrap();
        watched.changed(&seen).await.unwrap();
        // It went, and came back as it was seen: no change.
        let seen = watched.look().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_ne!(watched.look().unwrap(), seen);
    }
}
