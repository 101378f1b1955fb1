//! The pods that a Job makes. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::failure_policy::{Verdict, verdict};
use super::member::{self, FAILURES, FINALIZER, IGNORED_FAILURES, INDEX};

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Longest prefix that a name is generated from.
const LONGEST_PREFIX: usize = 58;

/// A pod for each of `indexes`, made of the plain one that the template asks for.
pub(super) fn pods(
    plain: &Value,
    name: &str,
    spec: &JobSpec,
    indexes: &[Option<i32>],
    remembered: &HashMap<i32, Arc<Pod>>,
) -> Vec<Value> {
    let mut plain = plain.clone();
    let finalizers = &mut plain["metadata"]["finalizers"];
    let mut list = finalizers.as_array().cloned().unwrap_or_default();
    if !list.iter().any(|own| own == FINALIZER) {
        list.push(FINALIZER.into());
    }
    *finalizers = list.into();
    if indexes.iter().any(Option::is_some) {
        for list in ["containers", "initContainers"] {
            let containers = plain["spec"].get_mut(list).and_then(Value::as_array_mut);
            containers.into_iter().flatten().for_each(add_variable);
        }
    }
    let pod = |index: &Option<i32>| match index {
        None => plain.clone(),
        Some(index) => {
            let before = remembered.get(index).map(|pod| &**pod);
            of_index(plain.clone(), name, spec, *index, before)
        }
    };
    indexes.iter().map(pod).collect()
}

fn of_index(mut pod: Value, name: &str, spec: &JobSpec, index: i32, before: Option<&Pod>) -> Value {
    let metadata = &mut pod["metadata"];
    let suffix = format!("-{index}-");
    let kept = name.len().min(LONGEST_PREFIX.saturating_sub(suffix.len()));
    metadata["generateName"] = format!("{}{suffix}", &name[..kept]).into();
    let text = index.to_string();
    metadata["labels"][INDEX] = text.as_str().into();
    metadata["annotations"][INDEX] = text.into();
    if spec.backoff_limit_per_index.is_some() {
        let (counted, ignored) = before.map_or((0, 0), |before| failures_after(spec, before));
        metadata["annotations"][FAILURES] = counted.to_string().into();
        if ignored > 0 {
            metadata["annotations"][IGNORED_FAILURES] = ignored.to_string().into();
        }
    }
    pod["spec"]["hostname"] = format!("{name}-{index}").into();
    pod
}

/// The failures of an index, counted and ignored, once this pod of it has failed.
fn failures_after(spec: &JobSpec, pod: &Pod) -> (i32, i32) {
    let (counted, ignored) = (member::failures(pod), member::ignored_failures(pod));
    if verdict(spec, pod) == Verdict::Ignore {
        (counted, ignored.saturating_add(1))
    } else {
        (counted.saturating_add(1), ignored)
    }
}

fn add_variable(container: &mut Value) {
    let env = container["env"].as_array().cloned();
    let mut env = env.unwrap_or_default();
    if env
        .iter()
        .any(|variable| variable["name"] == INDEX_VARIABLE)
    {
        return;
    }
    let path = format!("metadata.labels['{INDEX}']");
    env.push(json!({"name": INDEX_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}}));
    container["env"] = env.into();
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_pod_knows_its_index() {
        let spec = json!({"template": {}, "backoffLimitPerIndex": 3});
        let spec = serde_json::from_value(spec).unwrap();
        let plain = json!({"metadata": {"generateName": "j-", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c"}, {"name": "d", "env": [{"name": INDEX_VARIABLE}]}]}});
        let before = json!({"metadata": {"annotations": {FAILURES: "1"}}});
        let before = Arc::new(serde_json::from_value(before).unwrap());
        let made = pods(
            &plain,
            "j",
            &spec,
            &[Some(7)],
            &HashMap::from([(7, before)]),
        );
        expect![[r#"
            {
              "metadata": {
                "annotations": {
                  "batch.kubernetes.io/job-completion-index": "7",
                  "batch.kubernetes.io/job-index-failure-count": "2"
                },
                "finalizers": [
                  "batch.kubernetes.io/job-tracking"
                ],
                "generateName": "j-7-",
                "labels": {
                  "a": "b",
                  "batch.kubernetes.io/job-completion-index": "7"
                }
              },
              "spec": {
                "containers": [
                  {
                    "env": [
                      {
                        "name": "JOB_COMPLETION_INDEX",
                        "valueFrom": {
                          "fieldRef": {
                            "fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"
                          }
                        }
                      }
                    ],
                    "name": "c"
                  },
                  {
                    "env": [
                      {
                        "name": "JOB_COMPLETION_INDEX"
                      }
                    ],
                    "name": "d"
                  }
                ],
                "hostname": "j-7"
              }
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&made[0]).unwrap());
    }

    #[test]
    fn a_long_name_leaves_room_for_the_index_and_what_is_generated() {
        let spec = serde_json::from_value(json!({"template": {}})).unwrap();
        let plain = json!({"metadata": {}, "spec": {}});
        let made = pods(&plain, &"n".repeat(63), &spec, &[Some(12)], &HashMap::new());
        let prefix = made[0]["metadata"]["generateName"].as_str().unwrap();
        assert_eq!(prefix, format!("{}-12-", "n".repeat(54)));
        let made = pods(&plain, "n", &spec, &[None], &HashMap::new());
        assert!(made[0]["metadata"]["generateName"].is_null());
        assert_eq!(made[0]["metadata"]["finalizers"], json!([FINALIZER]));
    }
}
