//! Gives each Node its part of the pod range.
//!
//! Reads `Node`; writes `spec.podCIDR` and `spec.podCIDRs` once. Never changes a range that a node
//! has. Runs one key at a time, so that the cache of its own writes is all it needs.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::Config;
use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within_opt};
use crate::events::Severity;
use crate::key::Key;
use crate::manager::Manager;
use crate::queue::{Action, Queue};

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("node-ipam"));
    context.nodes.listen(on_node(&queue));
    // One at a time: two nodes must not get the same range.
    manager.work_at_once(1, queue, reconcile);
}

/// Works on one Node.
async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(node) = context
        .nodes
        .get(&key)
        .filter(|node| range_of(node).is_none())
    else {
        return Ok(Action::AwaitChange);
    };
    let taken: HashSet<String> = context
        .nodes
        .all()
        .iter()
        .filter_map(|node| range_of(node))
        .collect();
    let Some(range) = plan(&context.config, &taken) else {
        let message = format!(
            "no /{} is left of {}/{}",
            context.config.node_prefix, context.config.pod_range, context.config.pod_range_prefix
        );
        context.recorder.named("cidrAllocator").record(
            &*node,
            Severity::Warning,
            "CIDRNotAvailable",
            message.clone(),
        );
        return Err(Error::Refused(message));
    };
    let api: Api<Node> = Api::all(context.client.clone());
    let patch =
        json!({"metadata": {"uid": node.uid()}, "spec": {"podCIDR": range, "podCIDRs": [range]}});
    let answer =
        within_opt(api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))).await?;
    answer
        .into_iter()
        .for_each(|node| context.nodes.apply(node));
    Ok(Action::AwaitChange)
}

/// The first free range.
fn plan(config: &Config, taken: &HashSet<String>) -> Option<String> {
    let ranges = 1_u32
        << config
            .node_prefix
            .saturating_sub(config.pod_range_prefix)
            .min(31);
    let size = 1_u32
        .checked_shl(32 - u32::from(config.node_prefix))
        .unwrap_or(0);
    (0..ranges)
        .map(|place| {
            Ipv4Addr::from_bits(
                config
                    .pod_range
                    .to_bits()
                    .wrapping_add(place.wrapping_mul(size)),
            )
        })
        .map(|first| format!("{first}/{}", config.node_prefix))
        .find(|range| !taken.contains(range))
}

fn range_of(node: &Node) -> Option<String> {
    node.spec
        .as_ref()?
        .pod_cidr
        .clone()
        .filter(|range| !range.is_empty())
}

fn on_node(queue: &Queue<Key>) -> Listener<Node> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        if let Some(node) = new.filter(|node| range_of(node).is_none()) {
            queue.add(Key::of(&**node));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_first_free_range() {
        let taken = ["10.64.0.0/18".to_owned(), "10.64.128.0/18".to_owned()].into();
        assert_eq!(
            plan(&Config::default(), &taken).as_deref(),
            Some("10.64.64.0/18")
        );
        let small = Config {
            pod_range: Ipv4Addr::new(127, 42, 0, 0),
            pod_range_prefix: 16,
            node_prefix: 16,
            ..Config::default()
        };
        assert_eq!(
            plan(&small, &HashSet::new()).as_deref(),
            Some("127.42.0.0/16")
        );
        assert_eq!(plan(&small, &["127.42.0.0/16".to_owned()].into()), None);
    }
}
