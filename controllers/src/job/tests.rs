//! Tables of plans and counts.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::backoff::Record;
use super::count::{count, finish, move_counted};
use super::indexes::Indexes;
use super::member;
use super::plan::{Ending, plan};
use super::view::View;

/// `a+` is a ready pod, `a-` one that is not, `a?` one without a node, `a*` one that succeeded, `a!` one that
/// failed a minute ago, `a~` one that is going; digits between are its index; one with an upper-case letter is
/// not held by the finalizer.
fn pod(text: &str) -> Arc<Pod> {
    let (name, rest) = text.split_at(1);
    let (index, state) = rest.split_at(rest.len() - 1);
    let mut annotations = BTreeMap::new();
    if !index.is_empty() {
        annotations.insert(member::INDEX, index);
    }
    let held = name.to_lowercase() == name;
    let phase = match state {
        "?" => "Pending",
        "*" => "Succeeded",
        "!" => "Failed",
        _ => "Running",
    };
    let ready = if state == "+" { "True" } else { "False" };
    let pod = json!({
        "metadata": {"name": name, "uid": name, "namespace": "ns", "annotations": annotations,
            "finalizers": if held { vec![member::FINALIZER] } else { vec![] },
            "deletionTimestamp": (state == "~").then_some("2026-01-01T00:00:00Z")},
        "spec": {"containers": [], "nodeName": (state != "?").then_some("n")},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn job(spec: Value, status: Value) -> Job {
    let mut full = json!({"parallelism": 2, "completions": 3, "backoffLimit": 6,
        "template": {"spec": {"containers": [], "restartPolicy": "Never"}}});
    for (field, value) in spec.as_object().unwrap() {
        full[field] = value.clone();
    }
    let metadata = json!({"name": "j", "namespace": "ns", "uid": "j"});
    let job = json!({"metadata": metadata, "spec": full, "status": status});
    serde_json::from_value(job).unwrap()
}

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().unwrap()
}

fn names(pods: &[Arc<Pod>]) -> String {
    let names: Vec<String> = pods.iter().map(|pod| pod.name_any()).collect();
    names.join(" ")
}

/// What is planned, and what is counted once that is done.
#[track_caller]
fn check(spec: Value, status: Value, pods: &str, expect: Expect) {
    let job = job(spec, status);
    let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
    let view = View::new(&job, &pods).unwrap();
    let record = Record::default().with(&view.new_succeeded(), &view.new_failed());
    let plan = plan(&view, &record, true, now());
    let mut said = Vec::new();
    if !plan.delete.is_empty() {
        said.push(format!("delete {}", names(&plan.delete)));
    }
    match plan.create.as_slice() {
        [] => {}
        [None, ..] => said.push(format!("create {}", plan.create.len())),
        indexes => said.push(format!(
            "create {}",
            Indexes::default().with(indexes.iter().flatten().copied())
        )),
    }
    if let Some(again) = plan.look_again {
        said.push(format!("look again in {}s", again.as_secs()));
    }
    let doomed: HashSet<String> = plan.delete.iter().map(|pod| pod.name_any()).collect();
    let mut left = pods.clone();
    let kept = plan.ending.is_some();
    left.retain(|pod| kept || !doomed.contains(&pod.name_any()));
    for pod in &mut left {
        if doomed.contains(&pod.name_any()) {
            let going = serde_json::from_value(json!("2026-01-01T00:01:30Z"));
            Arc::make_mut(pod).metadata.deletion_timestamp = going.unwrap();
        }
    }
    let view = View::new(&job, &left).unwrap();
    let ending = plan
        .ending
        .or_else(|| view.complete().then(Ending::complete));
    let counted = count(&view, ending.as_ref(), plan.managed, now());
    if !counted.release.is_empty() {
        said.push(format!("let go {}", names(&counted.release)));
    }
    said.push(show(&counted.status));
    let mut status = counted.status.clone();
    move_counted(&mut status, &HashSet::new());
    let over = ending.is_some_and(|ending| finish(&mut status, &ending, now()));
    if over || show(&status) != show(&counted.status) {
        said.push(format!("then {}", show(&status)));
    }
    expect.assert_eq(&said.join("; "));
}

fn show(status: &JobStatus) -> String {
    let listed = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let mut said = vec![format!(
        "{} active {} ready {} going {} well {} badly",
        status.active.unwrap_or(0),
        status.ready.unwrap_or(0),
        status.terminating.unwrap_or(0),
        status.succeeded.unwrap_or(0),
        status.failed.unwrap_or(0),
    )];
    for (what, uids) in [("+", listed.succeeded), ("-", listed.failed)] {
        said.extend(uids.into_iter().flatten().map(|uid| format!("{what}{uid}")));
    }
    for (what, indexes) in [
        ("done", &status.completed_indexes),
        ("lost", &status.failed_indexes),
    ] {
        if let Some(indexes) = indexes.as_ref().filter(|indexes| !indexes.is_empty()) {
            said.push(format!("{what} {indexes}"));
        }
    }
    for condition in status.conditions.iter().flatten() {
        let reason = condition.reason.as_deref().unwrap_or_default();
        said.push(format!("{}={}/{reason}", condition.type_, condition.status));
    }
    said.join(" ")
}

#[test]
fn as_many_pods_run_as_may_and_as_are_still_needed() {
    check(
        json!({}),
        json!({}),
        "",
        expect!["create 2; 0 active 0 ready 0 going 0 well 0 badly"],
    );
    check(
        json!({}),
        json!({"succeeded": 2}),
        "",
        expect!["create 1; 0 active 0 ready 0 going 2 well 0 badly"],
    );
    check(
        json!({"parallelism": 9}),
        json!({}),
        "a+ b-",
        expect!["create 1; 2 active 1 ready 0 going 0 well 0 badly"],
    );
    check(
        json!({"parallelism": 0}),
        json!({}),
        "a+",
        expect!["delete a; 0 active 0 ready 0 going 0 well 0 badly"],
    );
}

#[test]
fn an_ended_pod_is_listed_then_let_go_then_counted() {
    check(
        json!({}),
        json!({}),
        "a* b+",
        expect![[
            "create 1; let go a; 1 active 1 ready 0 going 0 well 0 badly +a; then 1 active 1 ready 0 going 1 well 0 badly"
        ]],
    );
    check(
        json!({}),
        json!({"succeeded": 1, "uncountedTerminatedPods": {"succeeded": ["A"], "failed": ["x"]}}),
        "A* b+ c*",
        expect![
            "delete b; let go c; 0 active 0 ready 0 going 2 well 1 badly +c SuccessCriteriaMet=True/CompletionsReached; then 0 active 0 ready 0 going 3 well 1 badly SuccessCriteriaMet=True/CompletionsReached Complete=True/CompletionsReached"
        ],
    );
}

#[test]
fn enough_successes_complete_it_once_all_are_counted() {
    check(
        json!({}),
        json!({"succeeded": 2}),
        "a*",
        expect![[
            "let go a; 0 active 0 ready 0 going 2 well 0 badly +a SuccessCriteriaMet=True/CompletionsReached; then 0 active 0 ready 0 going 3 well 0 badly SuccessCriteriaMet=True/CompletionsReached Complete=True/CompletionsReached"
        ]],
    );
    check(
        json!({"completions": null}),
        json!({}),
        "a* b+",
        expect![[
            "let go a; 1 active 1 ready 0 going 0 well 0 badly +a; then 1 active 1 ready 0 going 1 well 0 badly"
        ]],
    );
    check(
        json!({"completions": 0}),
        json!({}),
        "",
        expect![[
            "0 active 0 ready 0 going 0 well 0 badly SuccessCriteriaMet=True/CompletionsReached; then 0 active 0 ready 0 going 0 well 0 badly SuccessCriteriaMet=True/CompletionsReached Complete=True/CompletionsReached"
        ]],
    );
}

#[test]
fn a_failure_is_followed_by_a_wait_and_too_many_by_the_end() {
    check(
        json!({}),
        json!({"startTime": "2026-01-01T00:00:00Z"}),
        "a! b! c! d+",
        expect![[
            "create 1; let go a b c; 1 active 1 ready 0 going 0 well 0 badly -a -b -c; then 1 active 1 ready 0 going 0 well 3 badly"
        ]],
    );
    check(
        json!({}),
        json!({}),
        "a! b! c! d! e+",
        expect![[
            "look again in 20s; let go a b c d; 1 active 1 ready 0 going 0 well 0 badly -a -b -c -d; then 1 active 1 ready 0 going 0 well 4 badly"
        ]],
    );
    check(
        json!({"backoffLimit": 1}),
        json!({"failed": 1}),
        "a! b+",
        expect![[
            "delete b; let go a b; 0 active 0 ready 1 going 0 well 1 badly -a -b FailureTarget=True/BackoffLimitExceeded; then 0 active 0 ready 1 going 0 well 3 badly FailureTarget=True/BackoffLimitExceeded"
        ]],
    );
}

#[test]
fn it_is_failed_when_its_pods_are_gone() {
    let target = json!([{"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded"}]);
    check(
        json!({}),
        json!({"failed": 2, "conditions": target}),
        "A!",
        expect![[
            "0 active 0 ready 0 going 0 well 2 badly FailureTarget=True/DeadlineExceeded; then 0 active 0 ready 0 going 0 well 2 badly FailureTarget=True/DeadlineExceeded Failed=True/DeadlineExceeded"
        ]],
    );
}

#[test]
fn a_deadline_counts_from_the_start_and_not_while_suspended() {
    let started = json!({"startTime": "2026-01-01T00:00:30Z"});
    check(
        json!({"activeDeadlineSeconds": 60}),
        started.clone(),
        "a+ b+",
        expect!["look again in 30s; 2 active 2 ready 0 going 0 well 0 badly"],
    );
    check(
        json!({"activeDeadlineSeconds": 30}),
        started.clone(),
        "a+",
        expect![[
            "delete a; let go a; 0 active 0 ready 1 going 0 well 0 badly -a FailureTarget=True/DeadlineExceeded; then 0 active 0 ready 1 going 0 well 1 badly FailureTarget=True/DeadlineExceeded"
        ]],
    );
    check(
        json!({"activeDeadlineSeconds": 30, "suspend": true}),
        started,
        "a+",
        expect!["delete a; 0 active 0 ready 0 going 0 well 0 badly Suspended=True/JobSuspended"],
    );
}

#[test]
fn a_suspended_job_has_no_pods_and_a_resumed_one_says_so() {
    check(
        json!({"suspend": true}),
        json!({}),
        "a+ b*",
        expect![[
            "delete a; let go b; 0 active 0 ready 0 going 0 well 0 badly +b Suspended=True/JobSuspended; then 0 active 0 ready 0 going 1 well 0 badly Suspended=True/JobSuspended"
        ]],
    );
    let held = json!([{"type": "Suspended", "status": "True", "reason": "JobSuspended"}]);
    check(
        json!({}),
        json!({"conditions": held}),
        "",
        expect!["create 2; 0 active 0 ready 0 going 0 well 0 badly Suspended=False/JobResumed"],
    );
}

#[test]
fn a_pod_that_is_going_has_failed_unless_only_failed_ones_are_replaced() {
    check(
        json!({}),
        json!({}),
        "a~",
        expect![
            "create 2; let go a; 0 active 0 ready 1 going 0 well 0 badly -a; then 0 active 0 ready 1 going 0 well 1 badly"
        ],
    );
    check(
        json!({"podReplacementPolicy": "Failed"}),
        json!({}),
        "a~ b~",
        expect!["0 active 0 ready 2 going 0 well 0 badly"],
    );
    check(
        json!({"podReplacementPolicy": "Failed", "completionMode": "Indexed"}),
        json!({}),
        "a0~",
        expect!["create 1; 0 active 0 ready 1 going 0 well 0 badly"],
    );
}

#[test]
fn each_index_succeeds_once() {
    let indexed = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 3});
    check(
        indexed.clone(),
        json!({"completedIndexes": "1", "succeeded": 1}),
        "a0* b2+",
        expect![["create 3,4; let go a; 1 active 1 ready 0 going 2 well 0 badly done 0,1"]],
    );
    check(
        indexed.clone(),
        json!({}),
        "a0+ b0- c9+ d+ E1+",
        expect!["delete b E c d; 1 active 1 ready 0 going 0 well 0 badly"],
    );
    check(
        indexed,
        json!({"completedIndexes": "0-3,7", "succeeded": 5}),
        "",
        expect!["create 4; 0 active 0 ready 0 going 4 well 0 badly done 0-3"],
    );
}

