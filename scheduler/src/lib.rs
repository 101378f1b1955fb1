//! Decides which node each pod runs on, and binds it.
//!
//! The decision is pure: [`schedule`] takes a [`Snapshot`] of nodes and what is placed on them, one
//! [`Pod`], and a source of randomness for ties. It follows the phases of Kubernetes' scheduling
//! framework: every filter plugin must admit a node, then score plugins rank those that are left.
//! [`Scheduler`] is the loop around it: two watches keep the snapshot, bindings go out concurrently;
//! [`Simulation`] tries decisions on a copy of a cluster.
//!
//! Reads `Pod`, `Node`, `Namespace`, what selects pods (`Service`, `ReplicaSet`, `StatefulSet`, `ReplicationController`) and, for pods with claims, `PersistentVolumeClaim`, `PersistentVolume` and `StorageClass`.
//! Writes `pods/binding`, the pod's condition `PodScheduled`, `Event`, the node that a claim's volume is made on
//! and the claim that a free volume gets. Never evicts or deletes a pod, and never touches one of another scheduler's.

mod census;
mod config;
mod decision;
mod framework;
mod images;
mod labels;
pub mod metrics;
mod node;
mod owners;
mod pairs;
mod placed;
mod plugins;
mod pod;
mod prebind;
mod profile;
mod quantity;
mod queue;
mod report;
mod resources;
mod scheduler;
mod selector;
mod simulation;
mod snapshot;
mod storage;

pub use config::Config;
pub use decision::{Decision, Unschedulable, schedule};
pub use node::{Node, Taint};
pub use pod::{HostPort, Labels, Pod, PodClaim};
pub use profile::Profile;
pub use resources::Resources;
pub use scheduler::Scheduler;
pub use simulation::{Objection, Simulation, Verdict};
pub use snapshot::{NodeChange, Snapshot};
