//! Pods of container images as a user has them: looked into, beside components, and in every way to end.
//!
//! - [`looked_into`]: exec, attach, cp, logs, port-forward and debug with two kubectls.
//! - [`shared`]: volumes, addresses and names, between containers and components.
//! - [`ended`]: exit codes, limits, security, errors, signals and the death of the node's process.
//! - [`servers`]: the example of three parts, Redis and Python, from archives.
//! - [`jobs`]: Jobs of containers that end in every way.
//! - [`stateful`]: a StatefulSet with volumes: rolled, scaled, orphaned and adopted.

mod ended;
mod jobs;
mod looked_into;
mod servers;
mod shared;
mod stateful;

use std::time::Duration;

use e2e::{Cluster, Image, Options, Registry, eventually};

const SOON: Duration = Duration::from_secs(90);
/// What the registry of each test calls its images.
const BUSYBOX: &str = "127.0.0.1:5001/busybox:1";
const NGINX: &str = "127.0.0.1:5001/nginx:1";
const GHOST: &str = "127.0.0.1:5001/ghost:1";
/// A component of small tools: `cat`, `list`, `write` and so on; `pipe` waits for its input's end.
const TOOLBOX: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../runtimes/wasm/tests/fixtures/toolbox.wat"
);

/// A cluster with a registry of images.
struct Bench {
    cluster: Cluster,
    _registry: Registry,
}

impl Bench {
    fn start(images: &[(&str, Image)]) -> Bench {
        let mut cluster = Cluster::prepare(Options::default());
        // A host with an address, where pods reach the API.
        let device = "ip link add outside type veth peer beyond && ip address add 192.0.2.2/24 dev outside && \
                      ip link set outside up && ip link set beyond up && ip route add default via 192.0.2.1";
        cluster.sandbox.run("sh", &["-c", device]).ok();
        cluster.up();
        let registry = Registry::start(&cluster.sandbox);
        for (name, image) in images {
            registry.push(name, image);
        }
        Bench {
            cluster,
            _registry: registry,
        }
    }

    fn kubectl(&self, arguments: &[&str]) -> e2e::Output {
        self.cluster.kubectl(arguments)
    }

    fn apply(&self, name: &str, manifest: &str) {
        let manifest = manifest
            .replace("BUSYBOX", BUSYBOX)
            .replace("NGINX", NGINX)
            .replace("GHOST", GHOST)
            .replace("TOOLBOX", &format!("file://{TOOLBOX}"))
            .replace("HELLO", &format!("file://{}", e2e::example("hello.wat")));
        let path = self.cluster.manifest(name, &manifest);
        self.kubectl(&["apply", "-f", &path]).ok();
    }

    fn wait_ready(&self, pods: &[&str]) {
        let wait = ["wait", "pod", "--for=condition=Ready", "--timeout=90s"];
        let waited = self.kubectl(&[&wait[..], pods].concat());
        assert_eq!(waited.code, 0, "{waited:?}\n{}", self.described(pods));
    }

    fn described(&self, pods: &[&str]) -> String {
        self.kubectl(&[&["describe", "pod"], pods].concat()).stdout
    }

    fn pod(&self, name: &str, path: &str) -> String {
        let path = format!("jsonpath={{{path}}}");
        self.kubectl(&["get", "pod", name, "-o", &path]).stdout
    }

    /// Waits until a field of a pod is as it should be.
    #[track_caller]
    fn pod_has(&self, name: &str, path: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(SOON, || {
            let found = self.pod(name, path);
            if wanted(&found) {
                Ok(found)
            } else {
                Err(format!("{path} is {found:?}\n{}", self.described(&[name])))
            }
        })
    }

    /// What a command in a pod's first container prints, without the last line's end.
    #[track_caller]
    fn exec(&self, pod: &str, script: &str) -> String {
        let output = self.kubectl(&["exec", pod, "--", "sh", "-c", script]);
        output.ok().trim_end().to_owned()
    }
}
