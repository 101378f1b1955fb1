//! The scheduler: chooses a node for each pod that has none.
//!
//! [`snapshot`], [`filter`], [`score`] and [`decision`] are pure: [`schedule`] takes what is seen
//! and says where a pod goes. [`Scheduler`] is the loop around it, and speaks to the apiserver
//! through a [`kube::Client`].

mod decision;
mod filter;
mod quantity;
mod run;
mod score;
mod snapshot;

pub use decision::{Decision, schedule};
pub use run::{Config, Scheduler};
pub use snapshot::{NodeState, PodNeeds, Snapshot};
