//! Webhooks: asked in order, heard, and survived.

use serde_json::{Value, json};

use crate::{
    harness::{Cluster, DEPLOYMENTS, MAPS, PODS, config_map, pod},
    hooks::{Hooks, patch},
};

const GROUP: &str = "admissionregistration.k8s.io";

/// Configures webhooks; `kind` is `mutating` or `validating`.
async fn configure(cluster: &Cluster, kind: &str, name: &str, hooks: &[Value]) {
    let configuration = json!({"metadata": {"name": name}, "webhooks": hooks});
    let plural = format!("{kind}webhookconfigurations");
    cluster.plant(GROUP, &plural, &configuration).await;
    cluster.ok(&format!("GET {MAPS}"), "").await;
}

/// Appends a character to the label `seen`.
fn append(request: &Value, character: &str) -> Option<Value> {
    let seen = request["object"]["metadata"]["labels"]["seen"]
        .as_str()
        .unwrap_or_default();
    patch(
        json!([{"op": "add", "path": "/metadata/labels/seen", "value": format!("{seen}{character}")}]),
    )
}

#[tokio::test]
async fn mutating_webhooks_change_objects_in_the_order_of_their_names() {
    let cluster = Cluster::start().await;
    let hooks = Hooks::start(|path, request| append(request, path)).await;
    configure(
        &cluster,
        "mutating",
        "b",
        &[hooks.hook("c", json!({})), hooks.hook("d", json!({}))],
    )
    .await;
    configure(&cluster, "mutating", "a", &[hooks.hook("a", json!({}))]).await;
    let made = cluster
        .ok(&format!("POST {MAPS}"), &config_map("m", "1"))
        .await;
    assert_eq!(made["metadata"]["labels"]["seen"], "acd");
    let (_, request) = &hooks.asked()[1];
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(
        request["kind"],
        json!({"group": "", "version": "v1", "kind": "ConfigMap"})
    );
    assert_eq!(
        request["requestResource"],
        json!({"group": "", "version": "v1", "resource": "configmaps"})
    );
    assert_eq!(request["name"], "m");
    assert_eq!(request["namespace"], "default");
    assert_eq!(request["userInfo"]["username"], "wk-admin");
    assert_eq!(request["object"]["metadata"]["labels"]["seen"], "a");
    assert_eq!(request["oldObject"], Value::Null);
    assert_eq!(request["dryRun"], false);
    assert_eq!(request["options"]["kind"], "CreateOptions");
}

