//! A Function's life as a table: what there is, and what is done about it.

use expect_test::{Expect, expect};

use super::*;

const NOW: &str = "2026-01-01T00:10:00Z";

/// A Function of image `IMAGE` with more of a spec, a status, and its revisions: `NUMBER:IMAGE` with marks. `+` is ready
/// by its condition, `n` has a node that is ready, `x` one that failed, `o` is a container, `p` has a pod that is ready,
/// `q` one that is not, `!` is past its deadline, `r3` a set that makes three pods.
struct Case {
    function: DynamicObject,
    revisions: Vec<Revision>,
    pods: BTreeMap<String, Pods>,
    sets: BTreeMap<String, i32>,
}

impl Case {
    fn new(image: &str, spec: Value, status: Value, revisions: &str) -> Self {
        let mut wanted = json!({"image": image});
        wanted
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        let function = json!({
            "metadata": {"name": "f", "namespace": "ns", "uid": "u", "generation": 3},
            "spec": wanted, "status": status,
        });
        let mut case = Self {
            function: serde_json::from_value(function).unwrap(),
            revisions: Vec::new(),
            pods: BTreeMap::new(),
            sets: BTreeMap::new(),
        };
        for word in revisions.split_whitespace() {
            case.add(word, &wanted);
        }
        case
    }

    fn add(&mut self, word: &str, wanted: &Value) {
        let (number, rest) = word.split_once(':').unwrap();
        let name = revision::name("f", number.parse().unwrap());
        let (image, marks) = rest.split_at(1);
        let mut spec = revision::template(wanted);
        spec["image"] = image.into();
        let mut status = json!({"nodes": []});
        if marks.contains('+') {
            status["conditions"] = json!([{"type": "Ready", "status": "True", "reason": "Ready",
                "message": format!("revision {name} can serve"), "lastTransitionTime": NOW}]);
        }
        let runtime = if marks.contains('o') { "oci" } else { "wasm" };
        if marks.contains(['n', 'o']) {
            status["runtime"] = runtime.into();
            status["nodes"] = json!([{"name": "a", "ready": true, "runtime": runtime}]);
        }
        if marks.contains('x') {
            status["nodes"] =
                json!([{"name": "a", "ready": false, "reason": "ErrImagePull", "message": "gone"}]);
        }
        let ready = i32::from(marks.contains('p'));
        let all = i32::from(marks.contains('q')) + ready;
        status["replicas"] = all.into();
        status["readyReplicas"] = ready.into();
        self.pods.insert(
            name.clone(),
            Pods {
                all,
                ready,
                why: None,
            },
        );
        if let Some((_, replicas)) = marks.split_once('r') {
            self.sets.insert(name.clone(), replicas.parse().unwrap());
        }
        let created = if marks.contains('!') {
            "2026-01-01T00:00:00Z"
        } else {
            NOW
        };
        let object = json!({"metadata": {"name": name, "creationTimestamp": created}, "spec": spec, "status": status});
        let read = Revision::read(&serde_json::from_value(object).unwrap()).unwrap();
        self.revisions.push(read);
    }

    fn plan(&self) -> Plan {
        let read = serde_json::from_value(serde_json::to_value(&self.function).unwrap()).unwrap();
        let address = Address {
            domain: "localhost".to_owned(),
            port: Some(8080),
        };
        plan(&Seen {
            function: &self.function,
            read: &read,
            revisions: self.revisions.clone(),
            last_number: self.revisions.iter().map(|r| r.number).max().unwrap_or(0),
            pods: self.pods.clone(),
            sets: self.sets.clone(),
            service: Service::Own,
            rival: None,
            refused: None,
            address: &address,
            now: NOW.parse().unwrap(),
        })
    }
}

