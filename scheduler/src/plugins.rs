//! The plugins, one file each: filters say which nodes a pod may run on, scores which of those is best.
//!
//! Pure. Names, order, weights and texts are those of Kubernetes' default profile.

mod allocation;
pub(crate) mod arguments;
mod balanced_allocation;
mod default_preemption;
mod fit;
#[cfg(test)]
mod fixture;
mod image_locality;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod pod_affinity;
mod scheduling_gates;
mod taint_toleration;
mod topology_spread;
pub(crate) mod volumes;

use std::sync::Arc;

use serde_json::Value;

use crate::framework::Plugin;

/// The plugins of the default profile in their order, and the weights of those that score.
pub(crate) const DEFAULT: &[(&str, i64)] = &[
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0),
    ("VolumeBinding", 0),
    ("VolumeZone", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
];

/// Every plugin, and the phases in which it does something.
pub(crate) const KNOWN: &[(&str, &[&str])] = &[
    ("SchedulingGates", &["preEnqueue"]),
    ("PrioritySort", &["queueSort"]),
    ("NodeUnschedulable", &["filter"]),
    ("NodeName", &["filter"]),
    ("TaintToleration", &["filter", "preScore", "score"]),
    (
        "NodeAffinity",
        &["preFilter", "filter", "preScore", "score"],
    ),
    ("NodePorts", &["preFilter", "filter"]),
    (
        "NodeResourcesFit",
        &["preFilter", "filter", "preScore", "score"],
    ),
    ("VolumeRestrictions", &["preFilter", "filter"]),
    (
        "VolumeBinding",
        &[
            "preFilter",
            "filter",
            "reserve",
            "preBind",
            "preScore",
            "score",
        ],
    ),
    ("VolumeZone", &["preFilter", "filter"]),
    (
        "PodTopologySpread",
        &["preFilter", "filter", "preScore", "score"],
    ),
    (
        "InterPodAffinity",
        &["preFilter", "filter", "preScore", "score"],
    ),
    ("DefaultPreemption", &["postFilter"]),
    ("NodeResourcesBalancedAllocation", &["preScore", "score"]),
    ("ImageLocality", &["score"]),
    ("DefaultBinder", &["bind"]),
];

/// What the loop and the queue do themselves: there is nothing to choose, but configuration names them.
pub(crate) const FIXED: &[&str] = &["PrioritySort", "DefaultBinder"];

/// The plugin of this name with these arguments; `None` if there is none.
///
/// # Errors
/// What is wrong with the arguments, which are at `path`.
pub(crate) fn make(name: &str, path: &str, args: Value) -> Option<Result<Arc<dyn Plugin>, String>> {
    let plugin: Arc<dyn Plugin> = match name {
        "SchedulingGates" => Arc::new(scheduling_gates::SchedulingGates),
        "NodeUnschedulable" => Arc::new(node_unschedulable::NodeUnschedulable),
        "NodeName" => Arc::new(node_name::NodeName),
        "TaintToleration" => Arc::new(taint_toleration::TaintToleration),
        "NodePorts" => Arc::new(node_ports::NodePorts),
        "VolumeRestrictions" => Arc::new(volumes::VolumeRestrictions),
        "VolumeZone" => Arc::new(volumes::VolumeZone),
        "ImageLocality" => Arc::new(image_locality::ImageLocality),
        "NodeAffinity" => {
            let new = node_affinity::NodeAffinity::new;
            return Some(with(
                name,
                path,
                args,
                arguments::NodeAffinityArgs::check,
                new,
            ));
        }
        "PodTopologySpread" => {
            let new = topology_spread::PodTopologySpread::new;
            return Some(with(
                name,
                path,
                args,
                arguments::PodTopologySpreadArgs::check,
                new,
            ));
        }
        "InterPodAffinity" => {
            let new = pod_affinity::InterPodAffinity::new;
            return Some(with(
                name,
                path,
                args,
                arguments::InterPodAffinityArgs::check,
                new,
            ));
        }
        "DefaultPreemption" => {
            let new = default_preemption::DefaultPreemption::new;
            return Some(with(
                name,
                path,
                args,
                arguments::DefaultPreemptionArgs::check,
                new,
            ));
        }
        "NodeResourcesFit" => {
            return Some(with(
                name,
                path,
                args,
                arguments::FitArgs::check,
                fit::Fit::new,
            ));
        }
        "NodeResourcesBalancedAllocation" => {
            let new = balanced_allocation::BalancedAllocation::new;
            return Some(with(name, path, args, arguments::BalancedArgs::check, new));
        }
        "VolumeBinding" => {
            let new = volumes::VolumeBinding::new;
            return Some(with(
                name,
                path,
                args,
                arguments::VolumeBindingArgs::check,
                new,
            ));
        }
        _ => return None,
    };
    Some(if args.is_null() {
        Ok(plugin)
    } else {
        Err(format!("{path}: Forbidden: {name} takes no arguments"))
    })
}

