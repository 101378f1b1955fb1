//! Whether a revision can serve, by what nodes and pods say. Pure.
//!
//! A component can once a node has its code compiled (that of the digest that the revision is held to); a container once one of its pods was ready. What was ready stays
//! so: a container that is scaled to zero, or a node that restarts, is no failure of the revision.

use jiff::{SignedDuration, Timestamp};

use super::revision::{Revision, Runtime};

/// Reasons that waiting does not change.
const FINAL: &[&str] = &[
    "InvalidImageName",
    "ErrImageNeverPull",
    "RuntimeMismatch",
    "InvalidComponent",
];

/// What is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Readiness {
    Ready,
    /// It may still become ready.
    Waiting(Why),
    /// Its time is up, or nothing will change it.
    Failed(Why),
}

/// A reason as a program reads it, and the same for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Why {
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Why {
    pub(crate) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

impl Readiness {
    pub(crate) fn is_ready(&self) -> bool {
        *self == Self::Ready
    }
}

/// What is known of the pods of a revision.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pods {
    pub(crate) all: i32,
    pub(crate) ready: i32,
    /// Why one that is not ready is not.
    pub(crate) why: Option<Why>,
}

/// Decides; `deadline` is how long a revision may take.
pub(crate) fn readiness(
    revision: &Revision,
    pods: &Pods,
    deadline: SignedDuration,
    now: Timestamp,
) -> Readiness {
    if let Some(mismatch) = mismatch(revision) {
        return Readiness::Failed(mismatch);
    }
    let (able, why) = match revision.runtime() {
        Some(Runtime::Component) => nodes(revision),
        Some(Runtime::Container) => container(revision, pods),
        None => (false, nodes(revision).1),
    };
    if able {
        return Readiness::Ready;
    }
    let overdue = now.duration_since(revision.created) >= deadline;
    let seconds = deadline.as_secs();
    match why {
        Some(why) if FINAL.contains(&why.reason.as_str()) || overdue => Readiness::Failed(why),
        None if overdue => {
            let message = format!("the revision was not ready within {seconds} seconds");
            Readiness::Failed(Why::new("ProgressDeadlineExceeded", message))
        }
        Some(why) => Readiness::Waiting(why),
        None => {
            let message = match revision.runtime() {
                Some(Runtime::Container) if revision.is_on_a_node() => {
                    "waiting for its first pod to be ready"
                }
                _ => "waiting for a node to have its image",
            };
            Readiness::Waiting(Why::new("Deploying", message))
        }
    }
}

/// What the spec says of the image, where a node found something else.
fn mismatch(revision: &Revision) -> Option<Why> {
    let (said, found) = (revision.runtime()?, revision.found()?);
    if said == found {
        return None;
    }
    let field = match revision.typed().runtime_class_name {
        Some(_) => "runtimeClassName",
        None => "port",
    };
    let is = match found {
        Runtime::Component => "a component",
        Runtime::Container => "a container's",
    };
    Some(Why::new(
        "RuntimeMismatch",
        format!("the image is {is}, which spec.{field} does not allow"),
    ))
}

/// Whether a node is ready to serve a component, and why one is not.
fn nodes(revision: &Revision) -> (bool, Option<Why>) {
    let status = revision.read.status.as_ref();
    let nodes = status.map_or(&[][..], |status| &status.nodes);
    let mut reasons = nodes.iter().filter(|node| !node.ready).filter_map(|node| {
        let reason = node.reason.as_deref()?;
        let message = node.message.as_deref().unwrap_or(reason);
        Some(Why::new(reason, format!("node {}: {message}", node.name)))
    });
    let why = reasons.next();
    let ready = revision.is_on_a_node();
    (ready || revision.was_ready() && why.is_none(), why)
}