fn shown(plan: &Plan) -> String {
    let mut lines = Vec::new();
    if let Some(number) = plan.create {
        lines.push(format!("create {number}"));
    }
    lines.extend(plan.remove.iter().map(|name| format!("remove {name}")));
    lines.extend(
        plan.sets
            .iter()
            .map(|(name, replicas)| format!("{name}: {replicas} pods")),
    );
    for (name, patch) in &plan.revisions {
        let [ready, active] = [0, 1].map(|index| &patch["status"]["conditions"][index]);
        lines.push(format!(
            "{name} ready={} {} active={}",
            ready["status"], ready["reason"], active["status"]
        ));
    }
    if let Some(patch) = &plan.status {
        let status = &patch["status"];
        for condition in status["conditions"].as_array().into_iter().flatten() {
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            lines.push(format!(
                "{}={} {}: {}",
                text("type"),
                text("status"),
                text("reason"),
                text("message")
            ));
        }
        let traffic: Vec<function_kinds::TrafficStatus> =
            serde_json::from_value(status["traffic"].clone()).unwrap_or_default();
        lines.push(format!(
            "latest {} ready {} traffic {}",
            status["latestCreatedRevision"],
            status["latestReadyRevision"],
            traffic::shown(&traffic)
        ));
    }
    lines.join("\n")
}

#[track_caller]
fn check(image: &str, spec: Value, status: Value, revisions: &str, expected: Expect) {
    expected.assert_eq(&shown(&Case::new(image, spec, status, revisions).plan()));
}

fn none() -> Value {
    json!({})
}

fn serving(name: &str) -> Value {
    json!({"latestReadyRevision": name, "traffic": [{"revision": name, "percent": 100}]})
}

