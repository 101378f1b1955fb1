//! Tables in a line of text each, and a naive matcher to compare with.

use expect_test::{Expect, expect};
use function_kinds as functions;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    book::{Book, ClassSeen, FunctionSeen, IngressSeen, RevisionSeen, Update},
    *,
};
use crate::feed::Change;

fn metadata(name: &str, age: i64) -> Value {
    let created = format!("2026-01-01T00:00:{:02}Z", 30 - age);
    json!({"namespace": "default", "name": name, "uid": name, "creationTimestamp": created})
}

/// `HOST PATH[=] [METHODS]` each: `=` for exact.
fn routes(text: &[&str]) -> Value {
    let route = |text: &&str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let exact = words[1].ends_with('=');
        json!({
            "host": (words[0] != "-").then_some(words[0]),
            "path": words[1].trim_end_matches('='),
            "pathType": if exact { "Exact" } else { "Prefix" },
            "methods": words.get(2).map(|words| words.split(',').collect::<Vec<_>>()).unwrap_or_default(),
        })
    };
    text.iter().map(route).collect()
}

fn put_function(book: &mut Book, name: &str, age: i64, texts: &[&str]) {
    let traffic = json!([
        {"revision": format!("{name}-00001"), "percent": 100},
        {"revision": format!("{name}-00002"), "percent": 0, "tag": "next"},
    ]);
    let object: functions::Function = serde_json::from_value(json!({
        "metadata": metadata(name, age),
        "spec": {"image": "x", "routes": routes(texts)},
        "status": {"traffic": traffic},
    }))
    .unwrap();
    book.apply(Update::Functions(Change::Put(FunctionSeen::read(object))));
}

fn ingress(name: &str, age: i64, texts: &[&str], default: bool) -> IngressSeen {
    let backend = json!({"service": {"name": name, "port": {"name": "http"}}});
    let rules: Vec<Value> = routes(texts)
        .as_array()
        .unwrap()
        .iter()
        .map(|route| {
            let path =
                json!({"path": route["path"], "pathType": route["pathType"], "backend": backend});
            json!({"host": route["host"], "http": {"paths": [path]}})
        })
        .collect();
    let object: Ingress = serde_json::from_value(json!({
        "metadata": metadata(name, age),
        "spec": {
            "ingressClassName": "wk",
            "rules": rules,
            "defaultBackend": default.then_some(backend),
            "tls": [{"hosts": ["a.b", "*.w.x"], "secretName": format!("{name}-tls")}],
        },
    }))
    .unwrap();
    IngressSeen::read(object)
}

fn book() -> Book {
    let mut book = Book::new("localhost");
    let class: IngressClass = serde_json::from_value(
        json!({"metadata": {"name": "wk"}, "spec": {"controller": "wk.dev/gateway"}}),
    )
    .unwrap();
    book.apply(Update::Classes(Change::Put(ClassSeen::read(class))));
    book
}

fn found(table: &Table, request: &str) -> String {
    let words: Vec<&str> = request.split_whitespace().collect();
    let method: Method = words[0].parse().unwrap();
    let (host, path) = words[1].split_at(words[1].find('/').unwrap());
    match table.find(host, path, &method) {
        Found::To(To::Function(key)) => key.to_string(),
        Found::To(To::Service(name, _)) => format!("service {}", name.name),
        Found::To(To::Nothing) => "nothing".to_owned(),
        Found::Function(function, tag) => format!("own {} {tag:?}", function.name),
        Found::OtherMethods(methods) => format!("only {methods}"),
        Found::NoPath => "no path".to_owned(),
        Found::NoHost => "no host".to_owned(),
    }
}

#[track_caller]
fn check(book: &Book, requests: &[&str], expected: Expect) {
    let table = book.table();
    let lines = requests.iter().map(|request| {
        let found = found(&table, request);
        format!("{request}: {found}\n")
    });
    expected.assert_eq(&lines.collect::<String>());
}

