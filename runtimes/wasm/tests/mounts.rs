//! Mounts: what a component sees of the host's files, and what it does not.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod node;

use std::{fs, os::unix::fs::symlink, path::Path};

use expect_test::{Expect, expect};
use node::{Node, fixture};
use runtimes::{Mount, Runtime as _, RuntimeError};

/// A host's directory and the mounts of a container, written `source:destination[:ro]`.
struct Host {
    node: Node,
    mounts: Vec<Mount>,
    working_dir: Option<String>,
    runs: u32,
}

impl Host {
    fn new(net: u8, mounts: &[&str], make: impl FnOnce(&Path)) -> Host {
        let node = Node::new(net);
        let root = node.dir.path().canonicalize().unwrap();
        make(&root);
        let mount = |text: &&str| {
            let mut parts = text.split(':');
            let source = root.join(parts.next().unwrap());
            let destination = parts.next().unwrap();
            Mount::new(source, destination, parts.next().is_some())
        };
        Host {
            mounts: mounts.iter().map(mount).collect(),
            working_dir: None,
            runs: 0,
            node,
        }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.node.dir.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Runs each command and shows what it printed, or its error's number.
    async fn run(&mut self, commands: &[&str], want: Expect) {
        let mut got = String::new();
        for command in commands {
            self.runs += 1;
            let name = format!("run-{}", self.runs);
            let mut spec = self.node.spec(&name, &fixture("toolbox.wat")).await;
            spec.args = command.split(' ').map(str::to_owned).collect();
            spec.mounts = self.mounts.clone();
            spec.working_dir = self.working_dir.clone();
            self.node.run(&spec).await;
            let log = self.node.log(&spec);
            let log = log.replace("stdout F ", "").replace("stderr F 0", "error ");
            let log = log.trim_end().replace('\n', ", ");
            got += &format!("{command}: {log}\n");
        }
        want.assert_eq(&got);
    }
}

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_mounts_there_are_no_files() {
    let mut host = Host::new(110, &[], |_| {});
    let want = expect![[r#"
        list /: error 44
        cat /etc/passwd: error 44
        write x y: error 44
    "#]];
    host.run(&["list /", "cat /etc/passwd", "write x y"], want)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_read_and_written() {
    let mut host = Host::new(112, &["data:/var/data"], |dir| {
        write(dir, "data/a/one", "1");
    });
    let commands = [
        "list /var/data/a",
        "cat /var/data/a/one",
        "write /var/data/two 2",
        "move /var/data/two /var/data/a/three",
        "list /var/data/a",
        "remove /var/data/a/one",
    ];
    let want = expect![[r#"
        list /var/data/a: ., .., one
        cat /var/data/a/one: 1
        write /var/data/two 2: 
        move /var/data/two /var/data/a/three: 
        list /var/data/a: ., .., one, three
        remove /var/data/a/one: 
    "#]];
    host.run(&commands, want).await;
    assert_eq!(host.read("data/a/three"), "2");
    assert!(!host.path("data/a/one").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_read_only_cannot_be_changed() {
    let mut host = Host::new(114, &["data:/data:ro", "file:/etc/file:ro"], |dir| {
        write(dir, "data/one", "1");
        write(dir, "file", "f");
    });
    let commands = [
        "cat /data/one",
        "write /data/one 2",
        "append /data/one 2",
        "remove /data/one",
        "new /data/dir",
        "move /data/one /data/two",
        "cat /etc/file",
        "write /etc/file 2",
        "append /etc/file 2",
        "remove /etc/file",
    ];
    let want = expect![[r#"
        cat /data/one: 1
        write /data/one 2: error 63
        append /data/one 2: error 63
        remove /data/one: error 63
        new /data/dir: error 63
        move /data/one /data/two: error 63
        cat /etc/file: f
        write /etc/file 2: error 63
        append /etc/file 2: error 63
        remove /etc/file: error 10
    "#]];
    host.run(&commands, want).await;
    assert_eq!(host.read("data/one"), "1");
    assert_eq!(host.read("file"), "f");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_written_at_its_source_and_its_directory_holds_nothing_else() {
    let mounts = ["log:/dev/termination-log", "conf:/dev/conf:ro"];
    let mut host = Host::new(116, &mounts, |dir| {
        write(dir, "log", "");
        write(dir, "conf", "c");
        write(dir, "secret", "s");
    });
    let commands = [
        "append /dev/termination-log died",
        "append /dev/termination-log -hard",
        "cat /dev/conf",
        "list /dev",
        "type /dev/conf",
        "type /dev",
        "write /dev/other x",
        "cat /dev/secret",
        "cat /dev/../secret",
        "cat /dev/conf/x",
        "move /dev/termination-log /dev/conf",
    ];
    let want = expect![[r#"
        append /dev/termination-log died: 
        append /dev/termination-log -hard: 
        cat /dev/conf: c
        list /dev: ., .., conf, termination-log
        type /dev/conf: 004
        type /dev: 003
        write /dev/other x: error 63
        cat /dev/secret: error 44
        cat /dev/../secret: error 63
        cat /dev/conf/x: error 54
        move /dev/termination-log /dev/conf: error 10
    "#]];
    host.run(&commands, want).await;
    assert_eq!(host.read("log"), "died-hard");
    host.run(
        &["write /dev/termination-log new"],
        expect![[r#"
        write /dev/termination-log new: 
    "#]],
    )
    .await;
    assert_eq!(host.read("log"), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_lie_within_mounts() {
    let mounts = [
        "out:/data",
        "in:/data/sub/in:ro",
        "file:/data/sub/file",
        "deep:/data/sub/in/deep",
    ];
    let mut host = Host::new(118, &mounts, |dir| {
        write(dir, "out/sub/file", "hidden");
        write(dir, "out/sub/own", "own");
        write(dir, "in/one", "1");
        write(dir, "file", "mounted");
        write(dir, "deep/x", "deep");
    });
    let commands = [
        "list /data",
        "list /data/sub",
        "cat /data/sub/file",
        "cat /data/sub/own",
        "cat /data/sub/in/one",
        "cat /data/sub/../sub/in/deep/x",
        "write /data/sub/in/two 2",
        "write /data/sub/in/deep/y y",
        "write /data/sub/two 2",
        "move /data/sub/file /data/file",
    ];
    let want = expect![[r#"
        list /data: ., .., sub
        list /data/sub: ., .., file, in, own
        cat /data/sub/file: mounted
        cat /data/sub/own: own
        cat /data/sub/in/one: 1
        cat /data/sub/../sub/in/deep/x: deep
        write /data/sub/in/two 2: error 63
        write /data/sub/in/deep/y y: 
        write /data/sub/two 2: 
        move /data/sub/file /data/file: error 10
    "#]];
    host.run(&commands, want).await;
    assert_eq!(host.read("out/sub/file"), "hidden");
    assert_eq!(host.read("deep/y"), "y");
    assert_eq!(host.read("out/sub/two"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn symbolic_links_work_within_a_mount_and_lead_nowhere_else() {
    let mut host = Host::new(120, &["config:/config:ro"], |dir| {
        write(dir, "config/..2026/key", "value");
        write(dir, "secret", "s");
        symlink("..2026", dir.join("config/..data")).unwrap();
        symlink("..data/key", dir.join("config/key")).unwrap();
        symlink("../secret", dir.join("config/up")).unwrap();
        symlink(dir.join("secret"), dir.join("config/absolute")).unwrap();
    });
    let want = expect![[r#"
        cat /config/key: value
        cat /config/..data/key: value
        cat /config/up: error 63
        cat /config/absolute: error 63
        cat /config/../secret: error 63
    "#]];
    let commands = [
        "cat /config/key",
        "cat /config/..data/key",
        "cat /config/up",
        "cat /config/absolute",
        "cat /config/../secret",
    ];
    host.run(&commands, want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_paths_begin_at_the_working_directory() {
    let mut host = Host::new(122, &["data:/data", "file:/data/sub/file"], |dir| {
        write(dir, "data/sub/one", "1");
        write(dir, "file", "mounted");
    });
    host.working_dir = Some("/data/sub".to_owned());
    let want = expect![[r#"
        cat one: 1
        cat file: mounted
        list .: ., .., file, one
        write two 2: 
        cat ../sub/one: error 63
    "#]];
    let commands = [
        "cat one",
        "cat file",
        "list .",
        "write two 2",
        "cat ../sub/one",
    ];
    host.run(&commands, want).await;
    assert_eq!(host.read("data/sub/two"), "2");
    host.working_dir = Some("/elsewhere".to_owned());
    let want = expect![[r#"
        cat one: error 44
        cat /data/sub/one: 1
    "#]];
    host.run(&["cat one", "cat /data/sub/one"], want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_that_cannot_be_say_why() {
    let host = Host::new(124, &[], |dir| {
        write(dir, "one", "1");
        write(dir, "two", "2");
        symlink("one", dir.join("link")).unwrap();
        nix::unistd::mkfifo(&dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    });
    let root = host.node.dir.path().canonicalize().unwrap();
    let mut got = String::new();
    for sources in [&["absent"][..], &["link"], &["pipe"], &["one", "two"]] {
        let mut spec = host.node.spec("never", &fixture("toolbox.wat")).await;
        spec.mounts = sources
            .iter()
            .map(|source| Mount::new(root.join(source), "/x/file", false))
            .collect();
        let error = host.node.runtime.create(spec).await.unwrap_err();
        let kind = match &error {
            RuntimeError::Invalid(_) | RuntimeError::Config(_) => "invalid",
            RuntimeError::Unavailable { .. } => "unavailable",
            RuntimeError::NotFound(_) => "not found",
        };
        let text = error.to_string().replace(root.to_str().unwrap(), "");
        got += &format!("{kind}: {text}\n");
    }
    expect![[r#"
        unavailable: mount /absent at /x/file: No such file or directory (os error 2)
        unavailable: mount /link at /x/file: /link leads through a symbolic link
        invalid: mount /pipe at /x/file: a component can open directories and regular files, not devices, sockets or pipes
        invalid: container main: both /one and /two are mounted at /x/file
    "#]]
    .assert_eq(&got);
}
