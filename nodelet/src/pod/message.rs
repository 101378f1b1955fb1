//! Termination messages: what a container leaves behind of its end.
//!
//! A container finds a file of its own at `terminationMessagePath`; at its end the nodelet reads the end of it, or of the
//! log where `terminationMessagePolicy` says so. What its runtime says of the end comes first.

use std::{
    io::SeekFrom,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Container;
use runtimes::{Exit, Mount};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tracing::warn;

use crate::logs::{self, Selection};

/// Where containers find the file if their spec does not say.
const DEFAULT_PATH: &str = "/dev/termination-log";
/// How much of the file is read, in bytes, from its end.
const MOST_OF_FILE: u64 = 4096;
/// How much of the log is read: lines, and bytes of them.
const LINES_OF_LOG: u64 = 80;
const MOST_OF_LOG: usize = 2048;

/// What the nodelet keeps of one attempt of a container.
pub(crate) fn directory(pods_dir: &Path, uid: &str, container: &str, attempt: u32) -> PathBuf {
    let containers = pods_dir.join(uid).join("containers");
    containers.join(container).join(attempt.to_string())
}

/// Makes the file, and says where the container finds it. `None` if the path is no path in a container.
pub(crate) async fn prepare(
    directory: &Path,
    container: &Container,
) -> std::io::Result<Option<Mount>> {
    let path = container.termination_message_path.as_deref();
    let destination = PathBuf::from(path.unwrap_or(DEFAULT_PATH));
    let plain = destination.components().all(|part| {
        use std::path::Component::{Normal, RootDir};
        matches!(part, Normal(_) | RootDir)
    });
    if !destination.is_absolute() || !plain {
        return Ok(None);
    }
    tokio::fs::create_dir_all(directory).await?;
    let source = file(directory);
    tokio::fs::write(&source, b"").await?;
    // Containers of any user write it.
    let permissions = std::fs::Permissions::from_mode(0o666);
    tokio::fs::set_permissions(&source, permissions).await?;
    Ok(Some(Mount::new(source, destination, false)))
}

fn file(directory: &Path) -> PathBuf {
    directory.join("termination-log")
}

/// Where one attempt of a container leaves its message.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) directory: PathBuf,
    /// Read if the container failed and left no message.
    pub(crate) log: Option<PathBuf>,
}

impl Sources {
    /// `exit` with the container's message; what was kept for it is removed.
    pub(crate) async fn complete(&self, mut exit: Exit) -> Exit {
        let mut left = end_of_file(&file(&self.directory)).await;
        if left.is_empty()
            && exit.code != 0
            && let Some(log) = &self.log
        {
            left = end_of_log(log).await;
        }
        if !left.is_empty() {
            if !exit.message.is_empty() {
                exit.message.push_str(": ");
            }
            exit.message.push_str(&left);
        }
        if let Err(error) = tokio::fs::remove_dir_all(&self.directory).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!(%error, directory = %self.directory.display(), "remove what was kept for a container");
        }
        exit
    }
}

async fn end_of_file(path: &Path) -> String {
    let read = async {
        // Opened for what it is: a container may have put something else in its place.
        let mut file = tokio::fs::File::options()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(path)
            .await?;
        let length = file.metadata().await?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST_OF_FILE)))
            .await?;
        let mut text = Vec::new();
        file.take(MOST_OF_FILE).read_to_end(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    match read.await {
        Ok(text) => text_of(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => format!("Error on reading termination message file: {error}"),
    }
}

async fn end_of_log(path: &Path) -> String {
    let selection = Selection {
        tail: Some(LINES_OF_LOG),
        ..Selection::default()
    };
    let read = async {
        let stream = logs::read(path, selection, None).await?;
        let mut stream = std::pin::pin!(stream);
        let mut text = Vec::new();
        while let Some(chunk) = stream.try_next().await? {
            text.extend_from_slice(&chunk);
            text.drain(..text.len().saturating_sub(MOST_OF_LOG));
        }
        Ok::<_, std::io::Error>(text)
    };
    match read.await {
        Ok(text) => text_of(&text),
        // It has written nothing at all.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => format!("Error reading termination message from logs: {error}"),
    }
}

/// What of the bytes is text: a character that begins before them, or is none, is replaced.
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn exit(code: i32, message: &str) -> Exit {
        Exit {
            code,
            reason: if code == 0 { "Completed" } else { "Error" },
            message: message.to_owned(),
            started_at: SystemTime::UNIX_EPOCH,
            finished_at: SystemTime::UNIX_EPOCH,
        }
    }

    /// The message of an exit, given what the container wrote to its file and to its log.
    #[track_caller]
    fn check(exit: Exit, file: Option<&str>, log: Option<&str>, expected: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let home = tempfile::TempDir::new().expect("a directory");
        let sources = Sources {
            directory: directory(home.path(), "uid", "c", 0),
            log: log.map(|_| home.path().join("0.log")),
        };
        let message = runtime.block_on(async {
            let mount = prepare(&sources.directory, &Container::default()).await;
            let mount = mount.expect("a file").expect("a mount");
            assert_eq!(mount.destination, Path::new(DEFAULT_PATH));
            if let Some(text) = file {
                std::fs::write(&mount.source, text).expect("write");
            }
            if let (Some(path), Some(text)) = (&sources.log, log) {
                std::fs::write(path, text).expect("write");
            }
            sources.complete(exit).await.message
        });
        assert_eq!(message, expected);
        assert!(!sources.directory.exists());
    }

    const LOG: &str = "2026-01-01T00:00:01Z stdout F said\n";

    #[test]
    fn what_the_file_says_is_the_message() {
        check(exit(1, ""), Some("done"), Some(LOG), "done");
        check(exit(1, "trapped"), Some("done"), None, "trapped: done");
        check(exit(1, "trapped"), None, None, "trapped");
    }

    #[test]
    fn only_the_end_of_a_long_file_is_kept() {
        let long = "a".repeat(100) + &"b".repeat(4096);
        check(exit(0, ""), Some(&long), None, &"b".repeat(4096));
    }

    #[tokio::test]
    async fn a_log_that_was_never_written_says_nothing() {
        assert_eq!(end_of_log(Path::new("/nonexistent/0.log")).await, "");
    }

    #[test]
    fn the_log_speaks_for_a_container_that_failed_in_silence() {
        check(exit(1, ""), None, Some(LOG), "said\n");
        check(exit(0, ""), None, Some(LOG), "");
        check(exit(1, ""), None, None, "");
        let lines = "2026-01-01T00:00:01Z stdout F 0123456789\n".repeat(300);
        check(exit(1, ""), None, Some(&lines), &"0123456789\n".repeat(80));
    }

    #[tokio::test]
    async fn a_path_that_leaves_its_place_gets_no_file() {
        let home = tempfile::TempDir::new().expect("a directory");
        for path in ["relative", "/a/../../etc/passwd"] {
            let container = Container {
                termination_message_path: Some(path.to_owned()),
                ..Container::default()
            };
            let mount = prepare(home.path(), &container).await.expect("no error");
            assert_eq!(mount, None);
        }
    }
}
