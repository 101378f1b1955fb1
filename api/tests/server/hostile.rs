//! Whatever is sent, the client is told what is wrong with it: never a 5xx, a panic or a hang.
//!
//! Requests are put together from parts that mean something (paths, fields, selectors, patches) and
//! parts that mean nothing, so that most get past the first check. One cluster answers them all, so
//! that they also find what earlier ones left.

use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Request, Uri};
use http_body_util::BodyExt;
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::harness::{Cluster, DEADLINE, DEPLOYMENTS, MAPS, PODS, TOKEN, config_map, pod};

/// Requests of one run.
const REQUESTS: usize = 3_000;
const MEBI: usize = 1024 * 1024;

const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FROB",
];

/// Collections, each with an object that it takes.
const SERVED: &[(&str, &str)] = &[
    (
        PODS,
        r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}],"resources":{"requests":{"cpu":"0.1"}}}]}}"#,
    ),
    (
        MAPS,
        r#"{"metadata":{"name":"a","labels":{"v":"1"}},"data":{"v":"1"},"binaryData":{"b":"AA=="}}"#,
    ),
    (
        DEPLOYMENTS,
        r#"{"metadata":{"name":"web","finalizers":["x/y"]},"spec":{"replicas":2,"strategy":{"rollingUpdate":{"maxSurge":"25%"}},"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
    ),
    (
        "/apis/apps/v1/namespaces/default/replicasets",
        r#"{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
    ),
    (
        "/api/v1/namespaces/default/services",
        r#"{"metadata":{"name":"a"},"spec":{"ports":[{"port":80,"targetPort":"http"}],"selector":{"app":"a"},"clusterIP":""}}"#,
    ),
    (
        "/api/v1/namespaces/default/secrets",
        r#"{"metadata":{"generateName":"a"},"type":"Opaque","data":{"a":"AA=="},"stringData":{"b":"c"}}"#,
    ),
    (
        "/api/v1/namespaces/default/serviceaccounts",
        r#"{"metadata":{"name":"a"}}"#,
    ),
    (
        "/api/v1/namespaces/default/events",
        r#"{"metadata":{"name":"a"},"involvedObject":{"kind":"Pod","name":"p","namespace":"default"},"lastTimestamp":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        r#"{"metadata":{"name":"a"},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}],"ports":[{"port":1}]}"#,
    ),
    (
        "/apis/coordination.k8s.io/v1/namespaces/default/leases",
        r#"{"metadata":{"name":"a"},"spec":{"leaseDurationSeconds":1,"renewTime":"2026-01-01T00:00:00.000000Z"}}"#,
    ),
    (
        "/api/v1/nodes",
        r#"{"metadata":{"name":"a"},"spec":{"podCIDR":"10.64.0.0/18","taints":[{"key":"a","effect":"NoSchedule"}]},"status":{"capacity":{"cpu":"2"}}}"#,
    ),
    ("/api/v1/namespaces", r#"{"metadata":{"name":"a"}}"#),
    ("/api/v1/pods", "[]"),
    (
        "/api/v1/namespaces/other/pods",
        r#"{"metadata":{"name":"p"}}"#,
    ),
    ("/openapi/v3", "{}"),
    ("/apis", "{}"),
];
const NAMES: &[&str] = &[
    "a",
    "p",
    "web",
    "kubernetes",
    "default",
    "A_",
    "%00",
    "%zz",
    "..",
    "%2F",
];
const PARTS: &[&str] = &[
    "status", "scale", "log", "binding", "finalize", "eviction", "exec", "x",
];
const TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "text/plain; charset=x",
    "",
];
const ACCEPTS: &[&str] = &[
    "*/*",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json",
    "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io",
    ";;=,,;as",
];
const PARAMETERS: &[&str] = &[
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "watch",
    "timeoutSeconds",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "dryRun",
    "fieldValidation",
    "gracePeriodSeconds",
    "propagationPolicy",
    "includeObject",
    "tailLines",
    "container",
];
const TEXTS: &[&str] = &[
    "",
    "a",
    "true",
    "All",
    "Exact",
    "NotOlderThan",
    "Strict",
    "0",
    "1",
    "-1",
    "3",
    "9223372036854775807",
    "99999999999999999999",
    "app%20in%20(a,b),!c",
    "a%3D%3Db,c!%3Dd",
    "x%3E3,(((",
    "metadata.name%3Da%5C",
    "status.phase%3DRunning",
    "%FF",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIifQ",
    "Foreground",
    "100m",
    "1e400",
    "2026-01-01T00:00:00Z",
    "-9999-01-01T00:00:00Z",
    "None",
    "10.43.0.9",
    "\u{0}",
    "ä",
];
const FIELDS: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "name",
    "namespace",
    "generateName",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "resourceVersion",
    "uid",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "kind",
    "apiVersion",
    "containers",
    "initContainers",
    "image",
    "resources",
    "requests",
    "ports",
    "port",
    "targetPort",
    "env",
    "valueFrom",
    "volumes",
    "tolerations",
    "template",
    "selector",
    "matchLabels",
    "matchExpressions",
    "replicas",
    "strategy",
    "rollingUpdate",
    "maxSurge",
    "clusterIP",
    "clusterIPs",
    "type",
    "data",
    "binaryData",
    "stringData",
    "target",
    "involvedObject",
    "eventTime",
    "endpoints",
    "addresses",
    "podCIDR",
    "taints",
    "conditions",
    "containerStatuses",
    "state",
    "preconditions",
    "gracePeriodSeconds",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "op",
    "path",
    "value",
    "from",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3_i64..70_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(TEXTS).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let field = prop_oneof![
            9 => select(FIELDS).prop_map(str::to_owned),
            1 => ".{0,5}",
        ];
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(Value::from),
            4 => vec((field, inner), 0..6)
                .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// An object that its kind takes, with a part of it made something else.
