//! Which plugins take part in which phase: the default ones, as a profile changes them.
//!
//! Pure. `multiPoint` says it for every phase; what a phase says itself comes before that.

use std::collections::HashMap;

use serde::Deserialize;

use crate::plugins::{DEFAULT, FIXED, KNOWN};

const ALL: &str = "*";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct PluginSets {
    multi_point: PluginSet,
    pre_enqueue: PluginSet,
    queue_sort: PluginSet,
    pre_filter: PluginSet,
    filter: PluginSet,
    post_filter: PluginSet,
    pre_score: PluginSet,
    score: PluginSet,
    reserve: PluginSet,
    permit: PluginSet,
    pre_bind: PluginSet,
    bind: PluginSet,
    post_bind: PluginSet,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PluginSet {
    enabled: Vec<Named>,
    disabled: Vec<Named>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    #[serde(default)]
    weight: i64,
}

/// The plugins of each phase, and their weights.
pub(super) struct Choice<'a> {
    points: HashMap<&'static str, Vec<(&'a str, i64)>>,
    sets: &'a PluginSets,
}

/// Whether Kubernetes' plugin of this name is one of ours.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == name)
}

/// Whether it does something in this phase.
pub(super) fn takes_part(name: &str, point: &str) -> bool {
    let known = KNOWN.iter().find(|(known, _)| *known == name);
    known.is_some_and(|(_, points)| points.contains(&point))
}

impl PluginSets {
    fn points(&self) -> [(&'static str, &PluginSet); 12] {
        [
            ("preEnqueue", &self.pre_enqueue),
            ("queueSort", &self.queue_sort),
            ("preFilter", &self.pre_filter),
            ("filter", &self.filter),
            ("postFilter", &self.post_filter),
            ("preScore", &self.pre_score),
            ("score", &self.score),
            ("reserve", &self.reserve),
            ("permit", &self.permit),
            ("preBind", &self.pre_bind),
            ("bind", &self.bind),
            ("postBind", &self.post_bind),
        ]
    }

    fn at(&self, point: &str) -> Option<&PluginSet> {
        let points = self.points();
        let found = points.into_iter().find(|(name, _)| *name == point);
        found.map(|(_, set)| set)
    }
}

impl PluginSet {
    fn disables(&self, name: &str) -> bool {
        let mut disabled = self.disabled.iter();
        disabled.any(|disabled| disabled.name == ALL || disabled.name == name)
    }

    fn check(&self, path: &str, point: Option<&str>) -> Result<(), String> {
        for (index, Named { name, weight }) in self.enabled.iter().enumerate() {
            let path = format!("{path}.enabled[{index}]");
            if !is_known(name) {
                return Err(format!(
                    "{path}.name: Not found: plugin {name:?} does not exist"
                ));
            }
            if let Some(point) = point.filter(|point| !takes_part(name, point)) {
                return Err(format!(
                    "{path}.name: Invalid value: {name:?}: plugin does not extend {point}"
                ));
            }
            if self.enabled[..index]
                .iter()
                .any(|other| other.name == *name)
            {
                return Err(format!("{path}.name: Duplicate value: {name:?}"));
            }
            if *weight < 0 || *weight > i64::from(i32::MAX) {
                return Err(format!(
                    "{path}.weight: Invalid value: {weight}: must be an integer from 0 to {}",
                    i32::MAX
                ));
            }
        }
        for (index, Named { name, .. }) in self.disabled.iter().enumerate() {
            // A plugin of Kubernetes that is not here is as good as disabled.
            if name != ALL && !is_known(name) && !ABSENT.contains(&name.as_str()) {
                return Err(format!(
                    "{path}.disabled[{index}].name: Not found: plugin {name:?} does not exist"
                ));
            }
        }
        Ok(())
    }
}

/// Plugins of Kubernetes that may be turned off because they are not here.
const ABSENT: &[&str] = &[
    "DefaultPreemption",
    "DynamicResources",
    "GangScheduling",
    "NodeDeclaredFeatures",
    "NodeVolumeLimits",
];

impl<'a> Choice<'a> {
    /// # Errors
    /// What is wrong below `path`.
    pub(super) fn new(path: &str, sets: &'a PluginSets) -> Result<Self, String> {
        sets.multi_point
            .check(&format!("{path}.multiPoint"), None)?;
        let everywhere = everywhere(&sets.multi_point);
        let mut points = HashMap::new();
        for (point, set) in sets.points() {
            set.check(&format!("{path}.{point}"), Some(point))?;
            let taking_part = everywhere
                .iter()
                .filter(|(name, _)| takes_part(name, point));
            let mut own: Vec<(&str, i64)> = set
                .enabled
                .iter()
                .map(|named| (named.name.as_str(), named.weight.max(1)))
                .collect();
            // Those that say again what multiPoint says come first, in its order.
            own.sort_by_key(|(name, _)| {
                let mut order = taking_part.clone().map(|(name, _)| name);
                order.position(|other| other == name).unwrap_or(usize::MAX)
            });
            let named: Vec<_> = own.iter().map(|(name, _)| *name).collect();
            let rest = taking_part
                .filter(|(name, _)| !set.disables(name) && !named.contains(name))
                .copied();
            own.extend(rest);
            points.insert(point, own);
        }
        let choice = Self { points, sets };
        for (point, fixed) in [("queueSort", "PrioritySort"), ("bind", "DefaultBinder")] {
            if choice.at(point).iter().all(|(name, _)| *name != fixed) {
                return Err(format!(
                    "{path}.{point}: Required value: {fixed} is the only one and can't be disabled"
                ));
            }
        }
        Ok(choice)
    }

    /// The plugins of a phase in order, and their weights.
    pub(super) fn at(&self, point: &str) -> &[(&'a str, i64)] {
        self.points
            .get(point)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// Whether a phase turns off a plugin by itself.
    pub(super) fn is_disabled(&self, point: &str, name: &str) -> bool {
        self.sets.at(point).is_some_and(|set| {
            set.disables(name) && !set.enabled.iter().any(|enabled| enabled.name == name)
        })
    }

    /// Every plugin that takes part in some phase and is not the loop's own.
    pub(super) fn names(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self
            .points
            .values()
            .flatten()
            .map(|(name, _)| *name)
            .filter(|name| !FIXED.contains(name))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// The default plugins, as `multiPoint` changes them.
fn everywhere(set: &PluginSet) -> Vec<(&str, i64)> {
    let given = |name: &str| set.enabled.iter().find(|named| named.name == name);
    let kept = DEFAULT.iter().filter(|(name, _)| !set.disables(name));
    let mut plugins: Vec<(&str, i64)> = kept
        .map(|(name, weight)| {
            let given = given(name).map(|named| named.weight);
            (*name, given.unwrap_or(*weight).max(1))
        })
        .collect();
    let kept: Vec<_> = plugins.iter().map(|(name, _)| *name).collect();
    let added = set.enabled.iter();
    let added = added.filter(|named| !kept.contains(&named.name.as_str()));
    plugins.extend(added.map(|named| (named.name.as_str(), named.weight.max(1))));
    plugins
}
