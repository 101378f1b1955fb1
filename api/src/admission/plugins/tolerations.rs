//! DefaultTolerationSeconds: a pod that does not say how long it stays on a node that is not ready or
//! not reachable stays for five minutes.

use serde_json::{Value, json};

use super::is_pod;
use crate::{
    admission::{Operation, Review},
    kinds::value::{fill, items, text},
};

/// How long a pod stays on a node that is gone, in seconds.
const SECONDS: i64 = 300;

pub(super) fn mutate(review: &Review<'_>, pod: &mut Value) {
    if is_pod(review) && review.operation != Operation::Delete {
        tolerate(&mut pod["spec"]);
    }
}

fn tolerate(spec: &mut Value) {
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerated = items(spec, "/tolerations").iter().any(|toleration| {
            let own = text(toleration, "/key");
            (own == key || own.is_empty())
                && matches!(text(toleration, "/effect"), "NoExecute" | "")
        });
        if tolerated {
            continue;
        }
        fill(spec, "tolerations", Vec::<Value>::new());
        if let Some(list) = spec.get_mut("tolerations").and_then(Value::as_array_mut) {
            list.push(json!({
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": SECONDS,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: Value, tolerated: &[&str]) {
        let mut spec = json!({"tolerations": given});
        tolerate(&mut spec);
        let added: Vec<&str> = items(&spec, "/tolerations")
            .iter()
            .filter(|toleration| toleration["tolerationSeconds"] == SECONDS)
            .map(|toleration| text(toleration, "/key"))
            .collect();
        assert_eq!(added, tolerated);
    }

    #[test]
    fn only_what_is_not_tolerated_yet_is_added() {
        let both = [
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
        ];
        check(Value::Null, &both);
        check(json!([{"operator": "Exists"}]), &[]);
        check(
            json!([{"key": both[0], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]),
            &both[1..],
        );
        check(
            json!([{"key": both[0], "operator": "Exists", "effect": "NoSchedule"}]),
            &both,
        );
    }
}
