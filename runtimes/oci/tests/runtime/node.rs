//! A node for tests: a runtime over a state directory and a control group of its own, and images made of Debian's
//! static busybox. Dropped, nothing of it is left on the host, whatever the test did.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use runtime_oci::{Config, OciRuntime};
use runtimes::{
    ContainerId, ContainerSpec, Exit, Image, ImageKind, PodAddress, PodRef, Runtime, RuntimeError,
    images::digest_of,
};
use serde_json::{Value, json};

/// How long anything that should happen soon may take.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    pub(crate) runtime: Option<Arc<OciRuntime>>,
    pub(crate) dir: tempfile::TempDir,
    group: String,
}

impl Node {
    pub(crate) fn new() -> Node {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new()
            .prefix("wk-oci-")
            .tempdir()
            .unwrap();
        fs::create_dir_all(dir.path().join("blobs")).unwrap();
        let mut node = Node {
            runtime: None,
            dir,
            group: format!("wk-test-{}-{number}", std::process::id()),
        };
        node.restart();
        node
    }

    /// As if this were another process.
    pub(crate) fn restart(&mut self) {
        self.runtime = None;
        let config = Config::new(self.dir.path().join("oci"), self.group.as_str());
        let runtime = OciRuntime::new(config).unwrap_or_else(|error| panic!("{error}"));
        self.runtime = Some(Arc::new(runtime));
    }

    pub(crate) fn runtime(&self) -> &OciRuntime {
        self.runtime.as_deref().expect("a runtime")
    }

    /// An image with busybox at `/bin`, lists of users and groups, and this configuration.
    pub(crate) fn image(&self, config: Value) -> Image {
        let layer = layer();
        let diff_id = digest_of(&layer);
        let config = json!({"architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
        let config = serde_json::to_vec(&config).unwrap();
        let kind = "application/vnd.oci.image";
        let manifest = json!({"schemaVersion": 2, "mediaType": format!("{kind}.manifest.v1+json"),
            "config": {"mediaType": format!("{kind}.config.v1+json"), "digest": digest_of(&config), "size": config.len()},
            "layers": [{"mediaType": format!("{kind}.layer.v1.tar"), "digest": diff_id, "size": layer.len()}]});
        let manifest = serde_json::to_vec(&manifest).unwrap();
        self.blob(&layer);
        self.blob(&config);
        let path = self.blob(&manifest);
        Image {
            reference: "example.org/busybox:1".to_owned(),
            digest: digest_of(&manifest),
            origin: None,
            kind: ImageKind::Oci,
            path,
            size_bytes: layer.len() as u64,
        }
    }

    fn blob(&self, bytes: &[u8]) -> PathBuf {
        let digest = digest_of(bytes);
        let name = digest.strip_prefix("sha256:").unwrap();
        let path = self.dir.path().join("blobs").join(name);
        if !path.exists() {
            fs::write(&path, bytes).unwrap();
        }
        path
    }

    /// An image that runs a script.
    pub(crate) fn script(&self, script: &str) -> Image {
        self.image(json!({"Cmd": ["/bin/sh", "-c", script]}))
    }

    /// A container of a pod, running a script.
    pub(crate) fn spec(&self, pod: &str, name: &str, script: &str) -> ContainerSpec {
        let id = ContainerId(format!("{pod}/{name}/0").into());
        let pod = PodRef {
            namespace: "default".to_owned(),
            name: format!("pod-{pod}"),
            uid: pod.to_owned(),
        };
        let log = self.dir.path().join(format!("{}-{name}.log", pod.uid));
        ContainerSpec::new(id, pod, self.script(script), address(), log)
    }

    pub(crate) async fn create(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        self.runtime().create(spec.clone()).await
    }

    /// Makes a container and starts it.
    #[track_caller]
    pub(crate) fn start(&self, spec: &ContainerSpec) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            let started = async {
                self.create(spec).await?;
                self.runtime().start(&spec.id).await
            };
            started
                .await
                .unwrap_or_else(|error| panic!("{at}: {error}"));
        }
    }

    pub(crate) async fn wait(&self, id: &ContainerId) -> Exit {
        let exit = tokio::time::timeout(SOON, self.runtime().wait(id)).await;
        exit.unwrap_or_else(|_| panic!("{id} did not end")).unwrap()
    }

    /// Runs a container to its end: what it wrote to stdout and stderr, and its exit.
    pub(crate) async fn run(&self, spec: &ContainerSpec) -> (String, Exit) {
        self.start(spec).await;
        let exit = self.wait(&spec.id).await;
        (self.output(spec), exit)
    }

    /// What a container wrote so far.
    pub(crate) fn output(&self, spec: &ContainerSpec) -> String {
        let log = fs::read_to_string(&spec.log).unwrap_or_default();
        let text = |line: &str| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n";
        log.lines().map(text).collect()
    }

    /// Waits until a container has written this.
    pub(crate) async fn wrote(&self, spec: &ContainerSpec, text: &str) {
        let wrote = async {
            while !self.output(spec).contains(text) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(SOON, wrote).await.is_err() {
            panic!("{:?} is not in {:?}", text, self.output(spec));
        }
    }

    /// What is mounted below the node's directory.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let below = points.map(PathBuf::from);
        below
            .filter(|point| point.starts_with(self.dir.path()))
            .collect()
    }

    /// The node's control groups.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let groups = hierarchies.map(|hierarchy| hierarchy.path().join(&self.group));
        groups.filter(|group| group.exists()).collect()
    }

    fn processes_of_pods(&self) -> Vec<i32> {
        let pods = fs::read_dir(self.dir.path().join("oci/pods"))
            .into_iter()
            .flatten()
            .flatten();
        let text = pods.filter_map(|pod| fs::read_to_string(pod.path().join("pause")).ok());
        text.filter_map(|text| text.split(' ').next()?.parse().ok())
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let root = self.dir.path().join("oci/runc");
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let mut runc = Command::new("runc");
            runc.arg("--root").arg(&root).args(["delete", "--force"]);
            let _ = runc.arg(entry.file_name()).output();
        }
        for pid in self.processes_of_pods() {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        for point in self.mounts().iter().rev() {
            let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
        for group in self.groups() {
            remove_group(&group);
        }
    }
}

fn remove_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_group(&entry.path());
        }
    }
    // A process that was just killed may be there for a moment.
    for _ in 0..100 {
        if fs::remove_dir(group).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn address() -> PodAddress {
    let loopback = std::net::Ipv4Addr::LOCALHOST.into();
    PodAddress {
        ip: loopback,
        loopback,
    }
}

fn layer() -> Vec<u8> {
    let busybox = fs::read("/bin/busybox").expect("the package busybox-static");
    let mut tar = tar::Builder::new(Vec::new());
    let mut file = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    file("bin/busybox", 0o755, &busybox);
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv/web:/bin/sh\n";
    file("etc/passwd", 0o644, passwd.as_bytes());
    file(
        "etc/group",
        0o644,
        b"root:x:0:\nweb:x:102:\nlogs:x:104:web\n",
    );
    for applet in [
        "sh", "cat", "id", "sleep", "ls", "ps", "hostname", "mount", "dd", "touch", "grep", "kill",
        "stat", "tail", "mkdir", "unshare", "ipcs",
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    tar.into_inner().unwrap()
}
