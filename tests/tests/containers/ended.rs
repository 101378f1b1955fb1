//! How containers end, or do not begin.

use std::time::{Duration, Instant};

use e2e::{Image, eventually};

use crate::{Bench, SOON};

const ENDING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: done}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: BUSYBOX, command: [sh, -c, "echo finished"]}
---
apiVersion: v1
kind: Pod
metadata: {name: failed}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, "echo for the end > /dev/termination-log; exit 42"]
---
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  containers:
  - {name: main, image: BUSYBOX, command: [sh, -c, "echo one of many; exit 1"]}
---
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, "tail /dev/zero"]
    resources: {limits: {memory: 16Mi, cpu: 500m}}
"#;

/// Pods that say what they may do.
const SECURED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: somebody}
spec:
  securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000, supplementalGroups: [4000]}
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, "100000"]
    securityContext:
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      runAsNonRoot: true
      seccompProfile: {type: RuntimeDefault}
      capabilities: {drop: [ALL]}
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  volumes:
  - {name: scratch, emptyDir: {}}
---
apiVersion: v1
kind: Pod
metadata: {name: capable}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, "100000"]
    securityContext: {capabilities: {add: [SYS_TIME], drop: [MKNOD]}}
---
apiVersion: v1
kind: Pod
metadata: {name: tuned}
spec:
  securityContext:
    seccompProfile: {type: Localhost, localhostProfile: own/no-directories.json}
    sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "81"}]
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: BUSYBOX, command: [sleep, "100000"]}
"#;

/// A profile of the node's owner: everything but new directories.
const NO_DIRECTORIES: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;

const NOT_BEGINNING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: no-image}
spec:
  containers:
  - {name: main, image: "127.0.0.1:5001/nothing:1"}
---
apiVersion: v1
kind: Pod
metadata: {name: no-program}
spec:
  containers:
  - {name: main, image: BUSYBOX, command: [/no/such/program]}
---
apiVersion: v1
kind: Pod
metadata: {name: no-settings}
spec:
  containers:
  - name: main
    image: BUSYBOX
    envFrom: [{configMapRef: {name: nothing}}]
---
apiVersion: v1
kind: Pod
metadata: {name: no-root}
spec:
  containers:
  - {name: main, image: BUSYBOX, securityContext: {runAsNonRoot: true}}
---
apiVersion: v1
kind: Pod
metadata: {name: no-user}
spec:
  containers:
  - {name: main, image: GHOST}
---
apiVersion: v1
kind: Pod
metadata: {name: no-number}
spec:
  containers:
  - {name: main, image: GHOST, securityContext: {runAsNonRoot: true}}
---
apiVersion: v1
kind: Pod
metadata: {name: no-profile}
spec:
  containers:
  - name: main
    image: BUSYBOX
    securityContext: {seccompProfile: {type: Localhost, localhostProfile: nothing.json}}
---
apiVersion: v1
kind: Pod
metadata: {name: no-sysctl}
spec:
  securityContext: {sysctls: [{name: kernel.msgmax, value: "65536"}]}
  containers:
  - {name: main, image: BUSYBOX}
"#;

const LASTING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, "n=0; while true; do echo $n; n=$((n + 1)); sleep 0.02; done"]
---
apiVersion: v1
kind: Pod
metadata: {name: polite}
spec:
  terminationGracePeriodSeconds: 60
  containers:
  - name: main
    image: BUSYBOX
    command: [sh, -c, "trap 'echo bye > /out/said; exit 0' TERM; echo ready; while true; do sleep 0.1; done"]
    volumeMounts: [{name: out, mountPath: /out}]
  volumes:
  - {name: out, persistentVolumeClaim: {claimName: out}}
---
apiVersion: v1
kind: Pod
metadata: {name: deaf}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {name: main, image: BUSYBOX, command: [sh, -c, "trap '' TERM; echo ready; while true; do sleep 1; done"]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: out}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: witness}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: BUSYBOX
    command: [sleep, "100000"]
    volumeMounts: [{name: out, mountPath: /out}]
  volumes:
  - {name: out, persistentVolumeClaim: {claimName: out}}
"#;

