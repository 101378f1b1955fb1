//! Descriptions as a user sees them.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

const NOW: &str = "2026-11-21T05:00:00Z";

#[track_caller]
fn check(
    describe: impl Fn(&Subject<'_>, &mut String) -> bool,
    object: Value,
    related: Value,
    expected: Expect,
) {
    let subject = Subject {
        object: &object,
        related: items(&related).to_vec(),
        now: NOW.parse().unwrap(),
    };
    let mut text = String::new();
    describe(&subject, &mut text);
    expected.assert_eq(&columns::align(&text));
}

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "hello"}},
        "spec": {"containers": [{"name": "web", "image": "hello:1", "ports": [{"containerPort": 80}],
            "env": [{"name": "A", "value": "b"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "resources": {"limits": {"memory": "64Mi"}},
            "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
            "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}]}],
            "volumes": [{"name": "v", "configMap": {"name": "settings"}}]},
    })
}

#[test]
fn a_pod_tells_where_it_runs_and_how_its_containers_are() {
    let mut pod = json!({
        "metadata": {"name": "hello-1", "namespace": "default", "labels": {"app": "hello", "tier": "web"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "hello", "controller": true}]},
        "spec": template()["spec"],
        "status": {"phase": "Running", "podIP": "10.64.0.2", "podIPs": [{"ip": "10.64.0.2"}], "hostIP": "192.0.2.1", "startTime": "2026-11-21T04:58:00Z",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "web", "containerID": "wasm://1", "imageID": "sha256:0", "ready": true, "restartCount": 1,
                "state": {"running": {"startedAt": "2026-11-21T04:59:00Z"}}, "lastState": {"terminated": {"reason": "Error", "exitCode": 1}}}]},
    });
    pod["spec"]["nodeName"] = "node-1".into();
    check(
        pod::describe,
        pod,
        json!([]),
        expect![[r#"
            Name:         hello-1
            Namespace:    default
            Priority:     0
            Node:         node-1/192.0.2.1
            Start Time:   Sat, 21 Nov 2026 04:58:00 +0000
            Labels:       app=hello
                          tier=web
            Annotations:  <none>
            Status:       Running
            IP:           10.64.0.2
            IPs:
              IP:           10.64.0.2
            Controlled By:  ReplicaSet/hello
            Containers:
              web:
                Container ID:   wasm://1
                Image:          hello:1
                Image ID:       sha256:0
                Port:           80/TCP
                State:          Running
                  Started:      Sat, 21 Nov 2026 04:59:00 +0000
                Last State:     Terminated
                  Reason:       Error
                  Exit Code:    1
                Ready:          True
                Restart Count:  1
                Limits:
                  memory:   64Mi
                Readiness:  http-get http://:80/ delay=0s timeout=1s period=10s #success=1 #failure=3
                Environment:
                  A:  b
                  S:  <set to the key 'k' in secret 's'>
                Mounts:
                  /v from v (ro)
            Conditions:
              Type   Status
              Ready  True
            Volumes:
              v:
                Type:        configMap
                name:        settings
            Node-Selectors:  <none>
            Tolerations:     <none>
        "#]],
    );
}

#[test]
fn a_deployment_tells_about_its_template_and_replica_sets() {
    let revision = "deployment.kubernetes.io/revision";
    let set = |name: &str, revision_is: &str| {
        json!({"metadata": {"name": name, "annotations": {revision: revision_is}, "ownerReferences": [{"uid": "u"}]},
            "spec": {"replicas": 2}, "status": {"replicas": 2}})
    };
    let deployment = json!({
        "metadata": {"name": "hello", "namespace": "default", "uid": "u", "creationTimestamp": "2026-11-21T04:58:00Z", "annotations": {revision: "2"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "hello"}}, "template": template(),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}},
        "status": {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1, "unavailableReplicas": 1,
            "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}]},
    });
    let sets = json!([set("hello-b", "2"), set("hello-a", "1")]);
    check(
        kinds::deployment,
        deployment,
        sets,
        expect![[r#"
        Name:                   hello
        Namespace:              default
        CreationTimestamp:      Sat, 21 Nov 2026 04:58:00 +0000
        Labels:                 <none>
        Annotations:            deployment.kubernetes.io/revision: 2
        Selector:               app=hello
        Replicas:               2 desired | 2 updated | 2 total | 1 available | 1 unavailable
        StrategyType:           RollingUpdate
        MinReadySeconds:        0
        RollingUpdateStrategy:  25% max unavailable, 25% max surge
        Pod Template:
          Labels:  app=hello
          Containers:
            web:
              Image:  hello:1
              Port:   80/TCP
              Limits:
                memory:   64Mi
              Readiness:  http-get http://:80/ delay=0s timeout=1s period=10s #success=1 #failure=3
              Environment:
                A:  b
                S:  <set to the key 'k' in secret 's'>
              Mounts:
                /v from v (ro)
          Volumes:
            v:
              Type:        configMap
              name:        settings
          Node-Selectors:  <none>
        Conditions:
          Type           Status  Reason
          ----           ------  ------
          Available      True    MinimumReplicasAvailable
        OldReplicaSets:  hello-a (2/2 replicas created)
        NewReplicaSet:   hello-b (2/2 replicas created)
    "#]],
    );
}

#[test]
fn a_service_tells_what_is_behind_it() {
    let service = json!({
        "metadata": {"name": "hello", "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.43.0.5", "selector": {"app": "hello"}, "sessionAffinity": "None",
            "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]},
    });
    let endpoint = |address: &str, ready: bool| json!({"addresses": [address], "conditions": {"ready": ready}});
    let endpoints: Vec<Value> = (1..=5)
        .map(|n| endpoint(&format!("10.64.0.{n}"), n != 2))
        .collect();
    let slices = json!([{"ports": [{"name": "", "port": 8080}], "endpoints": endpoints}]);
    check(
        kinds::service,
        service,
        slices,
        expect![[r#"
        Name:              hello
        Namespace:         default
        Labels:            <none>
        Annotations:       <none>
        Selector:          app=hello
        Type:              ClusterIP
        IP:                10.43.0.5
        Port:              <unset>  80/TCP
        TargetPort:        8080/TCP
        Endpoints:         10.64.0.1:8080,10.64.0.3:8080,10.64.0.4:8080 + 1 more...
        Session Affinity:  None
    "#]],
    );
}

#[test]
fn a_secret_keeps_its_secret() {
    let secret = json!({"metadata": {"name": "a", "namespace": "default"}, "type": "Opaque", "data": {"password": "YWJj"}});
    check(
        kinds::secret,
        secret,
        json!([]),
        expect![[r#"
        Name:         a
        Namespace:    default
        Labels:       <none>
        Annotations:  <none>

        Type:  Opaque

        Data
        ====
        password:  3 bytes
    "#]],
    );
}

#[test]
fn any_other_kind_is_shown_by_its_fields() {
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a", "resourceVersion": "5"},
        "spec": {"holderIdentity": "x", "list": [{"a": 1}, {"a": 2}], "words": ["x", "y"]}});
    check(
        generic::describe,
        lease,
        json!([]),
        expect![[r#"
        Name:         a
        Labels:       <none>
        Annotations:  <none>
        API Version:  coordination.k8s.io/v1
        Kind:         Lease
        Metadata:
          Resource Version:  5
        Spec:
          Holder Identity:  x
          List:
            A:  1
            A:  2
          Words:
            x
            y
    "#]],
    );
}

#[test]
fn events_are_in_order_with_their_ages() {
    let events = json!([
        {"type": "Warning", "reason": "BackOff", "message": "back-off", "count": 5, "firstTimestamp": "2026-11-21T04:50:00Z",
            "lastTimestamp": "2026-11-21T04:59:30Z", "source": {"component": "kubelet"}},
        {"type": "Normal", "reason": "Scheduled", "message": "assigned", "lastTimestamp": "2026-11-21T04:49:00Z", "reportingComponent": "default-scheduler"},
    ]);
    let mut text = String::new();
    event::describe(items(&events), NOW.parse().unwrap(), &mut text);
    event::describe(&[], NOW.parse().unwrap(), &mut text);
    expect![[r#"
        Events:
          Type     Reason     Age                From               Message
          ----     ------     ----               ----               -------
          Normal   Scheduled  11m                default-scheduler  assigned
          Warning  BackOff    30s (x5 over 10m)  kubelet            back-off
        Events:    <none>
    "#]]
    .assert_eq(&columns::align(&text));
}