#[tokio::test]
async fn who_asks_for_it_sees_what_others_changed_once() {
    let cluster = Cluster::start().await;
    let hooks = Hooks::start(|path, request| append(request, path)).await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    configure(
        &cluster,
        "mutating",
        "a",
        &[
            hooks.hook("a", again.clone()),
            hooks.hook("b", json!({})),
            hooks.hook("c", again),
        ],
    )
    .await;
    let made = cluster
        .ok(&format!("POST {MAPS}"), &config_map("m", "1"))
        .await;
    assert_eq!(made["metadata"]["labels"]["seen"], "abca");
    assert_eq!(hooks.paths(), ["a", "b", "c", "a"]);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_webhooks_words_and_warnings_are_passed_on() {
    let cluster = Cluster::start().await;
    let hooks = Hooks::start(|path, _| {
        Some(match path {
            "warn" => json!({"allowed": true, "warnings": ["mind the gap"]}),
            _ => json!({"allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "not today"}}),
        })
    })
    .await;
    let deletes = json!({"rules": [{"operations": ["DELETE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]});
    configure(
        &cluster,
        "validating",
        "v",
        &[hooks.hook("warn", json!({})), hooks.hook("deny", deletes)],
    )
    .await;
    let reply = cluster
        .send(&format!("POST {MAPS}"), &config_map("m", "1"))
        .await;
    assert_eq!(reply.code, 201, "{}", reply.text);
    assert_eq!(reply.warnings(), [r#"299 - "mind the gap""#]);
    let refusal =
        r#"403 Forbidden: admission webhook "deny.example.com" denied the request: not today"#;
    assert_eq!(
        cluster.failure(&format!("DELETE {MAPS}/m"), "").await,
        refusal
    );
    assert_eq!(
        cluster.failure(&format!("DELETE {MAPS}"), "").await,
        refusal
    );
    let (_, request) = hooks
        .asked()
        .into_iter()
        .find(|(path, _)| path == "deny")
        .expect("it was asked");
    assert_eq!(request["object"], Value::Null);
    assert_eq!(request["oldObject"]["metadata"]["name"], "m");
    assert_eq!(request["options"]["kind"], "DeleteOptions");
    cluster.ok(&format!("GET {MAPS}/m"), "").await;
}

#[tokio::test]
async fn one_that_fails_stops_the_write_or_is_passed_over() {
    let cluster = Cluster::start().await;
    let hooks = Hooks::start(|path, _| match path {
        "late" => None,
        _ => Some(json!({"allowed": "perhaps"})),
    })
    .await;
    let line = format!("POST {MAPS}");
    let ignore = |seconds: u64| json!({"failurePolicy": "Ignore", "timeoutSeconds": seconds});
    configure(
        &cluster,
        "validating",
        "a",
        &[hooks.hook("late", ignore(1)), hooks.hook("odd", ignore(1))],
    )
    .await;
    cluster.ok(&line, &config_map("m", "1")).await;
    configure(&cluster, "mutating", "b", &[hooks.hook("odd", json!({}))]).await;
    assert_eq!(
        cluster.failure(&line, &config_map("n", "1")).await,
        r#"500 InternalError: Internal error occurred: failed calling webhook "odd.example.com": received invalid webhook response: response.allowed must be true or false"#
    );
}

#[tokio::test]
async fn a_deadline_ends_the_call_and_the_write() {
    let cluster = Cluster::start().await;
    let hooks = Hooks::start(|_, _| None).await;
    configure(
        &cluster,
        "validating",
        "a",
        &[hooks.hook("late", json!({"timeoutSeconds": 1}))],
    )
    .await;
    let failure = cluster
        .failure(&format!("POST {MAPS}"), &config_map("m", "1"))
        .await;
    let start = r#"500 InternalError: Internal error occurred: failed calling webhook "late.example.com": failed to call webhook: "#;
    assert!(failure.starts_with(start), "{failure}");
    assert!(failure.ends_with("context deadline exceeded"), "{failure}");
}

#[tokio::test]
async fn only_one_without_side_effects_is_asked_in_a_dry_run() {
    let cluster = Cluster::start().await;
    let hooks = Hooks::start(|_, _| Some(json!({"allowed": true}))).await;
    configure(
        &cluster,
        "validating",
        "a",
        &[hooks.hook("pure", json!({}))],
    )
    .await;
    let line = format!("POST {MAPS}?dryRun=All");
    cluster.ok(&line, &config_map("m", "1")).await;
    assert_eq!(hooks.asked()[0].1["dryRun"], true);
    configure(
        &cluster,
        "validating",
        "b",
        &[hooks.hook("effects", json!({"sideEffects": "Some"}))],
    )
    .await;
    assert_eq!(
        cluster.failure(&line, &config_map("m", "1")).await,
        r#"400 BadRequest: admission webhook "effects.example.com" does not support dry run"#
    );
    assert_eq!(hooks.paths(), ["pure", "pure"]);
}

#[tokio::test]
async fn selectors_and_conditions_choose_who_is_asked() {
    let cluster = Cluster::start().await;
    let hooks = Hooks::start(|_, _| Some(json!({"allowed": true}))).await;
    let condition =
        |expression: &str| json!({"matchConditions": [{"name": "c", "expression": expression}]});
    configure(
        &cluster,
        "validating",
        "a",
        &[
            hooks.hook("object", json!({"objectSelector": {"matchLabels": {"v": "2"}}})),
            hooks.hook(
                "namespace",
                json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}),
            ),
            hooks.hook("elsewhere", json!({"namespaceSelector": {"matchLabels": {"a": "b"}}})),
            hooks.hook("condition", condition("object.data.v == '2' && request.operation == 'CREATE'")),
            hooks.hook(
                "cluster",
                json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "scope": "Cluster"}]}),
            ),
        ],
    )
    .await;
    let line = format!("POST {MAPS}");
    cluster.ok(&line, &config_map("m", "1")).await;
    assert_eq!(hooks.paths(), ["namespace"]);
    cluster.ok(&line, &config_map("n", "2")).await;
    let mut asked = hooks.paths().split_off(1);
    asked.sort();
    assert_eq!(asked, ["condition", "namespace", "object"]);
    configure(
        &cluster,
        "validating",
        "b",
        &[hooks.hook("broken", condition("object.nothing == 1"))],
    )
    .await;
    assert_eq!(
        cluster.failure(&line, &config_map("o", "1")).await,
        r#"403 Forbidden: configmaps "o" is forbidden: match condition "c": expression 'object.nothing == 1' resulted in error: No such key: nothing"#
    );
}

#[tokio::test]
async fn an_object_that_a_webhook_changed_is_completed_and_checked_again() {
    let cluster = Cluster::start().await;
    let hooks = Hooks::start(|path, _| match path {
        "sidecar" => patch(json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "s", "image": "side", "resources": {"limits": {"cpu": "1"}}}}])),
        _ => patch(json!([{"op": "add", "path": "/spec/containers/0/ports", "value": "none"}])),
    })
    .await;
    let pods = |resources: &str| json!({"rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resources]}]});
    configure(
        &cluster,
        "mutating",
        "a",
        &[hooks.hook("sidecar", pods("pods"))],
    )
    .await;
    let made = cluster.ok(&format!("POST {PODS}"), &pod("p")).await;
    let sidecar = &made["spec"]["containers"][1];
    assert_eq!(sidecar["imagePullPolicy"], "Always");
    assert_eq!(sidecar["resources"]["requests"]["cpu"], "1");
    assert_eq!(made["status"]["qosClass"], "Burstable");
    configure(
        &cluster,
        "mutating",
        "b",
        &[hooks.hook("broken", pods("pods"))],
    )
    .await;
    let failure = cluster.failure(&format!("POST {PODS}"), &pod("q")).await;
    assert!(
        failure.starts_with(r#"500 InternalError: Internal error occurred: admission webhook "broken.example.com" made an object that is none: spec.containers[0].ports: "#),
        "{failure}"
    );
}

#[tokio::test]
async fn parts_of_objects_are_asked_about_as_what_they_are() {
    let cluster = Cluster::start().await;
    let hooks = Hooks::start(|_, _| Some(json!({"allowed": true}))).await;
    let all = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]});
    cluster.ok(&format!("POST {PODS}"), &pod("p")).await;
    cluster
        .ok(&format!("POST {DEPLOYMENTS}"), r#"{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#)
        .await;
    configure(&cluster, "validating", "a", &[hooks.hook("all", all)]).await;
    cluster
        .ok(
            &format!("PATCH {PODS}/p/status"),
            r#"{"status":{"message":"m"}}"#,
        )
        .await;
    cluster
        .ok(
            &format!("POST {PODS}/p/binding"),
            r#"{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}"#,
        )
        .await;
    cluster
        .ok(
            &format!("PATCH {DEPLOYMENTS}/web/scale"),
            r#"{"spec":{"replicas":3}}"#,
        )
        .await;
    let applied = cluster
        .send_with(
            &format!("PATCH {DEPLOYMENTS}/web/scale?fieldManager=m&force=true"),
            r#"{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"web"},"spec":{"replicas":4}}"#,
            &[("content-type", "application/apply-patch+yaml")],
        )
        .await;
    assert_eq!(applied.json()["spec"]["replicas"], 4, "{}", applied.text);
    let lines: Vec<String> = hooks
        .asked()
        .iter()
        .map(|(_, request)| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!(
                "{} {}/{} {} old={}",
                text(&request["operation"]),
                text(&request["resource"]["resource"]),
                text(&request["subResource"]),
                text(&request["kind"]["kind"]),
                request["oldObject"].is_object(),
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "UPDATE pods/status Pod old=true",
            "CREATE pods/binding Binding old=false",
            "UPDATE deployments/scale Scale old=true",
            "UPDATE deployments/scale Scale old=true",
        ]
    );
    assert_eq!(hooks.asked()[2].1["object"]["spec"]["replicas"], 3);
    assert_eq!(hooks.asked()[3].1["object"]["spec"]["replicas"], 4);
}

#[tokio::test]
async fn a_request_that_is_passed_on_is_asked_about_as_a_connection() {
    let cluster = Cluster::start().await;
    let hooks = Hooks::start(|path, request| match path {
        "move" => patch(json!([{"op": "replace", "path": "/path", "value": "/moved"}])),
        _ if request["object"]["path"] == "/moved" => Some(json!({"allowed": true})),
        _ => Some(json!({"allowed": false, "status": {"code": 403, "message": "no"}})),
    })
    .await;
    cluster
        .ok("POST /api/v1/nodes", r#"{"metadata":{"name":"n1"}}"#)
        .await;
    let rules = json!({"rules": [{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["nodes/proxy"]}]});
    let asked = [hooks.hook("ask", rules.clone())];
    configure(&cluster, "validating", "a", &asked).await;
    let line = "GET /api/v1/nodes/n1/proxy/pods?dryRun=some";
    assert_eq!(
        cluster.failure(line, "").await,
        r#"403 : admission webhook "ask.example.com" denied the request: no"#
    );
    let (_, request) = hooks.asked().remove(0);
    assert_eq!(request["operation"], "CONNECT");
    assert_eq!(request["subResource"], "proxy");
    assert_eq!(request["kind"]["kind"], "NodeProxyOptions");
    assert_eq!(
        request["object"],
        json!({"kind": "NodeProxyOptions", "apiVersion": "v1", "path": "/pods"})
    );

    let line = "POST /api/v1/namespaces/default/pods/web/exec?command=sh&stdin=true&stdout=true";
    let rules_of_pods = json!({"rules": [{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/*"]}]});
    let asked = [hooks.hook("ask", rules_of_pods)];
    configure(&cluster, "validating", "b", &asked).await;
    assert_eq!(
        cluster.failure(line, "").await,
        r#"403 : admission webhook "ask.example.com" denied the request: no"#
    );
    let (_, request) = hooks.asked().remove(1);
    assert_eq!(request["subResource"], "exec");
    assert_eq!(
        request["object"],
        json!({
            "kind": "PodExecOptions", "apiVersion": "v1", "command": ["sh"], "stdin": true,
            "stdout": true,
        })
    );

    let line = "GET /api/v1/nodes/n1/proxy/pods?dryRun=some";
    let moved = [hooks.hook("move", rules)];
    configure(&cluster, "mutating", "a", &moved).await;
    let reply = cluster.send(line, "").await;
    assert_eq!(reply.text, "n1:10250 /moved?dryRun=some");
}
