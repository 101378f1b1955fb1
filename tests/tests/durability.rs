//! What was acknowledged survives the end of the process, however it comes.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use e2e::{Cluster, Options, eventually, example};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn nothing_acknowledged_is_lost_when_wk_is_killed_during_applies() {
    let mut cluster = Cluster::start();
    cluster
        .kubectl(&["apply", "-f", &example("hello.yaml")])
        .ok();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let written = Mutex::new(Vec::new());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (running, written, stop) = (&cluster, &written, &stop);
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    scope.spawn(move || {
                        for number in 0.. {
                            let name = format!("r{round}-w{writer}-{number}");
                            let path = running.manifest(
                                &format!("{name}.yaml"),
                                &format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  a: b\n"),
                            );
                            if running.wkctl(&["apply", "-f", &path]).code == 0 {
                                written.lock().unwrap().push(name);
                            }
                            if stop.load(Ordering::Relaxed) {
                                return;
                            }
                        }
                    })
                })
                .collect();
            // Kill in the middle of writes: after a number of them that differs between rounds.
            eventually(SOON, || {
                let count = written.lock().unwrap().len();
                if count >= 5 + 7 * round {
                    Ok(())
                } else {
                    Err(format!("{count} written"))
                }
            });
            running.kill_now();
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.join().unwrap();
            }
        });
        acknowledged.append(&mut written.into_inner().unwrap());
        cluster.kill();
        cluster.up();
        let names = cluster.kubectl(&["get", "configmaps", "-o", "name"]).ok();
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|name| {
                !names
                    .lines()
                    .any(|line| line == format!("configmap/{name}"))
            })
            .collect();
        assert!(lost.is_empty(), "lost {lost:?}");
    }
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .ok();
    eventually(SOON, || {
        let url = cluster.service_url("hello");
        let answer = cluster.curl(&[&url]);
        if answer.stdout.starts_with("Hello from") {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
}

#[test]
fn a_stopped_cluster_is_found_as_it_was() {
    let mut cluster = Cluster::with(Options {
        arguments: vec!["-f".to_owned(), example("hello.yaml")],
        ..Options::default()
    });
    eventually(SOON, || {
        if cluster.log().contains("http://") {
            Ok(())
        } else {
            Err(cluster.log())
        }
    });
    let before = cluster
        .kubectl(&[
            "get",
            "deployment,service",
            "-o",
            "jsonpath={.items[*].metadata.uid}",
        ])
        .ok();
    let ips = cluster
        .kubectl(&[
            "get",
            "service",
            "hello",
            "-o",
            "jsonpath={.spec.clusterIP}",
        ])
        .ok();
    assert_eq!(cluster.stop(), 0, "{}", cluster.log());
    cluster.up();
    let after = cluster
        .kubectl(&[
            "get",
            "deployment,service",
            "-o",
            "jsonpath={.items[*].metadata.uid}",
        ])
        .ok();
    assert_eq!(before, after);
    assert_eq!(
        cluster
            .kubectl(&[
                "get",
                "service",
                "hello",
                "-o",
                "jsonpath={.spec.clusterIP}"
            ])
            .ok(),
        ips
    );
    eventually(SOON, || {
        let answer = cluster.curl(&[&cluster.service_url("hello")]);
        if answer.stdout.starts_with("Hello from") {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
}

#[test]
fn a_second_wk_on_the_same_data_directory_is_told_so() {
    let cluster = Cluster::start();
    let output = cluster.up_command().output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains(&format!("in use by another wk (process {})", cluster.pid())),
        "{stderr}"
    );
}

#[test]
fn a_damaged_database_is_one_sentence() {
    let mut cluster = Cluster::start();
    cluster.stop();
    let store = cluster.data_dir().join("store");
    for entry in std::fs::read_dir(&store).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e != "lock") {
            std::fs::write(
                &path,
                "this is no database, and it is long enough to be read as one".repeat(100),
            )
            .unwrap();
        }
    }
    let output = cluster.up_command().output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
}
