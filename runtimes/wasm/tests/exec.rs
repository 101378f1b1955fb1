//! Exec and attach: second instances of a component, and its own streams.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod node;

use std::time::Duration;

use expect_test::{Expect, expect};
use node::{Node, SOON, example, fixture};
use runtimes::{ContainerSpec, Mount, Process, Runtime as _, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

const ALL: Stdio = Stdio {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
const TERMINAL: Stdio = Stdio { tty: true, ..ALL };

/// A container that runs until it is stopped, or whatever `change` makes of it.
async fn container(node: &Node, change: impl FnOnce(&mut ContainerSpec)) -> ContainerSpec {
    let mut spec = node.spec("tools", &fixture("toolbox.wat")).await;
    spec.args = vec!["zombie".to_owned()];
    change(&mut spec);
    node.start(&spec).await.unwrap();
    // Until it has its memory, what else takes some would keep it from that.
    let begun = async {
        while node.runtime.stats(&spec.id).await.unwrap().memory_bytes == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(SOON, begun).await.expect("it begins");
    spec
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

async fn read(stream: Option<Box<dyn AsyncRead + Send + Unpin>>) -> String {
    let mut text = String::new();
    if let Some(mut stream) = stream {
        stream.read_to_string(&mut text).await.unwrap();
    }
    text
}

/// Sends the input, ends it, and shows exit code, output and errors.
async fn finish(mut process: Process, input: &str) -> String {
    let mut stdin = process.stdin.take();
    let send = async {
        if let Some(mut stdin) = stdin.take() {
            stdin.write_all(input.as_bytes()).await.unwrap();
            stdin.shutdown().await.unwrap();
        }
    };
    let all = async {
        let (_, out, errors, code) = tokio::join!(
            send,
            read(process.stdout),
            read(process.stderr),
            process.exit
        );
        format!("{} {out:?} {errors:?}\n", code.unwrap())
    };
    tokio::time::timeout(SOON, all).await.expect("it ends soon")
}

/// Runs a command in a container and shows how it ended.
async fn check(node: &Node, spec: &ContainerSpec, command: &str, input: &str, want: Expect) {
    let process = node.runtime.exec(&spec.id, words(command), ALL).await;
    want.assert_eq(&finish(process.unwrap(), input).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_runs_the_component_with_the_command_as_its_arguments() {
    let node = Node::new(130);
    let host = node.dir.path().canonicalize().unwrap();
    std::fs::write(host.join("file"), "mounted").unwrap();
    let spec = container(&node, |spec| {
        spec.mounts = vec![Mount::new(host.join("file"), "/etc/file", true)];
    })
    .await;
    check(
        &node,
        &spec,
        "echo one two",
        "",
        expect![[r#"
        0 "one\ntwo\n" ""
    "#]],
    )
    .await;
    check(
        &node,
        &spec,
        "pipe",
        "in\n",
        expect![[r#"
        0 "in\n" "end\n"
    "#]],
    )
    .await;
    check(
        &node,
        &spec,
        "cat /etc/file",
        "",
        expect![[r#"
        0 "mounted" ""
    "#]],
    )
    .await;
    check(
        &node,
        &spec,
        "variables",
        "",
        expect![[r#"
        0 "HOSTNAME=tools\n" ""
    "#]],
    )
    .await;
    check(
        &node,
        &spec,
        "cat /none",
        "",
        expect![[r#"
        1 "" "044\n"
    "#]],
    )
    .await;
    // Nothing of it is in the container's own log.
    assert_eq!(node.log(&spec), "");
    node.runtime.stop(&spec.id, SOON).await.unwrap();
    let error = node.runtime.exec(&spec.id, words("echo"), ALL).await.err();
    assert_eq!(error.unwrap().to_string(), "container main is not running");
}

#[tokio::test(flavor = "multi_thread")]
async fn much_input_and_output_pass_through() {
    let node = Node::new(132);
    let spec = container(&node, |_| {}).await;
    let input = "0123456789abcdef".repeat(1 << 16);
    let process = node.runtime.exec(&spec.id, words("pipe"), ALL).await;
    let got = finish(process.unwrap(), &input).await;
    assert_eq!(got, format!("0 {input:?} \"end\\n\"\n"));
    node.runtime.stop(&spec.id, SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_exec_ends_and_a_stopped_container_ends_its_execs() {
    let node = Node::new(134);
    let spec = container(&node, |_| {}).await;
    let used = async || node.runtime.stats(&spec.id).await.unwrap().memory_bytes;
    let mut process = node
        .runtime
        .exec(&spec.id, words("fill 5"), ALL)
        .await
        .unwrap();
    let mut line = [0; 5];
    let stdout = process.stdout.as_mut().unwrap();
    stdout.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"full\n");
    // Its memory is the container's.
    assert!(used().await >= 500 * 65536);
    drop(process);
    let freed = async {
        while used().await >= 500 * 65536 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, freed)
        .await
        .expect("its memory is freed");
    let process = node
        .runtime
        .exec(&spec.id, words("zombie"), ALL)
        .await
        .unwrap();
    node.runtime.stop(&spec.id, SOON).await.unwrap();
    assert_eq!(finish(process, "").await, "137 \"\" \"\"\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_that_takes_too_much_memory_is_killed_and_the_container_is_not() {
    let node = Node::new(136);
    let spec = container(&node, |spec| spec.limits.memory_bytes = Some(8 << 20)).await;
    check(
        &node,
        &spec,
        "fill 5",
        "",
        expect![[r#"
        137 "" "out of memory: the limit is 8388608 bytes\n"
    "#]],
    )
    .await;
    check(
        &node,
        &spec,
        "echo alive",
        "",
        expect![[r#"
        0 "alive\n" ""
    "#]],
    )
    .await;
    node.runtime.stop(&spec.id, SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_program_says_that_exec_has_nothing_to_run() {
    let node = Node::new(138);
    let spec = node.spec("hello", &example("hello.wat")).await;
    node.start(&spec).await.unwrap();
    let error = node.runtime.exec(&spec.id, words("ls -l"), ALL).await.err();
    expect![[r#"cannot run "ls" in container main: its component exports wasi:http/incoming-handler alone, and exec runs a second instance by wasi:cli/run (tar and test -d need none)"#]]
        .assert_eq(&error.unwrap().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_one_stream_lines_and_keys() {
    let node = Node::new(140);
    let spec = container(&node, |_| {}).await;
    let exec = async |command| node.runtime.exec(&spec.id, words(command), TERMINAL).await;
    let process = exec("pipe").await.unwrap();
    expect![[r#"
        0 "ac\u{8} \u{8}b\r\nab\r\nend\r\n" ""
    "#]]
    .assert_eq(&finish(process, "ac\x7fb\r").await);
    let process = exec("tty").await.unwrap();
    assert_eq!(
        finish(process, "").await,
        "0 \"002\\r\\n002\\r\\n002\\r\\n\" \"\"\n"
    );
    let mut process = exec("zombie").await.unwrap();
    let stdin = process.stdin.as_mut().unwrap();
    stdin.write_all(b"\x03").await.unwrap();
    assert_eq!(finish(process, "").await, "130 \"^C\\r\\n\" \"\"\n");
    node.runtime.stop(&spec.id, SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_attach_get_the_output_and_give_the_input() {
    let node = Node::new(142);
    let spec = container(&node, |spec| {
        spec.args = words("pipe");
        spec.stdin = true;
    })
    .await;
    let mut one = node.runtime.attach(&spec.id, ALL).await.unwrap();
    let mut two = node.runtime.attach(&spec.id, ALL).await.unwrap();
    let mut input = one.stdin.take().unwrap();
    input.write_all(b"hello\n").await.unwrap();
    for attached in [&mut one, &mut two] {
        let mut line = [0; 6];
        let stdout = attached.stdout.as_mut().unwrap();
        stdout.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"hello\n");
    }
    // Somebody leaves, and the input stays open for others.
    input.shutdown().await.unwrap();
    drop(input);
    drop(one);
    let input = two.stdin.as_mut().unwrap();
    input.write_all(b"again\n").await.unwrap();
    let mut line = [0; 6];
    two.stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut line)
        .await
        .unwrap();
    assert_eq!(&line, b"again\n");
    node.runtime.stop(&spec.id, SOON).await.unwrap();
    assert_eq!(finish(two, "").await, "143 \"\" \"\"\n");
    assert_eq!(node.log(&spec), "stdout F hello\nstdout F again\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_stdin_once_the_first_who_leaves_ends_the_input() {
    let node = Node::new(144);
    let spec = container(&node, |spec| {
        spec.args = words("pipe");
        spec.stdin = true;
        spec.stdin_once = true;
    })
    .await;
    let attached = node.runtime.attach(&spec.id, ALL).await.unwrap();
    expect![[r#"
        0 "in\n" "end\n"
    "#]]
    .assert_eq(&finish(attached, "in\n").await);
    assert_eq!(node.log(&spec), "stdout F in\nstderr F end\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_stdin_the_input_is_at_its_end_and_nobody_gets_one() {
    let node = Node::new(146);
    let spec = container(&node, |spec| spec.args = words("pipe")).await;
    let exit = tokio::time::timeout(SOON, node.runtime.wait(&spec.id)).await;
    assert_eq!(exit.unwrap().unwrap().code, 0);
    let server = node.spec("hello", &example("hello.wat")).await;
    node.start(&server).await.unwrap();
    let attached = node.runtime.attach(&server.id, ALL).await.unwrap();
    assert!(attached.stdin.is_none());
}
