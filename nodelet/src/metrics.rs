//! What the nodelet counts: `kubelet_*`, as in Kubernetes.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::pods::Pods;

/// Counts the pods and containers of this node when it is asked.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pods: Pods,
    pub(crate) node_name: String,
}

impl Collector for Running {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = |count: usize| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        let counts = self.pods.counts();
        gauge(counts.running_pods).encode(encoder.encode_descriptor(
            "kubelet_running_pods",
            "Number of pods that have a running container",
            None,
            MetricType::Gauge,
        )?)?;
        let mut family = encoder.encode_descriptor(
            "kubelet_running_containers",
            "Number of containers, by their state",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in [
            ("created", counts.waiting),
            ("exited", counts.exited),
            ("running", counts.running),
        ] {
            gauge(count).encode(family.encode_family(&[("container_state", state)])?)?;
        }
        gauge(counts.desired_pods).encode(encoder.encode_descriptor(
            "kubelet_desired_pods",
            "The number of pods the kubelet is being instructed to run",
            None,
            MetricType::Gauge,
        )?)?;
        let mut family = encoder.encode_descriptor(
            "kubelet_node_name",
            "The node's name. The count is always 1.",
            None,
            MetricType::Gauge,
        )?;
        gauge(1).encode(family.encode_family(&[("node", self.node_name.as_str())])?)
    }
}
