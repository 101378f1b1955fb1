//! From making to end.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[tokio::test]
async fn a_container_runs_and_its_end_is_told() {
    let bundle = Bundle::waiting("echo out; echo err >&2; exit 42");
    let shim = bundle.run().await;
    assert!(shim.running().unwrap() > 0);
    assert_eq!(shim.ended().unwrap(), None);
    bundle.go();
    let ended = soon(shim.wait()).await;
    assert_eq!(code(ended), 42);
    assert_eq!(shim.ended().unwrap(), Some(ended));
    let mut entries = bundle.entries();
    entries.sort();
    assert_eq!(entries, ["stderr F err", "stdout F out"]);
    until("its shim ends", || bundle.shim_pid().is_none()).await;
    assert_eq!(soon(Shim::adopt(&bundle.dir()).wait()).await, ended);
}

#[tokio::test]
async fn success_is_zero_and_a_signal_is_128_and_its_number() {
    for (script, want) in [
        ("exit 0", 0),
        ("kill -9 $$; sleep 100", 137),
        ("exit 255", 255),
    ] {
        let bundle = Bundle::new(&format!("sh -c '{script}'; exit $?"));
        let shim = bundle.run().await;
        assert_eq!(code(soon(shim.wait()).await), want, "{script}");
    }
    let bundle = Bundle::new("sleep 100");
    let shim = bundle.run().await;
    bundle.runc(&["kill", &bundle.id, "KILL"]);
    assert_eq!(code(soon(shim.wait()).await), 137);
}

#[tokio::test]
async fn all_who_wait_are_told() {
    let bundle = Bundle::waiting("exit 3");
    let shim = bundle.run().await;
    let other = Shim::adopt(&bundle.dir());
    let (a, b, ()) =
        soon(async { tokio::join!(shim.wait(), other.wait(), async { bundle.go() }) }).await;
    assert_eq!((code(a), code(b)), (3, 3));
}

#[tokio::test]
async fn a_program_that_is_not_there_fails_in_runcs_words_and_leaves_nothing() {
    let bundle = Bundle::with_arguments(&["/bin/nope"]);
    let failed = bundle.launch().await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        r#"runc run failed: unable to start container process: exec: "/bin/nope": stat /bin/nope: no such file or directory"#
    );
    assert!(!bundle.exists());
    assert_eq!(processes(&bundle.id), Vec::<i32>::new());
    assert!(!bundle.log().exists());
    bundle.describe(&["true"]);
    let shim = bundle.run().await;
    assert_eq!(code(soon(shim.wait()).await), 0);
}

#[tokio::test]
async fn a_bundle_that_runc_cannot_read_fails_in_its_words() {
    let bundle = Bundle::new("true");
    fs::write(bundle.dir().join("config.json"), "{").unwrap();
    let failed = bundle.launch().await.unwrap_err();
    assert_eq!(failed.to_string(), "runc run failed: unexpected EOF");
}

#[tokio::test]
async fn a_container_that_nobody_waits_for_any_more_runs_and_is_found() {
    let bundle = Bundle::new("sleep 100");
    {
        let mut launch = std::pin::pin!(bundle.launch());
        tokio::select! {
            biased;
            _ = &mut launch => panic!("it ran before it was begun"),
            () = until("a shim is there", || bundle.shim_pid().is_some()) => {}
        }
    }
    let shim = Shim::adopt(&bundle.dir());
    until("it runs", || shim.running().is_some()).await;
    bundle.runc(&["kill", &bundle.id, "KILL"]);
    assert_eq!(code(soon(shim.wait()).await), 137);
}

#[tokio::test]
async fn a_container_that_takes_too_long_is_removed_once_it_is_made() {
    let mut bundle = Bundle::new("sleep 100");
    let slow = bundle.directory.path().join("slow");
    fs::write(&slow, "#!/bin/sh\nsleep 0.5\nexec runc \"$@\"\n").unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    (bundle.runc, bundle.within) = (slow, Duration::from_millis(1));
    let failed = bundle.launch().await.unwrap_err();
    assert_eq!(failed.to_string(), "runc run did not end within 0 s");
    assert_eq!(bundle.shim_pid(), None);
    assert!(!bundle.exists());
}
