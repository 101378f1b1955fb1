//! Verdicts, in the words of a small cluster.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

/// Pods `web` (app=web, port http 8080), `db` and `tool` in `default`, and `job` in `other`, which has
/// the label team=blue; their addresses are 10.64.0.4 to 10.64.0.7.
fn cluster(policies: &[Value]) -> Policies {
    let mut known = Policies::default();
    let pod = |namespace: &str, name: &str, ip: &str| {
        let ports = json!([
            {"name": "http", "containerPort": 8080},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        ]);
        from(json!({
            "metadata": {"namespace": namespace, "name": name, "uid": name, "labels": {"app": name}},
            "spec": {"containers": [{"name": "main", "ports": ports}]},
            "status": {"podIP": ip, "phase": "Running"},
        }))
    };
    known.apply(Update::Pods(vec![
        pod("default", "web", "10.64.0.4"),
        pod("default", "db", "10.64.0.5"),
        pod("default", "tool", "10.64.0.6"),
        pod("other", "job", "10.64.0.7"),
    ]));
    known.apply(Update::Namespaces(vec![
        from(json!({"metadata": {"name": "default", "labels": {"team": "red"}}})),
        from(json!({"metadata": {"name": "other", "labels": {"team": "blue"}}})),
    ]));
    let policies = policies.iter().enumerate().map(|(number, spec)| {
        let metadata = json!({"namespace": "default", "name": format!("p{number}")});
        from(json!({"metadata": metadata, "spec": spec}))
    });
    known.apply(Update::Policies(policies.collect()));
    known
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod_ref(namespace: &str, name: &str) -> PodRef {
    PodRef {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: name.to_owned(),
    }
}

/// Each question is `<from> <to> [udp/]<port>`, of pods' names or addresses; the verdict is that of
/// every pod of the two.
#[track_caller]
fn check(policies: &[Value], questions: &[&str], want: Expect) {
    let known = cluster(policies);
    let ip = |word: &str| {
        let pod = known.pods.iter().find(|(name, _)| name.name == word);
        pod.map_or_else(|| word.parse().unwrap(), |(_, pod)| pod.ip.unwrap())
    };
    let name = |word: &str| known.pods.keys().find(|name| name.name == word).cloned();
    let mut got = String::new();
    for question in questions {
        let words: Vec<&str> = question.split(' ').collect();
        let (protocol, port) = match words[2].strip_prefix("udp/") {
            Some(port) => (Protocol::Udp, port),
            None => (Protocol::Tcp, words[2]),
        };
        let asked = |own: &str, other: &str, direction| {
            let Some(name) = name(own) else { return true };
            let traffic = Traffic {
                direction,
                peer: ip(other),
                port: port.parse().unwrap(),
                protocol,
            };
            known.allows(&pod_ref(&name.namespace, &name.name), traffic)
        };
        let out = asked(words[0], words[1], Direction::Egress);
        let into = asked(words[1], words[0], Direction::Ingress);
        let verdict = match (out, into) {
            (true, true) => "passes",
            (false, _) => "may not leave",
            (true, false) => "may not enter",
        };
        got += &format!("{question}: {verdict}\n");
    }
    want.assert_eq(&got);
}

#[test]
fn without_a_policy_everything_passes() {
    check(
        &[],
        &["web db 5432", "1.2.3.4 web 80", "web 1.2.3.4 80"],
        expect![[r#"
            web db 5432: passes
            1.2.3.4 web 80: passes
            web 1.2.3.4 80: passes
        "#]],
    );
}

#[test]
fn a_selected_pod_takes_only_what_is_allowed_and_what_comes_from_itself() {
    check(
        &[json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]})],
        &[
            "web db 5432",
            "db db 5432",
            "1.2.3.4 db 1",
            "db web 80",
            "web tool 1",
        ],
        expect![[r#"
            web db 5432: may not enter
            db db 5432: passes
            1.2.3.4 db 1: may not enter
            db web 80: passes
            web tool 1: passes
        "#]],
    );
}

#[test]
fn peers_are_pods_of_the_same_namespace_or_of_selected_ones() {
    check(
        &[
            json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [
                {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]},
                {"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}},
                           "podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["job"]}]}}]},
            ]}),
        ],
        &[
            "web db 5432",
            "web db 5433",
            "tool db 5432",
            "job db 1",
            "web db udp/5432",
        ],
        expect![[r#"
            web db 5432: passes
            web db 5433: may not enter
            tool db 5432: may not enter
            job db 1: passes
            web db udp/5432: may not enter
        "#]],
    );
}

#[test]
fn blocks_of_addresses_have_exceptions() {
    let rule = json!({"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.64.0.5/32"]}}]});
    check(
        &[json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]})],
        &[
            "web 10.9.9.9 80",
            "web db 80",
            "web tool 80",
            "web 1.1.1.1 80",
        ],
        expect![[r#"
            web 10.9.9.9 80: passes
            web db 80: may not leave
            web tool 80: passes
            web 1.1.1.1 80: may not leave
        "#]],
    );
}

