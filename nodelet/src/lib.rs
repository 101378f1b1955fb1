//! The nodelet: one per node, it turns the pods bound to its node into runtime calls and tells the API how
//! they fare. It is what the kubelet is in Kubernetes, and behaves as one towards the API.
//!
//! Reading order:
//! - [`config`]: what a nodelet is told.
//! - [`nodelet`](mod@nodelet): wires the parts below and runs them.
//! - [`node`]: the Node object, its conditions and its Lease.
//! - [`pods`]: the pod watch; starts one worker a pod. [`admission`]: what the node does not take; pure.
//! - [`static_pods`]: pods from a directory of manifests, and their mirrors in the API.
//! - [`pod`]: what a worker knows (`state`), decides (`plan`), reports (`status`) and does (`worker`, `start`).
//! - [`volume`]: what pods find in their files.
//! - [`probe`]: whether containers are started, alive and ready; [`handler`]: what runs once after start and before stop.
//! - [`provisioner`]: makes the volumes of `wk-local` on this node.
//! - [`functions`]: components that requests start, for the node's gateway.
//! - [`services`]: the Services of the cluster, as environment variables.
//! - [`events`]: Events, counted and bounded.
//! - [`logs`]: reads what the runtimes wrote.
//! - [`image_gc`]: removes images that no pod uses when the disk fills up.
//! - [`inotify`]: learns which files changed.
//! - [`usage`]: what the node and its containers use.
//! - [`server`]: the nodelet's own HTTP server.
//! - [`sessions`]: what goes on behind an upgraded connection.
//!
//! Reads Pod, Node, Service, ConfigMap, Secret, PersistentVolumeClaim, PersistentVolume. Writes its own Node and Lease,
//! the status of its pods, mirror pods, Events, the PersistentVolumes that it makes, and deletes its pods once they have
//! ended. Never sets `spec.nodeName`, never touches another node's pods,
//! and never owns taints: the node lifecycle controller does.

mod admission;
mod clock;
pub mod config;
mod deadline;
mod events;
#[cfg(test)]
mod fake_api;
mod functions;
mod handler;
mod host;
mod image_gc;
mod inotify;
mod logs;
mod metrics;
mod node;
pub mod nodelet;
mod pod;
mod pods;
mod probe;
mod provisioner;
mod quantity;
pub mod server;
mod services;
mod sessions;
mod static_pods;
mod usage;
mod volume;

pub use config::{Capacity, Config, PodRange, ReservedPort};
pub use nodelet::{Handle, Nodelet};
pub use server::serve;
