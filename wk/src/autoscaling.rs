//! How HorizontalPodAutoscalers work, as the operator says: Kubernetes' flags, by their names.

use std::time::Duration;

use controllers::Autoscaling;
use jiff::SignedDuration;

/// Flags of the autoscalers.
#[derive(clap::Args)]
#[command(next_help_heading = "Autoscaling")]
pub(crate) struct Flags {
    /// How often each HorizontalPodAutoscaler looks at its metrics [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = period)]
    horizontal_pod_autoscaler_sync_period: Option<Duration>,
    /// How long autoscalers that name no window remember that more replicas were needed [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    horizontal_pod_autoscaler_downscale_stabilization: Option<Duration>,
    /// By which share a metric may miss its target before autoscalers that name no tolerance act [default: 0.1]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    horizontal_pod_autoscaler_tolerance: Option<f64>,
    /// How long after a pod's start its CPU counts only while it is ready [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    horizontal_pod_autoscaler_cpu_initialization_period: Option<Duration>,
    /// How long after its start a pod that turns unready counts as never ready [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    horizontal_pod_autoscaler_initial_readiness_delay: Option<Duration>,
}

impl Flags {
    /// What was said, and Kubernetes' defaults for the rest.
    pub(crate) fn autoscaling(&self) -> Autoscaling {
        let usual = Autoscaling::default();
        Autoscaling {
            sync_period: self
                .horizontal_pod_autoscaler_sync_period
                .unwrap_or(usual.sync_period),
            downscale_stabilization: self
                .horizontal_pod_autoscaler_downscale_stabilization
                .unwrap_or(usual.downscale_stabilization),
            tolerance: self
                .horizontal_pod_autoscaler_tolerance
                .unwrap_or(usual.tolerance),
            cpu_initialization_period: self
                .horizontal_pod_autoscaler_cpu_initialization_period
                .unwrap_or(usual.cpu_initialization_period),
            initial_readiness_delay: self
                .horizontal_pod_autoscaler_initial_readiness_delay
                .unwrap_or(usual.initial_readiness_delay),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text
        .parse()
        .map_err(|_| "not a duration such as 15s or 5m")?;
    Duration::try_from(duration).map_err(|_| "must not be negative".to_owned())
}

fn period(text: &str) -> Result<Duration, String> {
    let period = duration(text)?;
    if period < Duration::from_secs(1) {
        return Err("must be at least 1s".to_owned());
    }
    Ok(period)
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number such as 0.1")?;
    if !(0.0..=1.0).contains(&share) {
        return Err("must be between 0 and 1".to_owned());
    }
    Ok(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_given_as_for_kubernetes() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("5m0s"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["15", "", "-5s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(period("10ms").is_err());
        assert!(share("1.5").is_err());
    }
}
