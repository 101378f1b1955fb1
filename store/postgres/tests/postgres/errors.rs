//! Why a database cannot be used is one sentence that says what to do, and never has the password.

use std::time::Duration;

use expect_test::{Expect, expect};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use crate::create_database;

/// What the error says, with `names` in place of what differs between runs.
async fn check(url: &str, names: &[(&str, &str)], expected: Expect) {
    let Err(error) = store_postgres::connect(url).await else {
        panic!("the database can be used");
    };
    let everything = format!("{error} {error:?}");
    assert!(!everything.contains("secret"), "{everything}");
    let message = error.to_string();
    let mut message = message
        .strip_prefix("the store is unavailable: ")
        .unwrap_or(&message)
        .to_owned();
    for (value, name) in names {
        message = message.replace(value, name);
    }
    expected.assert_eq(&message);
}

/// Where the server listens, which its messages name.
fn socket(url: &str) -> &str {
    url.split_once("host=").map_or("", |(_, path)| path)
}

#[tokio::test]
async fn what_is_no_url_is_told_its_form() {
    for url in [
        "not a url with secret in it",
        "mysql://wk:secret@127.0.0.1/wk",
        "postgres://wk:secret@127.0.0.1:port/wk",
    ] {
        check(
            url,
            &[],
            expect!["the database URL is not of the form postgres://user:password@host/database"],
        )
        .await;
    }
}

#[tokio::test]
async fn an_unreachable_server_is_named() {
    check(
        "postgres://wk:secret@127.0.0.1:1/wk",
        &[],
        expect!["Postgres cannot be reached at 127.0.0.1:1 (Connection refused (os error 111)): check the host and the port"],
    )
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_told_with_the_user() {
    let database = create_database().await;
    let url = database.url_of("guarded:secret");
    check(
        &url,
        &[(socket(&url), "SOCKET")],
        expect![[r#"Postgres at SOCKET does not let user "guarded" in: check the user, the password and pg_hba.conf"#]],
    )
    .await;
}

#[tokio::test]
async fn a_missing_database_is_named_with_how_to_make_it() {
    let database = create_database().await;
    let url = database.sibling("nowhere");
    check(
        &url,
        &[(socket(&url), "SOCKET")],
        expect![[r#"there is no database "nowhere" at SOCKET: make it with CREATE DATABASE "nowhere" OWNER "postgres""#]],
    )
    .await;
}

#[tokio::test]
async fn a_user_without_the_right_to_write_is_told_which_it_lacks() {
    let database = create_database().await;
    let names = [
        (database.name(), "DATABASE"),
        (socket(&database.url), "SOCKET"),
    ];
    let url = database.url_of("guarded:guarded");
    check(&url, &names, expect![[
        r#"user "guarded" may not write to database "DATABASE" at SOCKET: make it the owner with ALTER DATABASE "DATABASE" OWNER TO "guarded""#
    ]]).await;
    // The tables are there, and may be read.
    drop(store_postgres::connect(&database.url).await.unwrap());
    let grant =
        "GRANT USAGE ON SCHEMA wk TO guarded; GRANT SELECT ON ALL TABLES IN SCHEMA wk TO guarded";
    database.query(grant);
    check(&url, &names, expect![[
        r#"user "guarded" may not write to database "DATABASE" at SOCKET: make it the owner with ALTER DATABASE "DATABASE" OWNER TO "guarded""#
    ]]).await;
}

#[tokio::test]
async fn a_database_that_is_read_only_is_told_so() {
    let database = create_database().await;
    database.query(&format!(
        "ALTER DATABASE {} SET default_transaction_read_only = on",
        database.name()
    ));
    check(
        &database.url,
        &[
            (database.name(), "DATABASE"),
            (socket(&database.url), "SOCKET"),
        ],
        expect![[
            r#"database "DATABASE" at SOCKET is read-only: name the primary server, not a standby"#
        ]],
    )
    .await;
}

#[tokio::test]
async fn a_database_of_a_newer_wk_is_refused() {
    let database = create_database().await;
    drop(store_postgres::connect(&database.url).await.unwrap());
    database.query(
        "INSERT INTO wk.migrations (version, description, success, checksum, execution_time)
         VALUES (999, 'later', true, '', 0)",
    );
    check(
        &database.url,
        &[],
        expect![
            "the database was brought to version 999 by a newer wk: start that one, or a newer"
        ],
    )
    .await;
}

/// The old server is a greeting: more is not asked of it.
#[tokio::test]
async fn an_old_server_is_refused_before_anything_is_changed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut startup = [0; 4];
        client.read_exact(&mut startup).await.unwrap();
        let mut rest = vec![0; u32::from_be_bytes(startup) as usize - 4];
        client.read_exact(&mut rest).await.unwrap();
        let mut greeting = b"R\0\0\0\x08\0\0\0\0".to_vec();
        greeting.extend(b"S\0\0\0\x18server_version\x0013.9\0");
        greeting.extend(b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x01Z\0\0\0\x05I");
        client.write_all(&greeting).await.unwrap();
        // Until the client hangs up.
        let mut asked = Vec::new();
        let end = client.read_to_end(&mut asked);
        drop(tokio::time::timeout(Duration::from_secs(10), end).await);
        assert!(
            !asked.contains(&b'Q') && !asked.contains(&b'P'),
            "{asked:?}"
        );
    });
    let url = format!("postgres://wk:secret@{address}/wk?sslmode=disable");
    check(
        &url,
        &[(&address.to_string(), "SERVER")],
        expect!["Postgres at SERVER is version 13: wk needs 14 or newer"],
    )
    .await;
    server.join_next().await.unwrap().unwrap();
}
