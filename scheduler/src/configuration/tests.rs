use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

/// The profiles and their plugins, or what is wrong.
#[track_caller]
fn check(mut document: Value, expected: Expect) {
    document["apiVersion"] = VERSION.into();
    document["kind"] = KIND.into();
    let shown = match Config::from_value(document) {
        Err(why) => why,
        Ok(config) => {
            let profiles = config.profiles.iter().map(|profile| {
                let scores = profile.scores.iter();
                let scores =
                    scores.filter(|(plugin, _)| plugins::takes_part(plugin.name(), "score"));
                let scores = scores.map(|(plugin, weight)| format!("{}*{weight}", plugin.name()));
                let filters = profile
                    .filters
                    .iter()
                    .map(|plugin| plugin.name().to_owned());
                format!(
                    "{}: {} | {}",
                    profile.name,
                    filters.collect::<Vec<_>>().join(" "),
                    scores.collect::<Vec<_>>().join(" ")
                )
            });
            profiles.collect::<Vec<_>>().join("\n")
        }
    };
    expected.assert_eq(&shown);
}

fn profile(profile: Value) -> Value {
    json!({ "profiles": [profile] })
}

#[test]
fn without_profiles_there_is_the_default_one() {
    check(
        json!({}),
        expect![
            "default-scheduler: NodeUnschedulable NodeName TaintToleration NodeAffinity NodePorts NodeResourcesFit VolumeRestrictions VolumeBinding VolumeZone PodTopologySpread InterPodAffinity | TaintToleration*3 NodeAffinity*2 NodeResourcesFit*1 VolumeBinding*1 PodTopologySpread*2 InterPodAffinity*2 NodeResourcesBalancedAllocation*1 ImageLocality*1"
        ],
    );
}

#[test]
fn plugins_are_turned_off_and_weighed_by_profile() {
    check(
        json!({"profiles": [
            {"schedulerName": "default-scheduler"},
            {"schedulerName": "bare", "plugins": {
                "multiPoint": {"disabled": [{"name": "*"}], "enabled": [
                    {"name": "PrioritySort"}, {"name": "DefaultBinder"},
                    {"name": "NodeResourcesFit", "weight": 7}, {"name": "NodeName"}]},
            }},
            {"schedulerName": "odd", "plugins": {
                "multiPoint": {"disabled": [{"name": "NodePorts"}]},
                "filter": {"disabled": [{"name": "NodeName"}]},
                "score": {"disabled": [{"name": "*"}], "enabled": [{"name": "TaintToleration", "weight": 9}]},
            }},
        ]}),
        expect![[r#"
            default-scheduler: NodeUnschedulable NodeName TaintToleration NodeAffinity NodePorts NodeResourcesFit VolumeRestrictions VolumeBinding VolumeZone PodTopologySpread InterPodAffinity | TaintToleration*3 NodeAffinity*2 NodeResourcesFit*1 VolumeBinding*1 PodTopologySpread*2 InterPodAffinity*2 NodeResourcesBalancedAllocation*1 ImageLocality*1
            bare: NodeResourcesFit NodeName | NodeResourcesFit*7
            odd: NodeUnschedulable TaintToleration NodeAffinity NodeResourcesFit VolumeRestrictions VolumeBinding VolumeZone PodTopologySpread InterPodAffinity | TaintToleration*9"#]],
    );
}

#[test]
fn what_can_not_be_is_refused_by_its_field() {
    check(
        json!({"podInitialBackoffSeconds": 0}),
        expect!["podInitialBackoffSeconds: Invalid value: 0: must be greater than 0"],
    );
    check(
        json!({"podMaxBackoffSeconds": 0}),
        expect![
            "podMaxBackoffSeconds: Invalid value: 0: must be greater than or equal to PodInitialBackoffSeconds"
        ],
    );
    check(
        json!({"percentageOfNodesToScore": 101}),
        expect!["percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]"],
    );
    check(
        json!({"parallelism": 0}),
        expect!["parallelism: Invalid value: 0: should be an integer value greater than zero"],
    );
    check(
        json!({"extenders": [{}]}),
        expect!["extenders: Forbidden: wk's scheduler calls no extenders"],
    );
    check(
        json!({"profile": []}),
        expect![
            "unknown field `profile`, expected one of `apiVersion`, `kind`, `parallelism`, `percentageOfNodesToScore`, `podInitialBackoffSeconds`, `podMaxBackoffSeconds`, `profiles`, `extenders`, `leaderElection`, `clientConnection`, `enableProfiling`, `enableContentionProfiling`, `delayCacheUntilActive`"
        ],
    );
    check(
        json!({"profiles": [{}, {}]}),
        expect![[r#"profiles[1].schedulerName: Duplicate value: "default-scheduler""#]],
    );
    check(
        profile(json!({"schedulerName": ""})),
        expect!["profiles[0].schedulerName: Required value"],
    );
    check(
        profile(json!({"percentageOfNodesToScore": -1})),
        expect![
            "profiles[0].percentageOfNodesToScore: Invalid value: -1: not in valid range [0-100]"
        ],
    );
    let enabled = |point: &str, name: &str| {
        profile(json!({"plugins": {point: {"enabled": [{"name": name}]}}}))
    };
    check(
        enabled("filter", "Nonsense"),
        expect![[
            r#"profiles[0].plugins.filter.enabled[0].name: Not found: plugin "Nonsense" does not exist"#
        ]],
    );
    check(
        enabled("score", "NodeName"),
        expect![[
            r#"profiles[0].plugins.score.enabled[0].name: Invalid value: "NodeName": plugin does not extend score"#
        ]],
    );
    check(
        enabled("filters", "NodeName"),
        expect![
            "unknown field `filters`, expected one of `multiPoint`, `preEnqueue`, `queueSort`, `preFilter`, `filter`, `postFilter`, `preScore`, `score`, `reserve`, `permit`, `preBind`, `bind`, `postBind`"
        ],
    );
    let disabled = |point: &str, name: &str| {
        profile(json!({"plugins": {point: {"disabled": [{"name": name}]}}}))
    };
    check(
        disabled("filter", "Nonsense"),
        expect![[
            r#"profiles[0].plugins.filter.disabled[0].name: Not found: plugin "Nonsense" does not exist"#
        ]],
    );
    check(
        disabled("queueSort", "*"),
        expect![
            "profiles[0].plugins.queueSort: Required value: PrioritySort is the only one and can't be disabled"
        ],
    );
    check(
        disabled("bind", "DefaultBinder"),
        expect![
            "profiles[0].plugins.bind: Required value: DefaultBinder is the only one and can't be disabled"
        ],
    );
}

mod arguments;
