use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::{Schema, arbitrary, builtin};

fn schema(name: &str) -> Schema {
    builtin(&format!("io.k8s.api.{name}")).expect("a known definition")
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("valid JSON")
}

fn writer(manager: &str, second: u8) -> Writer {
    Writer {
        manager: manager.to_owned(),
        api_version: "v1".to_owned(),
        subresource: String::new(),
        now: format!("2026-01-01T00:00:{second:02}Z"),
    }
}

/// An object under several writers; each step is a second later than the one before.
struct Story {
    schema: Schema,
    object: Option<Value>,
    managers: Managers,
    second: u8,
}

impl Story {
    fn of(name: &str) -> Self {
        Self {
            schema: schema(name),
            object: None,
            managers: Managers::default(),
            second: 0,
        }
    }

    fn next(&mut self, manager: &str) -> Writer {
        self.second += 1;
        writer(manager, self.second)
    }

    fn update(&mut self, manager: &str, object: &str) -> &mut Self {
        let writer = self.next(manager);
        let new = parse(object);
        let managers = std::mem::take(&mut self.managers);
        let old = self.object.as_ref();
        let reach = Reach::AllBut("status");
        self.managers = update(&self.schema, old, &new, managers, &writer, reach);
        self.object = Some(new);
        self
    }

    fn try_apply(&mut self, manager: &str, config: &str, force: bool) -> Result<(), ApplyError> {
        let writer = self.next(manager);
        let applied = apply(
            &self.schema,
            self.object.as_ref(),
            &parse(config),
            self.managers.clone(),
            &writer,
            Reach::AllBut("status"),
            force,
        )?;
        self.object = Some(applied.object);
        self.managers = applied.managers;
        Ok(())
    }

    #[track_caller]
    fn apply(&mut self, manager: &str, config: &str) -> &mut Self {
        self.try_apply(manager, config, false).expect("no conflict");
        self
    }

    #[track_caller]
    fn force(&mut self, manager: &str, config: &str) -> &mut Self {
        self.try_apply(manager, config, true).expect("force");
        self
    }

    #[track_caller]
    fn refused(&mut self, manager: &str, config: &str, expected: &Expect) -> &mut Self {
        let told = match self.try_apply(manager, config, false) {
            Ok(()) => "applied".to_owned(),
            Err(ApplyError::Conflicts(conflicts)) => conflicts.to_string(),
            Err(ApplyError::Invalid(problems)) => problems.join("\n"),
        };
        expected.assert_eq(&told);
        self
    }

    /// The object and then one line for each manager.
    #[track_caller]
    fn check(&mut self, expected: &Expect) -> &mut Self {
        let mut lines = vec![self.object.clone().unwrap_or_default().to_string()];
        let entries = self.managers.clone().into_json().unwrap_or_default();
        for entry in entries.as_array().into_iter().flatten() {
            let text = |field: &str| entry[field].as_str().unwrap_or_default();
            let second = text("time").get(17..19).unwrap_or("--");
            lines.push(format!(
                "{} {} {second}: {}",
                text("operation"),
                text("manager"),
                entry["fieldsV1"]
            ));
        }
        expected.assert_eq(&lines.join("\n"));
        self
    }
}

mod sets {
    use super::*;

    #[track_caller]
    fn check(name: &str, object: &str, expected: &Expect) {
        expected.assert_eq(&match set_of(&schema(name), &parse(object)) {
            Ok(set) => set.into_json().to_string(),
            Err(problems) => problems.join("\n"),
        });
    }

    #[test]
    fn structures_are_known_by_their_fields_and_maps_by_their_entries() {
        check(
            "core.v1.Pod",
            r#"{"metadata":{"labels":{"app":"web"},"annotations":{}},"spec":{"nodeName":"n","securityContext":{}}}"#,
            &expect![[
                r#"{"f:metadata":{"f:annotations":{},"f:labels":{"f:app":{}}},"f:spec":{"f:nodeName":{},"f:securityContext":{}}}"#
            ]],
        );
    }

