use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use expect_test::{Expect, expect};
use proptest::prelude::*;
use runtimes::{ContainerId, Image, ImageKind, Limits, PodAddress, PodRef};

use super::*;

/// A container `main` of a pod, whose limits are `(millis, bytes)`.
fn container(uid: &str, qos: Qos, requests: (u64, u64), limits: (u64, u64)) -> ContainerSpec {
    let some = |(millis, bytes): (u64, u64)| Limits {
        cpu_millis: (millis > 0).then_some(millis),
        memory_bytes: (bytes > 0).then_some(bytes),
    };
    let mut spec = ContainerSpec::new(
        ContainerId(format!("{uid}/main/0").into()),
        PodRef {
            namespace: "default".to_owned(),
            name: "pod".to_owned(),
            uid: uid.to_owned(),
        },
        Image {
            reference: "busybox".to_owned(),
            digest: String::new(),
            origin: None,
            kind: ImageKind::Oci,
            path: PathBuf::new(),
            size_bytes: 0,
        },
        PodAddress {
            ip: [10, 64, 0, 2].into(),
            loopback: [127, 0, 0, 1].into(),
        },
        PathBuf::new(),
    );
    (spec.requests, spec.limits) = (some(requests), some(limits));
    spec.pod_resources = PodResources {
        qos,
        requests: spec.requests,
        limits: spec.limits,
    };
    spec
}

/// A host of plain files, where what would be written to the kernel can be read.
struct Host {
    directory: tempfile::TempDir,
    mounts: String,
}

impl Host {
    fn v1() -> Host {
        let trees = ["cpu,cpuacct", "memory", "pids", "devices", "name=systemd"];
        let mut host = Host::empty();
        for options in trees {
            let name = options.trim_start_matches("name=");
            host.mount(name, "cgroup cgroup", options);
        }
        host.mount("unified", "cgroup2 cgroup2", "nsdelegate");
        host
    }

    fn v2(controllers: &str) -> Host {
        let mut host = Host::empty();
        host.mount("", "cgroup2 cgroup2", "nsdelegate");
        fs::write(host.path("cgroup.controllers"), controllers).unwrap();
        host
    }

    fn empty() -> Host {
        Host {
            directory: tempfile::tempdir().unwrap(),
            mounts: "22 28 0:21 / /proc rw,nosuid - proc proc rw\n".to_owned(),
        }
    }

    fn mount(&mut self, name: &str, filesystem: &str, options: &str) {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        self.mounts += &format!(
            "31 23 0:28 / {} rw,relatime shared:9 - {filesystem} rw,{options}\n",
            path.display()
        );
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn find(&self) -> Result<Cgroups, String> {
        Cgroups::read(&self.mounts, "wk-1")
    }

    /// Every file with what is in it, and empty directories.
    fn files(&self) -> String {
        let mut lines = Vec::new();
        self.list(self.directory.path(), &mut lines);
        lines.sort();
        lines.join("\n")
    }

    fn list(&self, directory: &Path, lines: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(self.directory.path()).unwrap();
            if path.is_dir() {
                self.list(&path, lines);
            } else {
                lines.push(format!(
                    "{} = {}",
                    name.display(),
                    fs::read_to_string(&path).unwrap()
                ));
            }
        }
    }
}

/// Three pods, one of each class.
async fn three_pods(host: &Host) -> String {
    let cgroups = host.find().unwrap().with_pids(Some(100));
    let mega = 1 << 20;
    for spec in [
        container("a", Qos::Guaranteed, (500, mega), (500, mega)),
        container("b", Qos::Burstable, (100, mega), (0, 0)),
        container("c", Qos::Burstable, (200, 0), (1500, 2 * mega)),
        container("d", Qos::BestEffort, (0, 0), (0, 0)),
    ] {
        cgroups.ensure_pod(&spec).await.unwrap();
    }
    let processors =
        values::shares(1000 * std::thread::available_parallelism().unwrap().get() as u64);
    let own = |value: u64, file: &str| format!("wk-1/{file} = {value}\n");
    // How many processors there are differs from machine to machine.
    host.files()
        .replace(&own(processors, "cpu.shares"), "wk-1/cpu.shares = <all>\n")
        .replace(
            &own(values::weight(processors), "cpu.weight"),
            "wk-1/cpu.weight = <all>\n",
        )
}

