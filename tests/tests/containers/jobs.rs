//! Jobs of containers: exit codes, attempts, indexes and rules for failures.

use e2e::{Image, eventually};

use crate::{BUSYBOX, Bench, SOON};

/// A Job of busybox that runs a script.
fn job(name: &str, spec: &str, script: &str) -> String {
    format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  {spec}
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: BUSYBOX
        command: [sh, -c, '{script}']
"
    )
}

fn field(bench: &Bench, job: &str, path: &str) -> String {
    let path = format!("jsonpath={{{path}}}");
    bench.kubectl(&["get", "job", job, "-o", &path]).stdout
}

fn wait(bench: &Bench, job: &str, condition: &str) {
    let of = format!("--for=condition={condition}");
    let waited = bench.kubectl(&["wait", "job", job, &of, "--timeout=120s"]);
    let described = bench.kubectl(&["describe", "job,pods"]).stdout;
    assert_eq!(waited.code, 0, "{waited:?}\n{described}");
}

#[test]
fn jobs_of_containers_count_their_pods_by_how_they_ended() {
    let bench = Bench::start(&[("busybox", Image::busybox())]);
    bench.apply("well.yaml", &job("well", "completions: 2", "exit 0"));
    let indexed = "completionMode: Indexed\n  completions: 3\n  parallelism: 3";
    let script = "echo $JOB_COMPLETION_INDEX $(hostname)";
    bench.apply("each.yaml", &job("each", indexed, script));
    bench.apply("badly.yaml", &job("badly", "backoffLimit: 0", "exit 3"));
    let rule =
        "podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}";
    bench.apply("ruled.yaml", &job("ruled", rule, "exit 42"));

    wait(&bench, "well", "complete");
    assert_eq!(field(&bench, "well", ".status.succeeded"), "2");
    wait(&bench, "each", "complete");
    assert_eq!(field(&bench, "each", ".status.completedIndexes"), "0-2");
    for index in 0..3 {
        let label = format!("batch.kubernetes.io/job-completion-index={index},job-name=each");
        let logs = bench.kubectl(&["logs", "-l", &label]).stdout;
        assert_eq!(logs.trim(), format!("{index} each-{index}"));
    }
    wait(&bench, "badly", "failed");
    assert_eq!(field(&bench, "badly", ".status.failed"), "1");
    let reason = ".status.conditions[?(@.type==\"Failed\")].reason";
    assert_eq!(field(&bench, "badly", reason), "BackoffLimitExceeded");
    wait(&bench, "ruled", "failed");
    assert_eq!(field(&bench, "ruled", reason), "PodFailurePolicy");
    let message = ".status.conditions[?(@.type==\"Failed\")].message";
    let message = field(&bench, "ruled", message);
    assert!(
        message.starts_with("Container main for pod default/ruled-"),
        "{message}"
    );
    assert!(
        message.ends_with("failed with exit code 42 matching FailJob rule at index 0"),
        "{message}"
    );

    // What ran is counted, and goes with its Job.
    let long = job(
        "long",
        "backoffLimit: 2",
        "trap exit TERM; sleep 1000 & wait",
    );
    bench.apply("long.yaml", &long);
    eventually(SOON, || {
        match field(&bench, "long", ".status.ready").as_str() {
            "1" => Ok(()),
            other => Err(format!("{other} ready")),
        }
    });
    bench
        .kubectl(&[
            "delete",
            "job",
            "long",
            "--cascade=foreground",
            "--timeout=60s",
        ])
        .ok();
    let left = bench.kubectl(&["get", "pods", "-l", "job-name=long", "-o", "name"]);
    assert_eq!(left.stdout, "");
}
