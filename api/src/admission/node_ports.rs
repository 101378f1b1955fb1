//! Node ports: each number of 30000 to 32767 belongs to at most one Service, which may have it for TCP and
//! for UDP.
//!
//! A number in use is a key `wk.internal/nodeports//<number>`, created and removed in the same group as
//! its Service.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use bytes::Bytes;
use serde_json::{Value, json};
use store::{Expect, Key, Op, ResourceKey};

use crate::{
    codec::INTERNAL_GROUP,
    error::Error,
    field::{Cause, FieldErrors, Path},
    object,
    verbs::call::Call,
};

const RANGE: RangeInclusive<u16> = 30_000..=32_767;

/// Numbers at the start that are only given on request, so that a fixed one is seldom taken.
const RESERVED: u16 = 86;

/// A port of a Service: protocol and number.
type Port = (String, i64);

fn key(number: u16) -> Key {
    ResourceKey::new(INTERNAL_GROUP, "nodeports").key("", &number.to_string())
}

/// Whether a Service is reached at its nodes.
fn on_nodes(service: &Value) -> bool {
    ["NodePort", "LoadBalancer"].contains(&service["spec"]["type"].as_str().unwrap_or_default())
}

/// Whether its ports get numbers that they do not name.
fn automatic(service: &Value) -> bool {
    on_nodes(service)
        && (service["spec"]["type"] == "NodePort"
            || service["spec"]["allocateLoadBalancerNodePorts"] != false)
}

fn port(port: &Value) -> Port {
    let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
    (protocol, port["port"].as_i64().unwrap_or_default())
}

/// The number that a port names; `None` if it names none.
fn named(port: &Value) -> Option<i64> {
    port["nodePort"].as_i64().filter(|number| *number != 0)
}

/// Every port of a Service with its number.
fn held(service: &Value) -> BTreeMap<Port, u16> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let ports = ports.filter(|_| on_nodes(service));
    let ports = ports.filter_map(|each| Some((port(each), u16::try_from(named(each)?).ok()?)));
    ports.collect()
}

/// Completes a Service with its node ports; `old` is what it was before, if it was.
pub(super) fn allocate(
    call: &Call,
    service: &mut Value,
    old: Option<&Value>,
) -> Result<Vec<Op>, Error> {
    let before = old.map(held).unwrap_or_default();
    let own: BTreeSet<u16> = before.values().copied().collect();
    if on_nodes(service) {
        let taken =
            |number: u16| !own.contains(&number) && call.server.cache.get(&key(number)).is_some();
        let errors = validate(service, taken);
        if !errors.0.is_empty() {
            return Err(Error::Invalid {
                subject: call.subject(object::name(service)),
                errors,
            });
        }
        if automatic(service) {
            complete(service, &before, rand::random(), taken)?;
        }
    }
    let now: BTreeSet<u16> = held(service).into_values().collect();
    let owner = json!({
        "namespace": call.namespace,
        "name": object::name(service),
        "uid": object::uid(service),
    });
    let taken = now.difference(&own).map(|number| Op::Put {
        key: key(*number),
        expect: Expect::Absent,
        value: Bytes::from(owner.to_string()),
    });
    let mut ops: Vec<Op> = taken.collect();
    ops.extend(
        own.difference(&now)
            .filter_map(|number| free(call, *number)),
    );
    Ok(ops)
}

/// Gives a Service's node ports back.
pub(super) fn release(call: &Call, service: &Value) -> Vec<Op> {
    let numbers: BTreeSet<u16> = held(service).into_values().collect();
    let freed = numbers.into_iter().map(|number| free(call, number));
    freed.flatten().collect()
}

fn free(call: &Call, number: u16) -> Option<Op> {
    let item = call.server.cache.get(&key(number))?;
    Some(Op::Delete {
        key: item.key.clone(),
        expect: Expect::At(item.revision),
        value: item.decoded.value.clone(),
    })
}

/// What is wrong with the numbers that ports name. Pure.
fn validate(service: &Value, taken: impl Fn(u16) -> bool) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let mut seen = BTreeSet::new();
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    for (index, each) in ports.enumerate() {
        let Some(number) = named(each) else { continue };
        let path = Path::root("spec")
            .field("ports")
            .index(index)
            .field("nodePort");
        let within = u16::try_from(number)
            .ok()
            .filter(|number| RANGE.contains(number));
        match within {
            None => {
                let (first, last) = (RANGE.start(), RANGE.end());
                let range = format!("The range of valid ports is {first}-{last}");
                errors.invalid(
                    &path,
                    number,
                    format!("provided port is not in the valid range. {range}"),
                );
            }
            Some(within) if taken(within) => {
                errors.invalid(&path, number, "provided port is already allocated");
            }
            Some(_) if !seen.insert((port(each).0, number)) => {
                errors.push(&path, Cause::Duplicate, json!(number), "");
            }
            Some(_) => {}
        }
    }
    errors
}

