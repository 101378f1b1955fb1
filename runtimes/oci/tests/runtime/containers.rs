//! Real containers: what their specs ask for is what their processes find.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::node::{Node, SOON};
use expect_test::{Expect, expect};
use runtimes::{
    ContainerId, ContainerSpec, ContainerState, Limits, Mount, Process, Runtime, RuntimeError,
    Seccomp, Stdio,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What a script writes in a container whose spec was changed.
async fn check(change: impl FnOnce(&mut ContainerSpec), script: &str, want: Expect) {
    let node = Node::new();
    let mut spec = node.spec("p", "main", script);
    change(&mut spec);
    let (output, _) = node.run(&spec).await;
    want.assert_eq(&output);
}

/// A network namespace, gone with this value.
struct Network(PathBuf);

impl Network {
    fn new(node: &Node) -> Network {
        let path = node.dir.path().join("network");
        fs::write(&path, "").unwrap();
        let at = path.clone();
        let thread = std::thread::spawn(move || {
            use nix::{mount::MsFlags, sched::CloneFlags};
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let own = Some("/proc/thread-self/ns/net");
            nix::mount::mount(own, &at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        });
        thread.join().unwrap();
        Network(path)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

const RUNS: &str = "trap 'exit 0' TERM; sleep 1000 & echo up; wait";

#[tokio::test]
async fn a_user_has_the_groups_of_the_image_and_of_the_pod() {
    check(
        |spec| {
            spec.security.user = Some(101);
            spec.security.groups = vec![2000];
        },
        "id -u; id -g; id -G; echo $HOME; grep Groups /proc/self/status",
        expect![[r#"
            101
            102
            102 104 2000
            /srv/web
            Groups:	102 104 2000 
        "#]],
    )
    .await;
}

#[tokio::test]
async fn capabilities_are_the_usual_ones_unless_they_are_taken() {
    let caps = "grep -E 'Cap(Eff|Bnd|Inh|Amb)|NoNew|Seccomp:' /proc/self/status";
    check(
        |_| (),
        caps,
        expect![[r#"
            CapInh:	0000000000000000
            CapEff:	00000000a80425fb
            CapBnd:	00000000a80425fb
            CapAmb:	0000000000000000
            NoNewPrivs:	0
            Seccomp:	0
        "#]],
    )
    .await;
    check(
        |spec| {
            spec.security.dropped_capabilities = vec!["ALL".to_owned()];
            spec.security.added_capabilities = vec!["NET_BIND_SERVICE".to_owned()];
            spec.security.no_new_privileges = true;
            spec.security.seccomp = Seccomp::RuntimeDefault;
            spec.security.user = Some(1000);
        },
        caps,
        expect![[r#"
            CapInh:	0000000000000000
            CapEff:	0000000000000000
            CapBnd:	0000000000000400
            CapAmb:	0000000000000000
            NoNewPrivs:	1
            Seccomp:	2
        "#]],
    )
    .await;
}

#[tokio::test]
async fn the_default_profile_forbids_new_namespaces() {
    let script = "unshare -U true 2>&1; unshare -m true 2>&1; mkdir /m && echo made";
    check(
        |spec| spec.security.seccomp = Seccomp::RuntimeDefault,
        script,
        expect![[r#"
            unshare: unshare(0x10000000): Operation not permitted
            unshare: unshare(0x20000): Operation not permitted
            made
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_read_only_root_takes_no_writes_where_nothing_is_mounted() {
    let node = Node::new();
    let volume = node.dir.path().join("volume");
    fs::create_dir_all(volume.join("sub")).unwrap();
    fs::write(volume.join("file"), "seen\n").unwrap();
    let mut spec = node.spec(
        "p",
        "main",
        "touch /a 2>&1; touch /rw/new && cat /ro/file; touch /ro/b 2>&1; touch /dev/shm/s && echo shm",
    );
    spec.security.read_only_root = true;
    spec.mounts = vec![
        Mount::new(&volume, "/ro", true),
        Mount::new(volume.join("sub"), "/rw", false),
    ];
    let (output, exit) = node.run(&spec).await;
    expect![[r#"
        touch: /a: Read-only file system
        seen
        touch: /ro/b: Read-only file system
        shm
    "#]]
    .assert_eq(&output);
    assert_eq!(exit.code, 0);
    assert!(volume.join("sub/new").exists());
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let node = Node::new();
    let mut missing = node.spec("p", "missing", "");
    missing.command = vec!["nope".to_owned()];
    let mut nobody = node.spec("p", "nobody", "");
    nobody.image = node.image(json!({"Cmd": ["/bin/sh"], "User": "nobody"}));
    let mut root = node.spec("p", "root", "");
    root.security.non_root = true;
    let mut nothing = node.spec("p", "nothing", "");
    nothing.image = node.image(json!({}));
    let mut profile = node.spec("p", "profile", "");
    profile.security.seccomp = Seccomp::Localhost("/nowhere/p.json".into());
    let mut words = String::new();
    for spec in [&missing, &nobody, &root, &nothing, &profile] {
        let error = match node.create(spec).await {
            Ok(()) => node.runtime().start(&spec.id).await.unwrap_err(),
            Err(error) => error,
        };
        let kind = match &error {
            RuntimeError::Invalid(_) => "invalid",
            RuntimeError::Config(_) => "config",
            error => panic!("{error:?}"),
        };
        words += &format!("{kind}: {error}\n");
    }
    expect![[r#"
        invalid: OCI runtime create failed: runc run failed: unable to start container process: exec: "nope": executable file not found in $PATH
        invalid: unable to find user nobody: no matching entries in passwd file
        config: container has runAsNonRoot and image will run as root (pod: "pod-p_default(p)", container: root)
        invalid: no command specified
        invalid: cannot load seccomp profile "/nowhere/p.json": No such file or directory (os error 2)
    "#]]
    .assert_eq(&words);
    let exit = node.wait(&missing.id).await;
    assert_eq!((exit.code, exit.reason), (128, "StartError"));
    assert!(
        exit.message.contains("executable file not found"),
        "{exit:?}"
    );
    // Of what was not made, nothing is left.
    assert_eq!(node.runtime().list().await.unwrap().len(), 1);
    assert_eq!(
        fs::read_dir(node.dir.path().join("oci/containers"))
            .unwrap()
            .count(),
        1
    );
    for spec in [&missing, &nobody, &root, &nothing, &profile] {
        node.runtime().remove(&spec.id).await.unwrap();
    }
    assert_eq!(node.mounts(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_pods_containers_share_its_name_its_ipc_and_its_memory() {
    let node = Node::new();
    let network = Network::new(&node);
    let mut first = node.spec(
        "p",
        "first",
        "hostname; echo there > /dev/shm/said; stat -L -c %i /proc/self/ns/ipc /proc/self/ns/uts; echo up; sleep 1000",
    );
    first.namespaces.network = Some(network.0.clone());
    first.hostname = "the-pod".to_owned();
    let mut second = node.spec(
        "p",
        "second",
        "hostname; cat /dev/shm/said; stat -L -c %i /proc/self/ns/ipc /proc/self/ns/uts; echo $$ $HOSTNAME",
    );
    second.namespaces = first.namespaces.clone();
    second.hostname = first.hostname.clone();
    node.start(&first).await;
    node.wrote(&first, "up\n").await;
    let (output, _) = node.run(&second).await;
    let of_first = node.output(&first).replace("up\n", "");
    let namespaces = of_first.strip_prefix("the-pod\n").unwrap();
    assert_eq!(output, format!("the-pod\nthere\n{namespaces}1 the-pod\n"));
    node.runtime()
        .stop(&first.id, Duration::ZERO)
        .await
        .unwrap();
    for spec in [&first, &second] {
        node.runtime().remove(&spec.id).await.unwrap();
    }
    assert_eq!(node.mounts(), std::slice::from_ref(&network.0));
    assert_eq!(node.groups(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn shared_processes_are_seen_by_all_containers_and_end_with_the_pod() {
    let mut node = Node::new();
    let spec = |node: &Node, name: &str, script: &str| {
        let mut spec = node.spec("p", name, script);
        spec.namespaces.shared_pid = true;
        // With this, what the namespace's first process has would be within reach.
        spec.security.added_capabilities = vec!["SYS_PTRACE".to_owned()];
        spec
    };
    let first = spec(&node, "first", "sleep 1234 & echo up; wait");
    node.start(&first).await;
    node.wrote(&first, "up\n").await;
    node.restart();
    let script = "ps -o args | grep -cx 'sleep 1234'; ps -o pid,args | grep '/pause$'; ls /proc/1/root | grep -c .; \
                  grep -E 'Uid|CapEff|CapBnd|NoNew' /proc/1/status; echo $$";
    let (output, _) = node.run(&spec(&node, "second", script)).await;
    let (facts, own) = output.trim_end().rsplit_once('\n').unwrap();
    expect![[r#"
        1
            1 /pause
        0
        Uid:	65535	65535	65535	65535
        CapEff:	0000000000000000
        CapBnd:	0000000000000000
        NoNewPrivs:	1"#]]
    .assert_eq(facts);
    assert_ne!(own, "1");
    node.runtime()
        .stop(&first.id, Duration::ZERO)
        .await
        .unwrap();
    let exit = node.wait(&first.id).await;
    assert_eq!(exit.code, 137);
    for name in ["first", "second"] {
        let id = ContainerId(format!("p/{name}/0").into());
        node.runtime().remove(&id).await.unwrap();
    }
    assert_eq!(node.mounts(), Vec::<PathBuf>::new());
    assert!(!node.dir.path().join("oci/pods/p").exists());
}

#[tokio::test]
async fn an_ephemeral_container_sees_its_targets_processes() {
    let node = Node::new();
    let target = node.spec("p", "target", "sleep 4321 & echo up; wait");
    node.start(&target).await;
    node.wrote(&target, "up\n").await;
    let mut debugger = node.spec("p", "debugger", "ps -o args | grep -cx 'sleep 4321'");
    debugger.namespaces.target = Some(target.id.clone());
    let (output, _) = node.run(&debugger).await;
    assert_eq!(output, "1\n");
    node.runtime()
        .stop(&target.id, Duration::ZERO)
        .await
        .unwrap();
    debugger.id = ContainerId("p/debugger/1".into());
    let error = node.create(&debugger).await.unwrap_err();
    expect!["the target container p/target/0 is not running"].assert_eq(&error.to_string());
}

#[tokio::test]
async fn who_uses_too_much_memory_is_killed_for_it() {
    let node = Node::new();
    let mut spec = node.spec("p", "main", "tail /dev/zero");
    spec.limits = Limits {
        memory_bytes: Some(32 << 20),
        cpu_millis: None,
    };
    let (_, exit) = node.run(&spec).await;
    assert_eq!((exit.code, exit.reason), (137, "OOMKilled"), "{exit:?}");
}

#[tokio::test]
async fn everything_is_found_again_by_another_process() {
    let mut node = Node::new();
    let runs = node.spec("a", "runs", RUNS);
    let ends = node.spec("b", "ends", "echo said; exit 4");
    let made = node.spec("c", "made", "exit 5");
    for spec in [&runs, &ends] {
        node.start(spec).await;
    }
    node.create(&made).await.unwrap();
    node.wrote(&runs, "up").await;
    let before = node.runtime().status(&runs.id).await.unwrap();
    node.restart();
    let mut list = node.runtime().list().await.unwrap();
    list.sort_by(|a, b| a.id.cmp(&b.id));
    let ids: Vec<_> = list.iter().map(|status| status.id.clone()).collect();
    assert_eq!(ids, [runs.id.clone(), ends.id.clone(), made.id.clone()]);
    assert_eq!(list[0], before);
    assert_eq!(list[2].state, ContainerState::Created);
    let exit = node.wait(&ends.id).await;
    assert_eq!((exit.code, exit.reason), (4, "Error"));
    assert_eq!(node.output(&ends), "said\n");
    node.runtime().start(&made.id).await.unwrap();
    assert_eq!(node.wait(&made.id).await.code, 5);
    node.restart();
    node.runtime().stop(&runs.id, SOON).await.unwrap();
    assert_eq!(node.wait(&runs.id).await.code, 0);
    node.restart();
    assert_eq!(node.wait(&ends.id).await, exit);
    for spec in [&runs, &ends, &made] {
        node.runtime().remove(&spec.id).await.unwrap();
    }
    assert!(node.runtime().list().await.unwrap().is_empty());
    assert_eq!(node.mounts(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_was_given_up_halfway_is_done_again() {
    let node = Node::new();
    let spec = node.spec("p", "main", "echo done");
    // Wherever a call was when nobody wanted it any more, the next one comes to its end.
    for milliseconds in [0, 1, 3, 10, 20, 30, 40] {
        let short = Duration::from_millis(milliseconds);
        let _ = tokio::time::timeout(short, node.create(&spec)).await;
    }
    node.create(&spec).await.unwrap();
    for milliseconds in [0, 1, 3, 10, 20, 30, 40] {
        let short = Duration::from_millis(milliseconds);
        let _ = tokio::time::timeout(short, node.runtime().start(&spec.id)).await;
    }
    node.runtime().start(&spec.id).await.unwrap();
    let exit = node.wait(&spec.id).await;
    assert_eq!((exit.code, node.output(&spec).as_str()), (0, "done\n"));
    for milliseconds in [0, 1, 3, 10] {
        let short = Duration::from_millis(milliseconds);
        let _ = tokio::time::timeout(short, node.runtime().remove(&spec.id)).await;
    }
    node.runtime().remove(&spec.id).await.unwrap();
    assert!(node.runtime().list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_crash_left_is_swept_away() {
    let mut node = Node::new();
    let spec = node.spec("p", "main", "true");
    node.create(&spec).await.unwrap();
    let directory = node.dir.path().join("oci/containers/p_main_0");
    // As if it had come no further.
    fs::remove_file(directory.join("spec.json")).unwrap();
    node.restart();
    assert!(node.runtime().list().await.unwrap().is_empty());
    assert!(!node.mounts().is_empty());
    node.runtime().keep_only(&[]).await.unwrap();
    assert!(!directory.exists());
    assert_eq!(node.mounts(), Vec::<PathBuf>::new());
    assert_eq!(node.groups(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_container_is_asked_by_its_own_signal() {
    let node = Node::new();
    let mut spec = node.spec(
        "p",
        "main",
        "trap 'exit 7' USR1; sleep 1000 & echo up; wait",
    );
    spec.stop_signal = Some("SIGUSR1".to_owned());
    node.start(&spec).await;
    node.wrote(&spec, "up").await;
    node.runtime().stop(&spec.id, SOON).await.unwrap();
    assert_eq!(node.wait(&spec.id).await.code, 7);
}

/// What a command beside a container writes, and its exit code.
async fn exec(
    node: &Node,
    id: &ContainerId,
    command: &[&str],
    stdio: Stdio,
    input: &str,
) -> (String, i32) {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let process = node.runtime().exec(id, command, stdio).await.unwrap();
    let Process {
        stdin,
        stdout,
        stderr,
        exit,
        ..
    } = process;
    if let Some(mut stdin) = stdin {
        stdin.write_all(input.as_bytes()).await.unwrap();
        stdin.shutdown().await.unwrap();
    }
    let mut output = String::new();
    for mut reader in [stdout, stderr].into_iter().flatten() {
        reader.read_to_string(&mut output).await.unwrap();
    }
    (output, exit.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_the_containers_surroundings() {
    let node = Node::new();
    let mut spec = node.spec("p", "main", RUNS);
    spec.env = vec![("COLOUR".to_owned(), "green".to_owned())];
    spec.working_dir = Some("/srv/web".to_owned());
    spec.security.user = Some(101);
    node.start(&spec).await;
    let both = Stdio {
        stdout: true,
        stderr: true,
        ..Stdio::default()
    };
    let script = ["sh", "-c", "echo $COLOUR $PWD $(id -u); exit 9"];
    let ran = exec(&node, &spec.id, &script, both, "").await;
    assert_eq!(ran, ("green /srv/web 101\n".to_owned(), 9));
    let stdin = Stdio {
        stdin: true,
        ..both
    };
    let ran = exec(&node, &spec.id, &["cat"], stdin, "through").await;
    assert_eq!(ran, ("through".to_owned(), 0));
    let tty = Stdio {
        tty: true,
        stdout: true,
        ..Stdio::default()
    };
    let ran = exec(
        &node,
        &spec.id,
        &["sh", "-c", "echo $TERM; [ -t 1 ] && echo terminal"],
        tty,
        "",
    )
    .await;
    assert_eq!(ran, ("xterm\r\nterminal\r\n".to_owned(), 0));
    let (words, code) = exec(&node, &spec.id, &["bash"], both, "").await;
    assert!(
        words.contains("exec: \"bash\": executable file not found in $PATH"),
        "{words}"
    );
    assert_ne!(code, 0);
    node.runtime().stop(&spec.id, Duration::ZERO).await.unwrap();
    let error = node
        .runtime()
        .exec(&spec.id, vec!["id".to_owned()], both)
        .await
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "container main is not running");
}

#[tokio::test]
async fn stats_are_of_the_containers_own_processes() {
    let node = Node::new();
    let spec = node.spec(
        "p",
        "main",
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo up; sleep 1000",
    );
    node.start(&spec).await;
    node.wrote(&spec, "up").await;
    let stats = node.runtime().stats(&spec.id).await.unwrap();
    assert!(
        stats.cpu > Duration::ZERO && stats.memory_bytes > 0,
        "{stats:?}"
    );
    node.runtime().stop(&spec.id, Duration::ZERO).await.unwrap();
    node.runtime().stats(&spec.id).await.unwrap();
}

#[tokio::test]
async fn a_privileged_container_has_the_hosts_devices() {
    let devices = "stat -c %n /dev/kmsg /dev/null 2>/dev/null; grep -c . /proc/self/status >/dev/null; \
                   touch /sys/fs/cgroup/x 2>&1 | grep -c Read-only";
    let has = Path::new("/dev/kmsg").exists();
    let want = if has {
        "/dev/kmsg\n/dev/null\n0\n"
    } else {
        "/dev/null\n0\n"
    };
    let node = Node::new();
    let mut spec = node.spec("p", "main", devices);
    spec.security.privileged = true;
    assert_eq!(node.run(&spec).await.0, want);
}
