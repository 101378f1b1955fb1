//! What `docs/postgres.md` says of backups: a dump of the schema, restored elsewhere, is the same store.

use std::process::{Command, Stdio};

use postgres_server::Database;
use store::{Revision, Store, Token};

use crate::{create_database, sharing::create};

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
}

async fn restored(from: &Database) -> Database {
    let into = create_database().await;
    let directory = tempfile::tempdir().unwrap();
    let dump = directory.path().join("wk.dump");
    run(Command::new("pg_dump")
        .args(["--format=custom", "--schema=wk", "--file"])
        .arg(&dump)
        .arg(&from.url));
    run(Command::new("pg_restore")
        .args(["--no-owner", "--exit-on-error"])
        .arg(format!("--dbname={}", into.url))
        .arg(&dump));
    into
}

#[tokio::test]
async fn a_restored_dump_is_the_same_store_and_goes_on() {
    let database = create_database().await;
    let original = store_postgres::connect(&database.url).await.unwrap();
    for (token, name) in [(1, "a"), (2, "b")] {
        original.write(Token(token), &[create(name)]).await.unwrap();
    }
    let copy = restored(&database).await;
    let copy = store_postgres::connect(&copy.url).await.unwrap();
    assert_eq!(copy.cluster_id(), original.cluster_id());
    let (before, after) = (
        original.changes(Revision(0), 10).await.unwrap(),
        copy.changes(Revision(0), 10).await.unwrap(),
    );
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    copy.write(Token(3), &[create("c")]).await.unwrap();
    assert_eq!(copy.revision().await.unwrap(), Revision(3));
}

#[tokio::test]
async fn a_process_that_outlived_a_restore_does_not_write() {
    let database = create_database().await;
    let store = store_postgres::connect(&database.url).await.unwrap();
    database.query(
        "UPDATE wk.meta SET incarnation = incarnation + 1;
         SELECT pg_terminate_backend(pid)
         FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    // The first call finds its session ended.
    store.write(Token(1), &[create("a")]).await.unwrap_err();
    let error = store.write(Token(2), &[create("b")]).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the database changed beneath this process"),
        "{error}"
    );
}