/// Makes a plugin that takes arguments.
fn with<A, P>(
    name: &str,
    path: &str,
    args: Value,
    check: impl Fn(&A, &str) -> Result<(), String>,
    new: impl Fn(A) -> P,
) -> Result<Arc<dyn Plugin>, String>
where
    A: serde::de::DeserializeOwned + Default,
    P: Plugin + 'static,
{
    let args: A = arguments::read(name, path, args)?;
    check(&args, path)?;
    Ok(Arc::new(new(args)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::Change;
    use crate::placed::Placed;

    #[test]
    fn a_plugin_hears_of_every_change_that_it_says_may_help() {
        let pods = [
            "",
            "cpu:1",
            "near/zone/a=1",
            "far/zone/a=1",
            "spread/zone/1/a=1",
        ];
        let mut pods = pods
            .map(|words| fixture::pod(&format!("name:p a=1 {words}")))
            .to_vec();
        pods.push(fixture::pod("name:q on:zone=b"));
        let (old, new) = (
            fixture::node("n zone=a !x"),
            fixture::node("n zone=b cpu:9"),
        );
        let mut cordoned = old.clone();
        cordoned.unschedulable = true;
        let placed = fixture::pod("name:o a=1 far/zone/a=1");
        let mut port = placed.clone();
        port.load = Arc::new(crate::pod::Load {
            ports: vec![crate::pod::HostPort {
                address: "0.0.0.0".to_owned(),
                protocol: "TCP".to_owned(),
                port: 80,
            }],
            claims: vec!["default/c".into()],
            ..crate::pod::Load::default()
        });
        port.claims = vec![crate::pod::PodClaim {
            key: "default/c".into(),
            name: "c".to_owned(),
            ephemeral: false,
        }];
        port.node = Some("n".into());
        pods.push(port.clone());
        let unlike = Placed::from(&fixture::pod("name:o b=1"));
        let (placed, port) = (Placed::from(&placed), Placed::from(&port));
        let mut snapshot = crate::snapshot::Snapshot::default();
        snapshot.put_node(new.clone());
        let node = snapshot.candidate("n");
        let changes = [
            Change::NodeAdded(&new),
            Change::NodeChanged {
                old: &old,
                new: &new,
            },
            Change::NodeChanged {
                old: &cordoned,
                new: &new,
            },
            Change::NodeRemoved(&new),
            Change::PodPlaced(&placed),
            Change::PodChanged {
                old: &placed,
                new: &unlike,
                node,
            },
            Change::PodChanged {
                old: &unlike,
                new: &placed,
                node,
            },
            Change::PodRemoved { pod: &placed, node },
            Change::PodRemoved { pod: &port, node },
            Change::Storage,
            Change::Namespace,
        ];
        for (name, phases) in KNOWN {
            let Some(plugin) = make(name, "", Value::Null) else {
                continue;
            };
            let plugin = plugin.unwrap();
            let mut helps = false;
            for change in &changes {
                let may_help = pods.iter().any(|pod| plugin.may_help(change, pod));
                assert!(
                    !may_help || plugin.hears(change.kind()),
                    "{name}: {change:?}"
                );
                helps |= may_help;
            }
            // Otherwise nothing was checked.
            assert!(helps || !phases.contains(&"filter"), "{name}");
        }
    }
}
