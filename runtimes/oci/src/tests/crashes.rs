//! What is left when somebody is killed.

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt as _;
use wk_shim::{Identity, PID};

use super::*;

const ALL: Stdio = Stdio {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Where the test below tells the process it starts which container to run.
const STARTER: &str = "WK_SHIM_TEST_STARTER";

/// Is the process that starts a container and is killed, when the test below runs it; alone it does nothing.
#[tokio::test]
async fn starter() {
    let Ok(text) = std::env::var(STARTER) else {
        return;
    };
    let [dir, runc_root, log, id]: [&str; 4] =
        text.split('\n').collect::<Vec<_>>().try_into().unwrap();
    let spec = Launch {
        program: shim_program(),
        dir: Path::new(dir),
        runc: Path::new(RUNC),
        runc_root: Path::new(runc_root),
        id,
        log: Path::new(log),
        rotation: Rotation::default(),
        tty: false,
        stdin: true,
        stdin_once: false,
        within: DEADLINE,
    };
    launch(&spec).await.unwrap();
    kill(std::process::id().try_into().unwrap(), Signal::KILL);
}

#[tokio::test]
async fn a_container_outlives_who_started_it() {
    let bundle = Bundle::new("read line; echo got $line; exit 11");
    let (dir, runc_root, log) = (bundle.dir(), bundle.runc_root(), bundle.log());
    let words = [&dir, &runc_root, &log].map(|path| path.to_str().unwrap());
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(["tests::crashes::starter", "--exact"]);
    command.env(STARTER, format!("{}\n{}", words.join("\n"), bundle.id));
    let ended = soon(command.status()).await.unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&ended),
        Some(9)
    );
    let shim = Shim::adopt(&bundle.dir());
    let mut process = shim.attach(ALL).await.unwrap();
    process
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"it\n")
        .await
        .unwrap();
    assert_eq!(all(process.stdout).await, "got it\n");
    assert_eq!(code(soon(shim.wait()).await), 11);
    assert_eq!(bundle.entries(), ["stdout F got it"]);
}

#[tokio::test]
async fn signals_do_not_end_a_shim_and_reach_a_container() {
    let bundle =
        Bundle::new("trap 'echo term; exit 12' TERM; echo ready; while true; do sleep 0.1; done");
    let shim = bundle.run().await;
    let pid = bundle.shim_pid().unwrap();
    for signal in [
        Signal::TERM,
        Signal::INT,
        Signal::HUP,
        Signal::USR1,
        Signal::PIPE,
    ] {
        kill(pid, signal);
    }
    until("it is ready", || bundle.log().exists()).await;
    assert_eq!(bundle.shim_pid(), Some(pid));
    bundle.runc(&["kill", &bundle.id, "TERM"]);
    assert_eq!(code(soon(shim.wait()).await), 12);
    assert_eq!(bundle.entries(), ["stdout F ready", "stdout F term"]);
}

#[tokio::test]
async fn a_container_outlives_its_shim_and_its_end_is_found_out() {
    let bundle = Bundle::new("sleep 1000");
    let shim = bundle.run().await;
    let process = shim.attach(ALL).await.unwrap();
    let (waits, other) = (shim.clone(), Shim::adopt(&bundle.dir()));
    let mut wait = std::pin::pin!(waits.wait());
    tokio::select! {
        ended = &mut wait => panic!("{ended:?}"),
        () = until("it is asked", || true) => {}
    }
    kill(bundle.shim_pid().unwrap(), Signal::KILL);
    let detached = soon(process.exit).await.unwrap_err();
    assert!(detached.to_string().starts_with("detached: "), "{detached}");
    let refused = shim
        .attach(ALL)
        .await
        .err()
        .expect("nobody is there")
        .to_string();
    assert!(refused.starts_with("cannot attach: "), "{refused}");
    let identity: Identity = fs::read_to_string(bundle.dir().join(PID))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(Identity::of(identity.pid).unwrap(), identity);
    bundle.runc(&["kill", &bundle.id, "KILL"]);
    for ended in [soon(wait).await, soon(other.wait()).await] {
        assert_eq!((ended.code, ended.known), (137, false));
    }
    assert_eq!(shim.ended().unwrap(), None);
}

#[tokio::test]
async fn another_process_of_that_number_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let own = Identity::of(std::process::id().try_into().unwrap()).unwrap();
    let former = Identity {
        started: own.started - 1,
        ..own
    };
    fs::write(directory.path().join(PID), former.to_string()).unwrap();
    let ended = soon(Shim::adopt(directory.path()).wait()).await;
    assert_eq!((ended.code, ended.known), (137, false));
}
