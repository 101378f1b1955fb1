//! Copying in and out: the built-in `tar` against the real one.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod node;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use expect_test::{Expect, expect};
use node::{Node, SOON, example};
use runtimes::{ContainerSpec, Mount, Runtime as _, Stdio};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Pod {
    node: Node,
    host: PathBuf,
    spec: ContainerSpec,
}

impl Pod {
    /// A server with `rw:/data`, `ro:/ro` read-only and the file `file:/etc/conf`.
    async fn new(net: u8) -> Pod {
        let node = Node::new(net);
        let host = node.dir.path().canonicalize().unwrap();
        for dir in ["rw", "ro", "outside"] {
            fs::create_dir(host.join(dir)).unwrap();
        }
        fs::write(host.join("file"), "conf").unwrap();
        fs::write(host.join("outside/secret"), "secret").unwrap();
        let mut spec = node.spec("files", &example("hello.wat")).await;
        let mount = |source: &str, destination: &str, read_only| {
            Mount::new(host.join(source), destination, read_only)
        };
        spec.mounts = vec![
            mount("rw", "/data", false),
            mount("ro", "/ro", true),
            mount("file", "/etc/conf", false),
        ];
        node.start(&spec).await.unwrap();
        Pod { node, host, spec }
    }

    /// Exit code, output and errors of a command.
    async fn exec(&self, command: &[&str], input: &[u8]) -> (i32, Vec<u8>, String) {
        let all = Stdio {
            stdin: true,
            stdout: true,
            stderr: true,
            tty: false,
        };
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let mut process = self
            .node
            .runtime
            .exec(&self.spec.id, command, all)
            .await
            .unwrap();
        let (mut stdin, mut stdout) = (
            process.stdin.take().unwrap(),
            process.stdout.take().unwrap(),
        );
        let mut stderr = process.stderr.take().unwrap();
        let (mut out, mut errors) = (Vec::new(), String::new());
        let send = async {
            // It may end before it has read all.
            let _ = stdin.write_all(input).await;
            let _ = stdin.shutdown().await;
        };
        let all = async {
            let (_, read, noted, code) = tokio::join!(
                send,
                stdout.read_to_end(&mut out),
                stderr.read_to_string(&mut errors),
                process.exit
            );
            read.unwrap();
            noted.unwrap();
            code.unwrap()
        };
        let code = tokio::time::timeout(SOON, all).await.expect("it ends soon");
        (code, out, errors)
    }
}

