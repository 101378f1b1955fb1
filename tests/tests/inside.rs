//! The ways into a pod, with wkctl and every kubectl that is there: exec, attach, port-forward, cp, run and
//! debug, against components of one cluster.

use std::time::Duration;

use e2e::{Client, Cluster, Kubectl, Options, Registry, eventually, program};

const SOON: Duration = Duration::from_secs(60);
/// Everything that is copied and forwarded in one piece.
const MUCH: usize = 3 << 20;

/// Reads its input to the end and prints it, unless `args` say otherwise.
fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: file://{image}
{more}
---"#
    )
}

const TOOLBOX: &str = "runtimes/wasm/tests/fixtures/toolbox.wat";
const LISTEN: &str = "runtimes/wasm/tests/fixtures/listen.wat";
const THREE: &str = "runtimes/wasm/tests/fixtures/exit-three.wat";
const HELLO: &str = "examples/hello.wat";

/// A cluster with something to look into: `box` runs and has a volume at `/data`; `hello` serves HTTP at 8080.
fn cluster() -> Cluster {
    let cluster = Cluster::with(Options::default());
    let boxed = pod(
        "box",
        TOOLBOX,
        "    args: [zombie]\n    volumeMounts: [{name: data, mountPath: /data}]\n  volumes: [{name: data, emptyDir: {}}]",
    );
    let hello = pod("hello", HELLO, "    ports: [{containerPort: 8080}]");
    let manifest = cluster.manifest("pods.yaml", &(boxed + &hello));
    cluster.kubectl(&["apply", "-f", &manifest]).ok();
    ready(&cluster, &["box", "hello"]);
    cluster
}

fn ready(cluster: &Cluster, pods: &[&str]) {
    let wait = ["wait", "pod", "--for=condition=Ready", "--timeout=60s"];
    cluster.kubectl(&[&wait, pods].concat()).ok();
}

/// The clients to try: wkctl, and each kubectl.
fn clients(cluster: &Cluster) -> Vec<Client<'_>> {
    let kubectls = (27..=33).filter_map(Kubectl::find);
    let kubectls = kubectls.map(|kubectl| Client {
        cluster,
        name: format!("kubectl-1-{}", kubectl.minor),
        program: kubectl.path,
    });
    let wkctl = Client {
        cluster,
        name: "wkctl".to_owned(),
        program: program("wkctl"),
    };
    std::iter::once(wkctl).chain(kubectls).collect()
}

#[test]
fn every_client_looks_into_pods() {
    let cluster = cluster();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let kube_rs = cluster.sandbox.run(program("into-pod"), &[&kubeconfig]);
    assert_eq!(kube_rs.ok(), "Hello from hello\n");
    // kubectl runs images of registries only.
    let registry = Registry::start(&cluster.sandbox);
    let push = |name: &str, text: &str| {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let module = wat::parse_file(format!("{root}/{text}")).expect("it is WebAssembly text");
        registry.push_component(name, &module)
    };
    let images = [push("tools", TOOLBOX), push("three", THREE)];
    for client in clients(&cluster) {
        eprintln!("--- {}", client.name);
        commands_run(&client);
        a_terminal_is_one(&client);
        what_runs_is_attached_to(&client);
        ports_are_forwarded(&client);
        files_are_copied(&client);
        a_pod_is_run_and_removed(&client, &images);
        a_pod_is_debugged(&client, &images[0]);
    }
}

fn commands_run(client: &Client<'_>) {
    let output = client.run(&["exec", "box", "--", "echo", "one", "two three"]);
    assert_eq!(output.ok(), "one\ntwo three\n");
    let output = client.run(&["exec", "box", "--", "quit"]);
    assert_eq!(
        (output.code, output.stderr.trim()),
        (7, "command terminated with exit code 7")
    );
    let much = "many words ".repeat(MUCH / 11);
    let output = client.run_with(&["exec", "-i", "box", "-c", "main", "--", "pipe"], &much);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stdout == much,
        "{} bytes came back",
        output.stdout.len()
    );
    assert_eq!(output.stderr, "end\n");
    let failed = client
        .run(&["exec", "box", "-c", "none", "--", "echo"])
        .fails();
    assert!(failed.contains("none"), "{failed}");
}

/// What is typed is shown, and given to the program by lines; `^D` ends it.
fn a_terminal_is_one(client: &Client<'_>) {
    let mut terminal = client.terminal(&["exec", "-it", "box", "--", "pipe"]);
    terminal.write("typed\r");
    terminal.until("typed\r\ntyped\r\n");
    terminal.write("\x04");
    terminal.until("end\r\n");
    assert_eq!(terminal.end(), 0);
}

fn what_runs_is_attached_to(client: &Client<'_>) {
    let name = format!("attached-{}", client.name);
    let once = "    args: [pipe]\n    stdin: true\n    stdinOnce: true\n  restartPolicy: Never";
    let manifest = client
        .cluster
        .manifest("attached.yaml", &pod(&name, TOOLBOX, once));
    client.cluster.kubectl(&["apply", "-f", &manifest]).ok();
    ready(client.cluster, &[&name]);
    let output = client.run_with(&["attach", "-i", &name], "hello\n");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "hello\n"),
        "{}",
        output.stderr
    );
    let phase = [
        "wait",
        "pod",
        &name,
        "--for=jsonpath={.status.phase}=Succeeded",
        "--timeout=60s",
    ];
    client.cluster.kubectl(&phase).ok();
}

