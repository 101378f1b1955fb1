//! What a Deployment asks for, with its percentages worked out.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What the Deployment says.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) replicas: i32,
    pub(super) recreate: bool,
    /// Pods that there may be beyond `replicas`; none when pods are recreated.
    pub(super) surge: i32,
    /// Replicas that may be missing meanwhile.
    pub(super) unavailable: i32,
    pub(super) paused: bool,
    /// Old ReplicaSets to keep.
    pub(super) history: usize,
    pub(super) min_ready_seconds: i32,
}

impl Wish {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.clone().unwrap_or_default();
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.unwrap_or_default();
        let recreate = strategy.type_.as_deref() == Some("Recreate");
        let rolling = strategy.rolling_update.unwrap_or_default();
        let (mut surge, mut unavailable) = (
            part_of(rolling.max_surge.as_ref(), replicas, true),
            part_of(rolling.max_unavailable.as_ref(), replicas, false),
        );
        if recreate {
            (surge, unavailable) = (0, 0);
        } else if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self {
            replicas,
            recreate,
            surge,
            unavailable: unavailable.min(replicas),
            paused: spec.paused.unwrap_or(false),
            history: usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        }
    }
}

/// A number, or a percentage of the replicas: surge is rounded up, unavailable down. Default 25 %.
fn part_of(value: Option<&IntOrString>, replicas: i32, up: bool) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return *number,
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or(0),
        None => 25,
    };
    let hundredths = i64::from(replicas) * percent;
    i32::try_from(if up {
        (hundredths + 99) / 100
    } else {
        hundredths / 100
    })
    .unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surge_is_rounded_up_and_unavailable_down() {
        let quarter = IntOrString::String("25%".into());
        let of = |up| part_of(Some(&quarter), 3, up);
        assert_eq!((of(true), of(false)), (1, 0));
    }
}