#[test]
fn containers_end_and_fail_as_kubernetes_says() {
    let bench = Bench::start(&[("busybox", Image::busybox()), ("ghost", Image::ghost())]);
    let profiles = bench.cluster.data_dir().join("seccomp/own");
    std::fs::create_dir_all(&profiles).expect("a directory can be made");
    std::fs::write(profiles.join("no-directories.json"), NO_DIRECTORIES)
        .expect("a file can be written");
    bench.apply("ending.yaml", ENDING);
    bench.apply("secured.yaml", SECURED);
    bench.apply("not-beginning.yaml", NOT_BEGINNING);
    codes_and_reasons_are_told(&bench);
    a_process_may_do_what_its_pod_says(&bench);
    what_does_not_begin_says_why(&bench);
}

#[test]
fn containers_outlive_the_nodes_process_and_go_when_they_are_deleted() {
    let mut bench = Bench::start(&[("busybox", Image::busybox())]);
    bench.apply("lasting.yaml", LASTING);
    let pods = ["talker", "polite", "deaf", "witness"];
    bench.wait_ready(&pods);
    let path =
        ".status.containerStatuses[0]['containerID','restartCount','state.running.startedAt']";
    let states = || pods.map(|pod| bench.pod(pod, path));
    let before = states();

    bench.cluster.kill();
    let log = log_of(&bench, "talker");
    let lines = || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .count()
    };
    let then = lines();
    eventually(SOON, || match lines() {
        now if now > then + 50 => Ok(()),
        now => Err(format!(
            "{now} lines in {log}, {then} when the process was killed"
        )),
    });
    bench.cluster.up();
    bench.wait_ready(&pods);
    assert_eq!(pods.map(|pod| bench.pod(pod, path)), before);
    let logs = bench.kubectl(&["logs", "talker"]).ok();
    let numbers: Vec<usize> = logs
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert!(numbers.len() > then + 50);
    assert!(
        numbers.iter().copied().eq(0..numbers.len()),
        "a line is lost or comes twice"
    );
    assert_eq!(bench.exec("talker", "echo still here"), "still here");

    // One that hears the signal ends by itself, long before its grace is over.
    let begun = Instant::now();
    bench.kubectl(&["delete", "pod", "polite"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(50));
    assert_eq!(bench.exec("witness", "cat /out/said"), "bye");
    // One that does not is killed after it.
    let begun = Instant::now();
    bench.kubectl(&["delete", "pod", "deaf"]).ok();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    nothing_is_left(&bench);
}

/// The file that a pod's container writes into.
fn log_of(bench: &Bench, pod: &str) -> String {
    let data = bench.cluster.data_dir().display().to_string();
    let name = format!("*{pod}*");
    let found = ["-path", &name, "-name", "*.log", "-type", "f"];
    let found = bench
        .cluster
        .sandbox
        .run("find", &[&[&*data][..], &found].concat());
    let found = found.ok();
    found.lines().next().expect("it has a log").to_owned()
}

fn nothing_is_left(bench: &Bench) {
    bench.kubectl(&["delete", "pods", "--all"]).ok();
    let oci = bench.cluster.data_dir().join("oci");
    eventually(SOON, || {
        let names = |name: &str| {
            let entries = std::fs::read_dir(oci.join(name))
                .into_iter()
                .flatten()
                .flatten();
            entries.map(|entry| entry.file_name()).collect::<Vec<_>>()
        };
        let left = [names("containers"), names("pods"), names("runc")].concat();
        let mounts = bench
            .cluster
            .sandbox
            .run("cat", &["/proc/self/mounts"])
            .ok();
        let mounts = mounts
            .lines()
            .filter(|line| line.contains("/oci/containers/"))
            .count();
        if left.is_empty() && mounts == 0 {
            Ok(())
        } else {
            Err(format!("{left:?}, {mounts} mounts"))
        }
    });
}

