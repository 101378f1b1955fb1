//! A pod's line of a table, and the one word that says how it is.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    kinds::{
        Column, column,
        value::{items, number, part, plain, present, text, truth},
    },
    object,
    time::{human, parse},
};

/// The table's columns.
pub(crate) const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown(
        "Ready",
        "How many containers are ready, of how many there are",
    ),
    column::shown("Status", "How the pod is, in one word"),
    column::shown(
        "Restarts",
        "How often containers were restarted, and when last",
    ),
    column::AGE,
    column::wide("IP", "Its address"),
    column::wide("Node", "Where it runs"),
    column::wide("Nominated Node", "Where room is being made for it"),
    column::wide(
        "Readiness Gates",
        "How many extra conditions for readiness hold",
    ),
];

/// A cell for each column.
pub(crate) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let seen = Seen::of(pod);
    let restarts = match seen.last_restart {
        Some(last) if seen.restarts > 0 => {
            let ago = human(now.duration_since(last).as_secs());
            format!("{} ({ago} ago)", seen.restarts)
        }
        _ => seen.restarts.to_string(),
    };
    vec![
        column::name(pod),
        format!("{}/{}", seen.ready, seen.total).into(),
        seen.word.into(),
        restarts.into(),
        column::age(pod, now),
        column::or_none(match text(pod, "/status/podIP") {
            "" => text(pod, "/status/podIPs/0/ip"),
            ip => ip,
        }),
        column::or_none(text(pod, "/spec/nodeName")),
        column::or_none(text(pod, "/status/nominatedNodeName")),
        gates(pod),
    ]
}

/// What the container statuses add up to.
struct Seen {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    word: String,
}

impl Seen {
    fn of(pod: &Value) -> Self {
        let sidecars = items(pod, "/spec/initContainers")
            .iter()
            .filter(|container| is_sidecar(container))
            .count();
        let mut seen = Self {
            ready: 0,
            total: items(pod, "/spec/containers").len() + sidecars,
            restarts: 0,
            last_restart: None,
            word: match text(pod, "/status/reason") {
                "" => text(pod, "/status/phase").to_owned(),
                reason => reason.to_owned(),
            },
        };
        let gated = items(pod, "/status/conditions").iter().any(|condition| {
            text(condition, "/type") == "PodScheduled"
                && text(condition, "/reason") == "SchedulingGated"
        });
        if gated {
            "SchedulingGated".clone_into(&mut seen.word);
        }
        let initializing = seen.add_init(pod);
        if !initializing || holds(pod, "Initialized") {
            seen.keep_sidecar_restarts(pod);
            seen.add_containers(pod);
        }
        seen.add_deletion(pod);
        seen
    }

    /// Counts init containers up to the first that is not done; true if there is one.
    fn add_init(&mut self, pod: &Value) -> bool {
        let specs = items(pod, "/spec/initContainers");
        for (index, status) in items(pod, "/status/initContainerStatuses")
            .iter()
            .enumerate()
        {
            self.add_restarts(status);
            let sidecar = specs
                .iter()
                .any(|spec| text(spec, "/name") == text(status, "/name") && is_sidecar(spec));
            let waiting = text(status, "/state/waiting/reason");
            self.word = match ended(status) {
                Some(0) => continue,
                _ if sidecar && truth(status, "/started") => {
                    self.ready += usize::from(truth(status, "/ready"));
                    continue;
                }
                Some(_) => format!("Init:{}", how_it_ended(status)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => {
                    format!("Init:{waiting}")
                }
                None => format!("Init:{index}/{}", specs.len()),
            };
            return true;
        }
        false
    }

    /// Once a pod is initialized, only containers that still run count.
    fn keep_sidecar_restarts(&mut self, pod: &Value) {
        self.restarts = 0;
        self.last_restart = None;
        let specs = items(pod, "/spec/initContainers");
        for status in items(pod, "/status/initContainerStatuses") {
            let name = text(status, "/name");
            if specs
                .iter()
                .any(|spec| text(spec, "/name") == name && is_sidecar(spec))
            {
                self.add_restarts(status);
            }
        }
    }

    fn add_containers(&mut self, pod: &Value) {
        let mut running = false;
        for status in items(pod, "/status/containerStatuses").iter().rev() {
            self.add_restarts(status);
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.word);
            } else if ended(status).is_some() {
                self.word = how_it_ended(status);
            } else if truth(status, "/ready") && present(status, "/state/running") {
                running = true;
                self.ready += 1;
            }
        }
        if self.word == "Completed" && running {
            let word = if holds(pod, "Ready") {
                "Running"
            } else {
                "NotReady"
            };
            word.clone_into(&mut self.word);
        }
    }

    fn add_deletion(&mut self, pod: &Value) {
        if !object::deleting(pod) {
            return;
        }
        if text(pod, "/status/reason") == "NodeLost" {
            "Unknown".clone_into(&mut self.word);
        } else if !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut self.word);
        }
    }

    fn add_restarts(&mut self, status: &Value) {
        self.restarts += number(status, "/restartCount").unwrap_or(0);
        let ended = parse(part(status, "/lastState/terminated/finishedAt"));
        self.last_restart = self.last_restart.max(ended);
    }
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

