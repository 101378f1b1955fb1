//! Reads `KubeSchedulerConfiguration` of `kubescheduler.config.k8s.io/v1` into a [`Config`].
//!
//! Pure. What is unknown, repeated or impossible is an error that names the field. What other parts of wk decide (leader
//! election, connections, profiling) is accepted and has no effect.

mod plugins;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::config::Config;
use crate::pod::DEFAULT_SCHEDULER;
use crate::profile::{Plugins, Profile};
use plugins::{Choice, PluginSets};

const VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
    parallelism: Option<i64>,
    percentage_of_nodes_to_score: Option<i64>,
    pod_initial_backoff_seconds: Option<i64>,
    pod_max_backoff_seconds: Option<i64>,
    #[serde(default)]
    profiles: Vec<Section>,
    #[serde(default)]
    extenders: Vec<Value>,
    #[serde(rename = "leaderElection")]
    _leader_election: Option<Value>,
    #[serde(rename = "clientConnection")]
    _client_connection: Option<Value>,
    #[serde(rename = "enableProfiling")]
    _enable_profiling: Option<bool>,
    #[serde(rename = "enableContentionProfiling")]
    _enable_contention_profiling: Option<bool>,
    #[serde(rename = "delayCacheUntilActive")]
    _delay_cache_until_active: Option<bool>,
}

/// One of `profiles`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Section {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<i64>,
    plugins: PluginSets,
    plugin_config: Vec<Arguments>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    name: String,
    #[serde(default)]
    args: Value,
}

impl Config {
    /// Reads a `KubeSchedulerConfiguration` in YAML or JSON.
    ///
    /// # Errors
    /// What is wrong, and with which field.
    pub fn read(text: &str) -> Result<Self, String> {
        Self::from_value(serde_saphyr::from_str(text).map_err(|error| error.to_string())?)
    }

    fn from_value(document: Value) -> Result<Self, String> {
        let document: Document =
            serde_json::from_value(document).map_err(|error| error.to_string())?;
        document.check()?;
        let first = document.pod_initial_backoff_seconds.unwrap_or(1);
        let longest = document.pod_max_backoff_seconds.unwrap_or(10);
        if first <= 0 {
            return Err(format!(
                "podInitialBackoffSeconds: Invalid value: {first}: must be greater than 0"
            ));
        }
        if longest < first {
            return Err(format!(
                "podMaxBackoffSeconds: Invalid value: {longest}: must be greater than or equal to PodInitialBackoffSeconds"
            ));
        }
        let percentage = percentage("", document.percentage_of_nodes_to_score)?;
        let mut profiles: Vec<Profile> = Vec::new();
        for (index, section) in document.profiles.into_iter().enumerate() {
            let path = format!("profiles[{index}]");
            let profile = section.read(&path, percentage)?;
            if profiles.iter().any(|other| other.name == profile.name) {
                let name = &profile.name;
                return Err(format!("{path}.schedulerName: Duplicate value: {name:?}"));
            }
            profiles.push(profile);
        }
        if profiles.is_empty() {
            profiles.push(Section::default().read("profiles[0]", percentage)?);
        }
        Ok(Self {
            profiles: profiles.into_iter().map(Arc::new).collect(),
            first_backoff: Duration::from_secs(first.unsigned_abs()),
            longest_backoff: Duration::from_secs(longest.unsigned_abs()),
            ..Self::default()
        })
    }
}

impl Document {
    fn check(&self) -> Result<(), String> {
        if self.api_version != VERSION || self.kind != KIND {
            let Self {
                api_version, kind, ..
            } = self;
            return Err(format!(
                "no kind {kind:?} is registered for version {api_version:?}; it must be {KIND} of {VERSION}"
            ));
        }
        if let Some(parallelism) = self.parallelism.filter(|number| *number <= 0) {
            return Err(format!(
                "parallelism: Invalid value: {parallelism}: should be an integer value greater than zero"
            ));
        }
        if !self.extenders.is_empty() {
            return Err("extenders: Forbidden: wk's scheduler calls no extenders".to_owned());
        }
        Ok(())
    }
}

/// `percentageOfNodesToScore` below a path.
fn percentage(path: &str, given: Option<i64>) -> Result<Option<usize>, String> {
    match given {
        None => Ok(None),
        Some(given) => match usize::try_from(given) {
            Ok(given) if given <= 100 => Ok(Some(given)),
            _ => Err(format!(
                "{path}percentageOfNodesToScore: Invalid value: {given}: not in valid range [0-100]"
            )),
        },
    }
}

impl Section {
    fn read(self, path: &str, cluster: Option<usize>) -> Result<Profile, String> {
        let name = self.scheduler_name.unwrap_or(DEFAULT_SCHEDULER.to_owned());
        if name.is_empty() {
            return Err(format!("{path}.schedulerName: Required value"));
        }
        let own = percentage(&format!("{path}."), self.percentage_of_nodes_to_score)?;
        let mut arguments = HashMap::new();
        for (index, Arguments { name, args }) in self.plugin_config.into_iter().enumerate() {
            let path = format!("{path}.pluginConfig[{index}]");
            if !plugins::is_known(&name) {
                return Err(format!("{path}.name: Not found: {name:?}"));
            }
            if arguments.contains_key(&name) {
                return Err(format!("{path}: Duplicate value: {name:?}"));
            }
            arguments.insert(name, (format!("{path}.args"), args));
        }
        let choice = Choice::new(&format!("{path}.plugins"), &self.plugins)?;
        let mut made = HashMap::new();
        for name in choice.names() {
            let (path, args) = arguments.remove(name).unwrap_or_default();
            if let Some(plugin) = crate::plugins::make(name, &path, args) {
                made.insert(name.to_owned(), plugin?);
            }
        }
        let listed = |point: &str| -> Plugins {
            let plugins = choice.at(point).iter();
            plugins
                .filter_map(|(name, _)| made.get(*name).cloned())
                .collect()
        };
        let filters = choice.at("filter").iter();
        let filters = filters.filter(|(name, _)| !choice.is_disabled("preFilter", name));
        let scores = choice.at("score").iter();
        let scores = scores.filter(|(name, _)| !choice.is_disabled("preScore", name));
        Ok(Profile {
            name: name.into(),
            percentage: own.or(cluster).unwrap_or_default(),
            gates: listed("preEnqueue"),
            filters: filters
                .filter_map(|(name, _)| made.get(*name).cloned())
                .collect(),
            post_filters: listed("postFilter"),
            scores: scores
                .filter_map(|(name, weight)| Some((made.get(*name).cloned()?, *weight)))
                .collect(),
            reserves: listed("reserve"),
            permits: listed("permit"),
            pre_binds: listed("preBind"),
        })
    }
}

impl Default for Profile {
    fn default() -> Self {
        Section::default()
            .read("", None)
            .expect("the default profile is made of plugins that there are")
    }
}

#[cfg(test)]
mod tests;
