//! Those who are attached to a container's own streams.

use runtimes::TerminalSize;
use tokio::io::AsyncWriteExt as _;
use wk_shim::wire::{Frame, Streams};

use super::*;
use crate::shim::connection::Connection;

const ALL: Stdio = Stdio {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

const OUTPUT: Stdio = Stdio {
    stdin: false,
    ..ALL
};

#[tokio::test]
async fn all_who_are_attached_get_all_the_output_and_the_exit_code() {
    let bundle = Bundle::waiting("echo out; echo err >&2; exit 9");
    let shim = bundle.run().await;
    let first = shim.attach(OUTPUT).await.unwrap();
    let second = shim.attach(ALL).await.unwrap();
    assert!(second.stdin.is_none() && second.resize.is_none());
    bundle.go();
    for process in [first, second] {
        assert_eq!(all(process.stdout).await, "out\n");
        assert_eq!(all(process.stderr).await, "err\n");
        assert_eq!(soon(process.exit).await.unwrap(), 9);
    }
}

#[tokio::test]
async fn an_input_that_nobody_asked_for_is_at_its_end() {
    let bundle = Bundle::new("cat; echo end");
    let shim = bundle.run().await;
    assert_eq!(code(soon(shim.wait()).await), 0);
    assert_eq!(bundle.entries(), ["stdout F end"]);
}

#[tokio::test]
async fn an_input_goes_on_when_somebody_leaves() {
    let bundle = Bundle::new("while read line; do echo got $line; [ $line = b ] && exit 4; done")
        .stdin(false);
    let shim = bundle.run().await;
    let mut first = shim.attach(ALL).await.unwrap();
    let mut stdin = first.stdin.take().unwrap();
    stdin.write_all(b"a\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    until_read(first.stdout.as_mut().unwrap(), "got a").await;
    drop(first);
    let mut second = shim.attach(ALL).await.unwrap();
    second
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"b\n")
        .await
        .unwrap();
    assert_eq!(all(second.stdout).await, "got b\n");
    assert_eq!(soon(second.exit).await.unwrap(), 4);
}

#[tokio::test]
async fn an_input_for_one_ends_with_the_first() {
    for leaves in [false, true] {
        let bundle = Bundle::new("cat; exit 6").stdin(true);
        let shim = bundle.run().await;
        let mut process = shim.attach(ALL).await.unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(b"all of it").await.unwrap();
        if leaves {
            until_read(process.stdout.as_mut().unwrap(), "all of it").await;
            drop(process);
        } else {
            stdin.shutdown().await.unwrap();
            assert_eq!(all(process.stdout).await, "all of it");
            assert_eq!(soon(process.exit).await.unwrap(), 6);
        }
        assert_eq!(code(soon(shim.wait()).await), 6);
        assert_eq!(bundle.entries(), ["stdout F all of it"]);
    }
}

#[tokio::test]
async fn much_input_comes_through_though_it_is_read_slowly() {
    let bundle = Bundle::new("sleep 0.3; cat | head -c 3000000 | tr -d x").stdin(true);
    let shim = bundle.run().await;
    let mut process = shim.attach(ALL).await.unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let mut input = vec![b'x'; 2_000_000];
    input.extend_from_slice(b"end\n");
    let write = async {
        stdin.write_all(&input).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let (output, ()) = tokio::join!(all(process.stdout), soon(write));
    assert_eq!(output, "end\n");
}

#[tokio::test]
async fn a_terminal_has_a_size_and_one_output() {
    let script = "read line; stty size; echo err >&2; [ -t 0 ] && [ -t 1 ] && exit 8";
    let bundle = Bundle::new(script).stdin(true).tty();
    let shim = bundle.run().await;
    let mut process = shim.attach(Stdio { tty: true, ..ALL }).await.unwrap();
    assert!(process.stderr.is_none());
    let (width, height) = (123, 45);
    let resize = process.resize.take().unwrap();
    resize.send(TerminalSize { width, height }).await.unwrap();
    // What is said of a terminal is done in order, but sizes and input come by different ways.
    let mut stdin = process.stdin.take().unwrap();
    let pid = shim.running().unwrap();
    until("the size is set", || {
        terminal_size(pid) == Some((width, height))
    })
    .await;
    stdin.write_all(b"go\r").await.unwrap();
    assert_eq!(all(process.stdout).await, "go\r\n45 123\r\nerr\r\n");
    assert_eq!(soon(process.exit).await.unwrap(), 8);
    assert_eq!(code(soon(shim.wait()).await), 8);
    assert_eq!(
        bundle.entries(),
        ["stdout F go\r", "stdout F 45 123\r", "stdout F err\r"]
    );
}

/// The size of the terminal that is a process' input.
fn terminal_size(pid: i32) -> Option<(u16, u16)> {
    let file = fs::File::open(format!("/proc/{pid}/fd/0")).ok()?;
    let size = rustix::termios::tcgetwinsize(file).ok()?;
    Some((size.ws_col, size.ws_row))
}

#[tokio::test]
async fn a_terminal_whose_user_has_left_says_so_to_who_reads_it() {
    let bundle = Bundle::new("cat; exit 13").stdin(true).tty();
    let shim = bundle.run().await;
    let terminal = Stdio { tty: true, ..ALL };
    let mut process = shim.attach(terminal).await.unwrap();
    let stdin = process.stdin.as_mut().unwrap();
    stdin.write_all(b"typed\r").await.unwrap();
    let stdout = process.stdout.as_mut().unwrap();
    until_read(stdout, "typed\r\ntyped\r\n").await;
    drop(process);
    assert_eq!(code(soon(shim.wait()).await), 13);
}

#[tokio::test]
async fn somebody_who_does_not_read_is_let_go_and_no_line_is_lost() {
    let bundle = Bundle::waiting("seq 1 500000; echo done");
    let shim = bundle.run().await;
    let mut deaf = Connection::open(&bundle.dir()).await.unwrap();
    let wanted = Streams {
        stdout: true,
        ..Streams::default()
    };
    deaf.say(&Frame::Attach(wanted)).await.unwrap();
    assert_eq!(deaf.hear().await.unwrap(), Some(Frame::Attached(wanted)));
    let reader = shim.attach(OUTPUT).await.unwrap();
    bundle.go();
    let output = all(reader.stdout).await;
    assert_eq!(output.lines().count(), 500_001);
    assert_eq!(soon(reader.exit).await.unwrap(), 0);
    assert_eq!(code(soon(shim.wait()).await), 0);
    assert_eq!(bundle.entries().last().unwrap(), "stdout F done");
    let mut last = Vec::new();
    while let Ok(Some(frame)) = soon(deaf.hear()).await {
        last = frame.to_vec();
    }
    assert!(
        String::from_utf8_lossy(&last).ends_with("[detached: the output was not read for 10 s]\n")
    );
}
