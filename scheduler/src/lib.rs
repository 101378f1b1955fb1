//! Decides which node each pod runs on, and binds it.
//!
//! The decision is pure: [`schedule`] takes a [`Snapshot`] of nodes and what is placed on them, one
//! [`Pod`], and a source of randomness for ties. It follows the phases of Kubernetes' scheduling
//! framework: every filter plugin must admit a node, then score plugins rank those that are left.
//! [`Scheduler`] is the loop around it: watches keep the snapshot, bindings go out concurrently. [`Simulation`] asks the same
//! core without an API.
//!
//! Reads `Pod`, `Node`, `Namespace`, what selects pods (`Service`, `ReplicaSet`, `StatefulSet`, `ReplicationController`) and,
//! for pods with claims, `PersistentVolumeClaim`, `PersistentVolume` and `StorageClass`; `PodDisruptionBudget` where room is made.
//! Writes `pods/binding`, the pod's condition `PodScheduled` and `status.nominatedNodeName`, `Event`, the node that a claim's
//! volume is made on and the claim that a free volume gets. Deletes only pods that a PostFilter plugin chose to make room.

mod budgets;
mod census;
mod config;
mod configuration;
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
mod told;
mod zones;

pub use config::Config;
pub use decision::{Decision, Rotation, Unschedulable, schedule};
pub use framework::{Nomination, PostFiltered, Room};
pub use node::{Node, Taint};
pub use placed::Placed;
pub use pod::{HostPort, Labels, Pod, PodAffinity, PodClaim, Spread};
pub use profile::Profile;
pub use resources::Resources;
pub use scheduler::Scheduler;
pub use simulation::{Answer, Objection, Simulation, Verdict};
pub use snapshot::{NodeChange, Snapshot};
