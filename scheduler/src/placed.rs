//! What is kept of a pod that is on a node: what decisions about other pods read, nothing else.
//!
//! Pure. Parts that many pods have in common are shared with the [`Pod`] it was made from.

use std::sync::Arc;

use jiff::Timestamp;

use crate::pod::{Labels, Load, Pod, PodAffinity};

/// A pod that is on a node, or assumed to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub uid: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub labels: Arc<Labels>,
    pub priority: i32,
    /// `status.startTime`; `None` until its nodelet has said it.
    pub started: Option<Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
    pub load: Arc<Load>,
    pub(crate) affinity: Option<Arc<PodAffinity>>,
}

impl From<&Pod> for Placed {
    fn from(pod: &Pod) -> Self {
        Self {
            uid: Arc::clone(&pod.uid),
            namespace: Arc::clone(&pod.namespace),
            name: Arc::clone(&pod.name),
            labels: Arc::clone(&pod.labels),
            priority: pod.priority,
            started: pod.started,
            deleting: pod.deleting,
            load: Arc::clone(&pod.load),
            affinity: pod.affinity.clone(),
        }
    }
}
