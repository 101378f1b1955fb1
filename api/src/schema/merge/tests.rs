use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::{arbitrary, builtin};

fn told(outcome: Result<Value, MergeError>) -> String {
    match outcome {
        Ok(value) => value.to_string(),
        Err(MergeError::Invalid(text)) => format!("invalid: {text}"),
        Err(MergeError::TestFailed(text)) => format!("test failed: {text}"),
        Err(MergeError::NotApplicable(text)) => format!("not applicable: {text}"),
    }
}

/// Patches `live` as the definition whose name ends in `.api.<name>`.
#[track_caller]
fn check(name: &str, live: &str, patch: &str, expected: &Expect) {
    let schema = builtin(&format!("io.k8s.api.{name}")).expect("a known definition");
    let live = serde_json::from_str(live).expect("valid JSON");
    let patch = serde_json::from_str(patch).expect("valid JSON");
    expected.assert_eq(&told(strategic(&schema, live, patch)));
}

mod strategic_merge_patch {
    use super::*;

    #[test]
    fn containers_merge_by_name() {
        check(
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a","image":"x:1","args":["1"]},{"name":"b","image":"y"}]}"#,
            r#"{"containers":[{"name":"a","image":"x:2","args":["2"]},{"name":"c"}]}"#,
            &expect![[
                r#"{"containers":[{"args":["2"],"image":"x:2","name":"a"},{"name":"c"},{"image":"y","name":"b"}]}"#
            ]],
        );
    }

    #[test]
    fn env_and_ports_merge_by_their_own_keys() {
        check(
            "core.v1.Container",
            r#"{"env":[{"name":"A","value":"1"}],"ports":[{"containerPort":80,"name":"http"}]}"#,
            r#"{"env":[{"name":"A","value":null,"valueFrom":{"fieldRef":{"fieldPath":"p"}}}],"ports":[{"containerPort":80,"protocol":"UDP"},{"containerPort":81}]}"#,
            &expect![[
                r#"{"env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"p"}}}],"ports":[{"containerPort":80,"name":"http","protocol":"UDP"},{"containerPort":81}]}"#
            ]],
        );
    }

    #[test]
    fn conditions_merge_by_type() {
        check(
            "core.v1.PodStatus",
            r#"{"conditions":[{"type":"Ready","status":"False"},{"type":"Initialized","status":"True"}]}"#,
            r#"{"conditions":[{"type":"Ready","status":"True"}],"phase":"Running"}"#,
            &expect![[
                r#"{"conditions":[{"status":"True","type":"Ready"},{"status":"True","type":"Initialized"}],"phase":"Running"}"#
            ]],
        );
    }

    #[test]
    fn tolerations_and_args_are_replaced() {
        check(
            "core.v1.PodSpec",
            r#"{"tolerations":[{"key":"a"}],"containers":[{"name":"a","command":["x","y"]}]}"#,
            r#"{"tolerations":[{"key":"b"}],"containers":[{"name":"a","command":["z"]}]}"#,
            &expect![[
                r#"{"containers":[{"command":["z"],"name":"a"}],"tolerations":[{"key":"b"}]}"#
            ]],
        );
    }

