//! The plugins, one file each: filters say which nodes a pod may run on, scores which of those is best.
//!
//! Pure. Names, order, weights and texts are those of Kubernetes' default profile.

mod allocation;
pub(crate) mod arguments;
mod balanced_allocation;
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
        "NodeAffinity" => Arc::new(node_affinity::NodeAffinity),
        "NodePorts" => Arc::new(node_ports::NodePorts),
        "VolumeRestrictions" => Arc::new(volumes::VolumeRestrictions),
        "VolumeZone" => Arc::new(volumes::VolumeZone),
        "PodTopologySpread" => Arc::new(topology_spread::PodTopologySpread::default()),
        "InterPodAffinity" => Arc::new(pod_affinity::InterPodAffinity::default()),
        "ImageLocality" => Arc::new(image_locality::ImageLocality),
        "NodeResourcesFit" => {
            return Some(with(path, args, arguments::FitArgs::check, fit::Fit::new));
        }
        "NodeResourcesBalancedAllocation" => {
            let new = balanced_allocation::BalancedAllocation::new;
            return Some(with(path, args, arguments::BalancedArgs::check, new));
        }
        "VolumeBinding" => {
            let new = volumes::VolumeBinding::new;
            return Some(with(path, args, arguments::VolumeBindingArgs::check, new));
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
    path: &str,
    args: Value,
    check: impl Fn(&A, &str) -> Result<(), String>,
    new: impl Fn(A) -> P,
) -> Result<Arc<dyn Plugin>, String>
where
    A: serde::de::DeserializeOwned + Default,
    P: Plugin + 'static,
{
    let args: A = arguments::read(path, args)?;
    check(&args, path)?;
    Ok(Arc::new(new(args)))
}
