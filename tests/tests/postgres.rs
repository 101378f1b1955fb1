//! Several `wk` processes on one Postgres: one cluster, whichever of them is asked.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use e2e::{Cluster, Image, Options, Registry, Sandbox, eventually, example};
use postgres_server::Database;

const SOON: Duration = Duration::from_secs(60);
/// How long a lease holds, how often it is looked at, and what a busy machine adds.
const TAKEOVER: Duration = Duration::from_secs(15 + 2 + 8);
const LEASES: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// Where the gateways of `a` and `b` listen.
const GATEWAYS: [u16; 2] = [8080, 8081];

/// Processes `a` and `b` in one sandbox.
struct Pair {
    a: Cluster,
    b: Cluster,
    database: Database,
}

impl Pair {
    fn start() -> Self {
        let database = Database::create();
        let sandbox = Arc::new(Sandbox::new());
        let process = |name: &str, port, gateway| {
            let arguments = [
                format!("--database={}", database.url),
                format!("--node-name={name}"),
                format!("--gateway-listen=127.0.0.1:{gateway}"),
            ];
            let options = Options {
                arguments: arguments.to_vec(),
                port: Some(port),
                ..Options::default()
            };
            Cluster::prepare_in(sandbox.clone(), options)
        };
        let [of_a, of_b] = GATEWAYS;
        let (mut a, mut b) = (process("a", 6443, of_a), process("b", 6444, of_b));
        // Both at once: one of them makes the tables and the authority.
        a.spawn();
        b.up();
        a.wait_ready();
        Self { a, b, database }
    }

    /// Starts the Deployment of the example with a number of pods, and waits for them.
    fn start_hello(&self, replicas: u32) {
        self.a
            .kubectl(&["apply", "-f", &example("hello.yaml")])
            .ok();
        let replicas = format!("--replicas={replicas}");
        self.b
            .kubectl(&["scale", "deployment/hello", &replicas])
            .ok();
        self.b
            .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
            .ok();
    }
}

/// Creates a ConfigMap through one of the processes.
fn create(cluster: &Cluster, name: &str) {
    let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n");
    let path = cluster.manifest(&format!("{name}.yaml"), &text);
    cluster.kubectl(&["create", "-f", &path]).ok();
}

/// The name of the process that holds a lease, if one does.
fn holder(cluster: &Cluster, lease: &str) -> Option<String> {
    let path = "jsonpath={.spec.holderIdentity}";
    let output = cluster.kubectl(&["-n", "kube-system", "get", "lease", lease, "-o", path]);
    let (node, _) = output.stdout.split_once('_')?;
    Some(node.to_owned())
}

/// Pods of the example that are Ready, by node.
fn ready_pods(cluster: &Cluster) -> BTreeMap<String, BTreeSet<String>> {
    let path = r#"jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
    let output = cluster
        .kubectl(&["get", "pods", "-l", "app=hello", "-o", path])
        .ok();
    let mut pods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in output.lines() {
        if let [pod, node, "True"] = line.split(' ').collect::<Vec<_>>()[..] {
            pods.entry(node.to_owned())
                .or_default()
                .insert(pod.to_owned());
        }
    }
    pods
}

/// `kubectl get configmaps --watch` of one process, into a file.
struct Watch {
    process: Child,
    file: tempfile::NamedTempFile,
}