    #[test]
    fn null_removes_and_an_added_value_has_no_nulls() {
        check(
            "core.v1.PodSpec",
            r#"{"nodeName":"n","nodeSelector":{"a":"1","b":"2"}}"#,
            r#"{"nodeName":null,"hostname":null,"nodeSelector":{"a":null,"c":"3"},"securityContext":{"runAsUser":null,"fsGroup":1}}"#,
            &expect![[r#"{"nodeSelector":{"b":"2","c":"3"},"securityContext":{"fsGroup":1}}"#]],
        );
    }

    #[test]
    fn finalizers_merge_as_a_set() {
        check(
            "core.v1.Pod",
            r#"{"metadata":{"finalizers":["a","b"]}}"#,
            r#"{"metadata":{"finalizers":["c","a"]}}"#,
            &expect![[r#"{"metadata":{"finalizers":["c","a","b"]}}"#]],
        );
    }

    #[test]
    fn primitives_are_deleted_by_a_parallel_list() {
        check(
            "core.v1.Pod",
            r#"{"metadata":{"finalizers":["a","b","c"]}}"#,
            r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["b","x"],"finalizers":["d"]}}"#,
            &expect![[r#"{"metadata":{"finalizers":["d","a","c"]}}"#]],
        );
        check(
            "core.v1.Pod",
            r#"{"metadata":{}}"#,
            r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["b"]}}"#,
            &expect![[r#"{"metadata":{}}"#]],
        );
        check(
            "core.v1.Pod",
            r#"{"metadata":{"finalizers":["a","b"],"name":"x"}}"#,
            r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":null}}"#,
            &expect![[r#"{"metadata":{"name":"x"}}"#]],
        );
    }

    #[test]
    fn an_object_is_replaced_or_emptied_by_a_directive() {
        check(
            "core.v1.PodSpec",
            r#"{"nodeSelector":{"a":"1"},"securityContext":{"fsGroup":1}}"#,
            r#"{"nodeSelector":{"$patch":"replace","b":"2"},"securityContext":{"$patch":"delete"}}"#,
            &expect![[r#"{"nodeSelector":{"b":"2"},"securityContext":{}}"#]],
        );
        check(
            "core.v1.PodSpec",
            "{}",
            r#"{"nodeSelector":{"$patch":"merge"},"x":1}"#,
            &expect![[r#"{"x":1}"#]],
        );
    }

    #[test]
    fn an_item_is_deleted_by_its_key() {
        check(
            "core.v1.PodSpec",
            r#"{"volumes":[{"name":"a"},{"name":"b"},{"name":"a"}]}"#,
            r#"{"volumes":[{"name":"a","$patch":"delete"},{"name":"c","$patch":"delete"}]}"#,
            &expect![[r#"{"volumes":[{"name":"b"}]}"#]],
        );
    }

    #[test]
    fn a_list_is_replaced_by_a_directive_among_its_items() {
        check(
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a","image":"x"},{"name":"b"}]}"#,
            r#"{"containers":[{"$patch":"replace"},{"name":"a"},{"name":"c","$patch":"delete"}]}"#,
            &expect![[r#"{"containers":[{"name":"a"}]}"#]],
        );
    }

    #[test]
    fn an_empty_list_changes_nothing_where_lists_merge() {
        check(
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a"}]}"#,
            r#"{"containers":[]}"#,
            &expect![[r#"{"containers":[{"name":"a"}]}"#]],
        );
        check(
            "core.v1.PodSpec",
            r#"{"tolerations":[{"key":"a"}]}"#,
            r#"{"tolerations":[]}"#,
            &expect![[r#"{"tolerations":[]}"#]],
        );
    }

    #[test]
    fn directives_do_not_end_up_in_what_is_added() {
        check(
            "apps.v1.DeploymentSpec",
            "{}",
            r#"{"strategy":{"$retainKeys":["type"],"type":"Recreate"},"template":{"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"name":"a"},{"name":"b","$patch":"delete"}],"nodeSelector":{"$patch":"replace"}}}}"#,
            &expect![[
                r#"{"strategy":{"type":"Recreate"},"template":{"spec":{"containers":[{"name":"a"}]}}}"#
            ]],
        );
    }

    #[test]
    fn retain_keys_drops_what_is_not_listed() {
        check(
            "apps.v1.DeploymentSpec",
            r#"{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}"#,
            r#"{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}"#,
            &expect![[r#"{"strategy":{"type":"Recreate"}}"#]],
        );
        check(
            "core.v1.PodSpec",
            r#"{"volumes":[{"name":"v","emptyDir":{}}]}"#,
            r#"{"volumes":[{"$retainKeys":["name","hostPath"],"name":"v","hostPath":{"path":"/x"}}]}"#,
            &expect![[r#"{"volumes":[{"hostPath":{"path":"/x"},"name":"v"}]}"#]],
        );
        check(
            "apps.v1.DeploymentSpec",
            r#"{"strategy":{}}"#,
            r#"{"strategy":{"$retainKeys":["type"],"rollingUpdate":{}}}"#,
            &expect!["invalid: invalid patch format of $retainKeys"],
        );
    }

    #[test]
    fn what_kubectl_apply_sends_is_understood() {
        check(
            "apps.v1.Deployment",
            r#"{"metadata":{"annotations":{"k":"old"}},"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"b","image":"y"},{"name":"a","image":"img:1","terminationMessagePath":"/dev/termination-log"}]}}}}"#,
            r#"{"metadata":{"annotations":{"k":"new"}},"spec":{"template":{"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"image":"img:2","name":"a"},{"$patch":"delete","name":"b"}]}}}}"#,
            &expect![[
                r#"{"metadata":{"annotations":{"k":"new"}},"spec":{"replicas":1,"template":{"spec":{"containers":[{"image":"img:2","name":"a","terminationMessagePath":"/dev/termination-log"}]}}}}"#
            ]],
        );
    }

    #[test]
    fn what_kubectl_set_env_sends_is_understood() {
        check(
            "apps.v1.Deployment",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"a","image":"x","env":[{"name":"A","value":"1"},{"name":"B","value":"2"}]},{"name":"side"}]}}}}"#,
            r#"{"spec":{"template":{"spec":{"$setElementOrder/containers":[{"name":"a"},{"name":"side"}],"containers":[{"$setElementOrder/env":[{"name":"B"},{"name":"A"},{"name":"C"}],"env":[{"name":"C","value":"3"}],"name":"a"}]}}}}"#,
            &expect![[
                r#"{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"B","value":"2"},{"name":"A","value":"1"},{"name":"C","value":"3"}],"image":"x","name":"a"},{"name":"side"}]}}}}"#
            ]],
        );
    }

    /// Names of live containers, wanted order, names in the patch; the outcome's names.
    #[track_caller]
    fn check_order(live: &str, order: &str, patch: &str, expected: &Expect) {
        let named = |names: &str| -> Vec<Value> {
            names
                .chars()
                .map(|name| json!({"name": name.to_string()}))
                .collect()
        };
        let schema = builtin("io.k8s.api.core.v1.PodSpec").unwrap();
        let patch =
            json!({"$setElementOrder/containers": named(order), "containers": named(patch)});
        let outcome = strategic(&schema, json!({"containers": named(live)}), patch);
        expected.assert_eq(&match outcome {
            Ok(value) => {
                let names = value["containers"].as_array().unwrap().iter();
                names.filter_map(|item| item["name"].as_str()).collect()
            }
            Err(error) => told(Err(error)),
        });
    }

    #[test]
    fn the_order_of_the_patch_wins_and_the_rest_stays_where_it_was() {
        check_order("abc", "cba", "", &expect!["cba"]);
        check_order("abc", "ca", "c", &expect!["bca"]);
        check_order("axbyc", "abc", "", &expect!["axbyc"]);
        check_order("xab", "ba", "b", &expect!["xba"]);
        check_order("ab", "acb", "c", &expect!["acb"]);
        check_order("abx", "cab", "c", &expect!["cabx"]);
        check_order(
            "ab",
            "ab",
            "ba",
            &expect![
                "not applicable: the order in the patch list doesn't match the $setElementOrder list: \"a\" is out of place"
            ],
        );
        check_order(
            "ab",
            "a",
            "c",
            &expect![
                "not applicable: the order in the patch list doesn't match the $setElementOrder list: \"c\" is out of place"
            ],
        );
    }

    #[test]
    fn the_order_of_primitives_can_be_set_too() {
        check(
            "core.v1.Pod",
            r#"{"metadata":{"finalizers":["a","b","c"]}}"#,
            r#"{"metadata":{"$setElementOrder/finalizers":["d","c","a"],"$deleteFromPrimitiveList/finalizers":["b"],"finalizers":["d"]}}"#,
            &expect![[r#"{"metadata":{"finalizers":["d","c","a"]}}"#]],
        );
    }

    #[test]
    fn malformed_patches_are_refused() {
        let live = r#"{"containers":[{"name":"a"}],"nodeSelector":{"a":"1"}}"#;
        let refused =
            |patch: &str, expected: &Expect| check("core.v1.PodSpec", live, patch, expected);
        refused(
            "[]",
            &expect!["invalid: a strategic merge patch must be an object"],
        );
        refused(
            r#"{"nodeSelector":{"$patch":"eat"}}"#,
            &expect![[r#"invalid: unknown patch type found: "eat" in map"#]],
        );
        refused(
            r#"{"containers":[{"$patch":"merge"}]}"#,
            &expect!["invalid: merging lists cannot yet be specified in the patch"],
        );
        refused(
            r#"{"containers":[{"image":"x"}]}"#,
            &expect![[
                r#"not applicable: map: {"image":"x"} does not contain declared merge key: name"#
            ]],
        );
        refused(
            r#"{"containers":["a"]}"#,
            &expect!["not applicable: list element types are not identical"],
        );
        refused(
            r#"{"$setElementOrder/containers":1}"#,
            &expect!["invalid: expected a list at $setElementOrder/containers"],
        );
        refused(
            r#"{"$setElementOrder":[]}"#,
            &expect!["invalid: invalid patch format of $setElementOrder: $setElementOrder"],
        );
    }

    #[test]
    fn large_lists_merge_in_reasonable_time() {
        let env = |value: &str| -> Vec<Value> {
            (0..20_000)
                .map(|n| json!({"name": format!("V{n}"), "value": value}))
                .collect()
        };
        let schema = builtin("io.k8s.api.core.v1.Container").unwrap();
        let merged =
            strategic(&schema, json!({"env": env("a")}), json!({"env": env("b")})).unwrap();
        assert_eq!(merged, json!({"env": env("b")}));
    }

    proptest! {
        #[test]
        fn an_empty_patch_changes_nothing(pod in arbitrary::pod()) {
            let schema = builtin("io.k8s.api.core.v1.Pod").unwrap();
            prop_assert_eq!(strategic(&schema, pod.clone(), json!({})).unwrap(), pod);
        }

        #[test]
        fn a_patch_with_the_object_itself_changes_nothing(pod in arbitrary::pod()) {
            let schema = builtin("io.k8s.api.core.v1.Pod").unwrap();
            prop_assert_eq!(strategic(&schema, pod.clone(), pod.clone()).unwrap(), pod);
        }

        #[test]
        fn a_patch_applied_twice_is_applied_once(live in arbitrary::pod(), patch in arbitrary::pod()) {
            let schema = builtin("io.k8s.api.core.v1.Pod").unwrap();
            let once = strategic(&schema, live, patch.clone()).unwrap();
            prop_assert_eq!(strategic(&schema, once.clone(), patch).unwrap(), once);
        }

        #[test]
        fn no_patch_makes_the_merge_panic(live in arbitrary::value(), patch in arbitrary::value()) {
            let schema = builtin("io.k8s.api.core.v1.Pod").unwrap();
            let _ = strategic(&schema, json!({"spec": live}), json!({"spec": patch}));
        }
    }
}

mod merge_patches {
    use super::*;

    #[test]
    fn objects_merge_and_lists_are_replaced() {
        let document = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
        let patch = json!({"a": {"b": null, "c": [3]}, "e": {"f": null}});
        assert_eq!(
            merge_patch(document, patch),
            json!({"a": {"c": [3]}, "d": 1, "e": {}})
        );
        assert_eq!(merge_patch(json!({"a": 1}), json!(["b"])), json!(["b"]));
    }

    proptest! {
        #[test]
        fn a_patch_applied_twice_is_applied_once(document in arbitrary::value(), patch in arbitrary::value()) {
            let once = merge_patch(document, patch.clone());
            prop_assert_eq!(merge_patch(once.clone(), patch), once);
        }
    }
}

mod json_patches {
    use super::*;

    #[track_caller]
    fn check(document: &str, patch: &str, expected: &Expect) {
        let document = serde_json::from_str(document).expect("valid JSON");
        let patch = serde_json::from_str(patch).expect("valid JSON");
        expected.assert_eq(&told(json_patch(document, &patch)));
    }

    #[test]
    fn operations_apply_in_order() {
        check(
            r#"{"a":[1,2],"b":{"x/y":1}}"#,
            r#"[{"op":"add","path":"/a/-","value":3},{"op":"remove","path":"/a/0"},{"op":"replace","path":"/b/x~1y","value":2},
                {"op":"copy","from":"/a","path":"/c"},{"op":"move","from":"/b","path":"/d"},{"op":"test","path":"/c/0","value":2}]"#,
            &expect![[r#"{"a":[2,3],"c":[2,3],"d":{"x/y":2}}"#]],
        );
    }

    #[test]
    fn a_test_tells_and_null_holds_for_an_absent_member() {
        check(
            r#"{"a":1}"#,
            r#"[{"op":"test","path":"/a","value":2}]"#,
            &expect!["test failed: testing value /a failed (operation 0)"],
        );
        check(
            r#"{"a":1}"#,
            r#"[{"op":"test","path":"/b","value":null}]"#,
            &expect![[r#"{"a":1}"#]],
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        check(
            "{}",
            r#"[{"op":"remove","path":"/a"}]"#,
            &expect![
                "not applicable: remove operation does not apply: /a: path is invalid (operation 0)"
            ],
        );
        check(
            "{}",
            r#"[{"op":"add","path":"/a/b","value":1}]"#,
            &expect![
                "not applicable: add operation does not apply: /a/b: path is invalid (operation 0)"
            ],
        );
        check(
            "{}",
            r#"{"op":"add"}"#,
            &expect!["invalid: a JSON patch must be an array of operations"],
        );
        check(
            "{}",
            r#"[{"op":"eat","path":"/a"}]"#,
            &expect![
                "invalid: operation 0 of the JSON patch: unknown variant `eat`, expected one of `add`, `remove`, `replace`, `move`, `copy`, `test`"
            ],
        );
        check(
            "{}",
            r#"[{"op":"add","path":"a","value":1}]"#,
            &expect![
                "invalid: operation 0 of the JSON patch: json pointer failed to parse; does not start with a slash ('/') and is not empty"
            ],
        );
    }

    #[test]
    fn operations_copies_and_depth_are_bounded() {
        let many = json!(vec![json!({"op": "test", "path": "", "value": {}}); 10_001]);
        assert!(matches!(
            json_patch(json!({}), &many),
            Err(MergeError::Invalid(_))
        ));

        let double = json!({"op": "copy", "from": "", "path": "/a"});
        let bomb = json!(vec![double; 200]);
        assert!(matches!(
            json_patch(json!({"x": 1}), &bomb),
            Err(MergeError::NotApplicable(_))
        ));

        let wide = json!({"op": "copy", "from": "/a", "path": "/b/-"});
        let bomb = json!(vec![wide; 100]);
        let document = json!({"a": "x".repeat(100_000), "b": []});
        assert!(matches!(
            json_patch(document, &bomb),
            Err(MergeError::NotApplicable(_))
        ));
    }
}
