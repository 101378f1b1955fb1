//! What a StatefulSet asks for, with its percentages worked out and its names.

use std::ops::Range;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

/// A StatefulSet as plans see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) deleting: bool,
    /// The ordinals that there should be.
    pub(super) ordinals: Range<i64>,
    /// Whether pods need not wait for each other.
    pub(super) parallel: bool,
    pub(super) min_ready_seconds: i32,
    /// `None`: pods stay as they are until somebody deletes them.
    pub(super) rolling: Option<Rolling>,
    pub(super) history: usize,
    /// What becomes of claims.
    pub(super) claims: Retention,
    /// The names of its templates of claims.
    pub(super) templates: Vec<String>,
}

/// How pods get to a new revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rolling {
    /// Those with lower ordinals stay at the revision that they have.
    pub(super) from: i64,
    /// How many may be down for it at once; at least 1.
    pub(super) unavailable: i64,
}

/// Whether claims go with what they were made for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Retention {
    /// They go with the set.
    pub(super) go_with_set: bool,
    /// They go with a pod that is scaled away.
    pub(super) go_with_pod: bool,
}

impl Set {
    pub(super) fn read(set: &StatefulSet) -> Self {
        let spec = set.spec.clone().unwrap_or_default();
        let replicas = i64::from(spec.replicas.unwrap_or(1).max(0));
        let start = spec.ordinals.and_then(|ordinals| ordinals.start);
        let start = i64::from(start.unwrap_or(0).max(0));
        let strategy = spec.update_strategy.unwrap_or_default();
        let rolling = strategy.rolling_update.unwrap_or_default();
        let goes = |policy: Option<&String>| policy.is_some_and(|policy| policy == "Delete");
        let retention = spec.persistent_volume_claim_retention_policy;
        let retention = retention.unwrap_or_default();
        let templates = spec.volume_claim_templates.unwrap_or_default();
        Self {
            name: set.name_any(),
            uid: set.uid().unwrap_or_default(),
            deleting: set.metadata.deletion_timestamp.is_some(),
            ordinals: start..start + replicas,
            parallel: spec.pod_management_policy.as_deref() == Some("Parallel"),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            rolling: (strategy.type_.as_deref() != Some("OnDelete")).then(|| Rolling {
                from: start + i64::from(rolling.partition.unwrap_or(0)),
                unavailable: part_of(rolling.max_unavailable.as_ref(), replicas),
            }),
            history: usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0),
            claims: Retention {
                go_with_set: goes(retention.when_deleted.as_ref()),
                go_with_pod: goes(retention.when_scaled.as_ref()),
            },
            templates: templates.iter().map(ResourceExt::name_any).collect(),
        }
    }

    pub(super) fn pod_name(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.name)
    }

    pub(super) fn claim_name(&self, template: &str, ordinal: i64) -> String {
        format!("{template}-{}-{ordinal}", self.name)
    }

    /// The ordinal in a pod's name; `None` when it is no name of this set's.
    pub(super) fn ordinal(&self, pod: &Pod) -> Option<i64> {
        let name = pod.metadata.name.as_deref()?;
        let digits = name.strip_prefix(&self.name)?.strip_prefix('-')?;
        let ordinal = digits.parse::<i64>().ok()?;
        (ordinal >= 0 && digits == ordinal.to_string()).then_some(ordinal)
    }
}

/// A number, or a percentage of the replicas rounded down; at least 1, which is the default.
fn part_of(value: Option<&IntOrString>, replicas: i64) -> i64 {
    let part = match value {
        None => 1,
        Some(IntOrString::Int(number)) => i64::from(*number),
        Some(IntOrString::String(text)) => {
            let percent = text.trim_end_matches('%').parse().unwrap_or(0);
            replicas.saturating_mul(percent) / 100
        }
    };
    part.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_set_gives_have_an_ordinal() {
        let set = Set {
            name: "web".into(),
            ..Set::default()
        };
        let of = |name: &str| {
            let mut pod = Pod::default();
            pod.metadata.name = Some(name.into());
            set.ordinal(&pod)
        };
        assert_eq!(of("web-12"), Some(12));
        let others = [
            "web-01", "web-", "web", "web-x", "web--1", "web-a-1", "we-1",
        ];
        assert_eq!(others.map(of), [None; 7]);
    }

    #[test]
    fn at_least_one_pod_may_be_down() {
        let of = |text: &str| part_of(Some(&IntOrString::String(text.into())), 5);
        assert_eq!([of("50%"), of("10%"), of("100%")], [2, 1, 5]);
        assert_eq!(part_of(None, 5), 1);
    }
}
