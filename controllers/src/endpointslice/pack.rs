//! Spreads endpoints over slices with few writes: an endpoint stays in the slice it is in, and a slice in which
//! nothing changes is rarely touched. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use kube::ResourceExt;

use super::key_of;

/// Endpoints that have the same ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// What is to be packed.
pub(super) struct Pack<'a> {
    /// The family of the addresses; all slices are of it.
    pub(super) family: &'a str,
    pub(super) wanted: Vec<Wanted>,
    pub(super) slices: &'a [Arc<EndpointSlice>],
    /// The most endpoints of a slice.
    pub(super) size: usize,
    /// Whether a slice's labels and owner are right.
    pub(super) fresh: &'a dyn Fn(&EndpointSlice) -> bool,
}

/// A slice to write; one without a name is new.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    pub(super) name: Option<String>,
    pub(super) family: String,
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// What to write and what to remove.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) write: Vec<Write>,
    pub(super) remove: Vec<String>,
}

impl Plan {
    pub(super) fn extend(&mut self, other: Self) {
        self.write.extend(other.write);
        self.remove.extend(other.remove);
    }
}

/// A slice on its way.
struct Kept<'a> {
    slice: &'a EndpointSlice,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

/// Decides what to write. Where there is no endpoint at all one empty slice stays.
pub(super) fn pack(pack: &Pack<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut by_ports: HashMap<String, Vec<&EndpointSlice>> = HashMap::new();
    let live = pack.slices.iter();
    let live = live.filter(|slice| slice.metadata.deletion_timestamp.is_none());
    for slice in live {
        let ports = port_key(slice.ports.as_deref().unwrap_or_default());
        by_ports.entry(ports).or_default().push(slice);
    }
    let mut left = false;
    for wanted in &pack.wanted {
        let have = by_ports.remove(&port_key(&wanted.ports));
        left |= !wanted.endpoints.is_empty();
        pack_group(pack, wanted, have.unwrap_or_default(), &mut plan);
    }
    let mut strangers: Vec<&EndpointSlice> = by_ports.into_values().flatten().collect();
    strangers.sort_by_key(|slice| slice.name_any());
    if !left {
        // A reader of the Service's slices finds one that is empty.
        let empty = |slice: &&EndpointSlice| {
            slice.endpoints.iter().flatten().next().is_none()
                && slice.ports.iter().flatten().next().is_none()
                && (pack.fresh)(slice)
        };
        match strangers.iter().position(empty) {
            Some(place) => drop(strangers.remove(place)),
            None => plan.write.push(new(pack.family, &[], Vec::new())),
        }
    }
    plan.remove
        .extend(strangers.iter().map(|slice| slice.name_any()));
    recycle(&mut plan);
    plan
}

/// What would be made takes the names of what would go: fewer writes, and nobody sees a gap.
fn recycle(plan: &mut Plan) {
    let made = plan.write.iter_mut().filter(|write| write.name.is_none());
    for write in made {
        let Some(name) = plan.remove.pop() else {
            return;
        };
        write.name = Some(name);
    }
}

fn pack_group(pack: &Pack<'_>, wanted: &Wanted, have: Vec<&EndpointSlice>, plan: &mut Plan) {
    let mut left: BTreeMap<String, &Endpoint> = BTreeMap::new();
    left.extend(wanted.endpoints.iter().map(|of| (key_of(of), of)));
    let mut kept: Vec<Kept<'_>> = have
        .into_iter()
        .map(|slice| {
            let old = slice.endpoints.iter().flatten();
            let endpoints = old.filter_map(|old| left.remove(&key_of(old)).cloned());
            let mut endpoints: Vec<Endpoint> = endpoints.collect();
            // One that another made larger than it may be loses what is too much.
            let rest = endpoints.split_off(endpoints.len().min(pack.size));
            left.extend(wanted.endpoints.iter().filter_map(|of| {
                let key = key_of(of);
                rest.iter()
                    .any(|rest| key_of(rest) == key)
                    .then_some((key, of))
            }));
            let changed =
                slice.endpoints.as_deref().unwrap_or_default() != endpoints || !(pack.fresh)(slice);
            Kept {
                slice,
                endpoints,
                changed,
            }
        })
        .collect();
    let mut new_ones: Vec<Endpoint> = left.into_values().cloned().collect();
    // Slices that are written anyway take as many as they can, the fullest first.
    kept.sort_by_key(|slice| Reverse(slice.endpoints.len()));
    for slice in kept.iter_mut().filter(|slice| slice.changed) {
        let room = pack.size - slice.endpoints.len();
        slice
            .endpoints
            .extend(new_ones.drain(..room.min(new_ones.len())));
    }
    let rest = new_ones.len() % pack.size;
    if rest > 0 {
        // The fullest of the others that has room for all that would not fill a slice.
        let fits = |slice: &&mut Kept<'_>| slice.endpoints.len() + rest <= pack.size;
        let mut others = kept.iter_mut().filter(|slice| !slice.changed);
        if let Some(slice) = others.find(fits) {
            let from = new_ones.len() - rest;
            slice.endpoints.extend(new_ones.drain(from..));
            slice.changed = true;
        }
    }
    for slice in kept {
        if slice.endpoints.is_empty() {
            plan.remove.push(slice.slice.name_any());
        } else if slice.changed {
            plan.write.push(Write {
                name: Some(slice.slice.name_any()),
                ..new(pack.family, &wanted.ports, slice.endpoints)
            });
        }
    }
    for chunk in new_ones.chunks(pack.size) {
        plan.write
            .push(new(pack.family, &wanted.ports, chunk.to_vec()));
    }
}