impl Watch {
    fn start(cluster: &Cluster) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = r#"jsonpath={.metadata.resourceVersion} {.metadata.name}{"\n"}"#;
        let process = cluster
            .sandbox
            .command("kubectl")
            .arg(format!("--kubeconfig={}", cluster.kubeconfig().display()))
            .args(["get", "configmaps", "--watch", "-o", path])
            .stdout(File::create(file.path()).unwrap())
            .spawn()
            .unwrap();
        Self { process, file }
    }

    /// What it has shown so far, but for what every namespace has: revision and name.
    fn seen(&self) -> Vec<(u64, String)> {
        let text = std::fs::read_to_string(self.file.path()).unwrap();
        let (complete, _) = text.rsplit_once('\n').unwrap_or_default();
        complete
            .lines()
            .map(|line| {
                let (revision, name) = line.split_once(' ').unwrap();
                (revision.parse().unwrap(), name.to_owned())
            })
            .filter(|(_, name)| name != "kube-root-ca.crt")
            .collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn two_processes_show_the_same_writes_in_the_same_order() {
    const WRITES: usize = 30;
    let pair = Pair::start();
    let (a, b) = (&pair.a, &pair.b);
    // A first object, so that both watches are known to run.
    create(a, "first");
    let watches = [Watch::start(a), Watch::start(b)];
    for watch in &watches {
        eventually(SOON, || match watch.seen()[..] {
            [] => Err("nothing is seen".to_owned()),
            _ => Ok(()),
        });
    }
    let mut expected = vec!["first".to_owned()];
    for n in 0..WRITES {
        let name = format!("n{n:02}");
        let writer = if n % 2 == 0 { a } else { b };
        create(writer, &name);
        expected.push(name);
    }
    let [of_a, of_b] = watches.map(|watch| {
        eventually(SOON, || {
            let seen = watch.seen();
            let enough = seen.len() > WRITES;
            enough.then_some(()).ok_or_else(|| format!("{seen:?}"))
        });
        watch.seen()
    });
    assert_eq!(of_a, of_b);
    assert!(of_a.is_sorted_by(|one, next| one.0 < next.0), "{of_a:?}");
    let names: Vec<String> = of_a.into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, expected);
}

#[test]
fn pods_of_two_nodes_on_one_host_answer_through_one_service() {
    let pair = Pair::start();
    let (a, b) = (&pair.a, &pair.b);
    let node = |name: &str| {
        let path = r#"jsonpath={.spec.podCIDR} {.status.conditions[?(@.type=="Ready")].status}"#;
        eventually(SOON, || {
            let output = a.kubectl(&["get", "node", name, "-o", path]);
            match output.stdout.split_once(' ') {
                Some((range, "True")) if !range.is_empty() => Ok(range.to_owned()),
                _ => Err(format!("{output:?}")),
            }
        })
    };
    assert_ne!(node("a"), node("b"));

    pair.start_hello(4);
    let pods = ready_pods(a);
    let counts: Vec<_> = pods
        .iter()
        .map(|(node, pods)| (&node[..], pods.len()))
        .collect();
    assert_eq!(counts, [("a", 2), ("b", 2)]);

    let url = b.service_url("hello");
    let mut answered = BTreeSet::new();
    eventually(SOON, || {
        let body = a.curl(&[&url]);
        answered.insert(body.stdout.trim().to_owned());
        let all = pods
            .values()
            .flatten()
            .all(|pod| answered.iter().any(|body| body.contains(pod.as_str())));
        all.then_some(())
            .ok_or_else(|| format!("{answered:?} {}", body.stderr))
    });
    assert_eq!(answered.len(), 4, "every request is answered: {answered:?}");

    // Each apiserver reaches the other process' nodelet, by mutual TLS.
    for (asked, node) in [(a, "b"), (b, "a"), (a, "a")] {
        for pod in &pods[node] {
            asked.kubectl(&["logs", pod]).ok();
        }
    }
}

#[test]
fn when_the_leader_is_killed_the_other_takes_over() {
    let mut pair = Pair::start();
    pair.start_hello(2);
    for lease in LEASES {
        eventually(SOON, || {
            holder(&pair.a, lease).ok_or("nobody leads".to_owned())
        });
        assert_eq!(holder(&pair.a, lease), holder(&pair.b, lease));
    }
    let leader = holder(&pair.a, LEASES[0]).unwrap();
    let (dies, stays, survivor) = if leader == "a" {
        (&mut pair.a, &pair.b, "b")
    } else {
        (&mut pair.b, &pair.a, "a")
    };
    create(dies, "acknowledged");
    dies.kill();
    let killed = Instant::now();
    stays.kubectl(&["get", "configmap", "acknowledged"]).ok();
    stays
        .kubectl(&["scale", "deployment/hello", "--replicas=8"])
        .ok();
    for lease in LEASES {
        eventually(TAKEOVER.saturating_sub(killed.elapsed()), || {
            match holder(stays, lease) {
                Some(node) if node == survivor => Ok(()),
                other => Err(format!("{lease} is held by {other:?}")),
            }
        });
    }
    let before = 2;
    eventually(SOON, || {
        let pods = ready_pods(stays);
        let here = pods.get(survivor).map_or(0, BTreeSet::len);
        (here > before)
            .then_some(())
            .ok_or_else(|| format!("{pods:?}"))
    });
}

