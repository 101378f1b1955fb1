//! What each plugin may be told, and what is said of what it may not.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{Config, KIND, VERSION};

/// `ok`, or what is wrong below the arguments.
#[track_caller]
fn check(plugin: &str, args: Value, expected: Expect) {
    let profile = json!({"pluginConfig": [{"name": plugin, "args": args}]});
    let document = json!({"apiVersion": VERSION, "kind": KIND, "profiles": [profile]});
    let shown = match Config::from_value(document) {
        Ok(_) => "ok".to_owned(),
        Err(why) => match why.strip_prefix("profiles[0].pluginConfig[0].args") {
            Some(rest) => rest.trim_start_matches(['.', ':', ' ']).to_owned(),
            None => format!("elsewhere: {why}"),
        },
    };
    expected.assert_eq(&shown);
}

#[test]
fn arguments_are_those_of_their_plugin() {
    let fit = |kind: &str, version: &str| json!({"kind": kind, "apiVersion": version});
    check("NodeResourcesFit", Value::Null, expect!["ok"]);
    check("NodeResourcesFit", json!({}), expect!["ok"]);
    check(
        "NodeResourcesFit",
        fit("NodeResourcesFitArgs", VERSION),
        expect!["ok"],
    );
    check(
        "NodeResourcesFit",
        fit("InterPodAffinityArgs", VERSION),
        expect![],
    );
    check(
        "NodeResourcesFit",
        fit(
            "NodeResourcesFitArgs",
            "kubescheduler.config.k8s.io/v1beta3",
        ),
        expect![],
    );
    check("NodeResourcesFit", json!([]), expect![]);
    check("NodeResourcesFit", json!({"ignored": []}), expect![]);
    check("NodeName", json!({"a": 1}), expect![]);
    check("Nonsense", json!({}), expect![]);
}

#[test]
fn resources_fit_by_a_strategy() {
    let fit = "NodeResourcesFit";
    let strategy = |strategy: Value| json!({ "scoringStrategy": strategy });
    for kind in ["LeastAllocated", "MostAllocated"] {
        check(fit, strategy(json!({"type": kind})), expect!["ok"]);
    }
    check(fit, strategy(json!({"type": "Best"})), expect![]);
    check(fit, strategy(json!({"type": 1})), expect![]);
    let weighed = |weight: i64| {
        strategy(
            json!({"resources": [{"name": "cpu", "weight": 1}, {"name": "example.com/gpu", "weight": weight}]}),
        )
    };
    for weight in [0, 1, 100] {
        check(fit, weighed(weight), expect!["ok"]);
    }
    check(fit, weighed(101), expect![]);
    check(fit, weighed(-1), expect![]);
}

#[test]
fn the_shape_of_a_ratio_rises_through_percentages() {
    let fit = "NodeResourcesFit";
    let ratio = |kind: &str, ratio: Value| {
        let mut strategy = json!({"type": kind});
        if !ratio.is_null() {
            strategy["requestedToCapacityRatio"] = ratio;
        }
        json!({ "scoringStrategy": strategy })
    };
    let shape = |points: Value| ratio("RequestedToCapacityRatio", json!({ "shape": points }));
    check(
        fit,
        shape(json!([{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}])),
        expect!["ok"],
    );
    check(
        fit,
        shape(json!([{"utilization": 50, "score": 3}])),
        expect!["ok"],
    );
    check(
        fit,
        ratio("RequestedToCapacityRatio", Value::Null),
        expect![],
    );
    check(fit, ratio("RequestedToCapacityRatio", json!({})), expect![]);
    check(fit, shape(json!([])), expect![]);
    check(
        fit,
        shape(json!([{"utilization": 5}, {"utilization": 5}])),
        expect![],
    );
    check(
        fit,
        shape(json!([{"utilization": 9}, {"utilization": 5}])),
        expect![],
    );
    check(fit, shape(json!([{"utilization": -1}])), expect![]);
    check(fit, shape(json!([{"utilization": 101}])), expect![]);
    check(fit, shape(json!([{"score": 11}])), expect![]);
    check(fit, shape(json!([{"score": -1}])), expect![]);
    // Another strategy makes no use of it, and a wrong one is wrong nevertheless.
    check(
        fit,
        ratio("MostAllocated", json!({"shape": [{"utilization": 1}]})),
        expect!["ok"],
    );
    check(fit, ratio("MostAllocated", json!({"shape": []})), expect![]);
}

#[test]
fn ignored_resources_and_groups_are_names() {
    let fit = "NodeResourcesFit";
    let resources = |names: Value| json!({ "ignoredResources": names });
    let groups = |names: Value| json!({ "ignoredResourceGroups": names });
    check(
        fit,
        resources(json!(["example.com/gpu", "cpu"])),
        expect!["ok"],
    );
    check(fit, groups(json!(["example.com"])), expect!["ok"]);
    check(fit, resources(json!(["a", "B ad"])), expect![]);
    check(fit, resources(json!([""])), expect![]);
    check(fit, resources(json!(["/gpu"])), expect![]);
    check(fit, resources(json!(["Example.com/gpu"])), expect![]);
    check(fit, resources(json!(["a/b/c"])), expect![]);
    check(fit, resources(json!(["x".repeat(64)])), expect![]);
    check(fit, resources(json!("gpu")), expect![]);
    check(fit, groups(json!(["example.com", "a/b"])), expect![]);
    check(fit, groups(json!(["-"])), expect![]);
}