#[test]
fn ports_have_names_and_ranges() {
    check(
        &[
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
                {"ports": [{"port": "http"}, {"port": "dns", "protocol": "UDP"}, {"port": 9000, "endPort": 9002}]}]}),
            json!({"podSelector": {"matchLabels": {"app": "tool"}}, "policyTypes": ["Egress"], "egress": [
                {"ports": [{"port": "http"}]}]}),
        ],
        &[
            "db web 8080",
            "db web 80",
            "db web udp/53",
            "db web 53",
            "db web 8999",
            "db web 9002",
            "db web 9003",
            "tool web 8080",
            "tool db 8080",
            "tool 1.2.3.4 8080",
        ],
        expect![[r#"
            db web 8080: passes
            db web 80: may not enter
            db web udp/53: passes
            db web 53: may not enter
            db web 8999: may not enter
            db web 9002: passes
            db web 9003: may not enter
            tool web 8080: passes
            tool db 8080: passes
            tool 1.2.3.4 8080: may not leave
        "#]],
    );
}

#[test]
fn one_policy_that_allows_is_enough() {
    check(
        &[
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{}]}),
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [{}]}),
        ],
        &["web db 1", "tool db 1", "job db 1", "db web 1", "job web 1"],
        expect![[r#"
            web db 1: passes
            tool db 1: may not leave
            job db 1: passes
            db web 1: may not leave
            job web 1: may not enter
        "#]],
    );
}

#[test]
fn what_cannot_be_read_allows_nothing() {
    let block = |block: Value| json!({"from": [{"ipBlock": block}]});
    check(
        &[json!({"podSelector": {}, "ingress": [
            block(json!({"cidr": "nonsense"})),
            block(json!({"cidr": "0.0.0.0/0", "except": ["nonsense"]})),
            {"ports": [{"port": 1, "protocol": "SCTP"}, {"port": 100_000}]},
        ]})],
        &["1.2.3.4 web 1"],
        expect![[r#"
            1.2.3.4 web 1: may not enter
        "#]],
    );
}

#[test]
fn an_own_pod_is_known_by_its_address_before_its_object_has_one() {
    let mut known = cluster(&[
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "new"}}}]}]}),
    ]);
    let (db, new) = (pod_ref("default", "db"), pod_ref("default", "new"));
    let from_new = Traffic {
        direction: Direction::Ingress,
        peer: "10.64.0.9".parse().unwrap(),
        port: 1,
        protocol: Protocol::Tcp,
    };
    known.add_own(&new, from_new.peer);
    assert!(!known.knows(&new));
    assert!(!known.allows(&db, from_new));
    let metadata =
        json!({"namespace": "default", "name": "new", "uid": "new", "labels": {"app": "new"}});
    known.apply(Update::Pod(from(
        json!({"metadata": metadata, "spec": {"containers": []}}),
    )));
    assert!(known.knows(&new));
    assert!(known.allows(&db, from_new));
    known.remove_own("new");
    assert!(!known.allows(&db, from_new));
}

#[test]
fn a_pod_is_known_at_once_without_policies_and_never_before_they_are_listed() {
    let mut known = Policies::default();
    let web = pod_ref("default", "web");
    assert!(!known.knows(&web));
    known.apply(Update::Policies(Vec::new()));
    assert!(known.knows(&web));
}

#[test]
fn the_address_of_a_pod_that_has_ended_is_nobodys() {
    let mut known = cluster(&[
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [
        {"from": [{"podSelector": {}}]}]}),
    ]);
    let ended = json!({
        "metadata": {"namespace": "default", "name": "web", "uid": "web"},
        "spec": {"containers": []},
        "status": {"podIP": "10.64.0.4", "phase": "Succeeded"},
    });
    let traffic = Traffic {
        direction: Direction::Ingress,
        peer: "10.64.0.4".parse().unwrap(),
        port: 1,
        protocol: Protocol::Tcp,
    };
    assert!(known.allows(&pod_ref("default", "db"), traffic));
    known.apply(Update::Pod(from(ended)));
    assert!(!known.allows(&pod_ref("default", "db"), traffic));
}