fn new(family: &str, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> Write {
    Write {
        name: None,
        family: family.to_owned(),
        ports: ports.to_vec(),
        endpoints,
    }
}

/// Tells sets of ports apart, whatever their order.
pub(super) fn port_key(ports: &[EndpointPort]) -> String {
    let mut keys: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                "{:?}{:?}{:?}{:?}",
                port.name.as_deref().unwrap_or(""),
                port.port,
                port.protocol,
                port.app_protocol
            )
        })
        .collect();
    keys.sort();
    keys.join(",")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn endpoint(text: &str) -> Value {
        let (name, state) = text.split_at(text.len() - 1);
        json!({"addresses": [format!("ip-{name}")], "conditions": {"ready": state == "+"}})
    }

    fn ports() -> Value {
        json!([{"name": "http", "port": 80, "protocol": "TCP"}])
    }

    /// `one: a+ b-`, a slice of two endpoints; with `!` before its name one of wrong labels.
    fn slice(text: &str) -> Arc<EndpointSlice> {
        let (name, endpoints) = text.split_once(':').unwrap();
        let endpoints: Vec<Value> = endpoints.split_whitespace().map(endpoint).collect();
        let ports = if endpoints.is_empty() {
            json!([])
        } else {
            ports()
        };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
            }))
            .unwrap(),
        )
    }

    /// Slices of three endpoints at most.
    #[track_caller]
    fn check(wanted: &str, slices: &[&str], expect: Expect) {
        let endpoints: Vec<Value> = wanted.split_whitespace().map(endpoint).collect();
        let slices: Vec<_> = slices.iter().map(|text| slice(text)).collect();
        let wanted = Wanted {
            ports: serde_json::from_value(ports()).unwrap(),
            endpoints: serde_json::from_value(endpoints.into()).unwrap(),
        };
        let plan = pack(&Pack {
            family: "IPv4",
            wanted: Some(wanted)
                .filter(|wanted| !wanted.endpoints.is_empty())
                .into_iter()
                .collect(),
            slices: &slices,
            size: 3,
            fresh: &|slice| !slice.name_any().starts_with('!'),
        });
        let mut said = Vec::new();
        for write in &plan.write {
            let endpoints = write.endpoints.iter().map(|endpoint| {
                let ready = endpoint.conditions.as_ref().unwrap().ready == Some(true);
                let name = endpoint.addresses[0].trim_start_matches("ip-");
                format!("{name}{}", if ready { "+" } else { "-" })
            });
            let endpoints: Vec<_> = endpoints.collect();
            let name = write.name.as_deref().unwrap_or("new");
            said.push(
                format!("{name}: {}", endpoints.join(" "))
                    .trim_end()
                    .to_owned(),
            );
        }
        said.extend(plan.remove.iter().map(|name| format!("remove {name}")));
        expect.assert_eq(&said.join(", "));
    }

    #[test]
    fn an_endpoint_that_changes_changes_its_slice_only() {
        check("a+ b-", &["one:a+ b+"], expect!["one: a+ b-"]);
        check("a+ b-", &["one:a+", "two:b+"], expect!["two: b-"]);
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        check("a+ b+", &["one:b+ a+"], expect![""]);
    }

    #[test]
    fn a_slice_without_endpoints_goes_unless_it_is_the_last() {
        check("a+", &["one:a+", "two:b+"], expect!["remove two"]);
        check("", &["one:a+", "two:b+"], expect!["two:, remove one"]);
        check("", &["one:"], expect![""]);
        check("", &[], expect!["new:"]);
        check("a+", &["one:"], expect!["one: a+"]);
    }

    #[test]
    fn what_fills_a_slice_gets_one_and_the_rest_goes_where_it_fits() {
        check("a+ b+ c+ d+", &[], expect!["new: a+ b+ c+, new: d+"]);
        check(
            "a+ b+ c+ d+ e+",
            &["one:a+ b+", "two:c+"],
            expect!["two: c+ d+ e+"],
        );
        check(
            "a+ b+ c+ d+",
            &["one:a+ b+", "two:c+"],
            expect!["one: a+ b+ d+"],
        );
        check(
            "a- b+ c+ d+",
            &["one:b+ c+", "two:a+"],
            expect!["two: a- d+"],
        );
    }

    #[test]
    fn wrong_labels_are_put_right() {
        check("a+", &["!one:a+"], expect!["!one: a+"]);
    }

    #[test]
    fn a_slice_that_was_made_too_large_is_cut() {
        check(
            "a+ b+ c+ d+",
            &["one:a+ b+ c+ d+"],
            expect!["one: a+ b+ c+, new: d+"],
        );
    }
}