#[test]
fn a_function_has_its_own_name_and_its_tags() {
    let mut book = book();
    put_function(&mut book, "hello", 0, &[]);
    check(
        &book,
        &[
            "GET hello.default.localhost/",
            "POST hello.default.localhost/any/path",
            "GET next---hello.default.localhost/",
            "GET other---hello.default.localhost/",
            "GET hello.other.localhost/",
            "GET hello.default.example.org/",
            "GET localhost/",
        ],
        expect![[r#"
            GET hello.default.localhost/: own hello None
            POST hello.default.localhost/any/path: own hello None
            GET next---hello.default.localhost/: own hello Some("next")
            GET other---hello.default.localhost/: no host
            GET hello.other.localhost/: no host
            GET hello.default.example.org/: no host
            GET localhost/: no host
        "#]],
    );
}

#[test]
fn the_most_exact_host_comes_first_and_the_longest_path() {
    let mut book = book();
    put_function(&mut book, "exact", 0, &["a.b.c /"]);
    put_function(&mut book, "wild", 0, &["*.b.c /", "*.b.c /only="]);
    put_function(&mut book, "any", 0, &["- /shared"]);
    put_function(&mut book, "deep", 0, &["a.b.c /x/y", "a.b.c /x="]);
    check(
        &book,
        &[
            "GET a.b.c/",
            "GET a.b.c/shared",
            "GET z.b.c/shared",
            "GET y.z.b.c/",
            "GET other/shared/1",
            "GET other/sharedd",
            "GET a.b.c/x",
            "GET a.b.c/x/",
            "GET a.b.c/x/y/z",
            "GET a.b.c/x/yy",
        ],
        expect![[r#"
            GET a.b.c/: exact.default
            GET a.b.c/shared: exact.default
            GET z.b.c/shared: wild.default
            GET y.z.b.c/: no path
            GET other/shared/1: any.default
            GET other/sharedd: no path
            GET a.b.c/x: deep.default
            GET a.b.c/x/: exact.default
            GET a.b.c/x/y/z: deep.default
            GET a.b.c/x/yy: exact.default
        "#]],
    );
}

#[test]
fn a_route_for_some_methods_leaves_the_others() {
    let mut book = book();
    put_function(&mut book, "read", 0, &["a.b /api GET,HEAD"]);
    check(
        &book,
        &["GET a.b/api", "POST a.b/api"],
        expect![[r#"
            GET a.b/api: read.default
            POST a.b/api: only GET, HEAD
        "#]],
    );
    put_function(&mut book, "write", 0, &["a.b /api POST"]);
    put_function(&mut book, "rest", 0, &["a.b /"]);
    check(
        &book,
        &["GET a.b/api", "POST a.b/api", "PATCH a.b/api"],
        expect![[r#"
            GET a.b/api: read.default
            POST a.b/api: write.default
            PATCH a.b/api: rest.default
        "#]],
    );
}

#[test]
fn the_elder_of_two_that_want_the_same_has_it() {
    let mut book = book();
    book.apply(Update::Ingresses(Change::Put(ingress(
        "young",
        1,
        &["a.b /x"],
        false,
    ))));
    book.apply(Update::Ingresses(Change::Put(ingress(
        "old",
        2,
        &["a.b /x/"],
        false,
    ))));
    check(
        &book,
        &["GET a.b/x"],
        expect![[r#"
            GET a.b/x: service old
        "#]],
    );
    let messages: Vec<String> = book
        .conflicts()
        .into_iter()
        .map(|each| each.message)
        .collect();
    assert_eq!(
        messages,
        ["host a.b path /x is served by the older Ingress default/old"]
    );
    assert_eq!(book.table().secret("a.b").unwrap().name, "old-tls");
    assert!(book.table().secret("y.w.x").is_none(), "nobody serves it");
    book.apply(Update::Ingresses(Change::Gone(ingress(
        "old",
        2,
        &[],
        false,
    ))));
    check(
        &book,
        &["GET a.b/x"],
        expect![[r#"
            GET a.b/x: service young
        "#]],
    );
    assert!(book.conflicts().is_empty());
    assert_eq!(book.table().secret("a.b").unwrap().name, "young-tls");
}

/// The same object in another namespace.
fn of(namespace: &str, mut object: Value) -> Value {
    object["metadata"]["namespace"] = namespace.into();
    object
}

#[test]
fn a_host_below_a_namespace_is_that_namespaces_alone() {
    let mut book = book();
    put_function(&mut book, "pay", 0, &[]);
    let hosts = [
        "pay.default.localhost",
        "next---pay.default.localhost",
        "gone.default.localhost",
        "*.default.localhost",
        "free.localhost",
        "a.b",
    ];
    let backend = json!({"service": {"name": "steal", "port": {"number": 80}}});
    let rule = |host: &str| {
        let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
        json!({"host": host, "http": {"paths": [path]}})
    };
    let rules: Vec<Value> = hosts.iter().map(|host| rule(host)).collect();
    let evil = of(
        "evil",
        json!({
            "metadata": metadata("steal", 9),
            "spec": {
                "ingressClassName": "wk", "rules": rules, "defaultBackend": backend,
                "tls": [{"hosts": ["pay.default.localhost", "c.d", "a.b"], "secretName": "evil"}],
            },
        }),
    );
    let evil = IngressSeen::read(serde_json::from_value(evil).unwrap());
    book.apply(Update::Ingresses(Change::Put(evil)));
    let route = of(
        "evil",
        json!({
            "metadata": metadata("f", 9),
            "spec": {"image": "x", "routes": [{"host": "pay.default.localhost"}, {}]},
        }),
    );
    let route = FunctionSeen::read(serde_json::from_value(route).unwrap());
    book.apply(Update::Functions(Change::Put(route)));
    let requests = [
        "GET pay.default.localhost/",
        "GET next---pay.default.localhost/",
        "GET gone.default.localhost/",
        "GET steal.evil.localhost/",
        "GET free.localhost/",
        "GET a.b/",
    ];
    check(
        &book,
        &requests,
        expect![[r#"
            GET pay.default.localhost/: own pay None
            GET next---pay.default.localhost/: own pay Some("next")
            GET gone.default.localhost/: no path
            GET steal.evil.localhost/: f.evil
            GET free.localhost/: service steal
            GET a.b/: service steal
        "#]],
    );
    let messages: Vec<String> = book
        .conflicts()
        .into_iter()
        .map(|each| each.message)
        .collect();
    assert_eq!(
        messages[0],
        "host *.default.localhost is only for objects of namespace default"
    );
    assert_eq!(messages.len(), 4);
    // The namespace itself may route its hosts otherwise.
    put_function(
        &mut book,
        "other",
        1,
        &["pay.default.localhost /x", "c.d /"],
    );
    check(
        &book,
        &["GET pay.default.localhost/x", "GET pay.default.localhost/"],
        expect![[r#"
            GET pay.default.localhost/x: other.default
            GET pay.default.localhost/: own pay None
        "#]],
    );
    let table = book.table();
    assert!(table.secret("pay.default.localhost").is_none());
    assert!(table.secret("c.d").is_none(), "it is another's");
    assert_eq!(table.secret("a.b").unwrap().name, "evil");
}

#[test]
fn a_default_backend_has_what_no_rule_matches() {
    let mut book = book();
    book.apply(Update::Ingresses(Change::Put(ingress(
        "web",
        1,
        &["a.b /x"],
        true,
    ))));
    put_function(&mut book, "hello", 0, &[]);
    check(
        &book,
        &["GET a.b/y", "GET other/", "GET hello.default.localhost/"],
        expect![[r#"
            GET a.b/y: service web
            GET other/: service web
            GET hello.default.localhost/: own hello None
        "#]],
    );
}

#[test]
fn an_ingress_of_another_class_is_not_ours() {
    let mut book = book();
    book.apply(Update::Ingresses(Change::Put(ingress(
        "web",
        1,
        &["a.b /"],
        false,
    ))));
    assert_eq!(book.claimed().len(), 1);
    book.apply(Update::Classes(Change::All(Vec::new())));
    assert_eq!(book.claimed().len(), 0);
    check(
        &book,
        &["GET a.b/"],
        expect![[r#"
            GET a.b/: no host
        "#]],
    );
}

#[test]
fn a_revision_that_comes_after_its_function_is_taken_in() {
    let mut book = book();
    put_function(&mut book, "hello", 0, &[]);
    let mut revision: functions::FunctionRevision = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "hello-00001", "labels": {"functions.wk.dev/function": "hello"}},
        "spec": {"image": "x", "timeoutSeconds": 7, "port": 9000, "concurrency": 2},
        "status": {"runtime": "oci"},
    }))
    .unwrap();
    let put = |book: &mut Book, revision: &functions::FunctionRevision| {
        let seen = RevisionSeen::read(revision.clone());
        book.apply(Update::Revisions(Change::Put(seen)));
        let table = book.table();
        let function = table.function("hello.default").unwrap();
        function.choose(None, |_| 0).unwrap().clone()
    };
    let row = put(&mut book, &revision);
    assert_eq!(row.timeout.as_secs(), 7);
    let pods = row.pods.clone().unwrap();
    revision.spec.timeout_seconds = Some(8);
    let row = put(&mut book, &revision);
    assert_eq!(row.timeout.as_secs(), 8);
    assert!(
        Arc::ptr_eq(&pods, row.pods.as_ref().unwrap()),
        "requests wait there"
    );
}

#[test]
fn shares_go_by_percent() {
    let share = |name: &str, percent| row::Share {
        revision: Arc::new(row::Revision::unseen(runtimes::RevisionRef {
            namespace: "default".to_owned(),
            name: name.to_owned(),
        })),
        percent,
        tag: None,
    };
    let chosen = |shares: &[(&str, u8)]| {
        let shares = shares.iter().map(|(name, percent)| share(name, *percent));
        let function = Function::new("default", "f", shares.collect());
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for place in 0..100 {
            let name = function
                .choose(None, |_| place)
                .map(|each| each.id.name.clone());
            *counts.entry(name.unwrap_or_default()).or_default() += 1;
        }
        format!("{counts:?}")
    };
    assert_eq!(
        chosen(&[("a", 90), ("b", 10), ("c", 0)]),
        r#"{"a": 90, "b": 10}"#
    );
    assert_eq!(chosen(&[("a", 100)]), r#"{"a": 100}"#);
    assert_eq!(chosen(&[("a", 0)]), r#"{"": 100}"#);
    assert_eq!(chosen(&[]), r#"{"": 100}"#);
}

/// The table of examples in Kubernetes' documentation of Ingresses: kind, paths, request path, whether it matches.
#[test]
fn paths_match_as_kubernetes_examples_do() {
    for (rules, path, wanted) in [
        ("/", "/any/path", "/"),
        ("/foo=", "/foo", "/foo="),
        ("/foo=", "/bar", ""),
        ("/foo=", "/foo/", ""),
        ("/foo/=", "/foo", ""),
        ("/foo", "/foo", "/foo"),
        ("/foo", "/foo/", "/foo"),
        ("/foo/", "/foo", "/foo/"),
        ("/foo/", "/foo/", "/foo/"),
        ("/aaa/bb", "/aaa/bbb", ""),
        ("/aaa/bbb", "/aaa/bbb", "/aaa/bbb"),
        ("/aaa/bbb/", "/aaa/bbb", "/aaa/bbb/"),
        ("/aaa/bbb", "/aaa/bbb/", "/aaa/bbb"),
        ("/aaa/bbb", "/aaa/bbb/ccc", "/aaa/bbb"),
        ("/aaa/bbb", "/aaa/bbbxyz", ""),
        ("/ /aaa", "/aaa/ccc", "/aaa"),
        ("/ /aaa", "/ccc", "/"),
        ("/aaa", "/ccc", ""),
        ("/foo /foo=", "/foo", "/foo="),
        ("/ /aaa /aaa/bbb", "/aaa/bbb", "/aaa/bbb"),
    ] {
        let mut book = book();
        for (number, rule) in rules.split(' ').enumerate() {
            let name = format!("rule{number}");
            let rule = format!("a.b {rule}");
            let seen = ingress(&name, 1, &[&rule], false);
            book.apply(Update::Ingresses(Change::Put(seen)));
        }
        let seen = found(&book.table(), &format!("GET a.b{path}"));
        let number = rules.split(' ').position(|rule| rule == wanted);
        let wanted = number.map_or("no path".to_owned(), |number| {
            format!("service rule{number}")
        });
        assert_eq!(seen, wanted, "{rules} of {path}");
    }
    let hosts = [
        ("*.foo.com", "bar.foo.com", true),
        ("*.foo.com", "baz.bar.foo.com", false),
        ("*.foo.com", "foo.com", false),
    ];
    for (host, asked, wanted) in hosts {
        let mut book = book();
        let seen = ingress("web", 1, &[&format!("{host} /")], false);
        book.apply(Update::Ingresses(Change::Put(seen)));
        let seen = found(&book.table(), &format!("GET {asked}/"));
        assert_eq!(seen == "service web", wanted, "{host} {asked}: {seen}");
    }
}

#[test]
fn a_certificate_that_names_no_host_is_for_those_of_the_rules() {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let rule = |host: &str| json!({"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}});
    let object = json!({
        "metadata": metadata("web", 1),
        "spec": {
            "ingressClassName": "wk",
            "rules": [rule("a.b"), rule("*.c.d")],
            "tls": [{"secretName": "web-tls"}],
        },
    });
    let mut book = book();
    let seen = IngressSeen::read(serde_json::from_value(object).unwrap());
    book.apply(Update::Ingresses(Change::Put(seen)));
    let table = book.table();
    for (host, wanted) in [("a.b", true), ("x.c.d", true), ("e.f", false)] {
        assert_eq!(table.secret(host).is_some(), wanted, "{host}");
    }
}

/// What the rules say, one after another.
fn naive(rules: &[(String, bool)], path: &str) -> Option<usize> {
    let elements = |path: &str| -> Vec<String> {
        let path = path.trim_end_matches('/');
        path.split('/').map(str::to_owned).collect()
    };
    let matching = rules
        .iter()
        .enumerate()
        .filter(|(_, (rule, exact))| match exact {
            true => rule == path,
            false => {
                let (rule, path): (Vec<_>, Vec<_>) =
                    (elements(rule), path.split('/').map(str::to_owned).collect());
                path.len() >= rule.len() && path[..rule.len()] == rule[..]
            }
        });
    matching
        .max_by_key(|(index, (rule, exact))| {
            (*exact, elements(rule).len(), std::cmp::Reverse(*index))
        })
        .map(|(index, _)| index)
}

proptest! {
    #[test]
    fn paths_are_found_as_a_naive_matcher_does(
        rules in proptest::collection::vec(("(/[ab]{0,2}){1,4}", any::<bool>()), 0..8),
        path in "(/[ab]{0,2}){1,5}",
    ) {
        let owner = |index: usize| claim::Owner {
            created: index as i64,
            kind: claim::Kind::Function,
            name: Name { namespace: "n".to_owned(), name: index.to_string() },
        };
        let claims: Vec<_> = rules.iter().enumerate().map(|(index, (path, exact))| {
            let route = functions::Route {
                path: Some(path.clone()),
                path_type: Some(if *exact { "Exact" } else { "Prefix" }.to_owned()),
                ..functions::Route::default()
            };
            claim::of_function(&owner(index), &index.to_string(), &[route]).remove(0)
        }).collect();
        let (paths, _) = Paths::new(claims.iter());
        let seen = paths.find(&path, &Method::GET).ok().map(|to| match to {
            To::Function(key) => key.parse::<usize>().unwrap(),
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(seen, naive(&rules, &path));
    }

    #[test]
    fn a_book_is_the_same_whatever_came_before(names in proptest::collection::vec(0..6_usize, 1..30)) {
        let texts: [&[&str]; 3] = [&["a.b /"], &["a.b /x", "*.c /"], &[]];
        let mut book = book();
        let mut state = std::collections::BTreeMap::new();
        for (step, name) in names.iter().enumerate() {
            let routes = texts[step % 3];
            state.insert(*name, routes);
            put_function(&mut book, &name.to_string(), *name as i64, routes);
        }
        let mut fresh = super::tests::book();
        for (name, routes) in &state {
            put_function(&mut fresh, &name.to_string(), *name as i64, routes);
        }
        for request in ["GET a.b/", "GET a.b/x/y", "GET z.c/", "GET 1.default.localhost/"] {
            prop_assert_eq!(found(&book.table(), request), found(&fresh.table(), request));
        }
    }
}
