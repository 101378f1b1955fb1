use runtimes::fake::FakeNetwork;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::{Config, clock::Clock, events::Note, fake_api::FakeApi, nodelet::Nodelet};

/// A node that began an hour before its containers, or an hour after.
fn context(hours: i64) -> (Arc<Context>, mpsc::Receiver<Note>) {
    let config = Config::new("n1", vec![Ipv4Addr::LOCALHOST.into()], "/nonexistent");
    let now = Timestamp::now()
        + Duration::from_secs(3_600) * i32::try_from(hours).unwrap_or(0).unsigned_abs();
    let clock = Clock::Tokio(now, Instant::now());
    let (nodelet, _) = Nodelet::with_clock(
        FakeApi::new().client(),
        config,
        Vec::new(),
        Arc::new(FakeImages::new()),
        Arc::new(FakeNetwork::new()),
        clock,
    )
    .expect("a nodelet");
    nodelet.into_context()
}

/// Polls a probe's stream for `lasting`; what it yields, each with the second it came in.
async fn verdicts(
    context: &Arc<Context>,
    kind: Kind,
    spec: Value,
    lasting: u64,
) -> (Vec<String>, bool) {
    let target = target(1).await;
    let begin = Instant::now();
    let mut stream = watch(context.clone(), target, kind, probe(spec));
    let mut seen = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(lasting), async {
        while let Some(verdict) = stream.next().await {
            let passed = if verdict.passed { "passed" } else { "failed" };
            let message = verdict.message.trim();
            seen.push(format!("{}s {passed} {message}", begin.elapsed().as_secs()));
        }
    });
    let ended = ended.await.is_ok();
    (seen, ended)
}

fn exec(words: &[&str], more: Value) -> Value {
    let mut probe = json!({"exec": {"command": words}});
    for (name, value) in more.as_object().into_iter().flatten() {
        probe[name] = value.clone();
    }
    probe
}

#[tokio::test(start_paused = true)]
async fn a_readiness_probe_tells_a_change_and_goes_on() {
    let (context, _notes) = context(0);
    let spec = exec(
        &["echo", "up"],
        json!({"initialDelaySeconds": 7, "successThreshold": 3}),
    );
    let (seen, ended) = verdicts(&context, Kind::Readiness, spec, 1_000).await;
    assert_eq!((seen, ended), (vec!["27s passed up".to_owned()], false));
}

#[tokio::test(start_paused = true)]
async fn a_liveness_probe_ends_with_its_failure() {
    let (context, mut notes) = context(0);
    let spec = exec(&["fail", "dead"], json!({"periodSeconds": 5}));
    let (seen, ended) = verdicts(&context, Kind::Liveness, spec, 1_000).await;
    assert_eq!((seen, ended), (vec!["10s failed dead".to_owned()], true));
    let note = notes.try_recv().expect("an Event");
    assert_eq!(
        (note.reason, note.message.as_str(), note.field.as_deref()),
        (
            "Unhealthy",
            "Liveness probe failed: dead\n",
            Some("spec.containers{c}")
        )
    );
    assert_eq!(notes.len(), 2, "one Event a probe");
}

#[tokio::test(start_paused = true)]
async fn a_startup_probe_ends_with_its_verdict() {
    let (context, _notes) = context(0);
    let spec = exec(&["exit", "0"], json!({}));
    let (seen, ended) = verdicts(&context, Kind::Startup, spec, 1_000).await;
    assert_eq!((seen, ended), (vec!["0s passed ".to_owned()], true));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_cannot_be_made_is_no_verdict() {
    let (context, mut notes) = context(0);
    let spec = json!({"httpGet": {"port": "none", "path": "/"}});
    let (seen, ended) = verdicts(&context, Kind::Liveness, spec, 100).await;
    assert_eq!((seen, ended), (Vec::new(), false));
    assert_eq!(
        notes.try_recv().expect("an Event").message,
        r#"Liveness probe errored and resulted in unknown state: strconv.Atoi: parsing "none": invalid syntax"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ran_before_the_nodelet_is_probed_within_a_period() {
    let (context, _notes) = context(1);
    for _ in 0..5 {
        let spec = exec(&["exit", "0"], json!({"periodSeconds": 60}));
        let (seen, _) = verdicts(&context, Kind::Readiness, spec, 60).await;
        assert_eq!(seen.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_probed_is_counted_until_it_is_probed_no_more() {
    let (context, _notes) = context(0);
    let target = target(1).await;
    let mut stream = watch(
        context.clone(),
        target,
        Kind::Readiness,
        probe(exec(&["exit", "0"], json!({}))),
    );
    stream.next().await.expect("a verdict");
    let text = context.probes.counts.text();
    let expected = "prober_probe_total{container=\"c\",namespace=\"ns\",pod=\"p\",pod_uid=\"u\",probe_type=\"Readiness\",result=\"successful\"} 1\n";
    assert!(text.ends_with(expected), "{text}");
    drop(stream);
    assert!(!context.probes.counts.text().contains("result="));
}

#[test]
fn a_command_is_expanded_from_plain_values() {
    let container: Container = serde_json::from_value(json!({
        "name": "c",
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "livenessProbe": {"exec": {"command": ["$(A)", "$(B)", "$$(A)"]}},
    }))
    .expect("a container");
    let probe = Kind::Liveness.of(&container).expect("a probe");
    let command = probe.exec.and_then(|exec| exec.command);
    assert_eq!(command.expect("a command"), ["1", "$(B)", "$(A)"]);
    assert_eq!(Kind::Startup.of(&container), None);
}
