//! Servers that everybody runs, of Debian's packages: the example of nginx, a component and PostgreSQL as it is written,
//! Redis and Python. No registry has them: they come in archives.

use std::time::Duration;

use e2e::{Client, Image, Kubectl, eventually};

use crate::{BUSYBOX, Bench, SOON};

/// How long a database may take to be made, on a slow machine.
const LATE: Duration = Duration::from_secs(180);

const SERVERS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: redis, labels: {app: redis}}
spec:
  containers:
  - name: main
    image: docker.io/library/redis:7
    ports: [{name: redis, containerPort: 6379}]
    readinessProbe: {exec: {command: [redis-cli, ping]}, periodSeconds: 1}
    volumeMounts: [{name: data, mountPath: /data}]
  securityContext: {fsGroup: 71}
  volumes:
  - {name: data, emptyDir: {}}
---
apiVersion: v1
kind: Service
metadata: {name: redis}
spec: {selector: {app: redis}, ports: [{port: 6379, targetPort: redis}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: python}
data:
  ask.py: |
    import os, socket
    with socket.create_connection((os.environ["SERVER"], 6379), 10) as redis:
        redis.sendall(b"GET greeting\r\n")
        print(redis.recv(1024))
---
apiVersion: v1
kind: Pod
metadata: {name: python}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: docker.io/library/python:3
    command: [python3, -u, -m, http.server, "8000", --directory, /code]
    env: [{name: SERVER, value: redis.default.svc.cluster.local}]
    ports: [{containerPort: 8000}]
    readinessProbe: {httpGet: {port: 8000, path: /ask.py}, periodSeconds: 1}
    volumeMounts: [{name: code, mountPath: /code}]
  volumes:
  - {name: code, configMap: {name: python}}
"#;

#[test]
fn servers_of_archives_run_and_are_looked_into() {
    let bench = Bench::start(&[("busybox", Image::busybox())]);
    imported(&bench);
    let site = e2e::example("site.yaml");
    bench.kubectl(&["apply", "-f", &site]).ok();
    bench.apply("servers.yaml", SERVERS);
    bench.wait_ready(&["redis", "python"]);
    python_speaks_to_redis_by_name(&bench);
    the_site_counts_its_visits(&bench);
    let found = bench.kubectl(&["get", "pods", "-l", "app=db", "-o", "name"]);
    let db = found.ok().trim().trim_start_matches("pod/").to_owned();
    let newest = Kubectl::find(33).or_else(|| Kubectl::find(29));
    let client = Client {
        cluster: &bench.cluster,
        name: "kubectl-1-33".to_owned(),
        program: newest.expect("a kubectl is installed").path,
    };
    for server in [
        Server {
            pod: "redis",
            container: "main",
            port: 6379,
            process: "redis-server",
            says: "Ready to accept",
            asks: "PING\\r\\n",
            answers: "+PONG\r\n",
        },
        Server {
            pod: "python",
            container: "main",
            port: 8000,
            process: "http.server",
            says: "GET /ask.py",
            asks: "GET /ask.py HTTP/1.0\\r\\n\\r\\n",
            answers: "HTTP/1.0 200 OK",
        },
        Server {
            pod: &db,
            container: "postgres",
            port: 5432,
            process: "postgres",
            says: "ready to accept",
            // Whether it speaks TLS, which it does not.
            asks: "\\0\\0\\0\\10\\4\\322\\26\\57",
            answers: "N",
        },
    ] {
        is_looked_into(&client, &server);
    }
}

/// What is looked into, and what shows that it is that.
struct Server<'a> {
    pod: &'a str,
    container: &'a str,
    port: u16,
    process: &'a str,
    /// In its log.
    says: &'a str,
    /// Bytes as `printf` has them, and how its answer begins.
    asks: &'a str,
    answers: &'a str,
}

/// Half of them as `docker save` writes them, half as the OCI says.
fn imported(bench: &Bench) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let archive = |name: &str| dir.path().join(name);
    Image::nginx().archive("docker.io/library/nginx:1.27", &archive("nginx"));
    Image::redis().archive("docker.io/library/redis:7", &archive("redis"));
    Image::postgres().docker_archive("docker.io/library/postgres:17", &archive("postgres"));
    Image::python().docker_archive("docker.io/library/python:3", &archive("python"));
    eventually(SOON, || {
        match bench
            .kubectl(&["get", "nodes", "-o", "name"])
            .stdout
            .is_empty()
        {
            true => Err("there is no node".to_owned()),
            false => Ok(()),
        }
    });
    for (name, reference) in [
        ("nginx", "docker.io/library/nginx:1.27"),
        ("redis", "docker.io/library/redis:7"),
        ("postgres", "docker.io/library/postgres:17"),
        ("python", "docker.io/library/python:3"),
    ] {
        let path = archive(name).display().to_string();
        let said = bench.cluster.wkctl(&["image", "import", &path]).ok();
        assert_eq!(said, format!("Imported: {reference}\n"));
    }
}