/// Runs the real tar.
fn tar(dir: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = std::process::Command::new("tar");
    let done = command.current_dir(dir).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    done.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_real_tar_packs_is_unpacked() {
    let pod = Pod::new(150).await;
    let local = pod.host.join("outside");
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(120));
    fs::create_dir_all(local.join("tree").join("d".repeat(90))).unwrap();
    fs::write(local.join("tree").join(&long), "long").unwrap();
    let big: Vec<u8> = (0..=255).cycle().take(300_001).collect();
    fs::write(local.join("tree/big"), &big).unwrap();
    fs::set_permissions(local.join("tree/big"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("big", local.join("tree/link")).unwrap();
    let archive = tar(&local, &["--format=pax", "-cf", "-", "tree"]);
    let (code, _, errors) = pod
        .exec(&["tar", "-xmf", "-", "-C", "/data"], &archive)
        .await;
    assert_eq!((code, errors.as_str()), (0, ""));
    let tree = pod.host.join("rw/tree");
    assert_eq!(fs::read(tree.join("big")).unwrap(), big);
    assert_eq!(fs::read_to_string(tree.join(&long)).unwrap(), "long");
    assert_eq!(fs::read_link(tree.join("link")).unwrap(), Path::new("big"));
    let mode = fs::metadata(tree.join("big")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
    // And back, into the real tar, in one piece and in two.
    let (code, whole, errors) = pod.exec(&["tar", "cf", "-", "/data/tree"], b"").await;
    assert_eq!((code, errors.as_str()), (0, ""));
    let again = "tar cf - /data/tree | tail -c+1001";
    let (_, rest, _) = pod.exec(&["sh", "-c", again], b"").await;
    assert_eq!(rest.len(), whole.len() - 1000);
    let back = pod.host.join("outside/back");
    fs::create_dir(&back).unwrap();
    fs::write(back.join("a.tar"), &whole).unwrap();
    tar(&back, &["xf", "a.tar"]);
    assert_eq!(fs::read(back.join("data/tree/big")).unwrap(), big);
    assert_eq!(
        fs::read_to_string(back.join("data/tree").join(&long)).unwrap(),
        "long"
    );
    assert_eq!(
        fs::read_link(back.join("data/tree/link")).unwrap(),
        Path::new("big")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_mounts_are_packed_and_tested() {
    let pod = Pod::new(152).await;
    fs::write(pod.host.join("rw/one"), "1").unwrap();
    symlink("../outside", pod.host.join("rw/out")).unwrap();
    let (code, archive, _) = pod.exec(&["tar", "cf", "-", "/"], b"").await;
    assert_eq!(code, 0);
    fs::write(pod.host.join("outside/all.tar"), archive).unwrap();
    let listed = tar(&pod.host.join("outside"), &["tf", "all.tar"]);
    expect![[r#"
        ./
        data/
        data/one
        data/out
        etc/
        etc/conf
        ro/
    "#]]
    .assert_eq(&String::from_utf8(listed).unwrap());
    let mut got = String::new();
    for path in [
        "/",
        "/data",
        "/data/one",
        "/data/out",
        "/etc",
        "/proc",
        "/etc/conf",
        "data",
    ] {
        let (code, ..) = pod.exec(&["test", "-d", path], b"").await;
        got += &format!("{path}: {code}\n");
    }
    expect![[r#"
        /: 0
        /data: 0
        /data/one: 1
        /data/out: 1
        /etc: 0
        /proc: 1
        /etc/conf: 1
        data: 0
    "#]]
    .assert_eq(&got);
    for path in [
        "/data/out/secret",
        "/data/../../outside/secret",
        "/outside/secret",
    ] {
        let (code, _, errors) = pod.exec(&["tar", "cf", "-", path], b"").await;
        assert_eq!(code, 2, "{path}: {errors}");
    }
}

/// An archive of one entry, with whatever name.
fn entry(name: &str, kind: tar::EntryType, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let fields = header.as_gnu_mut().unwrap();
    fields.name[..name.len()].copy_from_slice(name.as_bytes());
    fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
    let body = if kind == tar::EntryType::Regular {
        "evil"
    } else {
        ""
    };
    header.set_entry_type(kind);
    header.set_size(body.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, body.as_bytes()).unwrap();
    archive.into_inner().unwrap()
}

async fn check(pod: &Pod, name: &str, kind: tar::EntryType, link: &str, want: Expect) {
    let archive = entry(name, kind, link);
    let (code, _, errors) = pod
        .exec(&["tar", "-xmf", "-", "-C", "/data"], &archive)
        .await;
    want.assert_eq(&format!("{code} {errors}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_archive_leads_out_of_a_mount() {
    use tar::EntryType::{Fifo, Regular, Symlink};
    let pod = Pod::new(154).await;
    symlink("../outside", pod.host.join("rw/out")).unwrap();
    check(
        &pod,
        "../outside/x",
        Regular,
        "",
        expect![[r#"
        2 tar: ../outside/x: a name must not contain '..'
    "#]],
    )
    .await;
    check(
        &pod,
        "a/../../../x",
        Regular,
        "",
        expect![[r#"
        2 tar: a/../../../x: a name must not contain '..'
    "#]],
    )
    .await;
    check(
        &pod,
        "out/x",
        Regular,
        "",
        expect![[r#"
        2 tar: out/x: Invalid cross-device link (os error 18)
    "#]],
    )
    .await;
    check(
        &pod,
        "up",
        Symlink,
        "../x",
        expect![[r#"
        2 tar: up: a symbolic link must not lead out of the archive
    "#]],
    )
    .await;
    check(
        &pod,
        "abs",
        Symlink,
        "/etc/passwd",
        expect![[r#"
        2 tar: abs: a symbolic link must not lead out of the archive
    "#]],
    )
    .await;
    check(
        &pod,
        "pipe",
        Fifo,
        "",
        expect![[r#"
        2 tar: pipe: neither file, directory nor symbolic link
    "#]],
    )
    .await;
    // An absolute name is one in the directory; a link in the way of a file is replaced, not followed.
    check(&pod, "/etc/x", Regular, "", expect!["0 "]).await;
    check(&pod, "out", Regular, "", expect!["0 "]).await;
    assert_eq!(
        fs::read_to_string(pod.host.join("rw/etc/x")).unwrap(),
        "evil"
    );
    assert_eq!(fs::read_to_string(pod.host.join("rw/out")).unwrap(), "evil");
    let names: Vec<_> = fs::read_dir(pod.host.join("outside")).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_mounts_stay_as_they_are_and_files_are_written_through() {
    let pod = Pod::new(156).await;
    let archive = entry("conf", tar::EntryType::Regular, "");
    let unpack = async |dir| {
        let (code, _, errors) = pod.exec(&["tar", "-xmf", "-", "-C", dir], &archive).await;
        format!("{code} {errors}")
    };
    expect![[r#"
        2 tar: conf: Read-only file system (os error 30)
    "#]]
    .assert_eq(&unpack("/ro").await);
    expect![[r#"
        2 tar: /none: Cannot open: no such directory is mounted in this container
    "#]]
    .assert_eq(&unpack("/none").await);
    expect![[r#"
        2 tar: conf: Read-only file system (os error 30)
    "#]]
    .assert_eq(&unpack("/").await);
    expect!["0 "].assert_eq(&unpack("/etc").await);
    assert_eq!(fs::read_to_string(pod.host.join("file")).unwrap(), "evil");
}
