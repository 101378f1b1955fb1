//! What requests take in their query and path, as OpenAPI 3.0 parameters.

use serde_json::{Value, json};

/// Parameters of a list, which may become a watch.
pub(super) const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];

/// Parameters of a create or replace.
pub(super) const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];

/// Parameters of a patch.
pub(super) const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];

/// Parameters of a delete.
pub(super) const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];

/// Parameters of a delete of all that a list would show.
pub(super) const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];

/// Parameters of a subresource's GET.
pub(super) fn of_subresource(path: &str) -> &'static [&'static str] {
    match path {
        "log" => &[
            "container",
            "follow",
            "insecureSkipTLSVerifyBackend",
            "limitBytes",
            "previous",
            "sinceSeconds",
            "stream",
            "tailLines",
            "timestamps",
        ],
        "exec" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
        "attach" => &["container", "stderr", "stdin", "stdout", "tty"],
        "portforward" => &["ports"],
        "proxy" => &["path"],
        _ => &[],
    }
}

/// Name, type and meaning of every parameter.
const ALL: &[(&str, &str, &str)] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "Ask a watch for BOOKMARK events, which tell how far it has come.",
    ),
    (
        "command",
        "string",
        "The command to run, one argument each time the parameter is given; no shell is involved.",
    ),
    (
        "container",
        "string",
        "Which container of the pod; its only one by default.",
    ),
    (
        "continue",
        "string",
        "The token of the previous page of a list. A token whose snapshot is gone is answered with 410.",
    ),
    (
        "dryRun",
        "string",
        "All: do everything but keep the change. No other value is valid.",
    ),
    (
        "fieldManager",
        "string",
        "Who makes the change, for managedFields: at most 128 printable characters.",
    ),
    (
        "fieldSelector",
        "string",
        "Only objects whose fields have these values.",
    ),
    (
        "fieldValidation",
        "string",
        "What to do about unknown and duplicate fields: Ignore, Warn (the default) or Strict.",
    ),
    (
        "follow",
        "boolean",
        "Keep the log open and send what is added.",
    ),
    (
        "force",
        "boolean",
        "Take over fields that other managers own. Only for apply patches.",
    ),
    (
        "gracePeriodSeconds",
        "integer",
        "How long the object may take to end; zero removes it at once.",
    ),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Remove an object that cannot be read. Unsafe.",
    ),
    (
        "insecureSkipTLSVerifyBackend",
        "boolean",
        "Take the log from a node whose certificate is not checked.",
    ),
    ("labelSelector", "string", "Only objects with these labels."),
    (
        "limit",
        "integer",
        "At most this many objects in a page of a list.",
    ),
    (
        "limitBytes",
        "integer",
        "At most this many bytes of the log.",
    ),
    (
        "orphanDependents",
        "boolean",
        "Deprecated: propagationPolicy says it.",
    ),
    ("path", "string", "The path to ask for."),
    ("ports", "integer", "The ports to forward."),
    ("pretty", "string", "If 'true', the answer is indented."),
    (
        "previous",
        "boolean",
        "The log of the container that ran before.",
    ),
    (
        "propagationPolicy",
        "string",
        "What becomes of dependents: Orphan, Background or Foreground.",
    ),
    (
        "resourceVersion",
        "string",
        "How fresh the answer must be, or where a watch begins.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "How resourceVersion is meant: NotOlderThan or Exact.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Begin a watch with what is there, and a BOOKMARK after it.",
    ),
    (
        "sinceSeconds",
        "integer",
        "Only lines of the last so many seconds.",
    ),
    ("stderr", "boolean", "Send the container's standard error."),
    ("stdin", "boolean", "Take the container's standard input."),
    ("stdout", "boolean", "Send the container's standard output."),
    (
        "stream",
        "string",
        "Which stream of the log: All, Stdout or Stderr.",
    ),
    ("tailLines", "integer", "Only the last so many lines."),
    (
        "timeoutSeconds",
        "integer",
        "When a list or watch ends at the latest.",
    ),
    ("timestamps", "boolean", "Begin each line with its time."),
    ("tty", "boolean", "Use a terminal."),
    (
        "watch",
        "boolean",
        "Send changes as they happen instead of a list.",
    ),
];

/// The query parameters of these names.
pub(super) fn query(names: &[&str]) -> Value {
    names.iter().map(|name| parameter(name)).collect()
}

fn parameter(name: &str) -> Value {
    let known = ALL.iter().find(|(known, _, _)| *known == name);
    let (_, kind, meaning) = known.expect("a test looks every name up");
    json!({
        "name": name,
        "in": "query",
        "description": meaning,
        "schema": { "type": kind, "uniqueItems": true },
    })
}

/// The parameters of a path that has these segments open, and `pretty`.
pub(super) fn path(names: &[&str]) -> Value {
    let segments = names.iter().map(|name| {
        let meaning = match *name {
            "namespace" => "object name and auth scope, such as for teams and projects",
            "path" => "path to the resource",
            _ => "name of the object",
        };
        json!({
            "name": name,
            "in": "path",
            "description": meaning,
            "required": true,
            "schema": { "type": "string", "uniqueItems": true },
        })
    });
    segments.chain([parameter("pretty")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_known() {
        let subresources = ["log", "exec", "attach", "portforward", "proxy"].map(of_subresource);
        let all = [LIST, WRITE, PATCH, DELETE, DELETE_COLLECTION];
        for names in all.into_iter().chain(subresources) {
            assert_eq!(query(names).as_array().map(Vec::len), Some(names.len()));
        }
        assert!(ALL.iter().map(|(name, _, _)| name).is_sorted());
    }
}
