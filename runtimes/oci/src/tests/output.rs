//! A container's log.

use super::*;

#[tokio::test]
async fn a_long_line_is_kept_in_parts_and_the_last_needs_no_end() {
    let bundle = Bundle::new("head -c 40000 /dev/zero | tr '\\0' x; echo; printf bye");
    let shim = bundle.run().await;
    assert_eq!(code(soon(shim.wait()).await), 0);
    let lengths: Vec<_> = bundle
        .entries()
        .iter()
        .map(|entry| (entry[..8].to_owned(), entry.len() - 9))
        .collect();
    let want = [
        ("stdout P", 16384),
        ("stdout P", 16384),
        ("stdout F", 7232),
        ("stdout F", 3),
    ];
    assert_eq!(
        lengths,
        want.map(|(head, length)| (head.to_owned(), length))
    );
}

#[tokio::test]
async fn a_flood_is_rotated_and_no_line_is_lost() {
    let mut bundle = Bundle::new("seq 1 200000");
    bundle.rotation = Rotation {
        max_bytes: 256 << 10,
        max_files: 1000,
    };
    let shim = bundle.run().await;
    assert_eq!(code(soon(shim.wait()).await), 0);
    let files = runtimes::log::files(&bundle.log()).unwrap();
    assert!(files.len() > 5, "{} files", files.len());
    let entries = bundle.entries();
    assert_eq!(entries.len(), 200_000);
    for (number, entry) in (1..).zip(entries) {
        assert_eq!(entry, format!("stdout F {number}"));
    }
}

#[tokio::test]
async fn of_a_flood_as_many_files_are_kept_as_are_to_be() {
    let mut bundle = Bundle::new("seq 1 20000");
    bundle.rotation = Rotation {
        max_bytes: 10_000,
        max_files: 3,
    };
    let shim = bundle.run().await;
    assert_eq!(code(soon(shim.wait()).await), 0);
    assert_eq!(runtimes::log::files(&bundle.log()).unwrap().len(), 3);
    assert_eq!(bundle.entries().last().unwrap(), "stdout F 20000");
}

#[tokio::test]
async fn on_a_full_disk_the_container_goes_on_and_the_log_says_what_is_missing() {
    let bundle = Bundle::waiting("seq 1 50000; read line; echo after");
    let bundle = bundle.stdin(false);
    std::os::unix::fs::symlink("/dev/full", bundle.log()).unwrap();
    let shim = bundle.run().await;
    let stdio = Stdio {
        stdin: true,
        stdout: true,
        ..Stdio::default()
    };
    let mut process = shim.attach(stdio).await.unwrap();
    bundle.go();
    // What is seen was tried to write before.
    until_read(process.stdout.as_mut().unwrap(), "\n50000\n").await;
    let mut stdin = process.stdin.take().unwrap();
    fs::remove_file(bundle.log()).unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"go\n")
        .await
        .unwrap();
    assert_eq!(code(soon(shim.wait()).await), 0);
    let entries = bundle.entries();
    assert_eq!(entries.last().unwrap(), "stdout F after");
    let told = entries
        .iter()
        .find(|entry| entry.contains("No space left on device"));
    let told = told.expect("the loss is told");
    assert!(
        told.starts_with("stderr F [") && told.contains("bytes of this log were lost"),
        "{told}"
    );
}

#[tokio::test]
async fn without_its_directory_a_log_is_lost_and_the_container_goes_on() {
    let bundle = Bundle::waiting("seq 1 10000; exit 7");
    let shim = bundle.run().await;
    fs::remove_dir(bundle.logs()).unwrap();
    bundle.go();
    assert_eq!(code(soon(shim.wait()).await), 7);
    assert!(!bundle.logs().exists());
}

#[tokio::test]
async fn what_outlives_a_container_does_not_keep_its_end() {
    let bundle = Bundle::new("sleep 1000 & echo gone; exit 5").with_processes_of_the_host();
    let shim = bundle.run().await;
    assert_eq!(code(soon(shim.wait()).await), 5);
    assert_eq!(bundle.entries(), ["stdout F gone"]);
    until("its shim ends", || bundle.shim_pid().is_none()).await;
}

#[tokio::test]
async fn a_shim_is_small() {
    let bundle = Bundle::new("sleep 1000");
    let _shim = bundle.run().await;
    let pid = bundle.shim_pid().unwrap();
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let kilobytes = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    let private: u64 = private.filter_map(kilobytes).sum();
    eprintln!("{private} kB private");
    assert!(private < 1024, "{rollup}");
}
