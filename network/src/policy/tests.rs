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

/// The plan with all pods of the cluster isolated.
fn plan(known: &Policies) -> Plan {
    let addresses = known.pods.values().filter_map(|pod| match pod.ip {
        Some(IpAddr::V4(ip)) => Some(ip),
        _ => None,
    });
    Plan::new(known, &addresses.collect()).unwrap()
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
    let plan = plan(&known);
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
            let verdict = known.allows(&pod_ref(&name.namespace, &name.name), traffic);
            let (IpAddr::V4(own), plan) = (ip(own), &plan) else {
                panic!("{own} has an address of IPv4")
            };
            assert_eq!(
                plan.allows(own, traffic),
                verdict,
                "the kernel differs: {question}"
            );
            verdict
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

mod kernel {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::ruleset::{Layout, render, render_change};

    fn labels() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!({})),
            prop::sample::select(vec!["web", "db", "tool", "nobody"])
                .prop_map(|app| json!({"matchLabels": {"app": app}})),
            Just(
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]})
            ),
        ]
    }

    fn peer() -> impl Strategy<Value = Value> {
        let team = prop::sample::select(vec!["red", "blue"])
            .prop_map(|team| json!({"matchLabels": {"team": team}}));
        let block = prop::sample::select(vec![
            json!({"cidr": "10.64.0.0/30"}),
            json!({"cidr": "10.64.0.0/10", "except": ["10.64.0.5/32", "10.64.0.6/31"]}),
            json!({"cidr": "0.0.0.0/0"}),
            json!({"cidr": "0.0.0.0/0", "except": ["fd00::/8", "nonsense"]}),
            json!({"cidr": "fd00::/8"}),
        ]);
        prop_oneof![
            labels().prop_map(|pods| json!({"podSelector": pods})),
            (team, labels()).prop_map(|(team, pods)| {
                json!({"namespaceSelector": team, "podSelector": pods})
            }),
            block.prop_map(|block| json!({"ipBlock": block})),
        ]
    }

    fn port() -> impl Strategy<Value = Value> {
        prop::sample::select(vec![
            json!({"port": 80}),
            json!({"port": 80, "endPort": 8080}),
            json!({"port": "http"}),
            json!({"port": "dns", "protocol": "UDP"}),
            json!({"protocol": "UDP"}),
            json!({"port": 80, "protocol": "SCTP"}),
            json!({"port": 8080, "protocol": "UDP"}),
        ])
    }

    fn rules(peers: &'static str) -> impl Strategy<Value = Value> {
        let rule = (
            prop::collection::vec(peer(), 0..3),
            prop::collection::vec(port(), 0..3),
        );
        let rule = rule.prop_map(move |(with, ports)| json!({peers: with, "ports": ports}));
        prop::collection::vec(rule, 0..3).prop_map(Value::from)
    }

    fn policy() -> impl Strategy<Value = Value> {
        let types = prop::sample::select(vec![
            json!(["Ingress"]),
            json!(["Egress"]),
            json!(["Ingress", "Egress"]),
        ]);
        (labels(), types, rules("from"), rules("to")).prop_map(|(pods, types, ingress, egress)| {
            json!({
                "podSelector": pods,
                "policyTypes": types,
                "ingress": ingress,
                "egress": egress,
            })
        })
    }

    proptest! {
        #[test]
        fn the_kernels_verdicts_are_this_process_own(
            policies in prop::collection::vec(policy(), 0..4),
        ) {
            let known = cluster(&policies);
            let plan = plan(&known);
            let pods = known.pods.iter();
            for ((name, pod), direction) in pods.flat_map(|pod| {
                [(pod, Direction::Ingress), (pod, Direction::Egress)]
            }) {
                let Some(IpAddr::V4(own)) = pod.ip else { continue };
                for peer in ["10.64.0.4", "10.64.0.5", "10.64.0.6", "10.64.0.7", "10.64.0.1", "1.2.3.4"] {
                    for (port, protocol) in [
                        (80, Protocol::Tcp),
                        (8080, Protocol::Tcp),
                        (9000, Protocol::Tcp),
                        (53, Protocol::Udp),
                        (8080, Protocol::Udp),
                    ] {
                        let peer = peer.parse().unwrap();
                        let traffic = Traffic { direction, peer, port, protocol };
                        let verdict = known.allows(&pod_ref(&name.namespace, &name.name), traffic);
                        prop_assert_eq!(plan.allows(own, traffic), verdict, "{} {:?}", name.name, traffic);
                    }
                }
            }
        }
    }

    fn example() -> Vec<Value> {
        vec![
            json!({
                "podSelector": {"matchLabels": {"app": "web"}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {"from": [{"podSelector": {"matchLabels": {"app": "tool"}}}], "ports": [{"port": "http"}]},
                    {"ports": [{"port": 9000, "endPort": 9010}, {"port": 9005}, {"protocol": "UDP"}]},
                ],
                "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.64.0.5/32"]}}]}],
            }),
            json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}),
        ]
    }

    #[test]
    fn the_table_has_a_chain_for_every_policy_and_every_pod_that_one_selects() {
        let layout = Layout {
            table: "wk-1-policies",
            dns: Some("10.64.0.1:53".parse().unwrap()),
            functions: None,
        };
        expect![[r#"
            table ip wk-1-policies
            delete table ip wk-1-policies
            table ip wk-1-policies {
            	map ingress {
            		type ipv4_addr : verdict
            	}
            	map egress {
            		type ipv4_addr : verdict
            	}
            	chain leave {
            		type filter hook forward priority 0; policy accept;
            		ct state established,related accept
            		ip saddr vmap @egress
            	}
            	chain leave_to_host {
            		type filter hook input priority 0; policy accept;
            		ct state established,related accept
            		ip daddr 10.64.0.1 meta l4proto { tcp, udp } th dport 53 accept
            		ip saddr vmap @egress
            	}
            	chain enter {
            		type filter hook forward priority 10; policy accept;
            		ct state established,related accept
            		ip daddr vmap @ingress
            	}
            }
            add set ip wk-1-policies in_default/p0_0 { type ipv4_addr; flags interval; }
            add element ip wk-1-policies in_default/p0_0 { 10.64.0.6 }
            add set ip wk-1-policies out_default/p0_0 { type ipv4_addr; flags interval; }
            add element ip wk-1-policies out_default/p0_0 { 10.0.0.0-10.64.0.4, 10.64.0.6-10.255.255.255 }
            add set ip wk-1-policies in_default/p0_0_ports { type ipv4_addr . inet_proto . inet_service; }
            add element ip wk-1-policies in_default/p0_0_ports { 10.64.0.4 . tcp . 8080 }
            add chain ip wk-1-policies in_default/p0
            add rule ip wk-1-policies in_default/p0 ip saddr @in_default/p0_0 ip daddr . meta l4proto . th dport @in_default/p0_0_ports accept
            add rule ip wk-1-policies in_default/p0 tcp dport { 9000-9010 } accept
            add rule ip wk-1-policies in_default/p0 meta l4proto udp accept
            add chain ip wk-1-policies in_default/p1
            add chain ip wk-1-policies out_default/p0
            add rule ip wk-1-policies out_default/p0 ip daddr @out_default/p0_0 accept
            add chain ip wk-1-policies in_10.64.0.4
            add rule ip wk-1-policies in_10.64.0.4 ip saddr 10.64.0.4 accept
            add rule ip wk-1-policies in_10.64.0.4 jump in_default/p0
            add rule ip wk-1-policies in_10.64.0.4 reject with icmp type admin-prohibited
            add element ip wk-1-policies ingress { 10.64.0.4 : goto in_10.64.0.4 }
            add chain ip wk-1-policies in_10.64.0.5
            add rule ip wk-1-policies in_10.64.0.5 ip saddr 10.64.0.5 accept
            add rule ip wk-1-policies in_10.64.0.5 jump in_default/p1
            add rule ip wk-1-policies in_10.64.0.5 reject with icmp type admin-prohibited
            add element ip wk-1-policies ingress { 10.64.0.5 : goto in_10.64.0.5 }
            add chain ip wk-1-policies out_10.64.0.4
            add rule ip wk-1-policies out_10.64.0.4 ip daddr 10.64.0.4 accept
            add rule ip wk-1-policies out_10.64.0.4 jump out_default/p0
            add rule ip wk-1-policies out_10.64.0.4 reject with icmp type admin-prohibited
            add element ip wk-1-policies egress { 10.64.0.4 : goto out_10.64.0.4 }
        "#]].assert_eq(&render(&layout, &plan(&cluster(&example()))));
    }

    #[track_caller]
    fn check_change(old: &[Value], new: &[Value], want: Expect) {
        let (old, new) = (plan(&cluster(old)), plan(&cluster(new)));
        want.assert_eq(&render_change("wk-1-policies", &old, &new));
    }

    #[test]
    fn a_change_touches_what_it_is_about() {
        check_change(&example(), &example(), expect![[""]]);
        let mut other = example();
        other[0]["ingress"][0]["from"][0]["podSelector"] = json!({});
        check_change(
            &example(),
            &other,
            expect![[r#"
            flush set ip wk-1-policies in_default/p0_0
            add element ip wk-1-policies in_default/p0_0 { 10.64.0.4-10.64.0.6 }
        "#]],
        );
        check_change(
            &example(),
            &example()[..1],
            expect![[r#"
            delete element ip wk-1-policies ingress { 10.64.0.5 }
            flush chain ip wk-1-policies in_10.64.0.5
            delete chain ip wk-1-policies in_10.64.0.5
            flush chain ip wk-1-policies in_default/p1
            delete chain ip wk-1-policies in_default/p1
        "#]],
        );
        check_change(
            &example(),
            &[],
            expect![[r#"
            delete element ip wk-1-policies ingress { 10.64.0.4 }
            flush chain ip wk-1-policies in_10.64.0.4
            delete chain ip wk-1-policies in_10.64.0.4
            delete element ip wk-1-policies ingress { 10.64.0.5 }
            flush chain ip wk-1-policies in_10.64.0.5
            delete chain ip wk-1-policies in_10.64.0.5
            delete element ip wk-1-policies egress { 10.64.0.4 }
            flush chain ip wk-1-policies out_10.64.0.4
            delete chain ip wk-1-policies out_10.64.0.4
            flush chain ip wk-1-policies in_default/p0
            flush chain ip wk-1-policies in_default/p1
            flush chain ip wk-1-policies out_default/p0
            delete chain ip wk-1-policies in_default/p0
            delete chain ip wk-1-policies in_default/p1
            delete chain ip wk-1-policies out_default/p0
            delete set ip wk-1-policies in_default/p0_0
            delete set ip wk-1-policies out_default/p0_0
            delete set ip wk-1-policies in_default/p0_0_ports
        "#]],
        );
    }

    #[test]
    fn a_pod_of_which_nothing_is_known_may_do_nothing_while_there_are_policies() {
        let known = cluster(&example());
        let stranger = Ipv4Addr::new(10, 64, 0, 99);
        let plan = Plan::new(&known, &[stranger].into()).unwrap();
        let ingress = Traffic {
            direction: Direction::Ingress,
            peer: "10.64.0.4".parse().unwrap(),
            port: 80,
            protocol: Protocol::Tcp,
        };
        assert!(!plan.allows(stranger, ingress));
        let plan = Plan::new(&cluster(&[]), &[stranger].into()).unwrap();
        assert!(plan.allows(stranger, ingress));
    }
}

#[test]
fn a_pod_that_no_object_tells_of_is_selected_by_its_labels_until_it_goes() {
    let mut known = cluster(&[
        json!({
            "podSelector": {"matchLabels": {"app": "hello"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]}],
        }),
        json!({
            "podSelector": {"matchLabels": {"app": "db"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "hello"}}}]}],
        }),
    ]);
    // Its name is a pod's too: they have nothing in common.
    let function = PodRef {
        uid: "f.1".to_owned(),
        ..pod_ref("default", "web")
    };
    let own: IpAddr = "10.64.0.9".parse().unwrap();
    assert!(!known.knows(&function));
    known.declare(&function, [("app".to_owned(), "hello".to_owned())].into());
    assert!(known.knows(&function));
    assert!(known.add_own(&function, own));
    let to = |peer: &str, direction| Traffic {
        direction,
        peer: peer.parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
    };
    assert!(known.allows(&function, to("10.64.0.4", Direction::Egress)));
    assert!(!known.allows(&function, to("10.64.0.5", Direction::Egress)));
    let from_it = to("10.64.0.9", Direction::Ingress);
    let db = pod_ref("default", "db");
    assert!(known.allows(&db, from_it));
    assert!(plan(&known).allows("10.64.0.5".parse().unwrap(), from_it));
    known.remove_own("f.1");
    assert!(!known.allows(&db, from_it));
    assert!(!plan(&known).allows("10.64.0.5".parse().unwrap(), from_it));
}