fn python_speaks_to_redis_by_name(bench: &Bench) {
    let set = [
        "exec",
        "redis",
        "--",
        "redis-cli",
        "set",
        "greeting",
        "hello",
    ];
    assert_eq!(bench.kubectl(&set).ok(), "OK\n");
    let ask = ["exec", "python", "--", "python3", "/code/ask.py"];
    assert_eq!(bench.kubectl(&ask).ok(), "b'$5\\r\\nhello\\r\\n'\n");
    // As the user that the image names.
    assert_eq!(bench.exec("redis", "id -un; stat -c %g /data"), "redis\n71");
}

fn the_site_counts_its_visits(bench: &Bench) {
    let available = [
        "wait",
        "deployment/db",
        "deployment/site",
        "--for=condition=Available",
    ];
    let waited = bench.kubectl(&[&available[..], &["--timeout=180s"]].concat());
    let shown = || bench.kubectl(&["describe", "pods"]).stdout;
    assert_eq!(waited.code, 0, "{waited:?}\n{}", shown());
    let url = bench.cluster.service_url("site");
    let hello = format!("{url}hello");
    let answer = bench.cluster.curl(&[&hello]).ok();
    assert!(answer.contains("Hello"), "{answer}");
    let counted = |least: u32| {
        eventually(SOON, || {
            let page = bench.cluster.curl(&[&url]).stdout;
            let row = page.split("/hello</td>").nth(1);
            let count: Option<u32> =
                row.and_then(|row| row.split(['>', '<']).nth(2)?.trim().parse().ok());
            match count {
                Some(count) if count >= least => Ok(count),
                _ => Err(page),
            }
        })
    };
    let before = counted(1);
    // What was counted is the volume's, not the pod's.
    bench
        .kubectl(&["delete", "pod", "-l", "app=db", "--timeout=60s"])
        .ok();
    let back = ["wait", "deployment/db", "--for=condition=Available"];
    let waited = bench.kubectl(&[&back[..], &["--timeout=180s"]].concat());
    assert_eq!(waited.code, 0, "{waited:?}\n{}", shown());
    eventually(LATE, || {
        bench.cluster.curl(&[&hello]).ok();
        let page = bench.cluster.curl(&[&url]).stdout;
        match page.contains("/hello</td>") {
            true => Ok(()),
            false => Err(page),
        }
    });
    counted(before + 1);
}

/// By commands, a terminal, files, its log, a port and a container beside it.
fn is_looked_into(client: &Client<'_>, server: &Server<'_>) {
    let (pod, container) = (server.pod, server.container);
    let exec = ["exec", "-it", pod, "-c", container, "--", "sh"];
    let mut terminal = client.terminal(&exec);
    terminal.write("echo $((6 * 7)) is it; exit 4\r");
    terminal.until("42 is it");
    assert_eq!(terminal.end(), 4, "{pod}");

    let here = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| here.path().join(name).display().to_string();
    std::fs::write(path("in"), pod).expect("a file can be written");
    let there = format!("{pod}:/tmp/copied");
    client
        .run(&["cp", "-c", container, &path("in"), &there])
        .ok();
    client
        .run(&["cp", "-c", container, &there, &path("out")])
        .ok();
    let back = std::fs::read_to_string(path("out")).expect("it was copied");
    assert_eq!(back, pod);

    let mut log = client.terminal(&["logs", "-f", pod, "-c", container]);
    log.until(server.says);
    drop(log);

    let (_forward, local) = client.forward(&["port-forward", pod, &format!(":{}", server.port)]);
    let Server { asks, answers, .. } = server;
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{local}; printf '{asks}' >&3; timeout 30 head -c {} <&3",
        answers.len()
    );
    let answer = client.cluster.sandbox.run("bash", &["-c", &script]);
    assert_eq!(answer.stdout, *answers, "{pod}");

    let image = format!("--image={BUSYBOX}");
    let target = format!("--target={container}");
    let debug = ["debug", pod, &image, &target, "-it", "--", "sh"];
    let mut terminal = client.terminal(&debug);
    terminal.write("\r");
    terminal.until("# ");
    terminal.write("ps\r");
    terminal.until(server.process);
    terminal.write("exit\r");
    assert_eq!(terminal.end(), 0, "{pod}");
}