/// The exit code of a container that is not running any more.
fn ended(status: &Value) -> Option<i64> {
    present(status, "/state/terminated")
        .then(|| number(status, "/state/terminated/exitCode").unwrap_or(0))
}

fn how_it_ended(status: &Value) -> String {
    let reason = text(status, "/state/terminated/reason");
    let signal = number(status, "/state/terminated/signal").unwrap_or(0);
    if !reason.is_empty() {
        reason.to_owned()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!(
            "ExitCode:{}",
            plain(part(status, "/state/terminated/exitCode"))
        )
    }
}

fn holds(pod: &Value, kind: &str) -> bool {
    items(pod, "/status/conditions")
        .iter()
        .any(|condition| text(condition, "/type") == kind && text(condition, "/status") == "True")
}

fn gates(pod: &Value) -> Value {
    let gates = items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let open = gates
        .iter()
        .filter(|gate| holds(pod, text(gate, "/conditionType")))
        .count();
    format!("{open}/{}", gates.len()).into()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::kinds::{pod::Pod, tests::row};

    #[track_caller]
    fn check(status: &str, expect: Expect) {
        let yaml = format!(
            "{{metadata: {{name: web}}, spec: {{containers: [{{name: a}}, {{name: b}}], \
             initContainers: [{{name: i}}]}}, status: {{{status}}}}}"
        );
        let row = row(&Pod, &yaml);
        let shown: Vec<_> = row.split('|').skip(1).take(3).collect();
        expect.assert_eq(&shown.join("|"));
    }

    #[test]
    fn the_status_says_what_is_wrong_first() {
        check("phase: Pending", expect!["0/2|Pending|0"]);
        check(
            "phase: Pending, initContainerStatuses: [{name: i, state: {running: {}}}]",
            expect!["0/2|Init:0/1|0"],
        );
        check(
            "phase: Pending, initContainerStatuses: [{name: i, restartCount: 2, state: {terminated: \
             {exitCode: 3}}}]",
            expect!["0/2|Init:ExitCode:3|2"],
        );
        check(
            "phase: Running, containerStatuses: [{ready: true, state: {running: {}}}, {restartCount: \
             3, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {finishedAt: \
             '2026-01-01T00:59:55Z'}}}]",
            expect!["1/2|CrashLoopBackOff|3 (5s ago)"],
        );
        check(
            "phase: Running, containerStatuses: [{ready: true, state: {running: {}}}, {state: \
             {terminated: {exitCode: 0, reason: Completed}}}]",
            expect!["1/2|NotReady|0"],
        );
        check(
            "phase: Failed, containerStatuses: [{state: {terminated: {exitCode: 137, signal: 9}}}]",
            expect!["0/2|Signal:9|0"],
        );
        check("phase: Failed, reason: Evicted", expect!["0/2|Evicted|0"]);
    }

    #[test]
    fn a_deleted_pod_is_terminating() {
        expect!["web|0/1|Terminating|0|60m|10.64.0.2|n1|<none>|0/1"].assert_eq(&row(
            &Pod,
            "{metadata: {name: web, deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {nodeName: n1, \
             containers: [{name: a}], readinessGates: [{conditionType: x}]}, status: {phase: Running, \
             podIP: 10.64.0.2}}",
        ));
    }
}
