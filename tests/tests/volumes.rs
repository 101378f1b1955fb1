//! What a component finds in its files: a whole cluster, as root in a mount namespace of its own.

use std::time::Duration;

use e2e::{Cluster, eventually};

const SOON: Duration = Duration::from_secs(60);
/// A component of small tools: `cat`, `list`, `write` and so on; `pipe` waits for its input's end.
const TOOLBOX: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../runtimes/wasm/tests/fixtures/toolbox.wat"
);

fn manifest() -> String {
    format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{colour: red}}
---
apiVersion: v1
kind: Secret
metadata: {{name: login}}
stringData: {{password: hunter2}}
---
apiVersion: v1
kind: Pod
metadata: {{name: reader, labels: {{app: reader}}}}
spec:
  containers:
  - name: c
    image: file://{TOOLBOX}
    args: [pipe]
    stdin: true
    volumeMounts:
    - {{name: all, mountPath: /all}}
    - {{name: settings, mountPath: /etc/colour, subPath: colour}}
    - {{name: scratch, mountPath: /scratch}}
    - {{name: memory, mountPath: /memory}}
  volumes:
  - name: all
    projected:
      sources:
      - configMap: {{name: settings}}
      - secret: {{name: login}}
      - downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}
  - {{name: settings, configMap: {{name: settings}}}}
  - {{name: scratch, emptyDir: {{}}}}
  - {{name: memory, emptyDir: {{medium: Memory, sizeLimit: 64Ki}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: greedy}}
spec:
  containers:
  - name: c
    image: file://{TOOLBOX}
    args: [pipe]
    stdin: true
    volumeMounts: [{{name: scratch, mountPath: /scratch}}]
  volumes:
  - {{name: scratch, emptyDir: {{sizeLimit: 5Ki}}}}
"#
    )
}

/// A cluster whose two pods run.
struct Bench {
    cluster: Cluster,
}

impl Bench {
    fn start() -> Bench {
        let cluster = Cluster::start();
        let path = cluster.manifest("pods.yaml", &manifest());
        cluster.kubectl(&["apply", "-f", &path]).ok();
        let bench = Bench { cluster };
        bench.wait_ready();
        bench
    }

    fn wait_ready(&self) {
        let pods = ["pod/reader", "pod/greedy"];
        let wait = ["wait", "--for=condition=Ready", "--timeout=60s"];
        self.cluster.kubectl(&[&wait[..], &pods].concat()).ok();
    }

    /// What a second instance of a pod's component prints.
    fn run(&self, pod: &str, arguments: &[&str]) -> Result<String, String> {
        let exec = ["exec", pod, "--"];
        let output = self.cluster.kubectl(&[&exec, arguments].concat());
        if output.code == 0 {
            Ok(output.stdout)
        } else {
            Err(format!("{output:?}"))
        }
    }

    #[track_caller]
    fn reads(&self, path: &str, text: &str) {
        eventually(SOON, || match self.run("reader", &["cat", path]) {
            Ok(found) if found.trim_end() == text => Ok(()),
            other => Err(format!("{path}: {other:?}")),
        });
    }

    fn pod(&self, name: &str, path: &str) -> String {
        let path = format!("jsonpath={{{path}}}");
        self.cluster
            .kubectl(&["get", "pod", name, "-o", &path])
            .ok()
    }

    /// What the node keeps of a pod, as the sandbox sees it.
    fn kept(&self, uid: &str) -> String {
        let data = self.cluster.data_dir().display().to_string();
        let name = format!("*{uid}*");
        let found = [
            "-path",
            &format!("{data}/logs"),
            "-prune",
            "-o",
            "-name",
            &name,
            "-print",
        ];
        let output = self
            .cluster
            .sandbox
            .run("find", &[&[&*data][..], &found].concat());
        output.ok()
    }
}

#[test]
fn a_component_finds_its_files_through_changes_and_kills_and_nothing_is_left_of_them() {
    let mut bench = Bench::start();
    bench.reads("/all/colour", "red");
    bench.reads("/all/password", "hunter2");
    bench.reads("/all/labels", "app=\"reader\"");
    bench.reads("/etc/colour", "red");
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    bench.reads(&format!("{account}/namespace"), "default");
    let token = bench
        .run("reader", &["cat", &format!("{account}/token")])
        .expect("a token");
    let review = format!(
        "apiVersion: authentication.k8s.io/v1\nkind: TokenReview\nspec: {{token: {}}}\n",
        token.trim()
    );
    let path = bench.cluster.manifest("review.yaml", &review);
    let user = bench.cluster.kubectl(&[
        "create",
        "-f",
        &path,
        "-o",
        "jsonpath={.status.user.username}",
    ]);
    assert_eq!(user.ok(), "system:serviceaccount:default:default");

    // Files follow their objects; what is mounted by itself does not.
    let patch = [
        "patch",
        "configmap",
        "settings",
        "-p",
        r#"{"data":{"colour":"blue"}}"#,
    ];
    bench.cluster.kubectl(&patch).ok();
    bench.reads("/all/colour", "blue");
    bench.reads("/etc/colour", "red");
    bench
        .run("reader", &["write", "/all/colour", "x"])
        .expect_err("it is read-only");

    // A file system in memory has an end.
    bench
        .run("reader", &["write", "/memory/a", "small"])
        .expect("there is room");
    let mounts = bench
        .cluster
        .sandbox
        .run("cat", &["/proc/self/mounts"])
        .ok();
    assert!(mounts.contains("size=64k"), "{mounts}");

    // What is on disk outlives the process.
    bench
        .run("reader", &["write", "/scratch/kept", "still here"])
        .expect("it may write");
    bench.cluster.kill();
    bench.cluster.up();
    bench.wait_ready();
    bench.reads("/scratch/kept", "still here");
    bench.reads("/etc/colour", "blue");
    bench.reads("/memory/a", "small");

    // Who takes more than it may has to go.
    bench
        .run("greedy", &["write", "/scratch/a", "one block"])
        .expect("it may write");
    eventually(SOON, || match &*bench.pod("greedy", ".status.reason") {
        "Evicted" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(bench.pod("greedy", ".status.phase"), "Failed");
    assert_eq!(
        bench.pod("greedy", ".status.message"),
        "Usage of EmptyDir volume \"scratch\" exceeds the limit \"5Ki\". "
    );

    let uid = bench.pod("reader", ".metadata.uid");
    assert!(
        bench.kept(&uid).contains("/memory/"),
        "{}",
        bench.kept(&uid)
    );
    bench
        .cluster
        .kubectl(&["delete", "pod", "reader", "greedy"])
        .ok();
    eventually(SOON, || match &*bench.kept(&uid) {
        "" => Ok(()),
        left => Err(left.to_owned()),
    });
    // A clean end gives the memory back.
    assert_eq!(bench.cluster.stop(), 0);
    let mounts = bench
        .cluster
        .sandbox
        .run("cat", &["/proc/self/mounts"])
        .ok();
    let data = bench.cluster.data_dir().display().to_string();
    assert!(!mounts.contains(&data), "{mounts}");
}