#[test]
fn an_index_that_fails_too_often_is_given_up() {
    let spec = json!({"completionMode": "Indexed", "backoffLimitPerIndex": 0, "backoffLimit": 100});
    check(
        spec.clone(),
        json!({}),
        "a0! b1+",
        expect![[
            "create 2; let go a; 1 active 1 ready 0 going 0 well 0 badly -a lost 0; then 1 active 1 ready 0 going 0 well 1 badly lost 0"
        ]],
    );
    check(
        spec.clone(),
        json!({"failedIndexes": "0", "failed": 1}),
        "a1* b2*",
        expect![[
            "let go a b; 0 active 0 ready 0 going 2 well 1 badly done 1,2 lost 0 FailureTarget=True/FailedIndexes; then 0 active 0 ready 0 going 2 well 1 badly done 1,2 lost 0 FailureTarget=True/FailedIndexes Failed=True/FailedIndexes"
        ]],
    );
    let mut most = spec;
    most["maxFailedIndexes"] = json!(0);
    check(
        most,
        json!({}),
        "a0! b1+",
        expect![[
            "delete b; let go a b; 0 active 0 ready 1 going 0 well 0 badly -a -b lost 0 FailureTarget=True/MaxFailedIndexesExceeded; then 0 active 0 ready 1 going 0 well 2 badly lost 0 FailureTarget=True/MaxFailedIndexesExceeded"
        ]],
    );
}