fn codes_and_reasons_are_told(bench: &Bench) {
    let ended = ".status.containerStatuses[0].state.terminated['exitCode','reason','message']";
    let check = |pod: &str, expected: &str| {
        bench.pod_has(pod, ended, |found| found.trim_end() == expected);
    };
    check("done", "0 Completed");
    check("failed", "42 Error for the end");
    check("greedy", "137 OOMKilled");
    assert_eq!(bench.pod("done", ".status.phase"), "Succeeded");
    assert_eq!(bench.pod("failed", ".status.phase"), "Failed");
    assert_eq!(bench.kubectl(&["logs", "done"]).ok(), "finished\n");
    let waiting = ".status.containerStatuses[0].state.waiting.reason";
    bench.pod_has("again", waiting, |reason| reason == "CrashLoopBackOff");
    let previous = bench.kubectl(&["logs", "again", "--previous"]).ok();
    assert_eq!(previous, "one of many\n");
}

fn a_process_may_do_what_its_pod_says(bench: &Bench) {
    bench.wait_ready(&["somebody", "capable", "tuned"]);
    let check = |pod: &str, script: &str, expected: &str| {
        assert_eq!(bench.exec(pod, script), expected, "{pod}: {script}");
    };
    check(
        "somebody",
        "id -u; id -g; id -G",
        "1000\n2000\n2000 50 3000 4000",
    );
    check(
        "somebody",
        "touch /scratch/x && stat -c %g /scratch/x",
        "3000",
    );
    check(
        "somebody",
        "touch /x 2>&1 || true",
        "touch: /x: Read-only file system",
    );
    let status = "sed -n 's/^\\(CapEff\\|CapBnd\\|NoNewPrivs\\|Seccomp\\):\\t//p' /proc/1/status";
    check(
        "somebody",
        status,
        "0000000000000000\n0000000000000000\n1\n2",
    );
    // The usual fourteen, without MKNOD (bit 27), with SYS_TIME (bit 25).
    check(
        "capable",
        "sed -n 's/^CapEff:\\t//p' /proc/1/status",
        "00000000a20425fb",
    );
    check(
        "capable",
        "mknod /tmp/null c 1 3 2>&1 || true",
        "mknod: /tmp/null: Operation not permitted",
    );
    // Masked where there is one.
    check("capable", "cat /proc/keys | wc -c", "0");
    check(
        "tuned",
        "mkdir /tmp/new 2>&1 || touch /tmp/file && echo but files",
        "mkdir: can't create directory '/tmp/new': Operation not permitted\nbut files",
    );
    check(
        "tuned",
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        "81",
    );
}

fn what_does_not_begin_says_why(bench: &Bench) {
    let waiting = ".status.containerStatuses[0].state.waiting['reason','message']";
    let check = |pod: &str, reasons: &[&str], words: &str| {
        bench.pod_has(pod, waiting, |found| {
            reasons.iter().any(|reason| found.starts_with(reason)) && found.contains(words)
        });
    };
    check("no-image", &["ErrImagePull"], "127.0.0.1:5001/nothing:1");
    check(
        "no-image",
        &["ImagePullBackOff"],
        "Back-off pulling image \"127.0.0.1:5001/nothing:1\"",
    );
    check("no-program", &["RunContainerError", "CrashLoopBackOff"], "");
    check(
        "no-settings",
        &["CreateContainerConfigError"],
        "configmap \"nothing\" not found",
    );
    check(
        "no-root",
        &["CreateContainerConfigError"],
        "container has runAsNonRoot and image will run as root",
    );
    check(
        "no-user",
        &["CreateContainerError"],
        "unable to find user ghost: no matching entries in passwd file",
    );
    check(
        "no-number",
        &["CreateContainerConfigError"],
        "container has runAsNonRoot and image has non-numeric user (ghost), cannot verify user is non-root",
    );
    check(
        "no-profile",
        &["CreateContainerError"],
        "cannot load seccomp profile",
    );
    bench.pod_has(
        "no-sysctl",
        ".status['phase','reason','message']",
        |found| {
            found.starts_with("Failed SysctlForbidden")
                && found.contains("forbidden sysctl: \"kernel.msgmax\" not allowlisted")
        },
    );
    let why = bench.described(&["no-program"]);
    assert!(
        why.contains("/no/such/program") && why.contains("no such file or directory"),
        "{why}"
    );
}