#[test]
fn balanced_resources_weigh_one_each() {
    let balanced = "NodeResourcesBalancedAllocation";
    let resources = |list: Value| json!({ "resources": list });
    check(
        balanced,
        resources(json!([{"name": "cpu", "weight": 1}, {"name": "memory"}])),
        expect!["ok"],
    );
    check(
        balanced,
        resources(json!([{"name": "cpu", "weight": 2}])),
        expect![],
    );
    check(
        balanced,
        resources(json!([{"name": "cpu"}, {"name": "cpu"}])),
        expect![],
    );
}

#[test]
fn a_weight_of_required_affinity_is_a_percentage() {
    let weight = |weight: Value| json!({ "hardPodAffinityWeight": weight });
    for fits in [0, 1, 100] {
        check("InterPodAffinity", weight(json!(fits)), expect!["ok"]);
    }
    check(
        "InterPodAffinity",
        json!({"ignorePreferredTermsOfExistingPods": true}),
        expect!["ok"],
    );
    check("InterPodAffinity", weight(json!(-1)), expect![]);
    check("InterPodAffinity", weight(json!(101)), expect![]);
    check("InterPodAffinity", weight(json!("1")), expect![]);
}

#[test]
fn default_constraints_of_spread_are_for_any_pod() {
    let spread = "PodTopologySpread";
    let rule = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    let with = |field: &str, value: Value| {
        let mut rule = rule.clone();
        rule[field] = value;
        json!({"defaultingType": "List", "defaultConstraints": [rule]})
    };
    check(spread, with("maxSkew", json!(1)), expect!["ok"]);
    check(spread, json!({"defaultingType": "System"}), expect!["ok"]);
    check(spread, json!({"defaultingType": "List"}), expect!["ok"]);
    check(spread, json!({"defaultingType": "Some"}), expect![]);
    check(spread, json!({"defaultConstraints": [rule]}), expect![]);
    check(spread, with("maxSkew", json!(0)), expect![]);
    check(spread, with("topologyKey", json!("")), expect![]);
    check(spread, with("topologyKey", json!("a zone")), expect![]);
    check(spread, with("whenUnsatisfiable", json!("")), expect![]);
    check(spread, with("whenUnsatisfiable", json!("Maybe")), expect![]);
    check(spread, with("labelSelector", json!({})), expect![]);
    check(
        spread,
        json!({"defaultingType": "List", "defaultConstraints": [rule, rule]}),
        expect![],
    );
}

#[test]
fn added_affinity_is_an_affinity_to_nodes() {
    let plugin = "NodeAffinity";
    let required = |list: &str, rule: Value| {
        let terms = json!([{ list: [rule] }]);
        json!({"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
    };
    let label = |operator: &str, values: Value| {
        required(
            "matchExpressions",
            json!({"key": "pool", "operator": operator, "values": values}),
        )
    };
    let field = |operator: &str, values: Value| {
        required(
            "matchFields",
            json!({"key": "metadata.name", "operator": operator, "values": values}),
        )
    };
    check(plugin, label("In", json!(["a", "b"])), expect!["ok"]);
    check(plugin, label("Exists", Value::Null), expect!["ok"]);
    check(plugin, label("Gt", json!(["4"])), expect!["ok"]);
    check(plugin, field("In", json!(["n"])), expect!["ok"]);
    check(plugin, label("Near", json!(["a"])), expect![]);
    check(plugin, label("In", json!([])), expect![]);
    check(plugin, label("DoesNotExist", json!(["a"])), expect![]);
    check(plugin, label("Gt", json!(["1", "2"])), expect![]);
    check(plugin, label("Lt", json!(["few"])), expect![]);
    check(
        plugin,
        required(
            "matchExpressions",
            json!({"key": "a b", "operator": "Exists"}),
        ),
        expect![],
    );
    check(plugin, field("Exists", json!([])), expect![]);
    check(plugin, field("In", json!(["n", "m"])), expect![]);
    let preference = json!({"matchExpressions": [{"key": "pool", "operator": "In"}]});
    check(
        plugin,
        json!({"addedAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 1, "preference": preference}]}}),
        expect![],
    );
}

#[test]
fn preemption_looks_at_some_nodes() {
    let plugin = "DefaultPreemption";
    let few = |percentage: i64, absolute: i64| json!({"minCandidateNodesPercentage": percentage, "minCandidateNodesAbsolute": absolute});
    check(plugin, few(10, 100), expect!["ok"]);
    check(plugin, few(0, 1), expect!["ok"]);
    check(plugin, few(100, 0), expect!["ok"]);
    check(plugin, few(-1, 1), expect![]);
    check(plugin, few(101, 1), expect![]);
    check(plugin, few(1, -1), expect![]);
    check(plugin, few(0, 0), expect![]);
}

#[test]
fn a_binding_of_volumes_takes_time() {
    let seconds = |seconds: i64| json!({ "bindTimeoutSeconds": seconds });
    check("VolumeBinding", seconds(0), expect!["ok"]);
    check("VolumeBinding", seconds(-1), expect![]);
    check("VolumeBinding", json!({"shape": []}), expect![]);
}
