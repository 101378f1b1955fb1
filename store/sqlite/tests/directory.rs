//! The data directory: who may open it, and what is found there after a crash.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use bytes::Bytes;
use expect_test::{Expect as Text, expect};
use store::{Commit, Expect, Group, Key, Op, ResourceKey, Revision, Store, Token};

fn key(name: &str) -> Key {
    ResourceKey::new("", "pods").key("default", name)
}

fn create(name: &str) -> Group {
    let op = Op::Put {
        key: key(name),
        expect: Expect::Absent,
        value: Bytes::copy_from_slice(name.as_bytes()),
    };
    Group { ops: vec![op] }
}

/// Checks what a user reads when `directory` cannot be opened.
async fn check(directory: &Path, root: &Path, expected: Text) {
    let error = store_sqlite::open(directory).await.err().unwrap();
    let text = error
        .to_string()
        .replace(&root.display().to_string(), "DIR")
        .replace(&std::process::id().to_string(), "PID");
    expected.assert_eq(&text);
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_sqlite::open(directory.path()).await.unwrap();
    check(
        directory.path(),
        directory.path(),
        expect!["the data directory DIR is in use by another wk process (pid PID)"],
    )
    .await;
    drop(store);
    store_sqlite::open(directory.path()).await.unwrap();
}

#[tokio::test]
async fn a_damaged_database_is_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("store.db"), "x".repeat(10_000)).unwrap();
    check(
        directory.path(),
        directory.path(),
        expect!["the database DIR/store.db is damaged (file is not a database): restore it from a backup or move it away"],
    )
    .await;
}

#[tokio::test]
async fn a_database_of_which_pages_were_overwritten_is_one_sentence() {
    let whole = tempfile::tempdir().unwrap();
    let store = store_sqlite::open(whole.path()).await.unwrap();
    store.write(Token(1), &[create("a")]).await.unwrap();
    // A copy without the log: the store's connections may still write to their own file as they close.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    fs::copy(whole.path().join("store.db"), &path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.resize(bytes.len().max(40_960), 0);
    bytes[100..].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    check(
        directory.path(),
        directory.path(),
        expect!["the database DIR/store.db is damaged (database disk image is malformed): restore it from a backup or move it away"],
    )
    .await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    check(
        &file.join("data"),
        directory.path(),
        expect!["the data directory DIR/file/data is not writable"],
    )
    .await;
}

#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("data");
    let store = store_sqlite::open(&directory).await.unwrap();
    store.write(Token(1), &[create("a")]).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for file in ["store.db", "store.db-wal"] {
        assert_eq!(mode(&directory.join(file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_reopened_store_is_the_same_store() {
    let directory = tempfile::tempdir().unwrap();
    let first = store_sqlite::open(directory.path()).await.unwrap();
    let cluster_id = first.cluster_id().to_owned();
    drop(first);
    let again = store_sqlite::open(directory.path()).await.unwrap();
    assert_eq!(again.cluster_id(), cluster_id);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = store_sqlite::open(elsewhere.path()).await.unwrap();
    assert_ne!(other.cluster_id(), cluster_id);
}

const CRASH_DIRECTORY: &str = "WK_TEST_CRASH_DIRECTORY";

/// The process that is killed by the test below; nothing by itself.
#[tokio::test]
async fn a_writer_says_what_was_acknowledged() {
    let Some(directory) = std::env::var_os(CRASH_DIRECTORY) else {
        return;
    };
    let store = store_sqlite::open(Path::new(&directory)).await.unwrap();
    let start = store.revision().await.unwrap().0;
    let mut output = std::io::stdout().lock();
    writeln!(output).unwrap();
    for n in start.. {
        let groups = [create(&format!("p{n}"))];
        let commits = store.write(Token(n), &groups).await.unwrap();
        assert_eq!(commits, [Commit::Done(vec![Revision(n + 1)])]);
        writeln!(output, "acknowledged {}", n + 1).unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_writer_says_what_was_acknowledged",
                "--nocapture",
            ])
            .env(CRASH_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut revisions = lines.filter_map(|line| {
            let revision = line.unwrap().strip_prefix("acknowledged ")?.parse().ok();
            revision.map(|revision: u64| revision)
        });
        acknowledged = revisions.by_ref().nth(round * 13).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // What the pipe still had was acknowledged too.
        acknowledged = revisions.last().unwrap_or(acknowledged).max(acknowledged);

        let store = store_sqlite::open(directory.path()).await.unwrap();
        let newest = store.revision().await.unwrap();
        assert!(newest.0 >= acknowledged, "{newest} of {acknowledged}");
        let history = store.changes(Revision(0), 100_000).await.unwrap();
        assert_eq!(history.len() as u64, newest.0);
        for (n, change) in (0..).zip(history) {
            assert_eq!(change.entry.revision, Revision(n + 1));
            assert_eq!(change.entry.key, key(&format!("p{n}")));
            assert_eq!(change.entry.value, format!("p{n}"));
        }
        let page = store.list("", None, None, 100_000).await.unwrap();
        assert_eq!(page.entries.len() as u64, newest.0);
    }
    assert!(acknowledged > 5 * 13);
}
