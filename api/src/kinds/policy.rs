//! The group policy: how much of a workload may be disturbed at once.

mod pod_disruption_budget;

pub(crate) use pod_disruption_budget::PodDisruptionBudget;
