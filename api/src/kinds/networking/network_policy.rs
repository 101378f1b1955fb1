//! NetworkPolicy: which traffic from and to pods is allowed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::GROUP;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names,
        address::Range,
        check, column,
        value::{each, fill, find, items, number, part, plain, present, text},
    },
    name,
};

/// The kind.
pub(crate) struct NetworkPolicy;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short: &["netpol"],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.networking.v1.NetworkPolicy",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Pod-Selector", "Pods that it is about"),
    column::AGE,
];

const TYPES: &[&str] = &["Ingress", "Egress"];

impl Kind for NetworkPolicy {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn counted(&self) -> &[&'static str] {
        &["spec"]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "spec", json!({}));
        let Some(spec) = find(object, "spec") else {
            return;
        };
        fill(spec, "podSelector", json!({}));
        for direction in ["ingress", "egress"] {
            for rule in each(spec, direction) {
                for port in each(rule, "ports") {
                    fill(port, "protocol", "TCP");
                }
            }
        }
        if items(spec, "/policyTypes").is_empty() {
            let sends = !items(spec, "/egress").is_empty();
            spec["policyTypes"] = if sends {
                json!(TYPES)
            } else {
                json!(TYPES[..1])
            };
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        let selector = part(spec, "/podSelector");
        check::selector(&path.field("podSelector"), selector, errors);
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            let rules = items(spec, &format!("/{direction}"));
            for (index, rule) in rules.iter().enumerate() {
                let path = path.field(direction).index(index);
                for (index, port) in items(rule, "/ports").iter().enumerate() {
                    validate_port(&path.field("ports").index(index), port, errors);
                }
                for (index, peer) in items(rule, &format!("/{peers}")).iter().enumerate() {
                    validate_peer(&path.field(peers).index(index), peer, errors);
                }
            }
        }
        let types = items(spec, "/policyTypes");
        let path = path.field("policyTypes");
        if types.len() > TYPES.len() {
            let shown = part(spec, "/policyTypes").clone();
            errors.invalid(&path, shown, "may not specify more than two policyTypes");
            return;
        }
        for (index, one) in types.iter().enumerate() {
            check::one_of(&path.index(index), one, TYPES, errors);
        }
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            column::selector(part(object, "/spec/podSelector")),
            column::age(object, now),
        ]
    }
}

fn validate_port(path: &Path, port: &Value, errors: &mut FieldErrors) {
    check::one_of(
        &path.field("protocol"),
        part(port, "/protocol"),
        &["TCP", "UDP", "SCTP"],
        errors,
    );
    let end = part(port, "/endPort");
    let refuse_end = |errors: &mut FieldErrors, why: &str| {
        if !end.is_null() {
            errors.invalid(&path.field("endPort"), end.clone(), why);
        }
    };
    match part(port, "/port") {
        Value::Null => refuse_end(errors, "may not be specified when `port` is not specified"),
        Value::String(named) => {
            refuse_end(errors, "may not be specified when `port` is non-numeric");
            let problems = name::port_problems(named);
            check::problems(&path.field("port"), named, problems, errors);
        }
        first => {
            check::port(&path.field("port"), first, errors);
            if end.is_null() {
                return;
            }
            if number(port, "/endPort") < first.as_i64() {
                refuse_end(errors, "must be greater than or equal to `port`");
            }
            check::port(&path.field("endPort"), end, errors);
        }
    }
}

fn validate_peer(path: &Path, peer: &Value, errors: &mut FieldErrors) {
    let mut peers = 0;
    for selector in ["podSelector", "namespaceSelector"] {
        let value = part(peer, &format!("/{selector}"));
        if !value.is_null() {
            peers += 1;
            check::selector(&path.field(selector), value, errors);
        }
    }
    let block = present(peer, "/ipBlock");
    if block {
        peers += 1;
        validate_block(&path.field("ipBlock"), part(peer, "/ipBlock"), errors);
    }
    if peers == 0 {
        errors.required(path, "must specify a peer");
    } else if peers > 1 && block {
        errors.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

fn validate_block(path: &Path, block: &Value, errors: &mut FieldErrors) {
    let whole = text(block, "/cidr");
    if whole.is_empty() {
        errors.required(&path.field("cidr"), "");
        return;
    }
    let Some(whole) = Range::validate(&path.field("cidr"), whole, errors) else {
        return;
    };
    for (index, text) in items(block, "/except").iter().map(plain).enumerate() {
        let path = path.field("except").index(index);
        if let Some(except) = Range::validate(&path, &text, errors)
            && (!whole.contains(except) || whole.bits >= except.bits)
        {
            errors.invalid(&path, text, "must be a strict subset of `cidr`");
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        expect.assert_eq(&errors(&NetworkPolicy, &format!("{{spec: {{{spec}}}}}")));
    }

    #[test]
    fn it_is_about_what_comes_in_and_what_goes_out_if_it_says_so() {
        expect![[r#"{"spec":{"podSelector":{},"policyTypes":["Ingress"]}}"#]]
            .assert_eq(&defaulted(&NetworkPolicy, "{}"));
        expect![[r#"{"spec":{"egress":[{"ports":[{"port":53,"protocol":"TCP"}]}],"podSelector":{},"policyTypes":["Ingress","Egress"]}}"#]]
            .assert_eq(&defaulted(&NetworkPolicy, "{spec: {egress: [{ports: [{port: 53}]}]}}"));
    }

    #[test]
    fn everything_wrong_with_a_rule_is_said_at_once() {
        check(
            "ingress: [{ports: [{port: 0, protocol: X}, {port: a--b, endPort: 1}, {endPort: 1}, {port: \
             9, endPort: 8}], from: [{}, {podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]",
            expect![[r#"
                spec.ingress[0].ports[0].protocol: Unsupported value: "X": supported values: "TCP", "UDP", "SCTP"
                spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
                spec.ingress[0].ports[1].endPort: Invalid value: 1: may not be specified when `port` is non-numeric
                spec.ingress[0].ports[1].port: Invalid value: "a--b": must not contain consecutive hyphens
                spec.ingress[0].ports[2].endPort: Invalid value: 1: may not be specified when `port` is not specified
                spec.ingress[0].ports[3].endPort: Invalid value: 8: must be greater than or equal to `port`
                spec.ingress[0].from[0]: Required value: must specify a peer
                spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer
            "#]],
        );
        check(
            "policyTypes: [Both]",
            expect![[r#"
                spec.policyTypes[0]: Unsupported value: "Both": supported values: "Ingress", "Egress"
            "#]],
        );
    }

    #[test]
    fn exceptions_are_inside_their_block() {
        check(
            "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.0.0.0/8, 11.0.0.0/16, \
             x]}}]}]",
            expect![[r#"
                spec.egress[0].to[0].ipBlock.except[1]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`
                spec.egress[0].to[0].ipBlock.except[2]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`
                spec.egress[0].to[0].ipBlock.except[3]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            "#]],
        );
    }

    #[test]
    fn a_row_shows_the_pods() {
        expect!["deny|<none>|60m"].assert_eq(&row(&NetworkPolicy, "{metadata: {name: deny}}"));
    }
}
