//! The built-in registry with real clients: skopeo over TLS and in the clear, wkctl, and pods of what they pushed.

use std::{path::Path, time::Duration};

use e2e::{Cluster, Image, Options, Output, eventually};

const SOON: Duration = Duration::from_secs(90);
const LOCAL: &str = "localhost:5000";
const TLS: &str = "127.0.0.1:6443";

/// A cluster on a host where pods reach the API, and skopeo's accounts.
struct Bench {
    cluster: Cluster,
    dir: tempfile::TempDir,
}

impl Bench {
    fn start() -> Bench {
        let mut cluster = Cluster::prepare(Options::default());
        let device = "ip link add outside type veth peer beyond && ip address add 192.0.2.2/24 dev outside && \
                      ip link set outside up && ip link set beyond up && ip route add default via 192.0.2.1";
        cluster.sandbox.run("sh", &["-c", device]).ok();
        cluster.up();
        let dir = tempfile::tempdir().expect("a temporary directory");
        Bench { cluster, dir }
    }

    fn kubectl(&self, arguments: &[&str]) -> Output {
        self.cluster.kubectl(arguments)
    }

    /// A ServiceAccount of `default` with that role there; its token.
    fn account(&self, name: &str, role: &str) -> String {
        self.kubectl(&["create", "serviceaccount", name]).ok();
        let subject = format!("--serviceaccount=default:{name}");
        let role = format!("--clusterrole={role}");
        self.kubectl(&["create", "rolebinding", name, &role, &subject])
            .ok();
        self.kubectl(&["create", "token", name])
            .ok()
            .trim()
            .to_owned()
    }

    /// The cluster's CA and the administrator's certificate, as skopeo takes them.
    fn certificates(&self) -> String {
        let dir = self.dir.path().join("certificates");
        std::fs::create_dir_all(&dir).expect("a directory can be made");
        let field = |path: &str, file: &str| {
            let path = format!("jsonpath={{{path}}}");
            let encoded = self.kubectl(&["config", "view", "--raw", "-o", &path]).ok();
            let decode = format!(
                "echo '{encoded}' | base64 -d > {}",
                dir.join(file).display()
            );
            self.cluster.sandbox.run("sh", &["-c", &decode]).ok();
        };
        field(".clusters[0].cluster.certificate-authority-data", "ca.crt");
        field(".users[0].user.client-certificate-data", "client.cert");
        field(".users[0].user.client-key-data", "client.key");
        dir.display().to_string()
    }

    fn skopeo(&self, arguments: &[&str]) -> Output {
        let insecure = ["--insecure-policy"];
        self.cluster
            .sandbox
            .run("skopeo", &[&insecure[..], arguments].concat())
    }

    fn apply(&self, name: &str, manifest: &str) {
        let path = self.cluster.manifest(name, manifest);
        self.kubectl(&["apply", "-f", &path]).ok();
    }

    fn wait_ready(&self, namespace: &str, pod: &str) {
        let until = ["--for=condition=Ready", "--timeout=90s"];
        let waited = self.kubectl(&[&["-n", namespace, "wait", "pod", pod], &until[..]].concat());
        if waited.code != 0 {
            let described = self.kubectl(&["-n", namespace, "describe", "pod", pod]);
            panic!("{waited:?}\n{}", described.stdout);
        }
    }
}

fn pod(namespace: &str, name: &str, image: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {image}
{more}
---"#
    )
}

fn archive(bench: &Bench) -> String {
    let path = bench.dir.path().join("busybox.tar");
    Image::busybox().archive("busybox:1", Path::new(&path));
    path.display().to_string()
}

