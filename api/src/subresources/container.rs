//! Which container of a pod a request is about. Pure.

use serde_json::Value;

use crate::error::Error;

fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    pod["spec"][list]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .collect()
}

/// The container that is meant: the one named, or the only one.
pub(crate) fn choose<'a>(
    pod: &'a Value,
    name: &str,
    asked: Option<&str>,
) -> Result<&'a str, Error> {
    let containers = names(pod, "containers");
    let initial = names(pod, "initContainers");
    let ephemeral = names(pod, "ephemeralContainers");
    match (asked, containers.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => {
            let mut text = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                containers.join(" ")
            );
            for (more, word) in [(initial, "init"), (ephemeral, "ephemeral")] {
                if !more.is_empty() {
                    text.push_str(&format!(
                        " or one of the {word} containers: [{}]",
                        more.join(" ")
                    ));
                }
            }
            Err(Error::BadRequest(text))
        }
        (Some(asked), _) => containers
            .iter()
            .chain(&initial)
            .chain(&ephemeral)
            .find(|&&name| name == asked)
            .copied()
            .ok_or_else(|| {
                Error::BadRequest(format!("container {asked} is not valid for pod {name}"))
            }),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(pod: Value, asked: Option<&str>, expected: Expect) {
        expected.assert_eq(&match choose(&pod, "web", asked) {
            Ok(container) => container.to_owned(),
            Err(error) => error.to_string(),
        });
    }

    fn pod(names: &[&str]) -> Value {
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"spec": {"nodeName": "n1", "containers": containers}})
    }

    #[test]
    fn the_container_is_the_one_named_or_the_only_one() {
        check(pod(&["a"]), None, expect!["a"]);
        check(pod(&["a", "b"]), Some("b"), expect!["b"]);
        check(
            pod(&["a", "b"]),
            None,
            expect!["a container name must be specified for pod web, choose one of: [a b]"],
        );
        check(
            pod(&["a"]),
            Some("x"),
            expect!["container x is not valid for pod web"],
        );
    }
}
