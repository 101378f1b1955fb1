//! What becomes of the pods of nodes that go.
//!
//! Pods of a controller are made again and need a node, the most important first. Others are lost, and a node's own
//! (a DaemonSet's, static ones) end with it or stay.

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::ResourceExt as _;

use super::{
    budget::{self, Budget},
    cluster::{Cluster, controller},
    report::{BudgetUse, Leaving, Outcome, Report},
};

/// Nodes are gone at once, and all their pods with them.
pub(super) fn go(cluster: &mut Cluster, nodes: &[String], report: &mut Report) -> Result<()> {
    let pods = pods_of(cluster, nodes)?;
    nodes.iter().for_each(|node| cluster.remove_node(node));
    for pod in pods {
        let outcome = match made_again(&pod) {
            Again::No => Outcome::Lost,
            Again::NodesOwn => Outcome::Ends,
            Again::Yes => cluster.decide(&replacement(&pod)),
        };
        report.leaving.push(leaving(&pod, outcome));
    }
    Ok(())
}

/// Nodes take no more pods, and theirs are evicted one after another.
pub(super) fn drain(cluster: &mut Cluster, nodes: &[String], report: &mut Report) -> Result<()> {
    let pods = pods_of(cluster, nodes)?;
    for name in nodes {
        if let Some(mut node) = cluster.nodes.get(name).cloned() {
            node.spec.get_or_insert_default().unschedulable = Some(true);
            cluster.put_node(node);
        }
    }
    let mut budgets: Vec<Budget> = cluster.budgets.iter().map(Budget::of).collect();
    for pod in pods {
        let again = made_again(&pod);
        if again == Again::NodesOwn {
            report.leaving.push(leaving(&pod, Outcome::Stays));
            continue;
        }
        let outcome = match budget::evict(&mut budgets, &pod) {
            Err(blocked) => Outcome::Blocked { message: blocked.0 },
            Ok(taken) => {
                cluster.remove_pod(&pod);
                let outcome = match again {
                    Again::Yes => cluster.decide(&replacement(&pod)),
                    _ => Outcome::Lost,
                };
                if matches!(outcome, Outcome::Fits { .. }) {
                    budget::replaced(&mut budgets, taken);
                }
                outcome
            }
        };
        report.leaving.push(leaving(&pod, outcome));
    }
    let used = budgets.iter().filter(|budget| budget.leaving > 0);
    report.budgets.extend(used.map(|budget| BudgetUse {
        namespace: budget.namespace.clone(),
        name: budget.name.clone(),
        allowed: budget.allowed,
        leaving: budget.leaving,
        blocked: budget.blocked,
    }));
    Ok(())
}

/// The pods of nodes that have not ended, in the order in which their replacements are decided.
fn pods_of(cluster: &Cluster, nodes: &[String]) -> Result<Vec<Pod>> {
    for node in nodes {
        if !cluster.nodes.contains_key(node) {
            bail!(crate::api::ServerError {
                code: 404,
                reason: "NotFound".to_owned(),
                message: format!("nodes {node:?} not found"),
            });
        }
    }
    let on = |pod: &&Pod| {
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_ref());
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        node.is_some_and(|node| nodes.contains(node))
            && !matches!(phase, Some("Succeeded" | "Failed"))
            && pod.metadata.deletion_timestamp.is_none()
    };
    let mut pods: Vec<Pod> = cluster.pods.iter().filter(on).cloned().collect();
    pods.sort_by_cached_key(|pod| {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
        let created = pod.creation_timestamp().map(|time| time.0);
        let name = (pod.namespace(), pod.name_any());
        (
            std::cmp::Reverse(priority.unwrap_or_default()),
            created,
            name,
        )
    });
    Ok(pods)
}

/// Whether somebody makes a pod again that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Again {
    Yes,
    No,
    /// It belongs to its node.
    NodesOwn,
}

fn made_again(pod: &Pod) -> Again {
    match controller(pod) {
        _ if pod
            .annotations()
            .contains_key("kubernetes.io/config.mirror") =>
        {
            Again::NodesOwn
        }
        Some(owner) if matches!(owner.kind.as_str(), "DaemonSet" | "Node") => Again::NodesOwn,
        Some(_) => Again::Yes,
        None => Again::No,
    }
}

/// The pod that its controller makes in its place. Its own claims are made anew, so they are left out.
fn replacement(pod: &Pod) -> Pod {
    let mut new = pod.clone();
    new.metadata.uid = Some(format!("replaces-{}", pod.uid().unwrap_or_default()));
    new.status = None;
    if let Some(PodSpec {
        node_name, volumes, ..
    }) = &mut new.spec
    {
        *node_name = None;
        if let Some(volumes) = volumes {
            volumes.retain(|volume| volume.ephemeral.is_none());
        }
    }
    new
}

fn leaving(pod: &Pod, outcome: Outcome) -> Leaving {
    let spec = pod.spec.as_ref();
    Leaving {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        owner: controller(pod).map(|owner| format!("{}/{}", owner.kind, owner.name)),
        from: spec
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        outcome,
    }
}
