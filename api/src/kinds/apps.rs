//! The group apps: what keeps pods running.

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod stateful_set;

pub(crate) use controller_revision::ControllerRevision;
pub(crate) use daemon_set::DaemonSet;
pub(crate) use deployment::Deployment;
pub(crate) use replica_set::ReplicaSet;
pub(crate) use stateful_set::StatefulSet;