#[test]
fn what_skopeo_and_wkctl_push_runs_in_pods_that_may_have_it() {
    let bench = Bench::start();
    let archive = archive(&bench);
    let source = format!("oci-archive:{archive}");

    // In the clear on this host, with a ServiceAccount's token as the password.
    let editor = format!("anything:{}", bench.account("editor", "edit"));
    let viewer = format!("anything:{}", bench.account("viewer", "view"));
    let local = format!("docker://{LOCAL}/default/busybox:1");
    let push = |credentials: &str| {
        bench.skopeo(&[
            "copy",
            "--dest-tls-verify=false",
            "--dest-creds",
            credentials,
            &source,
            &local,
        ])
    };
    push(&editor).ok();
    let refused = push(&viewer);
    assert!(
        refused.code != 0 && refused.stderr.contains("denied"),
        "{refused:?}"
    );
    assert_ne!(push("anyone:nonsense").code, 0);
    let back = format!("dir:{}", bench.dir.path().join("back").display());
    bench
        .skopeo(&[
            "copy",
            "--src-tls-verify=false",
            "--src-creds",
            &viewer,
            &local,
            &back,
        ])
        .ok();

    // Over TLS with the administrator's certificate.
    let certificates = bench.certificates();
    let remote = format!("docker://{TLS}/default/tls:1");
    bench
        .skopeo(&["copy", "--dest-cert-dir", &certificates, &source, &remote])
        .ok();
    let inspected = bench
        .skopeo(&["inspect", "--cert-dir", &certificates, &remote])
        .ok();
    assert!(inspected.contains("\"Digest\": \"sha256:"), "{inspected}");

    // From wkctl: a component as text, and the archive.
    let hello = e2e::example("hello.wat");
    let pushed = bench
        .cluster
        .wkctl(&["image", "push", &hello, "hello:v1"])
        .ok();
    assert!(
        pushed.contains("Pushed: registry.wk.internal/default/hello:v1\n"),
        "{pushed}"
    );
    bench
        .cluster
        .wkctl(&["image", "push", &archive, "busybox:wkctl"])
        .ok();
    // A component that skopeo copies is one too.
    let component = format!("docker://{LOCAL}/default/hello");
    bench
        .skopeo(&[
            "copy",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            "--src-creds",
            &editor,
            "--dest-creds",
            &editor,
            &format!("{component}:v1"),
            &format!("{component}-copied:v1"),
        ])
        .ok();

    let sleep = "    command: [sleep, '100000']";
    let pods = [
        pod(
            "default",
            "component",
            "registry.wk.internal/default/hello-copied:v1",
            "    ports: [{containerPort: 8080}]",
        ),
        pod(
            "default",
            "container",
            "localhost:5000/default/busybox:1",
            sleep,
        ),
        pod(
            "default",
            "archive",
            "registry.wk.internal/default/busybox:wkctl",
            sleep,
        ),
        pod("default", "tls", "127.0.0.1:5000/default/tls:1", sleep),
    ];
    bench.apply("pods.yaml", &pods.concat());
    for name in ["component", "container", "archive", "tls"] {
        bench.wait_ready("default", name);
    }

    // Another namespace has it only once its owner says so, although it is on the node.
    bench.kubectl(&["create", "namespace", "other"]).ok();
    let wanted = pod(
        "other",
        "guest",
        "registry.wk.internal/default/hello:v1",
        "    ports: [{containerPort: 8080}]",
    );
    bench.apply("guest.yaml", &wanted);
    let message = "jsonpath={.status.containerStatuses[0].state.waiting.message}";
    eventually(SOON, || {
        let said = bench
            .kubectl(&["-n", "other", "get", "pod", "guest", "-o", message])
            .stdout;
        let want = "User \"system:serviceaccount:other:default\" cannot get resource \"repositories\" in API group \"registry.wk.dev\" in the namespace \"default\"";
        match said.contains(want) {
            true => Ok(()),
            false => Err(said),
        }
    });
    bench
        .kubectl(&[
            "create",
            "rolebinding",
            "guests",
            "--clusterrole=view",
            "--serviceaccount=other:default",
        ])
        .ok();
    bench.wait_ready("other", "guest");

    // A quota is told with its numbers.
    let quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: images}\nspec: {hard: {registry.wk.dev/storage: 1k}}";
    bench.apply("quota.yaml", quota);
    let module = bench.cluster.manifest(
        "big.wat",
        &format!("(module (data \"{}\"))", "x".repeat(2000)),
    );
    let refused = bench.cluster.wkctl(&["image", "push", &module, "big"]);
    assert!(
        refused
            .stderr
            .contains("exceeded quota: images: the uploads to namespace \"default\" that are under way are more than 1000 bytes"),
        "{refused:?}"
    );

    // Nobody without an account; another's port is a warning.
    let answer = bench.cluster.curl(&[
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "http://127.0.0.1:5000/v2/",
    ]);
    assert_eq!(answer.stdout, "401");
    let mut second = Cluster::prepare_in(
        bench.cluster.sandbox.clone(),
        Options {
            arguments: ["--no-node", "--network=rootless"]
                .map(str::to_owned)
                .into(),
            port: Some(6543),
            ..Options::default()
        },
    );
    second.up();
    let log = second.log();
    assert!(
        log.contains("warning: the image registry is not served on 127.0.0.1:5000")
            && log.contains("--registry-listen"),
        "{log}"
    );
}
