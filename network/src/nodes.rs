//! Learns from Node objects: this node's pod range, and the way to other nodes' pods.
//!
//! Other nodes are reached by routes through their InternalIP, so they must be on the same link.

use std::{collections::HashMap, net::Ipv4Addr, pin::pin, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::Api;

use crate::{
    Handle, Range,
    feed::{Change, changes},
    handle::Shared,
    links,
};

/// Which nodes' pods are routed, and how.
type Routes = HashMap<String, (Range, Ipv4Addr)>;

/// Runs until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, nodes: Api<Node>) -> anyhow::Result<()> {
    let mut changes = pin!(changes(nodes));
    let mut known: HashMap<String, Node> = HashMap::new();
    let mut routed = Routes::new();
    while let Some(change) = changes.next().await {
        match change {
            Change::All(all) => known = all.into_iter().map(|node| (name(&node), node)).collect(),
            Change::Put(node) => drop(known.insert(name(&node), node)),
            Change::Gone(node) => drop(known.remove(&name(&node))),
        }
        if let Some(own) = known.get(&shared.config.node_name) {
            learn_own_range(&shared, own).await;
        }
        if shared.namespace.is_some() {
            let wanted = plan_routes(&shared.config.node_name, &known);
            route(&shared, &mut routed, wanted).await;
        }
    }
    Ok(())
}

/// A range given in the configuration stays, whatever the Node says.
async fn learn_own_range(shared: &Arc<Shared>, own: &Node) {
    if shared.config.pod_range.is_some() {
        return;
    }
    let Some(text) = own.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref()) else {
        return;
    };
    let set = match text.parse() {
        Ok(range) => Handle(shared.clone()).set_pod_range(range).await,
        Err(error) => Err(error),
    };
    if let Err(error) = set {
        let node = &shared.config.node_name;
        tracing::error!(
            node,
            error = format!("{error:#}"),
            "could not use the node's pod range"
        );
    }
}

/// The other nodes with a range and an address that is not this node's own. Pure.
fn plan_routes(own_name: &str, nodes: &HashMap<String, Node>) -> Routes {
    let own_address = nodes.get(own_name).and_then(internal_ip);
    let others = nodes.iter().filter(|(name, _)| *name != own_name);
    let routes = others.filter_map(|(name, node)| {
        let range = node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()?;
        // Several nodes on one host share the address, and the host has their routes already.
        let address = internal_ip(node).filter(|address| Some(*address) != own_address)?;
        Some((name.clone(), (range, address)))
    });
    routes.collect()
}

async fn route(shared: &Shared, routed: &mut Routes, wanted: Routes) {
    let mut done = Routes::new();
    for (node, (range, address)) in routed.iter() {
        if wanted.get(node) == Some(&(*range, *address)) {
            done.insert(node.clone(), (*range, *address));
        } else if let Err(error) = links::unroute_node(&shared.names, *range, *address).await {
            tracing::warn!(
                node,
                error = format!("{error:#}"),
                "could not remove a node's route"
            );
        }
    }
    for (node, (range, address)) in wanted {
        if done.contains_key(&node) {
            continue;
        }
        match links::route_node(&shared.names, range, address).await {
            Ok(()) => drop(done.insert(node, (range, address))),
            Err(error) => tracing::warn!(
                node,
                error = format!("{error:#}"),
                "could not route a node's pods: is it on the same link?"
            ),
        }
    }
    *routed = done;
}

fn internal_ip(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let internal = addresses
        .iter()
        .filter(|address| address.type_ == "InternalIP");
    internal
        .filter_map(|address| address.address.parse().ok())
        .next()
}

fn name(node: &Node) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Each node is `name range address`, with `-` for what it does not have.
    #[track_caller]
    fn check(own: &str, nodes: &[&str], expected: Expect) {
        let nodes = nodes.iter().map(|text| {
            let words: Vec<&str> = text.split(' ').collect();
            let value = serde_json::json!({
                "metadata": {"name": words[0]},
                "spec": {"podCIDR": Some(words[1]).filter(|word| *word != "-")},
                "status": {"addresses": [{"type": "InternalIP", "address": words[2]}]},
            });
            (words[0].to_owned(), serde_json::from_value(value).unwrap())
        });
        let mut routes: Vec<_> = plan_routes(own, &nodes.collect()).into_iter().collect();
        routes.sort_by(|a, b| a.0.cmp(&b.0));
        let lines = routes
            .iter()
            .map(|(node, (range, ip))| format!("{node}: {range} via {ip}\n"));
        expected.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn other_nodes_pods_are_routed_through_their_address() {
        check(
            "a",
            &[
                "a 10.64.0.0/18 192.168.1.1",
                "b 10.64.64.0/18 192.168.1.2",
                "c - 192.168.1.3",
            ],
            expect![[r#"
                b: 10.64.64.0/18 via 192.168.1.2
            "#]],
        );
    }

    #[test]
    fn a_node_on_the_same_host_needs_no_route() {
        check(
            "a",
            &["a 10.64.0.0/18 192.168.1.1", "b 10.64.64.0/18 192.168.1.1"],
            expect![""],
        );
    }
}