fn ports_are_forwarded(client: &Client<'_>) {
    let (forward, port) = client.forward(&["port-forward", "pod/hello", ":8080"]);
    let url = format!("http://127.0.0.1:{port}/");
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| client.cluster.curl(&[&url]).ok()))
            .collect();
        for answer in asking {
            assert_eq!(answer.join().expect("no panic"), "Hello from hello\n");
        }
    });
    drop(forward);
    // One connection that sends and gets a lot; the pod ends with it.
    let name = format!("listen-{}", client.name);
    let more = "    ports: [{containerPort: 7777}]\n  restartPolicy: Never";
    let manifest = client
        .cluster
        .manifest("listen.yaml", &pod(&name, LISTEN, more));
    client.cluster.kubectl(&["apply", "-f", &manifest]).ok();
    ready(client.cluster, &[&name]);
    let (forward, port) = client.forward(&["port-forward", &name, ":7777"]);
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; head -c {MUCH} /dev/zero | tr '\\0' x >&3 & head -c {MUCH} <&3 | tr -d x | wc -c"
    );
    let output = client
        .cluster
        .sandbox
        .run("timeout", &["60", "bash", "-c", &script]);
    assert_eq!(output.ok().trim(), "0");
    client
        .cluster
        .kubectl(&["delete", "pod", &name, "--now"])
        .ok();
    // The next connection finds nobody.
    client
        .cluster
        .curl(&[&format!("http://127.0.0.1:{port}/")])
        .fails();
    let said = forward.end();
    assert!(said.contains("pod"), "{said}");
}

fn files_are_copied(client: &Client<'_>) {
    let here = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| here.path().join(name).display().to_string();
    let text = "some text\n".repeat(MUCH / 10);
    std::fs::create_dir_all(path("in/deep")).expect("a directory can be made");
    std::fs::write(path("in/deep/file"), &text).expect("a file can be written");
    let there = format!("box:/data/{}", client.name);
    client.run(&["cp", &path("in"), &there]).ok();
    client.run(&["cp", &there, &path("out")]).ok();
    let back = std::fs::read_to_string(path("out/deep/file")).expect("it was copied");
    assert!(back == text, "{} bytes came back", back.len());
    client
        .run(&["cp", &format!("{there}/deep/file"), &path("file")])
        .ok();
    let back = std::fs::read_to_string(path("file")).expect("it was copied");
    assert!(back == text, "{} bytes came back", back.len());
    // Some kubectls call it a success, some say nothing of it.
    let nothing = client.run(&["cp", "box:/data/nothing", &path("nothing")]);
    assert!(!here.path().join("nothing").exists(), "{nothing:?}");
}

fn a_pod_is_run_and_removed(client: &Client<'_>, images: &[String; 2]) {
    let name = format!("run-{}", client.name);
    let [image, three] = images.each_ref().map(|image| format!("--image={image}"));
    let run = [
        "run",
        &name,
        &image,
        "-i",
        "--rm",
        "--restart=Never",
        "--",
        "pipe",
    ];
    let output = client.run_with(&run, "typed\n");
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout.starts_with("typed\n"), "{}", output.stdout);
    assert!(
        output.stdout.contains(&format!("pod {name:?} deleted")),
        "{}",
        output.stdout
    );
    let run = ["run", &name, &three, "-i", "--rm", "--restart=Never"];
    assert_eq!(client.run(&run).code, 3);
    eventually(SOON, || {
        let left = client.cluster.kubectl(&["get", "pod", &name]);
        if left.code == 0 {
            Err(left.stdout)
        } else {
            Ok(())
        }
    });
}

/// A container joins a pod that runs, and says something there.
fn a_pod_is_debugged(client: &Client<'_>, image: &str) {
    let image = format!("--image={image}");
    let name = format!("debug-{}", client.name);
    let debug = [
        "debug", "-i", "hello", &image, "-c", &name, "--", "echo", "looked",
    ];
    let output = client.run(&debug);
    assert_eq!(output.code, 0, "{}", output.stderr);
    eventually(SOON, || {
        let log = client.run(&["logs", "hello", "-c", &name]);
        if log.stdout == "looked\n" {
            Ok(())
        } else {
            Err(format!("{log:?}"))
        }
    });
}

#[test]
fn wkctl_follows_a_service_across_a_rollout() {
    let cluster = Cluster::start();
    let hello = cluster.kubectl(&["apply", "-f", &e2e::example("hello.yaml")]);
    hello.ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    let client = Client {
        cluster: &cluster,
        name: "wkctl".to_owned(),
        program: program("wkctl"),
    };
    let (_forward, port) = client.forward(&["port-forward", "service/hello", ":80"]);
    let url = format!("http://127.0.0.1:{port}/");
    let first = cluster.curl(&[&url]).ok();
    assert!(first.starts_with("Hello from hello-"), "{first}");
    cluster
        .kubectl(&["rollout", "restart", "deployment/hello"])
        .ok();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    eventually(SOON, || {
        let answer = cluster.curl(&[&url]);
        let other = answer.code == 0 && answer.stdout != first;
        if other {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
}