#[test]
fn a_failed_pod_of_an_index_stays_until_another_has_its_count() {
    let spec = json!({"completionMode": "Indexed", "backoffLimitPerIndex": 2, "parallelism": 1});
    check(
        spec.clone(),
        json!({}),
        "a0!",
        expect!["create 0; 0 active 0 ready 0 going 0 well 0 badly"],
    );
    check(
        spec,
        json!({}),
        "a0! b0+",
        expect![[
            "let go a; 1 active 1 ready 0 going 0 well 0 badly -a; then 1 active 1 ready 0 going 0 well 1 badly"
        ]],
    );
}

#[test]
fn a_success_policy_ends_it_early() {
    let spec = json!({"completionMode": "Indexed", "successPolicy":
        {"rules": [{"succeededIndexes": "1"}]}});
    check(
        spec,
        json!({}),
        "a1* b0+",
        expect![[
            "delete b; let go b a; 0 active 0 ready 1 going 1 well 0 badly done 1 SuccessCriteriaMet=True/SuccessPolicy"
        ]],
    );
}

#[test]
fn rules_for_failures_are_kept_to() {
    let policy = |action: &str| {
        json!({"podFailurePolicy": {"rules": [{"action": action, "onPodConditions":
            [{"type": "Ready", "status": "False"}]}]}})
    };
    check(
        policy("FailJob"),
        json!({}),
        "a! b+",
        expect![[
            "delete b; let go a b; 0 active 0 ready 1 going 0 well 0 badly -a -b FailureTarget=True/PodFailurePolicy; then 0 active 0 ready 1 going 0 well 2 badly FailureTarget=True/PodFailurePolicy"
        ]],
    );
    check(
        policy("Ignore"),
        json!({}),
        "a! b+",
        expect!["create 1; let go a; 1 active 1 ready 0 going 0 well 0 badly"],
    );
}

