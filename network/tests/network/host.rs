//! Hosts for tests: the test binary again, in a private network and mount namespace, so the real host is
//! never touched.

use std::{
    env,
    fs::File,
    io::{self, ErrorKind},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use network::{Config, Handle, Mode, Network};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns},
    unistd::geteuid,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;

const PRIVATE: &str = "WK_NETWORK_TEST_IS_PRIVATE";

/// Runs the body of a test (by its path in this binary) in a host of its own. An ordinary user is root there by a user namespace.
#[track_caller]
pub(crate) fn in_private_host<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if env::var_os(PRIVATE).is_some() {
        mount(
            Some("tmpfs"),
            "/run",
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        return runtime
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(body());
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount"]);
    if !geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    unshare
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"]);
    let output = unshare
        .env(PRIVATE, "1")
        .output()
        .expect("unshare (util-linux) is installed");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "in a private namespace (needs root, or user namespaces for ordinary users):\n{said}"
    );
}

/// A node that runs.
pub(crate) struct Running {
    pub(crate) cluster: Cluster,
    pub(crate) handle: Handle,
    _tasks: JoinSet<anyhow::Result<()>>,
}

pub(crate) async fn start(cluster: &Cluster) -> Running {
    start_node(cluster, "a", "10.64.0.0/18").await
}

pub(crate) async fn start_node(cluster: &Cluster, name: &str, pods: &str) -> Running {
    let config = Config {
        node_name: name.to_owned(),
        mode: Mode::Privileged,
        pod_range: Some(pods.parse().unwrap()),
        cluster_pod_range: "10.64.0.0/10".parse().unwrap(),
        service_range: "10.43.0.0/16".parse().unwrap(),
        cluster_domain: "cluster.local".to_owned(),
        gateway: true,
        state_dir: "/nonexistent".into(),
    };
    let (handle, network) = Network::start(config, cluster.client()).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(network.run(CancellationToken::new()));
    Running {
        cluster: cluster.clone(),
        handle,
        _tasks: tasks,
    }
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn answered(seen: &io::Result<String>) -> bool {
    seen.is_ok()
}

pub(crate) fn refused(seen: &io::Result<String>) -> bool {
    seen.as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// A command's output; it must succeed.
pub(crate) fn run(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn serve_on_host(listener: std::net::TcpListener) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let peer = client.peer_addr().unwrap().ip();
            let _ = io::Write::write_all(&mut client, format!("host {peer}").as_bytes());
        }
    });
    address
}

/// Runs `work` on a thread in the network namespace kept at a path.
pub(crate) fn within<T: Send + 'static>(
    namespace: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let namespace = File::open(namespace).unwrap();
    let entered = move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    std::thread::spawn(entered).join().unwrap()
}

/// A machine beside this host, at 192.0.2.2, where the host is 192.0.2.1; what keeps its namespace.
pub(crate) fn neighbour() -> PathBuf {
    for command in [
        "ip netns add outside",
        "ip link add up0 type veth peer name up0 netns outside",
        "ip address add 192.0.2.1/24 dev up0",
        "ip link set up0 up",
        "ip -n outside address add 192.0.2.2/24 dev up0",
        "ip -n outside link set up0 up",
    ] {
        run(command);
    }
    "/run/netns/outside".into()
}
