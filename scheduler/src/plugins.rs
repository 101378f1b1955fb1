//! The plugins, one file each: filters say which nodes a pod may run on, scores which of those is best.
//!
//! Pure. Names, order, weights and texts are those of Kubernetes' default profile.

mod fit;
#[cfg(test)]
mod fixture;
mod image_locality;
mod least_allocated;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod pod_affinity;
mod taint_toleration;
mod topology_spread;
pub(crate) mod volumes;

use std::sync::Arc;

use crate::framework::Plugin;

/// The plugins of the default profile in their order, and the weights of those that score.
pub(crate) const DEFAULT: &[(&str, i64)] = &[
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
    ("ImageLocality", 1),
];

/// The plugin of this name.
pub(crate) fn make(name: &str) -> Option<Arc<dyn Plugin>> {
    Some(match name {
        "NodeUnschedulable" => Arc::new(node_unschedulable::NodeUnschedulable),
        "NodeName" => Arc::new(node_name::NodeName),
        "TaintToleration" => Arc::new(taint_toleration::TaintToleration),
        "NodeAffinity" => Arc::new(node_affinity::NodeAffinity),
        "NodePorts" => Arc::new(node_ports::NodePorts),
        "NodeResourcesFit" => Arc::new(fit::Fit),
        "VolumeRestrictions" => Arc::new(volumes::VolumeRestrictions),
        "VolumeBinding" => Arc::new(volumes::VolumeBinding),
        "VolumeZone" => Arc::new(volumes::VolumeZone),
        "PodTopologySpread" => Arc::new(topology_spread::PodTopologySpread::default()),
        "InterPodAffinity" => Arc::new(pod_affinity::InterPodAffinity::default()),
        "ImageLocality" => Arc::new(image_locality::ImageLocality),
        _ => return None,
    })
}