#[test]
fn containers_that_are_started_again_use_up_the_limit() {
    let template = json!({"spec": {"containers": [], "restartPolicy": "OnFailure"}});
    let job = job(json!({"backoffLimit": 2, "template": template}), json!({}));
    let mut restarted = (*pod("a+")).clone();
    let ending = |pod: &Pod| {
        let pods = [Arc::new(pod.clone())];
        let view = View::new(&job, &pods).unwrap();
        plan(&view, &Record::default(), true, now()).ending
    };
    for (restarts, over) in [(1, false), (2, true)] {
        let status = json!([{"name": "c", "image": "", "imageID": "", "ready": true,
            "restartCount": restarts}]);
        let status = serde_json::from_value(status).unwrap();
        restarted.status.as_mut().unwrap().container_statuses = status;
        assert_eq!(ending(&restarted).is_some(), over);
    }
}

/// A cluster of one Job in which every step may be repeated, cut short or done by a fresh process.
#[derive(Clone, Debug)]
enum Step {
    /// A pod ends, well or badly.
    End(usize, bool),
    /// A pod's finalizer goes.
    Release(usize),
    /// The status is written down; perhaps the finalizers go, and perhaps the counts are written as well.
    Count { release: usize, counted: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..12_usize, any::<bool>()).prop_map(|(pod, well)| Step::End(pod, well)),
        1 => (0..12_usize).prop_map(Step::Release),
        3 => (0..13_usize, any::<bool>())
            .prop_map(|(release, counted)| Step::Count { release, counted }),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn every_pod_is_counted_once_wherever_the_count_is_cut_short(steps in steps()) {
        let names: Vec<String> = ('a'..='l').map(String::from).collect();
        let mut pods: Vec<Arc<Pod>> = names.iter().map(|name| pod(&format!("{name}+"))).collect();
        let mut job = job(json!({"completions": 100, "parallelism": 12}), json!({}));
        let mut listed = HashSet::new();
        let phase = |pod: &mut Arc<Pod>, well: bool| {
            let status = Arc::make_mut(pod).status.as_mut().unwrap();
            if status.phase.as_deref() == Some("Running") {
                status.phase = Some(if well { "Succeeded" } else { "Failed" }.into());
            }
        };
        let free = |pod: &mut Arc<Pod>| Arc::make_mut(pod).metadata.finalizers = None;
        let run = |job: &mut Job, pods: &mut Vec<Arc<Pod>>, listed: &mut HashSet<String>,
                       release: usize, counted: bool| {
            let view = View::new(job, pods).unwrap();
            let count = count(&view, None, true, now());
            let mut status = count.status;
            let uids = status.uncounted_terminated_pods.clone().unwrap();
            listed.extend(uids.failed.into_iter().chain(uids.succeeded).flatten());
            for gone in count.release.iter().take(release) {
                let pod = pods.iter_mut().find(|pod| pod.name_any() == gone.name_any());
                free(pod.unwrap());
            }
            if counted {
                let held = pods.iter().filter(|pod| member::tracked(pod));
                move_counted(&mut status, &held.map(|pod| member::uid(pod)).collect());
            }
            job.status = Some(status);
        };
        for step in steps {
            match step {
                Step::End(at, well) => phase(&mut pods[at], well),
                // Only a pod that is listed is ever let go.
                Step::Release(at) if listed.contains(member::uid(&pods[at])) => free(&mut pods[at]),
                Step::Release(_) => {}
                Step::Count { release, counted } => {
                    run(&mut job, &mut pods, &mut listed, release, counted);
                }
            }
        }
        run(&mut job, &mut pods, &mut listed, usize::MAX, true);
        let status = job.status.unwrap();
        let ended = |how: &str| {
            let ended = pods.iter().filter(|pod| crate::pod::phase(pod) == how);
            i32::try_from(ended.count()).unwrap()
        };
        prop_assert_eq!(status.succeeded.unwrap_or(0), ended("Succeeded"));
        prop_assert_eq!(status.failed.unwrap_or(0), ended("Failed"));
        let left = status.uncounted_terminated_pods.unwrap();
        prop_assert_eq!(left.failed.unwrap_or_default(), Vec::<String>::new());
        prop_assert_eq!(left.succeeded.unwrap_or_default(), Vec::<String>::new());
    }
}