#[test]
fn when_the_leader_stops_the_other_leads_at_once() {
    let mut pair = Pair::start();
    for lease in LEASES {
        eventually(SOON, || {
            holder(&pair.a, lease).ok_or("nobody leads".to_owned())
        });
    }
    let leader = holder(&pair.a, LEASES[0]).unwrap();
    let (stops, stays, survivor) = if leader == "a" {
        (&mut pair.a, &pair.b, "b")
    } else {
        (&mut pair.b, &pair.a, "a")
    };
    assert_eq!(stops.stop(), 0, "{}", stops.log());
    for lease in LEASES {
        // Well before the lease would run out.
        eventually(Duration::from_secs(8), || match holder(stays, lease) {
            Some(node) if node == survivor => Ok(()),
            other => Err(format!("{lease} is held by {other:?}")),
        });
    }
}

#[test]
fn an_outage_of_the_database_costs_no_pod() {
    let pair = Pair::start();
    pair.start_hello(2);
    let pods = ready_pods(&pair.a);
    let url = pair.a.service_url("hello");
    pair.database.shut();
    // Long enough for whoever leads to stop leading.
    eventually(SOON, || {
        let log = format!("{}{}", pair.a.log(), pair.b.log());
        match log.matches("leading no more").count() {
            2.. => Ok(()),
            _ => Err(log),
        }
    });
    let answer = pair.b.curl(&[&url]).ok();
    assert!(answer.starts_with("Hello from"), "{answer}");
    pair.database.open();
    eventually(SOON, || {
        let output = pair
            .a
            .kubectl(&["scale", "deployment/hello", "--replicas=4"]);
        (output.code == 0).then_some(()).ok_or(output.stderr)
    });
    let after = eventually(SOON, || {
        let after = ready_pods(&pair.b);
        let count: usize = after.values().map(BTreeSet::len).sum();
        (count == 4)
            .then_some(())
            .ok_or_else(|| format!("{after:?}"))?;
        Ok(after)
    });
    for (node, pods) in pods {
        assert!(pods.is_subset(&after[&node]), "{pods:?} in {after:?}");
    }
}

/// What `wk up --database` says on stderr, with which code it ends, in a data directory of its own.
fn refused(database: &str) -> String {
    let cluster = Cluster::prepare(Options {
        arguments: vec![format!("--database={database}")],
        ..Options::default()
    });
    said(cluster.up_command())
}

fn said(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        !format!("{stdout}{stderr}").contains("secret"),
        "{stdout}{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim().to_owned()
}