fn container(revision: &Revision, pods: &Pods) -> (bool, Option<Why>) {
    if revision.was_ready() || pods.ready > 0 {
        return (true, None);
    }
    (false, pods.why.clone().or_else(|| nodes(revision).1))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    const CREATED: &str = "2026-01-01T00:00:00Z";

    fn revision(spec: Value, status: Value) -> Revision {
        let object = serde_json::from_value(json!({
            "metadata": {"name": "f-00001", "creationTimestamp": CREATED}, "spec": spec, "status": status,
        }));
        Revision::read(&object.unwrap()).unwrap()
    }

    #[track_caller]
    fn check(spec: Value, status: Value, pods: &Pods, after: i64, expected: Expect) {
        let now = CREATED.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(after);
        let found = readiness(
            &revision(spec, status),
            pods,
            SignedDuration::from_secs(60),
            now,
        );
        let text = match found {
            Readiness::Ready => "Ready".to_owned(),
            Readiness::Waiting(why) => format!("Waiting {}: {}", why.reason, why.message),
            Readiness::Failed(why) => format!("Failed {}: {}", why.reason, why.message),
        };
        expected.assert_eq(&text);
    }

    fn none() -> Pods {
        Pods::default()
    }

    #[test]
    fn a_component_is_ready_once_a_node_is() {
        let nodes = json!({"nodes": [
            {"name": "a", "ready": false, "reason": "ErrImagePull", "message": "no route"},
            {"name": "b", "ready": true, "runtime": "wasm"},
        ]});
        check(json!({}), nodes, &none(), 1, expect!["Ready"]);
        let nodes = json!({"nodes": [{"name": "a", "ready": false, "reason": "ErrImagePull", "message": "no route"}]});
        check(
            json!({}),
            nodes.clone(),
            &none(),
            1,
            expect!["Waiting ErrImagePull: node a: no route"],
        );
        check(
            json!({}),
            nodes,
            &none(),
            60,
            expect!["Failed ErrImagePull: node a: no route"],
        );
        check(
            json!({}),
            json!({}),
            &none(),
            1,
            expect!["Waiting Deploying: waiting for a node to have its image"],
        );
        check(
            json!({}),
            json!({}),
            &none(),
            61,
            expect![
                "Failed ProgressDeadlineExceeded: the revision was not ready within 60 seconds"
            ],
        );
    }

    #[test]
    fn a_node_whose_tag_meant_something_else_does_not_count() {
        let nodes = |held: Value| {
            json!({"digest": held, "nodes": [
                {"name": "a", "ready": true, "resolved": "sha256:1", "runtime": "wasm"},
                {"name": "b", "ready": true, "resolved": "sha256:2", "runtime": "oci"},
            ]})
        };
        let waits = expect!["Waiting Deploying: waiting for a node to have its image"];
        check(json!({}), nodes(json!("sha256:3")), &none(), 1, waits);
        check(
            json!({}),
            nodes(json!("sha256:1")),
            &none(),
            1,
            expect!["Ready"],
        );
        check(json!({}), nodes(Value::Null), &none(), 1, expect!["Ready"]);
        let waits = expect!["Waiting Deploying: waiting for its first pod to be ready"];
        check(json!({}), nodes(json!("sha256:2")), &none(), 1, waits);
    }

    #[test]
    fn what_waiting_does_not_change_fails_at_once() {
        let nodes = json!({"nodes": [{"name": "a", "ready": false, "reason": "InvalidImageName", "message": "bad"}]});
        check(
            json!({}),
            nodes,
            &none(),
            1,
            expect!["Failed InvalidImageName: node a: bad"],
        );
        let nodes = json!({"nodes": [{"name": "a", "ready": true, "runtime": "wasm"}]});
        check(
            json!({"port": 80}),
            nodes,
            &none(),
            1,
            expect![
                "Failed RuntimeMismatch: the image is a component, which spec.port does not allow"
            ],
        );
    }

    #[test]
    fn a_container_needs_a_pod_that_is_ready_once() {
        let found = json!({"nodes": [{"name": "a", "ready": true, "runtime": "oci"}]});
        let one = |ready| Pods {
            all: 1,
            ready,
            why: Some(Why::new("CrashLoopBackOff", "back-off")),
        };
        check(
            json!({}),
            found.clone(),
            &none(),
            1,
            expect!["Waiting Deploying: waiting for its first pod to be ready"],
        );
        check(
            json!({}),
            found.clone(),
            &one(0),
            1,
            expect!["Waiting CrashLoopBackOff: back-off"],
        );
        check(json!({}), found, &one(1), 1, expect!["Ready"]);
        let was = json!({"runtime": "oci", "conditions": [{"type": "Ready", "status": "True", "reason": "r", "message": "", "lastTransitionTime": CREATED}]});
        check(json!({}), was, &none(), 9999, expect!["Ready"]);
    }
}