fn mutant(good: &str) -> impl Strategy<Value = Value> + use<> {
    let good: Value = serde_json::from_str(good).expect("an object");
    (
        value(),
        prop_oneof![1 => Just(Vec::new()), 2 => vec(any::<u8>(), 1..6)],
    )
        .prop_map(move |(put, turns)| {
            let mut object = good.clone();
            let changed = !turns.is_empty();
            let mut at = &mut object;
            for turn in turns {
                let turn = usize::from(turn);
                let count = match at {
                    Value::Array(list) => list.len(),
                    Value::Object(map) => map.len(),
                    _ => 0,
                };
                if count == 0 {
                    break;
                }
                at = match at {
                    Value::Array(list) => &mut list[turn % count],
                    _ => at
                        .as_object_mut()
                        .and_then(|map| map.values_mut().nth(turn % count))
                        .expect("it is one of the fields counted above"),
                };
            }
            // No turns at all: it is sent as it is.
            if changed {
                *at = put;
            }
            object
        })
}

fn body(good: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let patch = r#"[{"op":"add","path":"/metadata/labels","value":{"a":"b"}},{"op":"move","from":"/spec","path":"/spec/x"}]"#;
    prop_oneof![
        2 => value().prop_map(|value| value.to_string().into_bytes()),
        8 => mutant(good).prop_map(|value| value.to_string().into_bytes()),
        1 => mutant(patch).prop_map(|value| value.to_string().into_bytes()),
        1 => vec(any::<u8>(), 0..60),
        1 => "[-a-z0-9:&*!{}\\[\\], \n#|>'\"%@]{0,60}".prop_map(String::into_bytes),
        1 => Just(Vec::new()),
    ]
}

/// Method and path below a collection: most are served, some are not.
fn target() -> impl Strategy<Value = (&'static str, String)> {
    let object = prop_oneof![4 => select(&["a", "p", "web"][..]), 1 => select(NAMES)]
        .prop_map(|name| format!("/{name}"));
    let part = (select(NAMES), select(PARTS)).prop_map(|(name, part)| format!("/{name}/{part}"));
    let any = prop_oneof![2 => part, 1 => "[/a-z0-9%.?&=]{0,40}"];
    prop_oneof![
        6 => Just(("POST", String::new())),
        1 => Just(("GET", String::new())),
        7 => (select(&["GET", "PUT", "PATCH", "PATCH", "PATCH", "DELETE"][..]), object),
        3 => (select(METHODS), any),
    ]
}

fn query() -> impl Strategy<Value = String> {
    let pair =
        (select(PARAMETERS), select(TEXTS)).prop_map(|(name, text)| format!("{name}={text}"));
    prop_oneof![
        2 => Just(String::new()),
        1 => vec(pair, 1..3).prop_map(|pairs| pairs.join("&")),
    ]
}

/// The content type: most often one that the method takes.
fn kind(method: &'static str) -> impl Strategy<Value = &'static str> {
    let usual = if method == "PATCH" {
        &TYPES[2..5]
    } else {
        &TYPES[..2]
    };
    prop_oneof![4 => select(usual), 1 => select(TYPES)]
}

fn accept() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just("application/json"), 1 => select(ACCEPTS)]
}

fn request() -> impl Strategy<Value = (&'static str, String, &'static str, &'static str, Vec<u8>)> {
    (select(SERVED), target()).prop_flat_map(|((path, good), (method, rest))| {
        let uri = query()
            .prop_map(move |query| format!("{path}{rest}?{query}"))
            .prop_filter("a URI", |uri| uri.parse::<Uri>().is_ok());
        (Just(method), uri, kind(method), accept(), body(good))
    })
}

/// Sends a request, and reads its answer for as long as it is not a stream.
async fn send(cluster: &Cluster, line: &str, kind: &str, accept: &str, body: Vec<u8>) -> u16 {
    let (method, uri) = line.split_once(' ').expect("a method and a path");
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("accept", accept);
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    let request = request.body(Body::from(body)).expect("a request");
    let response = timeout(DEADLINE, cluster.pass(request))
        .await
        .unwrap_or_else(|_| panic!("{line}: no answer"));
    let code = response.status().as_u16();
    if !line.contains("watch=") {
        timeout(DEADLINE, response.into_body().collect())
            .await
            .unwrap_or_else(|_| panic!("{line}: the body has no end"))
            .expect("a body");
    }
    code
}