#[tokio::test]
async fn version_1_has_a_tree_for_each_controller() {
    expect![[r#"
        cpu,cpuacct/wk-1/besteffort/cpu.shares = 2
        cpu,cpuacct/wk-1/besteffort/podd/cpu.cfs_period_us = 100000
        cpu,cpuacct/wk-1/besteffort/podd/cpu.cfs_quota_us = -1
        cpu,cpuacct/wk-1/besteffort/podd/cpu.shares = 2
        cpu,cpuacct/wk-1/burstable/cpu.shares = 306
        cpu,cpuacct/wk-1/burstable/podb/cpu.cfs_period_us = 100000
        cpu,cpuacct/wk-1/burstable/podb/cpu.cfs_quota_us = -1
        cpu,cpuacct/wk-1/burstable/podb/cpu.shares = 102
        cpu,cpuacct/wk-1/burstable/podc/cpu.cfs_period_us = 100000
        cpu,cpuacct/wk-1/burstable/podc/cpu.cfs_quota_us = 150000
        cpu,cpuacct/wk-1/burstable/podc/cpu.shares = 204
        cpu,cpuacct/wk-1/cpu.shares = <all>
        cpu,cpuacct/wk-1/poda/cpu.cfs_period_us = 100000
        cpu,cpuacct/wk-1/poda/cpu.cfs_quota_us = 50000
        cpu,cpuacct/wk-1/poda/cpu.shares = 512
        memory/wk-1/besteffort/podd/memory.limit_in_bytes = -1
        memory/wk-1/burstable/podb/memory.limit_in_bytes = -1
        memory/wk-1/burstable/podc/memory.limit_in_bytes = 2097152
        memory/wk-1/poda/memory.limit_in_bytes = 1048576
        pids/wk-1/besteffort/podd/pids.max = 100
        pids/wk-1/burstable/podb/pids.max = 100
        pids/wk-1/burstable/podc/pids.max = 100
        pids/wk-1/poda/pids.max = 100"#]]
    .assert_eq(&three_pods(&Host::v1()).await);
}

#[tokio::test]
async fn version_2_has_one_tree_that_hands_its_controllers_down() {
    expect![[r#"
        cgroup.controllers = cpuset cpu io memory pids
        cgroup.subtree_control = +cpu +memory +pids
        wk-1/besteffort/cgroup.subtree_control = +cpu +memory +pids
        wk-1/besteffort/cpu.weight = 1
        wk-1/besteffort/podd/cgroup.subtree_control = +cpu +memory +pids
        wk-1/besteffort/podd/cpu.max = max 100000
        wk-1/besteffort/podd/cpu.weight = 1
        wk-1/besteffort/podd/memory.max = max
        wk-1/besteffort/podd/pids.max = 100
        wk-1/burstable/cgroup.subtree_control = +cpu +memory +pids
        wk-1/burstable/cpu.weight = 12
        wk-1/burstable/podb/cgroup.subtree_control = +cpu +memory +pids
        wk-1/burstable/podb/cpu.max = max 100000
        wk-1/burstable/podb/cpu.weight = 4
        wk-1/burstable/podb/memory.max = max
        wk-1/burstable/podb/pids.max = 100
        wk-1/burstable/podc/cgroup.subtree_control = +cpu +memory +pids
        wk-1/burstable/podc/cpu.max = 150000 100000
        wk-1/burstable/podc/cpu.weight = 8
        wk-1/burstable/podc/memory.max = 2097152
        wk-1/burstable/podc/pids.max = 100
        wk-1/cgroup.subtree_control = +cpu +memory +pids
        wk-1/cpu.weight = <all>
        wk-1/poda/cgroup.subtree_control = +cpu +memory +pids
        wk-1/poda/cpu.max = 50000 100000
        wk-1/poda/cpu.weight = 20
        wk-1/poda/memory.max = 1048576
        wk-1/poda/pids.max = 100"#]]
    .assert_eq(&three_pods(&Host::v2("cpuset cpu io memory pids")).await);
}

fn check_find(host: &Host, expected: Expect) {
    let error = host.find().expect_err("a host that lacks something");
    expected.assert_eq(&error.replace(&host.directory.path().display().to_string(), "<mount>"));
}

#[test]
fn a_host_that_lacks_something_is_told_what() {
    check_find(
        &Host::empty(),
        expect!["no control groups are mounted: mount cgroup2 at /sys/fs/cgroup"],
    );
    check_find(
        &Host::v2("cpuset io memory"),
        expect!["control groups at <mount>/ are without cpu, pids"],
    );
    let mut host = Host::empty();
    host.mount("memory", "cgroup cgroup", "memory");
    check_find(
        &host,
        expect!["control groups are mounted without cpu, cpuacct, pids"],
    );
    host.mount("unified", "cgroup2 cgroup2", "");
    fs::write(host.path("unified/cgroup.controllers"), "hugetlb").unwrap();
    check_find(
        &host,
        expect!["control groups at <mount>/unified are without cpu, memory, pids"],
    );
    let unwritable = Host::v1();
    fs::remove_dir(unwritable.path("memory")).unwrap();
    fs::write(unwritable.path("memory"), "").unwrap();
    check_find(
        &unwritable,
        expect![
            "control groups cannot be made (<mount>/memory/wk-1: Not a directory (os error 20)): wk needs to be root and /sys/fs/cgroup mounted for writing"
        ],
    );
}

fn check_resources(host: &Host, spec: &ContainerSpec, expected: Expect) {
    let cgroups = host.find().unwrap();
    let resources = serde_json::to_value(cgroups.resources(spec)).unwrap();
    expected.assert_eq(&format!("{} {resources}", cgroups.path(spec)));
}

#[test]
fn a_container_has_its_own_requests_and_limits() {
    let mega = 1 << 20;
    let limited = container("a", Qos::Guaranteed, (500, mega), (500, mega));
    let unlimited = container("b", Qos::BestEffort, (0, 0), (0, 0));
    let asks_by_its_limit = container("c", Qos::Burstable, (0, 0), (5, 0));

    let v1 = Host::v1();
    check_resources(
        &v1,
        &limited,
        expect![[
            r#"/wk-1/poda/main_0 {"cpu":{"period":100000,"quota":50000,"shares":512},"memory":{"limit":1048576}}"#
        ]],
    );
    check_resources(
        &v1,
        &unlimited,
        expect![[r#"/wk-1/besteffort/podb/main_0 {"cpu":{"shares":2}}"#]],
    );
    check_resources(
        &v1,
        &asks_by_its_limit,
        expect![[
            r#"/wk-1/burstable/podc/main_0 {"cpu":{"period":100000,"quota":1000,"shares":5}}"#
        ]],
    );
    v1.write("memory/wk-1/memory.memsw.limit_in_bytes", "-1");
    check_resources(
        &v1,
        &limited,
        expect![[
            r#"/wk-1/poda/main_0 {"cpu":{"period":100000,"quota":50000,"shares":512},"memory":{"limit":1048576,"swap":1048576}}"#
        ]],
    );

    let v2 = Host::v2("cpu memory pids");
    check_resources(
        &v2,
        &limited,
        expect![[
            r#"/wk-1/poda/main_0 {"cpu":{"period":100000,"quota":50000,"shares":512},"memory":{"limit":1048576},"unified":{"memory.oom.group":"1"}}"#
        ]],
    );
    v2.write("wk-1/memory.swap.max", "max");
    check_resources(
        &v2,
        &limited,
        expect![[
            r#"/wk-1/poda/main_0 {"cpu":{"period":100000,"quota":50000,"shares":512},"memory":{"limit":1048576,"swap":1048576},"unified":{"memory.oom.group":"1","memory.swap.max":"0"}}"#
        ]],
    );
    check_resources(
        &v2,
        &unlimited,
        expect![[
            r#"/wk-1/besteffort/podb/main_0 {"cpu":{"shares":2},"unified":{"memory.oom.group":"1","memory.swap.max":"0"}}"#
        ]],
    );
}

#[test]
fn use_is_read_from_the_kernels_files() {
    let group = "/wk-1/poda/main_0";
    let v1 = Host::v1();
    let files = [
        ("cpu,cpuacct", "cpuacct.usage", "1500000000\n"),
        ("memory", "memory.usage_in_bytes", "1000\n"),
        (
            "memory",
            "memory.stat",
            "inactive_file 1\ntotal_inactive_file 300\n",
        ),
        (
            "memory",
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ),
    ];
    for (tree, file, text) in files {
        v1.write(&format!("{tree}{group}/{file}"), text);
    }
    let v2 = Host::v2("cpu memory pids");
    let files = [
        ("cpu.stat", "usage_usec 1500000\nuser_usec 3\n"),
        ("memory.current", "1000\n"),
        ("memory.stat", "anon 5\ninactive_file 300\n"),
        ("memory.events", "oom 2\noom_kill 2\noom_group_kill 0\n"),
    ];
    for (file, text) in files {
        v2.write(&format!("{}/{file}", &group[1..]), text);
    }
    for host in [&v1, &v2] {
        let cgroups = host.find().unwrap();
        let stats = cgroups.stats(group).unwrap();
        assert_eq!(stats.cpu, Duration::from_millis(1500));
        assert_eq!(stats.memory_bytes, 700);
        assert_eq!(cgroups.oom_kills(group), 2);
        assert!(cgroups.stats("/wk-1/podb/main_0").is_err());
        assert_eq!(cgroups.oom_kills("/wk-1/podb/main_0"), 0);
    }
}

#[test]
fn paths_with_blanks_are_read() {
    let mut host = Host::empty();
    host.mount("with blank", "cgroup2 cgroup2", "");
    host.write("with blank/cgroup.controllers", "cpu memory pids");
    host.mounts = host.mounts.replace("with blank", r"with\040blank");
    assert!(host.find().is_ok());
}

proptest! {
    #[test]
    fn more_shares_are_never_less_weight(a in 0_u64..1_000_000, b in 0_u64..1_000_000) {
        let (less, more) = (a.min(b), a.max(b));
        prop_assert!(values::shares(less) <= values::shares(more));
        prop_assert!(values::weight(less) <= values::weight(more));
        prop_assert!((1..=10_000).contains(&values::weight(a)));
        prop_assert!((2..=262_144).contains(&values::shares(a)));
    }
}

/// This machine's groups, of a name that nothing else has; all removed in the end.
struct Real(Cgroups);

impl Real {
    fn find() -> Real {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = format!("wk-test-{}-{number}", std::process::id());
        Real(Cgroups::find(&root).expect("control groups, and the right to make some"))
    }

    fn weight_of(&self, group: &str) -> u64 {
        let tree = &self.0.tree;
        let directory = tree.layout.directory(Controller::Cpu, &tree.root);
        let file = ["cpu.shares", "cpu.weight"]
            .map(|file| directory.join(group).join(file))
            .into_iter()
            .find(|file| file.exists())
            .unwrap_or_else(|| panic!("group {group} is not there"));
        fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    fn exists(&self) -> bool {
        let tree = &self.0.tree;
        tree.layout
            .directory(Controller::Memory, &tree.root)
            .exists()
    }

    /// Makes the container's group as runc does, with its limit of memory, and runs a command in it.
    fn run(&self, spec: &ContainerSpec, command: &str) -> Child {
        let (layout, path) = (&self.0.tree.layout, self.0.path(spec));
        let mut join = String::new();
        let trees = match layout {
            Layout::V1 { trees, .. } => trees.as_slice(),
            Layout::V2 { tree } => std::slice::from_ref(tree),
        };
        for tree in trees {
            let directory = tree.join(&path[1..]);
            fs::create_dir_all(&directory).unwrap();
            let carries_processes = Controller::ALL
                .iter()
                .any(|controller| layout.directory(*controller, &path) == directory);
            if carries_processes {
                join += &format!("echo $$ > {}/cgroup.procs && ", directory.display());
            }
        }
        if let Some(bytes) = spec.limits.memory_bytes {
            layout.set_memory(&path, Some(bytes)).unwrap();
            if self.0.tree.counts_swap {
                let swap = match layout {
                    Layout::V1 { .. } => bytes,
                    Layout::V2 { .. } => 0,
                };
                fs::write(layout.swap_file(&path), swap.to_string()).unwrap();
            }
        }
        Command::new("sh")
            .arg("-c")
            .arg(format!("{join}exec {command}"))
            .spawn()
            .unwrap()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let tree = &self.0.tree;
        let deadline = Instant::now() + Duration::from_secs(10);
        tree.layout.end_processes(&tree.root);
        while tree.layout.remove(&tree.root).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[tokio::test]
async fn burstable_pods_together_get_what_they_get_one_by_one() {
    let real = Real::find();
    assert!(!real.exists(), "nothing is made before it is needed");
    let first = container("a", Qos::Burstable, (1000, 0), (0, 0));
    let second = container("b", Qos::Burstable, (3000, 0), (0, 0));
    real.0.ensure_pod(&first).await.unwrap();
    real.0.ensure_pod(&second).await.unwrap();
    real.0.ensure_pod(&second).await.unwrap();
    let (a, b) = (
        real.weight_of("burstable/poda"),
        real.weight_of("burstable/podb"),
    );
    assert!(b > a);
    assert_eq!(real.weight_of("burstable"), a + b);
    assert_eq!(real.0.pods().unwrap(), ["a", "b"].map(str::to_owned).into());

    real.0.remove_pod("a").await.unwrap();
    assert_eq!(real.weight_of("burstable"), b);
    real.0.remove_pod("a").await.unwrap();
    real.0.remove_pod("b").await.unwrap();
    assert!(!real.exists(), "the last pod takes the tree with it");
    assert!(real.0.pods().unwrap().is_empty());
}

#[tokio::test]
async fn a_process_that_wants_too_much_memory_is_counted() {
    let real = Real::find();
    let limit = 16 << 20;
    let spec = container("a", Qos::Burstable, (0, 0), (0, limit));
    real.0.ensure_pod(&spec).await.unwrap();
    let path = real.0.path(&spec);
    // It keeps the last line, which never ends.
    let mut process = real.run(&spec, "tail /dev/zero");
    let status = process.wait().unwrap();
    assert!(!status.success());
    assert_eq!(real.0.oom_kills(&path), 1);
    let stats = real.0.stats(&path).unwrap();
    assert!(stats.cpu > Duration::ZERO);
    assert!(stats.memory_bytes <= limit);
    real.0.remove_pod("a").await.unwrap();
    assert!(real.0.stats(&path).is_err());
}

#[tokio::test]
async fn a_pod_that_still_runs_is_ended_and_removed() {
    let real = Real::find();
    let spec = container("a", Qos::Guaranteed, (100, 0), (100, 0));
    real.0.ensure_pod(&spec).await.unwrap();
    let mut process = real.run(&spec, "sleep 1000");
    let joined = || {
        let directory = real
            .0
            .tree
            .layout
            .directory(Controller::Pids, &real.0.path(&spec));
        fs::read_to_string(directory.join("cgroup.procs"))
            .unwrap()
            .contains(&process.id().to_string())
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !joined() {
        assert!(
            Instant::now() < deadline,
            "the process does not join its group"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    // A dead process that nobody waits for is in its group no more.
    real.0.remove_pod("a").await.unwrap();
    assert!(!process.wait().unwrap().success());
    assert!(!real.exists());
}
