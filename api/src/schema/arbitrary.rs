//! Random values for property tests.

use proptest::prelude::*;
use serde_json::Value;

/// Any value: a few levels of objects and lists.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z ]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]{1,2}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// A pod with lists of every sort, items told apart by their merge keys.
pub(crate) fn pod() -> impl Strategy<Value = Value> {
    let names = || prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..4).prop_shuffle();
    let ports = prop::sample::subsequence(vec![80, 81, 82], 0..3).prop_shuffle();
    let env = names();
    let container = (ports, env, "[a-z]{1,3}").prop_map(|(ports, env, image)| {
        let ports: Vec<_> = ports
            .iter()
            .map(|port| serde_json::json!({"containerPort": port}))
            .collect();
        let env: Vec<_> = env
            .iter()
            .map(|name| serde_json::json!({"name": name, "value": image}))
            .collect();
        serde_json::json!({"image": image, "ports": ports, "env": env, "args": [image, "x"]})
    });
    (
        names(),
        prop::collection::vec(container, 4),
        names(),
        names(),
    )
        .prop_map(|(names, containers, finalizers, labels)| {
            let containers: Vec<_> = names
                .iter()
                .zip(containers)
                .map(|(name, mut container)| {
                    container["name"] = (*name).into();
                    container
                })
                .collect();
            let labels: Value = labels
                .iter()
                .map(|name| ((*name).to_owned(), Value::from("x")))
                .collect();
            serde_json::json!({
                "metadata": {"finalizers": finalizers, "labels": labels},
                "spec": {"containers": containers, "nodeSelector": labels},
            })
        })
}
