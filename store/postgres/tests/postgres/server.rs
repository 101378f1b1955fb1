//! A Postgres server for this test process, and a database for each test.
//!
//! `WK_TEST_POSTGRES_URL` names a server to use instead. The private one listens on a socket in a
//! directory of its own; a shell holds it, and stops it when this process ends, however that ends.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Starts a server in `$1` with the programs in `$2`, says so, and ends it with its own input.
const SCRIPT: &str = r#"
    set -e
    trap 'rm -rf "$1"' EXIT
    run=
    if [ "$(id -u)" = 0 ]; then
        chown postgres "$1"
        run='setpriv --reuid=postgres --regid=postgres --clear-groups'
    fi
    cd "$1"
    $run "$2/initdb" -D "$1/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$1/log" 2>&1
    $run "$2/postgres" -D "$1/data" -F -k "$1" -c listen_addresses= -c max_connections=400 \
        >>"$1/log" 2>&1 </dev/null &
    server=$!
    for _ in $(seq 600); do
        if "$2/pg_isready" -q -h "$1" -U postgres; then echo ready; break; fi
        kill -0 $server || { cat "$1/log" >&2; exit 1; }
        sleep 0.05
    done
    cat >/dev/null
    kill -INT $server
    wait $server || true
"#;
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// The server of this process; dropped by nobody, it ends when the pipe to it does.
struct Server {
    base: String,
    _shell: Option<Child>,
}

/// An empty database of one test.
pub(crate) struct Database {
    pub(crate) url: String,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var("WK_TEST_POSTGRES_URL") {
        Ok(base) => Server { base, _shell: None },
        Err(_) => start(),
    })
}

fn start() -> Server {
    let directory = tempfile::Builder::new()
        .prefix("wk-pg-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap()
        .keep();
    let directory = directory.to_str().unwrap();
    let mut shell = Command::new("sh")
        .args(["-c", SCRIPT, "sh", directory, PROGRAMS])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let output = shell.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n", "the server started");
    Server {
        base: format!("postgres://postgres@localhost/postgres?host={directory}"),
        _shell: Some(shell),
    }
}

impl Database {
    pub(crate) async fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = &tokio::task::spawn_blocking(server).await.unwrap().base;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wk_{}_{number}", std::process::id());
        let mut admin = PgConnection::connect(base).await.unwrap();
        admin
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .unwrap();
        let (start, options) = base.split_once('?').unwrap_or((base, ""));
        let (host, _) = start.rsplit_once('/').unwrap();
        Self {
            url: format!("{host}/{name}?{options}"),
        }
    }

    /// A session for a test's own questions.
    pub(crate) async fn session(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }
}
