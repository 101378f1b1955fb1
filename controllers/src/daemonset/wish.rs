//! What a DaemonSet asks for.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::DynamicObject;
use kube::core::Selector;

use super::placement::Placement;
use crate::error::Error;

/// Where its template's number stood before there were revisions.
pub(super) const GENERATION: &str = "deprecated.daemonset.template.generation";

/// What the DaemonSet says.
pub(super) struct Wish {
    pub(super) placement: Placement,
    pub(super) selector: Selector,
    pub(super) min_ready_seconds: i32,
    pub(super) rollout: Rollout,
    /// Old revisions to keep.
    pub(super) history: usize,
    /// The number of its template.
    pub(super) generation: Option<String>,
}

/// How pods of an old template are replaced.
pub(super) enum Rollout {
    /// When somebody deletes them.
    OnDelete,
    /// A few at a time.
    Rolling {
        unavailable: Option<IntOrString>,
        surge: Option<IntOrString>,
    },
}

/// How many at a time, among so many nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pace {
    pub(super) unavailable: usize,
    pub(super) surge: usize,
}

impl Wish {
    pub(super) fn of(raw: &DynamicObject, set: &DaemonSet) -> Result<Self, Error> {
        let spec = set.spec.clone().unwrap_or_default();
        let selector = spec.selector.try_into();
        let strategy = spec.update_strategy.unwrap_or_default();
        let rolling = strategy.rolling_update.unwrap_or_default();
        let generation = raw.metadata.annotations.as_ref();
        Ok(Self {
            placement: Placement::of(raw),
            selector: selector
                .map_err(|error| Error::Invalid(format!("spec.selector: {error}")))?,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            rollout: match strategy.type_.as_deref() {
                Some("OnDelete") => Rollout::OnDelete,
                _ => Rollout::Rolling {
                    unavailable: rolling.max_unavailable,
                    surge: rolling.max_surge,
                },
            },
            history: usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0),
            generation: generation.and_then(|all| all.get(GENERATION)).cloned(),
        })
    }
}

impl Rollout {
    /// `None`: pods are not replaced.
    pub(super) fn pace(&self, nodes: usize) -> Option<Pace> {
        let Self::Rolling { unavailable, surge } = self else {
            return None;
        };
        let (mut unavailable, surge) = (
            unavailable.as_ref().map_or(1, |value| share(value, nodes)),
            surge.as_ref().map_or(0, |value| share(value, nodes)),
        );
        if unavailable == 0 && surge == 0 {
            unavailable = 1;
        }
        Some(Pace { unavailable, surge })
    }

    /// Whether there may be two pods on a node meanwhile.
    pub(super) fn surges(&self) -> bool {
        self.pace(1).is_some_and(|pace| pace.surge > 0)
    }
}

/// A number, or a percentage of the nodes, rounded up.
fn share(value: &IntOrString, of: usize) -> usize {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
            percent.saturating_mul(of).div_ceil(100)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rounded_up_and_never_both_nothing() {
        let pace = |unavailable: &str, surge: &str| {
            let part = |text: &str| Some(IntOrString::String(text.to_owned()));
            let rollout = Rollout::Rolling {
                unavailable: part(unavailable),
                surge: part(surge),
            };
            let pace = rollout.pace(5).unwrap();
            (pace.unavailable, pace.surge, rollout.surges())
        };
        assert_eq!(pace("30%", "0%"), (2, 0, false));
        assert_eq!(pace("0%", "1%"), (0, 1, true));
        assert_eq!(pace("0%", "0%"), (1, 0, false));
        assert_eq!(Rollout::OnDelete.pace(5), None);
    }
}