#[test]
fn a_new_function_gets_a_revision() {
    check(
        "a",
        none(),
        none(),
        "",
        expect![[r#"
        create 1
        Ready=Unknown Deploying: a new revision is made
        RevisionReady=Unknown Deploying: a new revision is made
        RoutesReady=Unknown NoRevision: no revision is ready yet
        latest "f-00001" ready null traffic "#]],
    );
}

#[test]
fn a_component_serves_once_a_node_has_it() {
    check(
        "a",
        none(),
        none(),
        "1:an",
        expect![[r#"
        f-00001 ready="True" "Ready" active="True"
        Ready=True Ready: requests have a revision to go to
        RevisionReady=True Ready: revision f-00001 can serve
        RoutesReady=True Routed: requests have a revision to go to
        latest "f-00001" ready "f-00001" traffic f-00001=100%"#]],
    );
}

#[test]
fn a_change_makes_the_next_revision_and_one_back_does_too() {
    check(
        "b",
        none(),
        serving("f-00001"),
        "1:a+n",
        expect![[r#"
        create 2
        f-00001 ready="True" "Ready" active="True"
        Ready=Unknown Deploying: a new revision is made; requests still go to f-00001
        RevisionReady=Unknown Deploying: a new revision is made
        RoutesReady=True Routed: requests have a revision to go to
        latest "f-00002" ready "f-00001" traffic f-00001=100%"#]],
    );
    check(
        "a",
        none(),
        serving("f-00002"),
        "1:a+n 2:b+n",
        expect![[r#"
            create 3
            f-00001 ready="True" "Ready" active="False"
            f-00002 ready="True" "Ready" active="True"
            Ready=Unknown Deploying: a new revision is made; requests still go to f-00002
            RevisionReady=Unknown Deploying: a new revision is made
            RoutesReady=True Routed: requests have a revision to go to
            latest "f-00003" ready "f-00002" traffic f-00002=100%"#]],
    );
}

#[test]
fn a_revision_that_does_not_get_ready_leaves_the_traffic_where_it_is() {
    check(
        "b",
        none(),
        serving("f-00001"),
        "1:a+n 2:bx",
        expect![[r#"
        f-00001 ready="True" "Ready" active="True"
        f-00002 ready="Unknown" "ErrImagePull" active="True"
        Ready=Unknown ErrImagePull: node a: gone; requests still go to f-00001
        RevisionReady=Unknown ErrImagePull: node a: gone
        RoutesReady=True Routed: requests have a revision to go to
        latest "f-00002" ready "f-00001" traffic f-00001=100%"#]],
    );
    check(
        "b",
        none(),
        serving("f-00001"),
        "1:a+n 2:bx!",
        expect![[r#"
            f-00001 ready="True" "Ready" active="True"
            f-00002 ready="False" "ErrImagePull" active="True"
            Ready=False ErrImagePull: node a: gone; requests still go to f-00001
            RevisionReady=False ErrImagePull: node a: gone
            RoutesReady=True Routed: requests have a revision to go to
            latest "f-00002" ready "f-00001" traffic f-00001=100%"#]],
    );
}

#[test]
fn traffic_that_names_a_revision_is_a_rollback() {
    let pinned = json!({"traffic": [{"revision": "f-00001", "percent": 100}]});
    check(
        "b",
        pinned,
        serving("f-00002"),
        "1:a+n 2:b+n",
        expect![[r#"
            f-00001 ready="True" "Ready" active="True"
            f-00002 ready="True" "Ready" active="False"
            Ready=True Ready: requests have a revision to go to
            RevisionReady=True Ready: revision f-00002 can serve
            RoutesReady=True Routed: requests have a revision to go to
            latest "f-00002" ready "f-00002" traffic f-00001=100%"#]],
    );
}

#[test]
fn a_container_needs_one_pod_to_show_that_it_serves() {
    check(
        "a",
        none(),
        none(),
        "1:ao",
        expect![[r#"
        f-00001: 1 pods
        f-00001 ready="Unknown" "Deploying" active="True"
        Ready=Unknown Deploying: waiting for its first pod to be ready
        RevisionReady=Unknown Deploying: waiting for its first pod to be ready
        RoutesReady=Unknown NoRevision: no revision is ready yet
        latest "f-00001" ready null traffic "#]],
    );
    check(
        "a",
        none(),
        none(),
        "1:aoqr1",
        expect![[r#"
        f-00001 ready="Unknown" "Deploying" active="True"
        Ready=Unknown Deploying: waiting for its first pod to be ready
        RevisionReady=Unknown Deploying: waiting for its first pod to be ready
        RoutesReady=Unknown NoRevision: no revision is ready yet
        latest "f-00001" ready null traffic "#]],
    );
    check(
        "a",
        none(),
        none(),
        "1:aopr1",
        expect![[r#"
        f-00001 ready="True" "Ready" active="True"
        Ready=True Ready: requests have a revision to go to
        RevisionReady=True Ready: revision f-00001 can serve
        RoutesReady=True Routed: requests have a revision to go to
        latest "f-00001" ready "f-00001" traffic f-00001=100%"#]],
    );
}

#[test]
fn a_container_that_serves_has_what_its_scale_says_and_what_nobody_reaches_has_none() {
    let mut case = Case::new("b", none(), serving("f-00002"), "1:ao+r2 2:bo+pr1");
    case.revisions[1].read.spec.replicas = Some(0);
    expect![[r#"
        f-00001: 0 pods
        f-00002: 0 pods
        f-00001 ready="True" "Ready" active="False"
        f-00002 ready="True" "Ready" active="True"
        Ready=True Ready: requests have a revision to go to
        RevisionReady=True Ready: revision f-00002 can serve
        RoutesReady=True Routed: requests have a revision to go to
        latest "f-00002" ready "f-00002" traffic f-00002=100%"#]]
    .assert_eq(&shown(&case.plan()));
    let spec = json!({"scale": {"min": 2, "max": 4}});
    let mut case = Case::new("b", spec, serving("f-00002"), "2:bo+pr2");
    case.revisions[0].read.spec.replicas = Some(9);
    expect![[r#"
        f-00002: 4 pods
        f-00002 ready="True" "Ready" active="True"
        Ready=True Ready: requests have a revision to go to
        RevisionReady=True Ready: revision f-00002 can serve
        RoutesReady=True Routed: requests have a revision to go to
        latest "f-00002" ready "f-00002" traffic f-00002=100%"#]]
    .assert_eq(&shown(&case.plan()));
}

#[test]
fn pods_of_a_revision_stay_a_while_when_requests_go_to_another() {
    let pods = |active: &str, since: &str| {
        let mut case = Case::new("b", none(), serving("f-00002"), "1:ao+pr3 2:bo+pr1");
        let condition = json!({"type": "Active", "status": active, "reason": "r", "message": "", "lastTransitionTime": since});
        let status = case.revisions[0].read.status.as_mut().unwrap();
        status
            .conditions
            .push(serde_json::from_value(condition).unwrap());
        let plan = case.plan();
        let again = plan.again.map(|again| again.as_secs());
        (plan.sets, again)
    };
    // Requests reached it until now; and five seconds ago; and half a minute ago.
    assert_eq!(pods("True", NOW), (Vec::new(), Some(30)));
    let recent = "2026-01-01T00:09:55Z";
    assert_eq!(pods("False", recent), (Vec::new(), Some(25)));
    let long = "2026-01-01T00:09:30Z";
    let none = vec![("f-00001".to_owned(), 0)];
    assert_eq!(pods("False", long), (none, None));
}

#[test]
fn old_revisions_go_but_for_those_that_are_named() {
    let spec = json!({
        "revisionHistoryLimit": 1,
        "traffic": [{"percent": 100}, {"revision": "f-00001", "tag": "old"}],
    });
    check(
        "e",
        spec,
        serving("f-00005"),
        "1:a+n 2:b+n 3:c+n 4:d+n 5:e+n",
        expect![[r#"
            remove f-00003
            remove f-00002
            f-00001 ready="True" "Ready" active="True"
            f-00004 ready="True" "Ready" active="False"
            f-00005 ready="True" "Ready" active="True"
            Ready=True Ready: requests have a revision to go to
            RevisionReady=True Ready: revision f-00005 can serve
            RoutesReady=True Routed: requests have a revision to go to
            latest "f-00005" ready "f-00005" traffic f-00005=100%,f-00001=0%"#]],
    );
}

#[test]
fn nothing_is_done_twice() {
    let mut case = Case::new("a", none(), none(), "1:a+n");
    let plan = case.plan();
    case.function.data["status"] = plan.status.unwrap()["status"].clone();
    let conditions = plan.revisions[0].1["status"]["conditions"].clone();
    let status = case.revisions[0].read.status.as_mut().unwrap();
    status.conditions = serde_json::from_value(conditions).unwrap();
    let plan = case.plan();
    assert_eq!(shown(&plan), "");
    assert_eq!(plan.notices, []);
    assert_eq!(plan.again, None);
}

#[test]
fn a_route_or_a_name_that_is_anothers_is_said() {
    let read: Function = serde_json::from_value(json!({"spec": {"image": "a"}})).unwrap();
    let case = Case::new("a", none(), none(), "1:a+n");
    let address = Address {
        domain: "localhost".to_owned(),
        port: None,
    };
    let seen = |service, rival| Seen {
        function: &case.function,
        read: &read,
        revisions: case.revisions.clone(),
        last_number: 1,
        pods: BTreeMap::new(),
        sets: BTreeMap::new(),
        service,
        rival,
        refused: None,
        address: &address,
        now: NOW.parse().unwrap(),
    };
    expect![[r#"
        f-00001 ready="True" "Ready" active="True"
        Ready=False ServiceConflict: Service ns/f is there already and is not this Function's
        RevisionReady=True Ready: revision f-00001 can serve
        RoutesReady=False ServiceConflict: Service ns/f is there already and is not this Function's
        latest "f-00001" ready "f-00001" traffic f-00001=100%"#]]
    .assert_eq(&shown(&plan(&seen(Service::Another, None))));
    let rival = Why::new(
        "RouteConflict",
        "route a.org/ is already one of Function ns/g",
    );
    expect![[r#"
        f-00001 ready="True" "Ready" active="True"
        Ready=False RouteConflict: route a.org/ is already one of Function ns/g
        RevisionReady=True Ready: revision f-00001 can serve
        RoutesReady=False RouteConflict: route a.org/ is already one of Function ns/g
        latest "f-00001" ready "f-00001" traffic f-00001=100%"#]]
    .assert_eq(&shown(&plan(&seen(Service::Own, Some(rival)))));
}
