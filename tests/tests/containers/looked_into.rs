//! The ways into a container, with the oldest kubectl that is supported and the newest.

use e2e::{Client, Image, Kubectl};

use crate::{BUSYBOX, Bench};

/// Everything that is copied in one piece.
const MUCH: usize = 3 << 20;

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: box}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, "echo to stdout; echo to stderr >&2; exec sleep 100000"]
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: main
    image: NGINX
    ports: [{containerPort: 80}]
    readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}
"#;

#[test]
fn containers_are_looked_into_with_every_kubectl() {
    let bench = Bench::start(&[("busybox", Image::busybox()), ("nginx", Image::nginx())]);
    bench.apply("pods.yaml", PODS);
    bench.wait_ready(&["box", "web"]);
    for kubectl in [29, 33].into_iter().filter_map(Kubectl::find) {
        let client = Client {
            cluster: &bench.cluster,
            name: format!("kubectl-1-{}", kubectl.minor),
            program: kubectl.path,
        };
        eprintln!("--- {}", client.name);
        commands_run(&client);
        a_terminal_is_one(&client);
        files_are_copied(&client);
        output_is_kept(&client);
        what_runs_is_attached_to(&bench, &client);
        a_pod_is_run_and_removed(&client);
        ports_are_forwarded(&client);
        a_container_is_debugged(&client);
    }
}

fn commands_run(client: &Client<'_>) {
    let script = "echo out; echo err >&2; exit 7";
    let output = client.run(&["exec", "box", "--", "sh", "-c", script]);
    assert_eq!((output.code, output.stdout.as_str()), (7, "out\n"));
    assert_eq!(output.stderr, "err\ncommand terminated with exit code 7\n");
    let much = "many words ".repeat(MUCH / 11);
    let output = client.run_with(&["exec", "-i", "box", "--", "cat"], &much);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stdout == much,
        "{} bytes came back",
        output.stdout.len()
    );
    let failed = client.run(&["exec", "box", "--", "no-such-program"]);
    let said = failed.fails();
    assert!(said.contains("no-such-program"), "{said}");
}

fn a_terminal_is_one(client: &Client<'_>) {
    let mut terminal = client.terminal(&["exec", "-it", "box", "--", "sh"]);
    terminal.until("# ");
    terminal.write("stty size; tty\r");
    terminal.until("24 80");
    terminal.until("/dev/pts/");
    terminal.write("exit 3\r");
    assert_eq!(terminal.end(), 3);
}

fn files_are_copied(client: &Client<'_>) {
    let here = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| here.path().join(name).display().to_string();
    let text = "some text\n".repeat(MUCH / 10);
    std::fs::create_dir_all(path("in/deep")).expect("a directory can be made");
    std::fs::write(path("in/deep/file"), &text).expect("a file can be written");
    let there = format!("box:/tmp/{}", client.name);
    client.run(&["cp", &path("in"), &there]).ok();
    client.run(&["cp", &there, &path("out")]).ok();
    let back = std::fs::read_to_string(path("out/deep/file")).expect("it was copied");
    assert!(back == text, "{} bytes came back", back.len());
}

fn output_is_kept(client: &Client<'_>) {
    let logs = client.run(&["logs", "box"]).ok();
    let mut lines: Vec<_> = logs.lines().collect();
    // Two streams have no order.
    lines.sort_unstable();
    assert_eq!(lines, ["to stderr", "to stdout"]);
}

fn what_runs_is_attached_to(bench: &Bench, client: &Client<'_>) {
    let name = format!("attached-{}", client.name);
    let manifest = format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  containers:
  - {{name: main, image: BUSYBOX, command: [sh, -c, "read word; echo got $word"], stdin: true, stdinOnce: true}}
"#
    );
    bench.apply("attached.yaml", &manifest);
    bench.wait_ready(&[&name]);
    let output = client.run_with(&["attach", "-i", &name], "hello\n");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "got hello\n"),
        "{}",
        output.stderr
    );
    bench.pod_has(&name, ".status.phase", |phase| phase == "Succeeded");
    assert_eq!(client.run(&["logs", &name]).ok(), "got hello\n");
}

fn a_pod_is_run_and_removed(client: &Client<'_>) {
    let name = format!("run-{}", client.name);
    let image = format!("--image={BUSYBOX}");
    let run = [
        "run",
        &name,
        &image,
        "-it",
        "--rm",
        "--restart=Never",
        "--",
        "sh",
    ];
    let mut terminal = client.terminal(&run);
    // What was there before the client came is not shown again: a line brings the prompt.
    terminal.write("\r");
    terminal.until("# ");
    terminal.write("echo $((6 * 7)) $(hostname)\r");
    terminal.until(&format!("42 {name}"));
    terminal.write("exit\r");
    terminal.until(&format!("pod \"{name}\" deleted"));
    assert_eq!(terminal.end(), 0);
}

fn ports_are_forwarded(client: &Client<'_>) {
    let (_forward, port) = client.forward(&["port-forward", "pod/web", ":80"]);
    let url = format!("http://127.0.0.1:{port}/");
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| client.cluster.curl(&[&url]).ok()))
            .collect();
        for answer in asking {
            let answer = answer.join().expect("no panic");
            assert!(answer.contains("Welcome to nginx!"), "{answer}");
        }
    });
}

/// From a container beside it, which sees its processes.
fn a_container_is_debugged(client: &Client<'_>) {
    let image = format!("--image={BUSYBOX}");
    let debug = ["debug", "web", &image, "--target=main", "-it", "--", "sh"];
    let mut terminal = client.terminal(&debug);
    terminal.write("\r");
    terminal.until("# ");
    terminal.write("ps; wget -qO- http://127.0.0.1/\r");
    terminal.until("nginx: master process");
    terminal.until("Welcome to nginx!");
    terminal.write("exit\r");
    assert_eq!(terminal.end(), 0);
}