#[tokio::test]
async fn no_request_is_answered_by_a_failure_of_the_server() {
    let cluster = Cluster::start().await;
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let requests = request();
    let mut codes = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..REQUESTS {
        let tree = requests.new_tree(&mut runner).expect("a request");
        let (method, uri, kind, accept, body) = tree.current();
        let line = format!("{method} {uri}");
        let code = send(&cluster, &line, kind, accept, body.clone()).await;
        // A revision that the store has not reached is waited for: that is a 504 in Kubernetes, too.
        let waits = code == 504 && (uri.contains("resourceVersion") || uri.contains("continue"));
        assert!(
            code < 500 || waits,
            "{code} for {line} ({kind}): {}",
            String::from_utf8_lossy(&body)
        );
        *codes.entry(code).or_default() += 1;
    }
    for code in [200, 201, 400, 404, 405, 409, 415, 422] {
        assert!(
            codes.contains_key(&code),
            "the requests reach {code}: {codes:?}"
        );
    }
    cluster.ok(&format!("GET {MAPS}"), "").await;
}

#[tokio::test]
async fn large_deep_and_broken_bodies_are_refused_at_once() {
    let cluster = Cluster::start().await;
    cluster
        .ok(&format!("POST {MAPS}"), &config_map("a", "1"))
        .await;
    cluster.ok(&format!("POST {PODS}"), &pod("p")).await;
    let nest = |open: &str, close: &str, count: usize| {
        format!("{}1{}", open.repeat(count), close.repeat(count)).into_bytes()
    };
    let bomb = (1..30).fold(
        "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned(),
        |text, level| {
            let last = level - 1;
            format!(
                "{text}a{level}: &a{level} [*a{last}, *a{last}, *a{last}, *a{last}, *a{last}]\n"
            )
        },
    );
    let merge = "application/merge-patch+json";
    let cases: Vec<(String, &str, Vec<u8>, u16)> = vec![
        (
            format!("POST {MAPS}"),
            "application/json",
            nest("[", "]", MEBI),
            400,
        ),
        (
            format!("POST {MAPS}"),
            "application/json",
            nest(r#"{"a":"#, "}", 100_000),
            400,
        ),
        (
            format!("POST {MAPS}"),
            "application/yaml",
            nest("[", "]", 100_000),
            400,
        ),
        (
            format!("POST {MAPS}"),
            "application/yaml",
            nest("- ", "", 100_000),
            400,
        ),
        (
            format!("POST {MAPS}"),
            "application/yaml",
            bomb.into_bytes(),
            400,
        ),
        (
            format!("POST {MAPS}"),
            "application/yaml",
            b"a: *nothing".to_vec(),
            400,
        ),
        (
            format!("POST {MAPS}"),
            "application/json",
            b"{\"kind\":\"\xff\"}".to_vec(),
            400,
        ),
        (
            format!("POST {MAPS}"),
            "application/yaml",
            b"kind: \xff".to_vec(),
            400,
        ),
        (
            format!("POST {MAPS}"),
            "application/json",
            vec![b' '; 3 * MEBI + 1],
            413,
        ),
        (
            format!("POST {MAPS}"),
            "application/json",
            vec![b' '; 3 * MEBI],
            400,
        ),
        (
            format!("POST {MAPS}"),
            "application/yaml",
            vec![b'['; 3 * MEBI],
            400,
        ),
        (
            format!("PATCH {MAPS}/a"),
            merge,
            nest(r#"{"data":"#, "}", 5_000),
            400,
        ),
        (
            format!("PATCH {MAPS}/a"),
            "application/json-patch+json",
            format!("[{}{{}}]", "{},".repeat(500_000)).into_bytes(),
            400,
        ),
        (
            format!("PATCH {DEPLOYMENTS}/none"),
            "application/strategic-merge-patch+json",
            nest(r#"{"spec":"#, "}", 100),
            404,
        ),
        (
            format!("DELETE {PODS}/p"),
            "application/json",
            b"[[[".to_vec(),
            400,
        ),
    ];
    for (line, kind, body, expected) in cases {
        let start: String = String::from_utf8_lossy(&body).chars().take(40).collect();
        let began = Instant::now();
        let code = send(&cluster, &line, kind, "*/*", body).await;
        assert_eq!(code, expected, "{line} {kind} {start}");
        let took = began.elapsed();
        assert!(
            took < Duration::from_secs(10),
            "{line} {kind} {start}: {took:?}"
        );
    }
}

#[tokio::test]
async fn a_large_selector_is_read_or_refused() {
    let cluster = Cluster::start().await;
    for (selector, expected) in [
        ("a,".repeat(20_000), 400),
        ("a%3Db,".repeat(5_000) + "a", 200),
        (format!("a%20in%20({})", "x,".repeat(10_000)), 200),
        ("!".repeat(30_000), 400),
        ("(".repeat(30_000), 400),
    ] {
        let line = format!("GET {PODS}?labelSelector={selector}");
        let code = send(&cluster, &line, "", "*/*", Vec::new()).await;
        assert_eq!(code, expected, "{}", &selector[..20]);
    }
}
