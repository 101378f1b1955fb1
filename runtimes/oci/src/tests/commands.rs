//! Commands beside a container's own process.

use runtimes::TerminalSize;
use tokio::io::AsyncWriteExt as _;

use super::*;

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

const TERMINAL: Stdio = Stdio { tty: true, ..ALL };

/// A container that does nothing.
async fn idle() -> Bundle {
    let bundle = Bundle::new("sleep 1000");
    bundle.run().await;
    bundle
}

#[track_caller]
fn is_gone(bundle: &Bundle) -> bool {
    processes(&bundle.id).len() == 1
}

#[tokio::test]
async fn a_command_has_streams_and_an_exit_code() {
    let bundle = idle().await;
    let mut process = bundle
        .exec(&["sh", "-c", "cat; echo err >&2; exit 42"], ALL)
        .await
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(b"in\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    assert!(process.resize.is_none());
    assert_eq!(all(process.stdout).await, "in\n");
    assert_eq!(all(process.stderr).await, "err\n");
    assert_eq!(soon(process.exit).await.unwrap(), 42);
    until("nothing of it is left", || is_gone(&bundle)).await;
    let left: Vec<_> = fs::read_dir(bundle.dir()).unwrap().flatten().collect();
    assert!(
        !left
            .iter()
            .any(|e| e.file_name().to_string_lossy().starts_with("exec")),
        "{left:?}"
    );
}

#[tokio::test]
async fn what_a_command_wrote_is_all_there_though_it_has_ended() {
    let bundle = idle().await;
    let process = bundle.exec(&["seq", "1", "5000"], OUTPUT).await.unwrap();
    assert!(process.stdin.is_none());
    let (code, output) = tokio::join!(soon(process.exit), all(process.stdout));
    assert_eq!((code.unwrap(), output.lines().count()), (0, 5000));
}

#[tokio::test]
async fn a_killed_commands_code_is_128_and_the_signal() {
    let bundle = idle().await;
    let process = bundle
        .exec(&["sh", "-c", "kill -9 $$"], OUTPUT)
        .await
        .unwrap();
    assert_eq!(soon(process.exit).await.unwrap(), 137);
}

#[tokio::test]
async fn a_command_that_is_not_there_says_so_and_exits_with_127() {
    let bundle = idle().await;
    let message = "OCI runtime exec failed: exec failed: unable to start container process: \
        exec: \"nope\": executable file not found in $PATH";
    let process = bundle.exec(&["nope"], ALL).await.unwrap();
    assert_eq!(all(process.stdout).await, "");
    assert_eq!(all(process.stderr).await, format!("{message}\n"));
    assert_eq!(soon(process.exit).await.unwrap(), 127);
    let process = bundle.exec(&["nope"], TERMINAL).await.unwrap();
    assert_eq!(all(process.stdout).await, format!("{message}\r\n"));
    assert_eq!(soon(process.exit).await.unwrap(), 127);
    let process = bundle.exec(&["/bin"], OUTPUT).await.unwrap();
    assert!(all(process.stderr).await.contains("permission denied"));
    assert_eq!(soon(process.exit).await.unwrap(), 126);
    // Its own words and codes are its own.
    let process = bundle
        .exec(&["sh", "-c", "echo mine >&2; exit 127"], OUTPUT)
        .await
        .unwrap();
    assert_eq!(all(process.stderr).await, "mine\n");
    assert_eq!(soon(process.exit).await.unwrap(), 127);
}

#[tokio::test]
async fn a_command_has_a_terminal_with_a_size() {
    let bundle = idle().await;
    let mut process = bundle
        .exec(
            &[
                "sh",
                "-c",
                "trap 'stty size; exit 5' WINCH; echo ready; while true; do sleep 0.05; done",
            ],
            TERMINAL,
        )
        .await
        .unwrap();
    assert!(process.stderr.is_none());
    let stdout = process.stdout.as_mut().unwrap();
    until_read(stdout, "ready\r\n").await;
    let (width, height) = (90, 30);
    let resize = process.resize.as_ref().unwrap();
    resize.send(TerminalSize { width, height }).await.unwrap();
    until_read(stdout, "30 90\r\n").await;
    assert_eq!(soon(process.exit).await.unwrap(), 5);
}

#[tokio::test]
async fn a_terminals_input_can_end() {
    let bundle = idle().await;
    let mut process = bundle.exec(&["cat"], TERMINAL).await.unwrap();
    let stdin = process.stdin.as_mut().unwrap();
    stdin.write_all(b"typed\r").await.unwrap();
    // What was typed is shown, and what cat says of it.
    until_read(process.stdout.as_mut().unwrap(), "typed\r\ntyped\r\n").await;
    stdin.shutdown().await.unwrap();
    assert_eq!(soon(process.exit).await.unwrap(), 0);
}

#[tokio::test]
async fn a_command_that_nobody_holds_is_ended() {
    let bundle = idle().await;
    for stdio in [ALL, TERMINAL] {
        let process = bundle
            .exec(&["sh", "-c", "echo ready; sleep 1000 & wait"], stdio)
            .await;
        let mut process = process.unwrap();
        until_read(process.stdout.as_mut().unwrap(), "ready").await;
        // The container's own, the shell and its sleep.
        until("all run", || inside(&bundle) == 3).await;
        drop(process);
        until("all have ended", || inside(&bundle) == 1).await;
        until("and the shim", || is_gone(&bundle)).await;
    }
}

/// How many processes run in a container.
fn inside(bundle: &Bundle) -> usize {
    let listed = bundle.runc(&["ps", "--format", "json", &bundle.id]);
    serde_json::from_slice::<Vec<i32>>(&listed.stdout)
        .unwrap()
        .len()
}

#[tokio::test]
async fn what_a_command_leaves_behind_does_not_keep_its_end() {
    let bundle = idle().await;
    let process = bundle
        .exec(&["sh", "-c", "sleep 1000 & echo bye"], OUTPUT)
        .await
        .unwrap();
    let (code, output) = tokio::join!(soon(process.exit), all(process.stdout));
    assert_eq!((code.unwrap(), &*output), (0, "bye\n"));
}

#[tokio::test]
async fn in_a_container_that_has_ended_no_command_runs() {
    let bundle = Bundle::new("true");
    let shim = bundle.run().await;
    soon(shim.wait()).await;
    let refused = bundle.exec(&["true"], OUTPUT).await.err().expect("refused");
    assert!(matches!(refused, RuntimeError::Unavailable { .. }));
    assert_eq!(
        refused.to_string(),
        "OCI runtime exec failed: exec failed: cannot exec in a stopped container"
    );
}