    #[test]
    fn items_are_known_by_their_keys_with_their_defaults() {
        check(
            "core.v1.Container",
            r#"{"name":"a","ports":[{"containerPort":80},{"containerPort":80,"protocol":"UDP"}],"args":["x"]}"#,
            &expect![[
                r#"{"f:args":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}},"k:{\"containerPort\":80,\"protocol\":\"UDP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}}}"#
            ]],
        );
        check(
            "core.v1.Pod",
            r#"{"metadata":{"finalizers":["a/b"],"ownerReferences":[{"uid":"1"}]}}"#,
            &expect![[
                r#"{"f:metadata":{"f:finalizers":{"v:\"a/b\"":{}},"f:ownerReferences":{"k:{\"uid\":\"1\"}":{}}}}"#
            ]],
        );
    }

    #[test]
    fn what_is_atomic_is_one() {
        check(
            "apps.v1.DeploymentSpec",
            r#"{"selector":{"matchLabels":{"a":"b"}},"template":{"spec":{"tolerations":[{"key":"a"}],"nodeSelector":{"a":"b"}}}}"#,
            &expect![[
                r#"{"f:selector":{},"f:template":{"f:spec":{"f:nodeSelector":{},"f:tolerations":{}}}}"#
            ]],
        );
    }

    #[test]
    fn what_the_schema_does_not_know_is_owned_as_it_looks() {
        check(
            "apps.v1.ControllerRevision",
            r#"{"data":{"a":{"b":[1,{"c":2}],"d":null},"e":1}}"#,
            &expect![[r#"{"f:data":{"f:a":{".":{},"f:b":{},"f:d":{}},"f:e":{}}}"#]],
        );
    }

    #[test]
    fn items_that_cannot_be_told_apart_are_refused() {
        check(
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a"},{"name":"a"},{"image":"x"},{"name":"b","ports":[{"containerPort":1},{"containerPort":1,"protocol":"TCP"}]}],"volumes":[1]}"#,
            &expect![[r#"
                .containers: duplicate entries for key [name="a"]
                .containers: element 2: associative list with keys has an element that omits key field "name" (and doesn't have default value)
                .containers[name="b"].ports: duplicate entries for key [containerPort=1,protocol="TCP"]
                .volumes: element 0: associative list with keys may not have non-map elements"#]],
        );
    }

    #[test]
    fn a_clients_set_is_brought_into_our_spelling() {
        let set = FieldSet::parse(&parse(
            r#"{".":{},"f:a":{"k:{ \"z\":1, \"b\":\"\\u0061\" }":{},"v:  1":{},"i:0":{".":{}}}}"#,
        ));
        expect![[r#"{"f:a":{"i:0":{".":{}},"k:{\"b\":\"a\",\"z\":1}":{},"v:1":{}}}"#]]
            .assert_eq(&set.expect("a set").into_json().to_string());
        for wrong in [
            r#"{"x":{}}"#,
            r#"{"f:a":1}"#,
            r#"{"k:[]":{}}"#,
            r#"{"v:":{}}"#,
            r#"{"i:x":{}}"#,
            "[]",
        ] {
            assert!(FieldSet::parse(&parse(wrong)).is_err(), "{wrong}");
        }
    }
}

mod differences {
    use super::*;

    #[track_caller]
    fn check(name: &str, old: &str, new: &str, expected: &Expect) {
        let found = compare(&schema(name), &parse(old), &parse(new));
        expected.assert_eq(&format!(
            "{} - {}",
            found.changed.into_json(),
            found.removed.into_json()
        ));
    }

    #[test]
    fn only_what_differs_is_told() {
        check(
            "core.v1.Pod",
            r#"{"metadata":{"labels":{"a":"1","b":"2"}},"spec":{"containers":[{"name":"a","image":"x"},{"name":"b"}]}}"#,
            r#"{"metadata":{"labels":{"a":"1","c":"2"}},"spec":{"containers":[{"name":"a","image":"y"},{"name":"c"}]}}"#,
            &expect![[
                r#"{"f:metadata":{"f:labels":{"f:c":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{"f:image":{}},"k:{\"name\":\"c\"}":{".":{},"f:name":{}}}}} - {"f:metadata":{"f:labels":{"f:b":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"b\"}":{".":{},"f:name":{}}}}}"#
            ]],
        );
    }

    #[test]
    fn what_is_new_is_told_with_what_it_is_in() {
        check(
            "core.v1.Pod",
            r#"{"spec":{}}"#,
            r#"{"metadata":{"labels":{"a":"1"}},"spec":{"volumes":[],"securityContext":{}}}"#,
            &expect![[
                r#"{"f:metadata":{".":{},"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:securityContext":{},"f:volumes":{}}} - {}"#
            ]],
        );
    }

    #[test]
    fn an_atomic_value_is_changed_as_a_whole() {
        check(
            "apps.v1.DeploymentSpec",
            r#"{"selector":{"matchLabels":{"a":"b"}}}"#,
            r#"{"selector":{"matchLabels":{"a":"c"}}}"#,
            &expect![[r#"{"f:selector":{}} - {}"#]],
        );
        check(
            "apps.v1.ControllerRevision",
            r#"{"data":{"a":{"b":1}}}"#,
            r#"{"data":{"a":[1]}}"#,
            &expect![[r#"{"f:data":{"f:a":{}}} - {"f:data":{"f:a":{"f:b":{}}}}"#]],
        );
    }

    #[test]
    fn items_that_nothing_tells_apart_are_changed_together() {
        check(
            "core.v1.PodSpec",
            r#"{"volumes":[{"name":"a","emptyDir":{}},{"name":"a"}],"containers":[{"image":"x"}]}"#,
            r#"{"volumes":[{"name":"a"},{"name":"a"}],"containers":[{"image":"y"}]}"#,
            &expect![[r#"{"f:volumes":{"k:{\"name\":\"a\"}":{}}} - {}"#]],
        );
    }
}

mod overlays {
    use super::*;

    /// Names of containers: live ones, applied ones, and the outcome.
    #[track_caller]
    fn check(live: &str, config: &str, expected: &Expect) {
        let named = |names: &str| -> Value {
            let items = names.chars().map(|name| json!({"name": name.to_string()}));
            json!({"containers": items.collect::<Vec<_>>()})
        };
        let laid = overlay(&schema("core.v1.PodSpec"), named(live), &named(config));
        let names = laid["containers"].as_array().expect("a list").iter();
        let names: String = names.filter_map(|item| item["name"].as_str()).collect();
        expected.assert_eq(&names);
    }

    #[test]
    fn applied_items_come_in_their_order_and_the_others_stay_where_they_were() {
        check("abc", "cba", &expect!["cba"]);
        check("ab", "ca", &expect!["cab"]);
        check("xa", "ca", &expect!["xca"]);
        check("ax", "ac", &expect!["axc"]);
        check("axb", "ba", &expect!["xba"]);
        check("aby", "bac", &expect!["byac"]);
        check("bay", "abc", &expect!["aybc"]);
        check("x", "c", &expect!["xc"]);
        check("", "ab", &expect!["ab"]);
        check("ab", "", &expect!["ab"]);
        check("aab", "ba", &expect!["ba"]);
    }

    #[test]
    fn fields_are_merged_and_atomic_lists_replaced() {
        let live = parse(
            r#"{"containers":[{"name":"a","image":"x","args":["1","2"],"env":[{"name":"A","value":"1"}]}],"nodeSelector":{"a":"b"}}"#,
        );
        let config = parse(
            r#"{"containers":[{"name":"a","args":["3"],"env":[{"name":"B","value":"2"}]}],"nodeSelector":{"c":"d"}}"#,
        );
        expect![[
            r#"{"containers":[{"args":["3"],"env":[{"name":"A","value":"1"},{"name":"B","value":"2"}],"image":"x","name":"a"}],"nodeSelector":{"c":"d"}}"#
        ]]
        .assert_eq(&overlay(&schema("core.v1.PodSpec"), live, &config).to_string());
    }
}

mod applies {
    use super::*;

    #[test]
    fn who_applies_owns_what_it_says() {
        Story::of("core.v1.ConfigMap")
            .apply(
                "kubectl",
                r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"l":"1"}},"data":{"k":"v"}}"#,
            )
            .check(&expect![[r#"
                {"apiVersion":"v1","data":{"k":"v"},"kind":"ConfigMap","metadata":{"labels":{"l":"1"},"name":"a"}}
                Apply kubectl 01: {"f:data":{"f:k":{}},"f:metadata":{"f:labels":{"f:l":{}}}}"#]])
            .apply(
                "kubectl",
                r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"l":"1"}},"data":{"k":"v"}}"#,
            )
            .check(&expect![[r#"
                {"apiVersion":"v1","data":{"k":"v"},"kind":"ConfigMap","metadata":{"labels":{"l":"1"},"name":"a"}}
                Apply kubectl 01: {"f:data":{"f:k":{}},"f:metadata":{"f:labels":{"f:l":{}}}}"#]]);
    }

    #[test]
    fn what_is_left_out_is_removed_unless_somebody_else_owns_it() {
        Story::of("core.v1.ConfigMap")
            .apply("a", r#"{"data":{"mine":"1","both":"2","x":"3"}}"#)
            .apply("b", r#"{"data":{"both":"2"}}"#)
            .apply("a", r#"{"data":{"x":"3"}}"#)
            .check(&expect![[r#"
                {"data":{"both":"2","x":"3"}}
                Apply b 02: {"f:data":{"f:both":{}}}
                Apply a 03: {"f:data":{"f:x":{}}}"#]])
            .apply("a", "{}")
            .apply("b", "{}")
            .check(&expect!["{}"]);
    }

    #[test]
    fn another_value_is_a_conflict_that_force_wins() {
        Story::of("apps.v1.Deployment")
            .apply("a", r#"{"spec":{"replicas":1,"paused":true}}"#)
            .update("kubectl-edit", r#"{"spec":{"replicas":3,"paused":true}}"#)
            .refused(
                "a",
                r#"{"spec":{"replicas":1,"paused":true}}"#,
                &expect![[
                    r#"Apply failed with 1 conflict: conflict with "kubectl-edit" using v1: .spec.replicas"#
                ]],
            )
            .refused(
                "b",
                r#"{"spec":{"replicas":1,"paused":false}}"#,
                &expect![[r#"
                    Apply failed with 2 conflicts: conflicts with "a":
                    - .spec.paused
                    conflicts with "kubectl-edit" using v1:
                    - .spec.replicas"#]],
            )
            .force("b", r#"{"spec":{"replicas":1,"paused":false}}"#)
            .check(&expect![[r#"
                {"spec":{"paused":false,"replicas":1}}
                Apply b 05: {"f:spec":{"f:paused":{},"f:replicas":{}}}"#]]);
    }

    #[test]
    fn the_same_value_is_shared() {
        Story::of("apps.v1.Deployment")
            .apply("a", r#"{"spec":{"replicas":1}}"#)
            .apply("b", r#"{"spec":{"replicas":1}}"#)
            .check(&expect![[r#"
                {"spec":{"replicas":1}}
                Apply a 01: {"f:spec":{"f:replicas":{}}}
                Apply b 02: {"f:spec":{"f:replicas":{}}}"#]])
            .apply("a", "{}")
            .check(&expect![[r#"
                {"spec":{"replicas":1}}
                Apply b 02: {"f:spec":{"f:replicas":{}}}"#]])
            .apply("b", r#"{"spec":{"replicas":2}}"#)
            .check(&expect![[r#"
                {"spec":{"replicas":2}}
                Apply b 04: {"f:spec":{"f:replicas":{}}}"#]]);
    }

    /// Handing replicas over to an autoscaler, as Kubernetes' documentation tells it.
    #[test]
    fn a_field_is_handed_over_by_not_applying_it_any_more() {
        Story::of("apps.v1.Deployment")
            .apply("kubectl", r#"{"spec":{"replicas":3,"paused":true}}"#)
            .apply("handover-to-hpa", r#"{"spec":{"replicas":3}}"#)
            .apply("kubectl", r#"{"spec":{"paused":true}}"#)
            .update("hpa", r#"{"spec":{"replicas":5,"paused":true}}"#)
            .check(&expect![[r#"
                {"spec":{"paused":true,"replicas":5}}
                Apply kubectl 03: {"f:spec":{"f:paused":{}}}
                Update hpa 04: {"f:spec":{"f:replicas":{}}}"#]]);
    }

    #[test]
    fn an_item_goes_with_what_was_filled_into_it() {
        let mut story = Story::of("core.v1.Pod");
        story
            .apply(
                "a",
                r#"{"spec":{"containers":[{"name":"a","image":"x"},{"name":"b","image":"y"}]}}"#,
            )
            .check(&expect![[r#"
                {"spec":{"containers":[{"image":"x","name":"a"},{"image":"y","name":"b"}]}}
                Apply a 01: {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{}},"k:{\"name\":\"b\"}":{".":{},"f:image":{},"f:name":{}}}}}"#]]);
        // Defaults belong to nobody.
        story.object = Some(parse(
            r#"{"spec":{"restartPolicy":"Always","containers":[{"name":"a","image":"x","imagePullPolicy":"Always"},{"name":"b","image":"y","imagePullPolicy":"Always"}]}}"#,
        ));
        story
            .apply(
                "a",
                r#"{"spec":{"containers":[{"name":"b","image":"y"}]}}"#,
            )
            .check(&expect![[r#"
                {"spec":{"containers":[{"image":"y","imagePullPolicy":"Always","name":"b"}],"restartPolicy":"Always"}}
                Apply a 02: {"f:spec":{"f:containers":{"k:{\"name\":\"b\"}":{".":{},"f:image":{},"f:name":{}}}}}"#]]);
    }

    #[test]
    fn an_item_that_somebody_shares_keeps_its_key() {
        Story::of("core.v1.Pod")
            .apply(
                "a",
                r#"{"spec":{"containers":[{"name":"a","image":"x"}]}}"#,
            )
            .apply("b", r#"{"spec":{"containers":[{"name":"a","tty":true}]}}"#)
            .apply("a", r#"{"spec":{"containers":[]}}"#)
            .check(&expect![[r#"
                {"spec":{"containers":[{"name":"a","tty":true}]}}
                Apply b 02: {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:name":{},"f:tty":{}}}}}"#]]);
    }

    #[test]
    fn members_of_a_set_are_owned_one_by_one() {
        Story::of("core.v1.Pod")
            .apply("a", r#"{"metadata":{"finalizers":["x/a","x/b"]}}"#)
            .apply("b", r#"{"metadata":{"finalizers":["x/b","x/c"]}}"#)
            .apply("a", r#"{"metadata":{"finalizers":[]}}"#)
            .check(&expect![[r#"
                {"metadata":{"finalizers":["x/b","x/c"]}}
                Apply b 02: {"f:metadata":{"f:finalizers":{"v:\"x/b\"":{},"v:\"x/c\"":{}}}}"#]]);
    }

    #[test]
    fn ports_are_told_apart_by_their_protocol_too() {
        Story::of("core.v1.Service")
            .apply("a", r#"{"spec":{"ports":[{"port":53,"protocol":"UDP"},{"port":53}]}}"#)
            .update(
                "server",
                r#"{"spec":{"ports":[{"port":53,"protocol":"UDP"},{"port":53,"protocol":"TCP"}]}}"#,
            )
            .apply("a", r#"{"spec":{"ports":[{"port":53}]}}"#)
            .check(&expect![[r#"
                {"spec":{"ports":[{"port":53,"protocol":"TCP"}]}}
                Apply a 03: {"f:spec":{"f:ports":{"k:{\"port\":53,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}}
                Update server 02: {"f:spec":{"f:ports":{"k:{\"port\":53,\"protocol\":\"TCP\"}":{"f:protocol":{}}}}}"#]]);
    }

    #[test]
    fn a_status_is_not_owned_where_it_has_no_effect() {
        Story::of("apps.v1.Deployment")
            .apply("a", r#"{"spec":{"paused":true},"status":{"replicas":3}}"#)
            .check(&expect![[r#"
                {"spec":{"paused":true},"status":{"replicas":3}}
                Apply a 01: {"f:spec":{"f:paused":{}}}"#]]);
    }

    #[test]
    fn what_was_there_before_the_first_apply_has_an_owner_too() {
        let mut story = Story::of("core.v1.ConfigMap");
        story.object = Some(parse(r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#));
        story
            .refused(
                "a",
                r#"{"data":{"k":"w"}}"#,
                &expect![[
                    r#"Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.k"#
                ]],
            )
            .force("a", r#"{"data":{"k":"w"}}"#)
            .check(&expect![[r#"
                {"data":{"k":"w"},"metadata":{"name":"a"}}
                Apply a 02: {"f:data":{"f:k":{}}}
                Update before-first-apply 02: {"f:data":{}}"#]]);
    }

    #[test]
    fn kubectl_takes_over_what_it_applied_without_the_servers_help() {
        let last = |replicas: i32, paused: bool| {
            json!({"apiVersion": "v1", "spec": {"replicas": replicas, "paused": paused}})
                .to_string()
        };
        let object = |replicas: i32| {
            json!({
                "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": last(1, true)}},
                "spec": {"replicas": replicas, "paused": true},
            })
            .to_string()
        };
        let wanted = last(2, false);
        let mut story = Story::of("apps.v1.Deployment");
        story.update("kubectl-client-side-apply", &object(1));
        assert!(story.try_apply("other", &wanted, false).is_err());
        story
            .apply("kubectl", &wanted)
            .check(&expect![[r#"
                {"apiVersion":"v1","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"spec\":{\"paused\":false,\"replicas\":2}}\n"}},"spec":{"paused":false,"replicas":2}}
                Apply kubectl 03: {"f:spec":{"f:paused":{},"f:replicas":{}}}
                Update kubectl-client-side-apply 01: {"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}}}}"#]]);

        let mut story = Story::of("apps.v1.Deployment");
        story
            .update("kubectl-client-side-apply", &object(1))
            .update("kubectl-scale", &object(5))
            .refused(
                "kubectl",
                &wanted,
                &expect![[
                    r#"Apply failed with 1 conflict: conflict with "kubectl-scale" using v1: .spec.replicas"#
                ]],
            );
    }
}

mod updates {
    use super::*;

    #[test]
    fn who_creates_an_object_owns_all_of_it() {
        Story::of("core.v1.Pod")
            .update(
                "kubectl-run",
                r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","uid":"1","labels":{"run":"a"}},"spec":{"containers":[{"name":"a","image":"x","resources":{}}]},"status":{"phase":"Pending"}}"#,
            )
            .check(&expect![[r#"
                {"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"run":"a"},"name":"a","uid":"1"},"spec":{"containers":[{"image":"x","name":"a","resources":{}}]},"status":{"phase":"Pending"}}
                Update kubectl-run 01: {"f:metadata":{"f:labels":{".":{},"f:run":{}}},"f:spec":{"f:containers":{".":{},"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{},"f:resources":{}}}}}"#]]);
    }

    #[test]
    fn who_changes_a_field_takes_it_and_what_is_removed_is_nobodys() {
        Story::of("core.v1.ConfigMap")
            .update("a", r#"{"data":{"x":"1","y":"2","z":"3"}}"#)
            .update("b", r#"{"data":{"x":"1","y":"9"}}"#)
            .check(&expect![[r#"
                {"data":{"x":"1","y":"9"}}
                Update a 01: {"f:data":{".":{},"f:x":{}}}
                Update b 02: {"f:data":{"f:y":{}}}"#]]);
    }

    #[test]
    fn a_write_that_changes_nothing_says_nothing() {
        Story::of("core.v1.ConfigMap")
            .update(
                "a",
                r#"{"metadata":{"resourceVersion":"1"},"data":{"x":"1"}}"#,
            )
            .update(
                "b",
                r#"{"metadata":{"resourceVersion":"2"},"data":{"x":"1"}}"#,
            )
            .update("a", r#"{"metadata":{"generation":2},"data":{"x":"1"}}"#)
            .check(&expect![[r#"
                {"data":{"x":"1"},"metadata":{"generation":2}}
                Update a 01: {"f:data":{".":{},"f:x":{}}}"#]]);
    }

    #[test]
    fn the_time_is_that_of_the_last_change_but_not_of_a_loss() {
        Story::of("core.v1.ConfigMap")
            .update("a", r#"{"data":{"x":"1","y":"1"}}"#)
            .update("a", r#"{"data":{"x":"2","y":"1"}}"#)
            .update("b", r#"{"data":{"x":"3","y":"1"}}"#)
            .check(&expect![[r#"
                {"data":{"x":"3","y":"1"}}
                Update a 02: {"f:data":{".":{},"f:y":{}}}
                Update b 03: {"f:data":{"f:x":{}}}"#]]);
    }

    #[test]
    fn an_object_that_nobody_owns_anything_of_is_left_so() {
        let mut story = Story::of("core.v1.ConfigMap");
        story.object = Some(json!({}));
        story
            .update("a", r#"{"data":{"x":"1"}}"#)
            .check(&expect![[r#"{"data":{"x":"1"}}"#]]);
    }

    #[test]
    fn the_oldest_of_too_many_updates_are_folded_into_one() {
        let mut story = Story::of("core.v1.ConfigMap");
        let mut data = serde_json::Map::new();
        for manager in 'a'..='l' {
            data.insert(manager.to_string(), "1".into());
            story.update(&manager.to_string(), &json!({"data": data}).to_string());
        }
        let managers = story.managers.clone().into_json().unwrap_or_default();
        let told: Vec<String> = managers
            .as_array()
            .expect("a list")
            .iter()
            .map(|entry| format!("{} {}", entry["manager"], entry["fieldsV1"]))
            .collect();
        expect![[r#"
            "ancient-changes" {"f:data":{".":{},"f:a":{},"f:b":{},"f:c":{}}}
            "d" {"f:data":{"f:d":{}}}
            "e" {"f:data":{"f:e":{}}}
            "f" {"f:data":{"f:f":{}}}
            "g" {"f:data":{"f:g":{}}}
            "h" {"f:data":{"f:h":{}}}
            "i" {"f:data":{"f:i":{}}}
            "j" {"f:data":{"f:j":{}}}
            "k" {"f:data":{"f:k":{}}}
            "l" {"f:data":{"f:l":{}}}"#]]
        .assert_eq(&told.join("\n"));
    }
}

mod entries {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let text = r#"[{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:a":{}},"manager":"m","operation":"Apply"},{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:b":{}},"manager":"m","operation":"Update","subresource":"status","time":"2026-01-01T00:00:00Z"}]"#;
        let value = parse(text);
        let stored = Managers::stored(Some(value.clone()));
        assert_eq!(stored.clone().into_json(), Some(value.clone()));
        assert_eq!(Managers::said(Some(&value)), Said::These(stored));
    }

    #[test]
    fn only_the_empty_entry_takes_everything_away() {
        let said = |text: &str| Managers::said(Some(&parse(text)));
        assert_eq!(said("[{}]"), Said::Reset);
        assert_eq!(said("[]"), Said::Nothing);
        assert_eq!(said("[{},{}]"), Said::Nothing);
        assert_eq!(
            said(
                r#"[{"manager":"m","operation":"Update","fieldsType":"FieldsV1","fieldsV1":{"x":{}}}]"#
            ),
            Said::Nothing
        );
        assert_eq!(Managers::said(None), Said::Nothing);
    }
}

/// A set of fields of a pod.
fn set() -> impl Strategy<Value = FieldSet> {
    arbitrary::pod().prop_map(|pod| set_of(&schema("core.v1.Pod"), &pod).expect("a set"))
}

/// A set with inner paths: of what it takes to make one pod from another.
fn difference() -> impl Strategy<Value = FieldSet> {
    (arbitrary::pod(), arbitrary::pod())
        .prop_map(|(old, new)| compare(&schema("core.v1.Pod"), &old, &new).changed)
}

fn applied(
    live: Option<&Value>,
    config: &Value,
    managers: Managers,
    manager: &str,
    second: u8,
) -> Applied {
    let (schema, writer) = (schema("core.v1.Pod"), writer(manager, second));
    let reach = Reach::Everything;
    apply(&schema, live, config, managers, &writer, reach, true).expect("forced")
}

/// Empty maps and lists are left behind where there was nothing: as good as nothing.
fn pruned(value: &Value) -> Value {
    let kept = |value: &Value| {
        let value = pruned(value);
        let hollow = value.as_object().is_some_and(|map| map.is_empty())
            || value.as_array().is_some_and(|list| list.is_empty());
        (!hollow).then_some(value)
    };
    match value {
        Value::Object(map) => map
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), kept(value)?)))
            .collect(),
        Value::Array(list) => list.iter().map(pruned).collect(),
        value => value.clone(),
    }
}

proptest! {
    #[test]
    fn sets_obey_the_laws_of_sets(a in difference(), b in set(), c in difference()) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.union(&a), a.clone());
        prop_assert_eq!(a.intersection(&a), a.clone());
        prop_assert!(a.difference(&a).is_empty());
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert_eq!(a.difference(&b).difference(&c), a.difference(&b.union(&c)));
        prop_assert!(!a.difference(&b).intersects(&b));
        prop_assert_eq!(a.intersects(&b), !a.intersection(&b).is_empty());
        prop_assert!(a.union(&b).contains(&a));
        prop_assert_eq!(b.contains(&a), a.difference(&b).is_empty());
        prop_assert_eq!(a.paths().len(), a.intersection(&b).paths().len() + a.difference(&b).paths().len());
    }

    #[test]
    fn a_set_survives_its_wire_form(set in difference()) {
        let json = set.clone().into_json();
        prop_assert_eq!(FieldSet::parse(&json).expect("our own"), set.clone());
        prop_assert_eq!(FieldSet::stored(json), set);
    }

    #[test]
    fn two_objects_differ_in_nothing_only_if_they_are_the_same(old in arbitrary::pod(), new in arbitrary::pod()) {
        let schema = schema("core.v1.Pod");
        prop_assert!(compare(&schema, &old, &old).is_empty());
        let there = compare(&schema, &old, &new);
        let back = compare(&schema, &new, &old);
        prop_assert!(!there.changed.intersects(&there.removed));
        prop_assert_eq!(back.is_empty(), there.is_empty());
        // What is removed one way is new the other way.
        prop_assert!(back.changed.contains(&there.removed));
    }

    #[test]
    fn what_is_applied_is_there_afterwards(live in arbitrary::pod(), config in arbitrary::pod()) {
        let schema = schema("core.v1.Pod");
        let laid = overlay(&schema, live, &config);
        let wanted = set_of(&schema, &config).expect("a set");
        let missing = compare(&schema, &laid, &config).changed.intersection(&wanted);
        prop_assert!(missing.is_empty(), "{:?}", missing.paths());
    }

    #[test]
    fn an_apply_applied_twice_is_applied_once(live in arbitrary::pod(), config in arbitrary::pod()) {
        let once = applied(Some(&live), &config, Managers::default(), "m", 1);
        let twice = applied(Some(&once.object), &config, once.managers.clone(), "m", 2);
        prop_assert_eq!(&twice.object, &once.object);
        prop_assert_eq!(twice.managers.into_json(), once.managers.into_json());
    }

    #[test]
    fn what_is_applied_and_then_left_out_leaves_nothing_behind(base in arbitrary::pod(), config in arbitrary::pod()) {
        let before = applied(None, &base, Managers::default(), "base", 1);
        let with = applied(Some(&before.object), &config, before.managers.clone(), "other", 2);
        let without = applied(Some(&with.object), &json!({}), with.managers, "other", 3);
        // What the other changed by force is its to take away; what it only added is gone.
        let schema = schema("core.v1.Pod");
        let added = compare(&schema, &pruned(&before.object), &pruned(&without.object)).changed;
        let inner = set_of(&schema, &config).expect("a set");
        prop_assert!(!added.intersects(&inner), "{:?}", added.paths());
        prop_assert!(without.managers.0.iter().all(|entry| entry.manager == "base"));
    }

    #[test]
    fn what_two_apply_alike_stays_until_both_let_go(config in arbitrary::pod()) {
        let one = applied(None, &config, Managers::default(), "a", 1);
        let two = applied(Some(&one.object), &config, one.managers, "b", 2);
        let left = applied(Some(&two.object), &json!({}), two.managers, "a", 3);
        prop_assert_eq!(&left.object, &one.object);
        let gone = applied(Some(&left.object), &json!({}), left.managers, "b", 4);
        prop_assert_eq!(pruned(&gone.object), json!({}));
        prop_assert!(gone.managers.0.is_empty());
    }

    #[test]
    fn no_value_makes_an_apply_panic(live in arbitrary::value(), config in arbitrary::value()) {
        let (live, config) = (json!({"spec": live}), json!({"spec": config, "data": live}));
        let schema = schema("core.v1.Pod");
        let (writer, reach) = (writer("m", 1), Reach::AllBut("status"));
        let managers = update(&schema, None, &live, Managers::default(), &writer, reach);
        let _ = apply(&schema, Some(&live), &config, managers, &writer, reach, false);
    }
}