#[test]
fn a_database_that_cannot_be_used_is_one_sentence_without_the_password() {
    let database = Database::create();
    for (url, part) in [
        (
            "postgres://wk:secret@127.0.0.1:1/wk".to_owned(),
            "cannot be reached at 127.0.0.1:1",
        ),
        (
            "postgres://wk:secret@no-such-host.invalid/wk".to_owned(),
            "cannot be reached at no-such-host.invalid:5432",
        ),
        (
            database.url_of("guarded:secret"),
            "check the user, the password",
        ),
        (
            database.sibling("nowhere"),
            "there is no database \"nowhere\"",
        ),
        (
            database.url_of("guarded:guarded"),
            "user \"guarded\" may not write",
        ),
        (
            "mysql:secret".to_owned(),
            "postgres://user:password@host/database",
        ),
    ] {
        let said = refused(&url);
        assert!(said.starts_with("error: cannot use --database: "), "{said}");
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_data_directory_stays_with_its_cluster() {
    let one = Database::create();
    let mut cluster = Cluster::with(Options {
        arguments: vec![format!("--database={}", one.url)],
        ..Options::default()
    });
    cluster.stop();
    let other = Database::create();
    let mut command = cluster.sandbox.command(e2e::program("wk"));
    command
        .args(["up", "--data-dir"])
        .arg(cluster.data_dir())
        .arg(format!("--database={}", other.url));
    let said = said(command);
    assert!(said.contains("belongs to cluster "), "{said}");
}

#[test]
fn a_second_process_of_one_name_is_told_to_take_another() {
    let database = Database::create();
    let options = |port| Options {
        arguments: vec![
            format!("--database={}", database.url),
            "--node-name=a".to_owned(),
        ],
        port: Some(port),
        ..Options::default()
    };
    let first = Cluster::with(options(6443));
    let second = Cluster::prepare_in(first.sandbox.clone(), options(6444));
    let said = said(second.up_command());
    assert!(
        said.contains("is node \"a\" already: name this one with --node-name"),
        "{said}"
    );
}

#[test]
fn help_does_not_show_the_database_of_the_environment() {
    let output = Command::new(e2e::program("wk"))
        .args(["up", "--help"])
        .env("WK_DATABASE", "postgres://wk:secret@db/wk")
        .output()
        .unwrap();
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(
        help.contains("WK_DATABASE") && !help.contains("secret"),
        "{help}"
    );
}

/// What the gateway of a process answers for a function: its status code.
fn asked(cluster: &Cluster, port: u16, function: &str) -> String {
    let host = format!("Host: {function}.default.localhost");
    let url = format!("http://127.0.0.1:{port}/");
    let write = ["-o", "/dev/null", "-w", "%{http_code}"];
    let arguments = [&["--max-time", "60", "-H", &host, &url][..], &write].concat();
    cluster.curl(&arguments).stdout
}

/// How many pods a revision should have.
fn replicas(cluster: &Cluster, revision: &str) -> String {
    let path = "jsonpath={.spec.replicas}";
    cluster
        .kubectl(&["get", "functionrevision", revision, "-o", path])
        .stdout
}

#[test]
fn a_container_function_is_scaled_by_what_every_gateway_is_asked() {
    let pair = Pair::start();
    let (a, b) = (&pair.a, &pair.b);
    let registry = Registry::start(&a.sandbox);
    registry.push("nginx", &Image::nginx());
    let function = a.manifest(
        "web.yaml",
        "apiVersion: functions.wk.dev/v1\nkind: Function\nmetadata:\n  name: web\nspec:\n  \
         image: 127.0.0.1:5001/nginx:1\n  port: 80\n  scale:\n    min: 0\n    max: 2\n    idleSeconds: 6\n",
    );
    a.kubectl(&["apply", "-f", &function]).ok();
    let wait = "--for=condition=Ready";
    a.kubectl(&["wait", "function/web", wait, "--timeout=120s"])
        .ok();
    // Whichever of them leads, each process' gateway counts, and keeps the pod while it is asked.
    let other = [(b, GATEWAYS[1]), (a, GATEWAYS[0])];
    let pods = || {
        let label = "functions.wk.dev/function=web";
        a.kubectl(&["get", "pods", "-l", label, "-o", "name"])
            .stdout
    };
    for (cluster, port) in other {
        // What ends takes its time: it is no pod that answers.
        eventually(SOON, || {
            match (&replicas(a, "web-00001")[..], &pods()[..]) {
                ("0", "") => Ok(()),
                (wanted, there) => Err(format!(
                    "{wanted} replicas, {there}\n{}\n{}",
                    a.log(),
                    b.log()
                )),
            }
        });
        assert_eq!(asked(cluster, port, "web"), "200", "from zero, at {port}");
        let pod = pods();
        let begun = Instant::now();
        while begun.elapsed() < 3 * Duration::from_secs(6) {
            assert_eq!(asked(cluster, port, "web"), "200", "at {port}");
        }
        assert_eq!(pods(), pod, "it was asked all the time, at {port}");
        assert_ne!(replicas(a, "web-00001"), "0");
    }
}
