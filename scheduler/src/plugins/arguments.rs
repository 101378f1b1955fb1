//! What configuration says to plugins, and the words for what it may not say.
//!
//! Pure. The shapes are those of `kubescheduler.config.k8s.io/v1`, the words those of Kubernetes.

mod names;
mod placement;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(super) use placement::{
    DefaultPreemptionArgs, Defaulting, InterPodAffinityArgs, NodeAffinityArgs,
    PodTopologySpreadArgs,
};

const GROUP: &str = "kubescheduler.config.k8s.io";

/// Reads the arguments of a plugin. What is not set keeps its default; what is unknown is an error.
///
/// # Errors
/// What is wrong, below `path`.
pub(crate) fn read<T: DeserializeOwned + Default>(
    plugin: &str,
    path: &str,
    args: Value,
) -> Result<T, String> {
    let mut args = match args {
        Value::Null => return Ok(T::default()),
        Value::Object(args) => args,
        _ => return Err(format!("{path}: Invalid value: must be an object")),
    };
    let wanted = [
        ("apiVersion", format!("{GROUP}/v1")),
        ("kind", format!("{plugin}Args")),
    ];
    for (field, wanted) in &wanted {
        let given = args.remove(*field).filter(|given| given != wanted);
        if let Some(given) = given {
            return Err(format!(
                "{path}.{field}: Invalid value: {given}: args for plugin {plugin} are {wanted}"
            ));
        }
    }
    serde_json::from_value(Value::Object(args)).map_err(|error| format!("{path}: {error}"))
}

/// A resource and what it weighs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Weighed {
    pub(super) name: String,
    #[serde(default)]
    pub(super) weight: i64,
}

impl Weighed {
    /// CPU and memory alike.
    pub(super) fn usual() -> Vec<Self> {
        let names = ["cpu", "memory"].into_iter();
        names
            .map(|name| Self {
                name: name.to_owned(),
                weight: 1,
            })
            .collect()
    }

    /// Resources as they were given, in which a weight of zero is the default.
    pub(super) fn defaulted(mut list: Vec<Self>) -> Vec<Self> {
        if list.is_empty() {
            return Self::usual();
        }
        for resource in &mut list {
            if resource.weight == 0 {
                resource.weight = 1;
            }
        }
        list
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum StrategyType {
    #[default]
    LeastAllocated,
    MostAllocated,
    RequestedToCapacityRatio,
    /// Not one that there is.
    #[serde(untagged)]
    Unknown(String),
}

/// A point of the function from a node's use, in percent, to a score of 0..=10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Point {
    #[serde(default)]
    pub(super) utilization: i64,
    #[serde(default)]
    pub(super) score: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ratio {
    #[serde(default)]
    pub(super) shape: Vec<Point>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Strategy {
    #[serde(rename = "type")]
    pub(super) kind: StrategyType,
    pub(super) resources: Vec<Weighed>,
    pub(super) requested_to_capacity_ratio: Option<Ratio>,
}

/// `NodeResourcesFitArgs`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct FitArgs {
    pub(super) ignored_resources: Vec<String>,
    pub(super) ignored_resource_groups: Vec<String>,
    pub(super) scoring_strategy: Strategy,
}

impl FitArgs {
    /// # Errors
    /// The first value that can't be.
    pub(super) fn check(&self, path: &str) -> Result<(), String> {
        for (index, resource) in self.ignored_resources.iter().enumerate() {
            names::check(&format!("{path}.ignoredResources[{index}]"), resource)?;
        }
        for (index, group) in self.ignored_resource_groups.iter().enumerate() {
            let path = format!("{path}.ignoredResourceGroups[{index}]");
            if group.contains('/') {
                return Err(format!(
                    "{path}: Invalid value: {group:?}: resource group name can't contain '/'"
                ));
            }
            names::check(&path, group)?;
        }
        let (strategy, path) = (&self.scoring_strategy, format!("{path}.scoringStrategy"));
        if let StrategyType::Unknown(kind) = &strategy.kind {
            let path = format!("{path}.type");
            return Err(names::not_supported(
                &path,
                kind,
                &[
                    "LeastAllocated",
                    "MostAllocated",
                    "RequestedToCapacityRatio",
                ],
            ));
        }
        for (index, resource) in strategy.resources.iter().enumerate() {
            if !(0..=100).contains(&resource.weight) {
                let Weighed { name, weight } = resource;
                return Err(format!(
                    "{path}.resources[{index}].weight: Invalid value: {weight}: resource weight of {name} not in valid range (0, 100]"
                ));
            }
        }
        let (ratio, path) = (
            &strategy.requested_to_capacity_ratio,
            format!("{path}.requestedToCapacityRatio"),
        );
        match (&strategy.kind, ratio) {
            // Of another strategy it is not used, but looked at all the same.
            (_, Some(ratio)) => check_shape(&ratio.shape, &format!("{path}.shape")),
            (StrategyType::RequestedToCapacityRatio, None) => Err(format!(
                "{path}: Required value: must be specified when type is RequestedToCapacityRatio"
            )),
            (_, None) => Ok(()),
        }
    }
}

fn check_shape(shape: &[Point], path: &str) -> Result<(), String> {
    if shape.is_empty() {
        return Err(format!(
            "{path}: Required value: at least one point must be specified"
        ));
    }
    for (index, point) in shape.iter().enumerate() {
        let Point { utilization, score } = point;
        let before = index.checked_sub(1).map(|before| shape[before].utilization);
        let complaint = if before.is_some_and(|before| before >= *utilization) {
            format!(
                "utilization: Invalid value: {utilization}: values must be sorted in increasing order"
            )
        } else if !(0..=100).contains(utilization) {
            format!("utilization: Invalid value: {utilization}: not in valid range [0, 100]")
        } else if !(0..=10).contains(score) {
            format!("score: Invalid value: {score}: not in valid range [0, 10]")
        } else {
            continue;
        };
        return Err(format!("{path}[{index}].{complaint}"));
    }
    Ok(())
}

/// `NodeResourcesBalancedAllocationArgs`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BalancedArgs {
    pub(super) resources: Vec<Weighed>,
}

impl BalancedArgs {
    /// # Errors
    /// The first value that can't be.
    pub(super) fn check(&self, path: &str) -> Result<(), String> {
        for (index, resource) in self.resources.iter().enumerate() {
            let Weighed { name, weight } = resource;
            let path = format!("{path}.resources[{index}]");
            if self.resources[..index]
                .iter()
                .any(|other| other.name == *name)
            {
                return Err(format!("{path}.name: Duplicate value: {name:?}"));
            }
            if ![0, 1].contains(weight) {
                return Err(format!("{path}.weight: Invalid value: {weight}: must be 1"));
            }
        }
        Ok(())
    }
}

/// `VolumeBindingArgs`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct VolumeBindingArgs {
    pub(super) bind_timeout_seconds: i64,
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        Self {
            bind_timeout_seconds: 600,
        }
    }
}

impl VolumeBindingArgs {
    /// # Errors
    /// The first value that can't be.
    pub(super) fn check(&self, path: &str) -> Result<(), String> {
        let seconds = self.bind_timeout_seconds;
        if seconds >= 0 {
            return Ok(());
        }
        Err(format!(
            "{path}.bindTimeoutSeconds: Invalid value: {seconds}: invalid BindTimeoutSeconds, should not be a negative value"
        ))
    }
}