/// Gives ports without a number one: the one that they had, that of the same port of another protocol, or
/// a free one.
fn complete(
    service: &mut Value,
    before: &BTreeMap<Port, u16>,
    start: u16,
    taken: impl Fn(u16) -> bool,
) -> Result<(), Error> {
    let mut now = held(service);
    let ports = service["spec"]["ports"].as_array_mut();
    for each in ports
        .into_iter()
        .flatten()
        .filter(|each| named(each).is_none())
    {
        let own = port(each);
        let used = |number: u16, now: &BTreeMap<Port, u16>| {
            let mut ports = now.iter();
            ports.any(|((protocol, _), other)| *protocol == own.0 && *other == number)
        };
        let had = before.get(&own).copied();
        let twin = now.iter().find(|((_, number), _)| *number == own.1);
        let twin = twin.map(|(_, number)| *number);
        let mut known = had.into_iter().chain(twin);
        let number = known.find(|number| !used(*number, &now)).or_else(|| {
            pick(start, |number| {
                taken(number) || now.values().any(|other| *other == number)
            })
        });
        let full = Error::Exhausted("failed to allocate a nodePort: range is full");
        let number = number.ok_or(full)?;
        each["nodePort"] = number.into();
        now.insert(own, number);
    }
    Ok(())
}

/// A free number: a random place in the upper part, then on from there, the lower part last.
fn pick(start: u16, taken: impl Fn(u16) -> bool) -> Option<u16> {
    let upper = RANGE.start() + RESERVED;
    let size = RANGE.end() - upper + 1;
    (0..size)
        .map(|step| upper + (start % size + step) % size)
        .chain(*RANGE.start()..upper)
        .find(|number| !taken(*number))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Each port is `<protocol>/<port>[:<node port>]`; numbers from 30086 on are given in order.
    fn service(kind: &str, ports: &str) -> Value {
        let ports = ports.split_whitespace().map(|word| {
            let (protocol, rest) = word.split_once('/').expect("a protocol");
            let (port, number) = rest.split_once(':').unwrap_or((rest, "0"));
            let [port, number] = [port, number].map(|text| text.parse::<i64>().expect("a number"));
            json!({"protocol": protocol, "port": port, "nodePort": number})
        });
        json!({"spec": {"type": kind, "ports": ports.collect::<Vec<_>>()}})
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: Expect) {
        let before = held(&service("NodePort", old));
        let mut service = service("NodePort", new);
        let taken = |number| number == 30_087;
        let errors = validate(&service, taken);
        if !errors.0.is_empty() {
            let shown = errors
                .0
                .iter()
                .map(|error| format!("{}: {}\n", error.path, error.detail));
            return expected.assert_eq(&shown.collect::<String>());
        }
        complete(&mut service, &before, 0, taken).expect("there are free ones");
        let shown = held(&service).into_iter();
        let shown = shown.map(|((protocol, port), number)| format!("{protocol}/{port}:{number}\n"));
        expected.assert_eq(&shown.collect::<String>());
    }

    #[test]
    fn ports_get_free_numbers_and_keep_those_that_they_had() {
        check(
            "",
            "TCP/80 TCP/443 TCP/8080:30500",
            expect![[r#"
            TCP/80:30086
            TCP/443:30088
            TCP/8080:30500
        "#]],
        );
        check(
            "TCP/80:30700",
            "TCP/80 TCP/81",
            expect![[r#"
            TCP/80:30700
            TCP/81:30086
        "#]],
        );
        check(
            "TCP/80:30700",
            "TCP/81:30700 TCP/80",
            expect![[r#"
            TCP/80:30086
            TCP/81:30700
        "#]],
        );
    }

    #[test]
    fn the_same_port_of_two_protocols_has_one_number() {
        check(
            "",
            "TCP/53 UDP/53",
            expect![[r#"
            TCP/53:30086
            UDP/53:30086
        "#]],
        );
    }

    #[test]
    fn a_number_that_cannot_be_is_refused() {
        check(
            "",
            "TCP/80:80 TCP/81:30087 TCP/82:30500 TCP/83:30500 UDP/83:30500",
            expect![[r#"
                spec.ports[0].nodePort: provided port is not in the valid range. The range of valid ports is 30000-32767
                spec.ports[1].nodePort: provided port is already allocated
                spec.ports[3].nodePort: 
            "#]],
        );
    }
}
