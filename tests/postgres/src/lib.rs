//! A Postgres server for tests: one a process, and an empty database for each test.
//!
//! `WK_TEST_POSTGRES_URL` names a server to use instead. The private one listens on a socket in a
//! directory of its own; a shell holds it, and stops it when this process ends, however that ends.
//! It trusts every user but [`GUARDED`], who must show a password.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// A user of the private server who has the password `guarded`.
pub const GUARDED: &str = "guarded";

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
    { echo 'local all guarded scram-sha-256'; cat "$1/data/pg_hba.conf"; } >"$1/hba"
    cat "$1/hba" >"$1/data/pg_hba.conf"
    $run "$2/postgres" -D "$1/data" -F -k "$1" -c listen_addresses= -c max_connections=400 \
        >>"$1/log" 2>&1 </dev/null &
    server=$!
    for _ in $(seq 600); do
        if "$2/psql" -qh "$1" -U postgres -c "CREATE ROLE guarded LOGIN PASSWORD 'guarded'" \
            >/dev/null 2>&1; then echo ready; break; fi
        kill -0 $server || { cat "$1/log" >&2; exit 1; }
        sleep 0.05
    done
    cat >/dev/null
    kill -INT $server
    wait $server || true
"#;

/// The server of this process; dropped by nobody, it ends when the pipe to it does.
struct Server {
    base: String,
    _shell: Option<Child>,
}

/// An empty database of one test.
#[derive(Clone, Debug)]
pub struct Database {
    /// `postgres://…`, with all rights.
    pub url: String,
    name: String,
}

impl Database {
    /// Makes one; the first call of a process starts the server.
    ///
    /// # Panics
    /// When there is no Postgres on this host, or it does not start.
    pub fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wk_{}_{number}", std::process::id());
        let base = &server().base;
        query(base, &format!("CREATE DATABASE {name}"));
        Self {
            url: with_database(base, &name),
            name,
        }
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL of another database on the same server.
    pub fn sibling(&self, name: &str) -> String {
        with_database(&self.url, name)
    }

    /// The URL with another user in it: `name` or `name:password`.
    pub fn url_of(&self, user: &str) -> String {
        let (_, rest) = self.url.split_once('@').expect("the URL names a user");
        format!("postgres://{user}@{rest}")
    }

    /// Runs SQL by `psql` and answers what it printed, unadorned.
    ///
    /// # Panics
    /// When it fails.
    pub fn query(&self, sql: &str) -> String {
        query(&self.url, sql)
    }

    /// Lets nobody in, and ends who is in: to its users, the server is away.
    ///
    /// # Panics
    /// When it fails.
    pub fn shut(&self) {
        let (admin, name) = (self.sibling("postgres"), &self.name);
        query(
            &admin,
            &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
        );
        query(
            &admin,
            &format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            ),
        );
    }

    /// Lets everybody in again.
    ///
    /// # Panics
    /// When it fails.
    pub fn open(&self) {
        let (admin, name) = (self.sibling("postgres"), &self.name);
        query(
            &admin,
            &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"),
        );
    }
}

fn with_database(url: &str, name: &str) -> String {
    let (start, options) = url.split_once('?').unwrap_or((url, ""));
    let (host, _) = start.rsplit_once('/').expect("the URL names a database");
    format!("{host}/{name}?{options}")
}

fn query(url: &str, sql: &str) -> String {
    let output = Command::new("psql")
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", url, "-c", sql])
        .stdin(Stdio::null())
        .output()
        .expect("psql runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sql}: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var("WK_TEST_POSTGRES_URL") {
        Ok(base) => Server { base, _shell: None },
        Err(_) => start(&programs()),
    })
}

fn start(programs: &Path) -> Server {
    let directory = tempfile::Builder::new()
        .prefix("wk-pg-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .expect("a temporary directory")
        .keep();
    let mut shell = Command::new("sh")
        .args(["-c", SCRIPT, "sh"].map(OsStr::new))
        .args([directory.as_os_str(), programs.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh runs");
    let mut ready = String::new();
    let output = shell.stdout.take().expect("stdout is piped");
    BufReader::new(output)
        .read_line(&mut ready)
        .expect("the shell says how it went");
    assert_eq!(ready, "ready\n", "the server started");
    Server {
        base: format!(
            "postgres://postgres@localhost/postgres?host={}",
            directory.display()
        ),
        _shell: Some(shell),
    }
}

/// The programs of the newest Postgres that is installed as Debian does it.
fn programs() -> PathBuf {
    let version = |path: &PathBuf| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    installed
        .filter(|path| version(path).is_some() && path.join("bin/initdb").is_file())
        .max_by_key(version)
        .expect("Postgres is installed (apt-get install postgresql), or WK_TEST_POSTGRES_URL set")
        .join("bin")
}
