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
        expect![[
            r#"kind: Invalid value: "InterPodAffinityArgs": args for plugin NodeResourcesFit are NodeResourcesFitArgs"#
        ]],
    );
    check(
        "NodeResourcesFit",
        fit(
            "NodeResourcesFitArgs",
            "kubescheduler.config.k8s.io/v1beta3",
        ),
        expect![[
            r#"apiVersion: Invalid value: "kubescheduler.config.k8s.io/v1beta3": args for plugin NodeResourcesFit are kubescheduler.config.k8s.io/v1"#
        ]],
    );
    check(
        "NodeResourcesFit",
        json!([]),
        expect!["Invalid value: must be an object"],
    );
    check(
        "NodeResourcesFit",
        json!({"ignored": []}),
        expect![
            "unknown field `ignored`, expected one of `ignoredResources`, `ignoredResourceGroups`, `scoringStrategy`"
        ],
    );
    check(
        "NodeName",
        json!({"a": 1}),
        expect!["Forbidden: NodeName takes no arguments"],
    );
    check(
        "Nonsense",
        json!({}),
        expect![[r#"elsewhere: profiles[0].pluginConfig[0].name: Not found: "Nonsense""#]],
    );
}

#[test]
fn resources_fit_by_a_strategy() {
    let fit = "NodeResourcesFit";
    let strategy = |strategy: Value| json!({ "scoringStrategy": strategy });
    for kind in ["LeastAllocated", "MostAllocated"] {
        check(fit, strategy(json!({"type": kind})), expect!["ok"]);
    }
    check(
        fit,
        strategy(json!({"type": "Best"})),
        expect![[
            r#"scoringStrategy.type: Unsupported value: "Best": supported values: "LeastAllocated", "MostAllocated", "RequestedToCapacityRatio""#
        ]],
    );
    check(
        fit,
        strategy(json!({"type": 1})),
        expect!["data did not match any variant of untagged enum StrategyType"],
    );
    let weighed = |weight: i64| {
        strategy(
            json!({"resources": [{"name": "cpu", "weight": 1}, {"name": "example.com/gpu", "weight": weight}]}),
        )
    };
    for weight in [0, 1, 100] {
        check(fit, weighed(weight), expect!["ok"]);
    }
    check(
        fit,
        weighed(101),
        expect![
            "scoringStrategy.resources[1].weight: Invalid value: 101: resource weight of example.com/gpu not in valid range (0, 100]"
        ],
    );
    check(
        fit,
        weighed(-1),
        expect![
            "scoringStrategy.resources[1].weight: Invalid value: -1: resource weight of example.com/gpu not in valid range (0, 100]"
        ],
    );
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
        expect![
            "scoringStrategy.requestedToCapacityRatio: Required value: must be specified when type is RequestedToCapacityRatio"
        ],
    );
    check(
        fit,
        ratio("RequestedToCapacityRatio", json!({})),
        expect![
            "scoringStrategy.requestedToCapacityRatio.shape: Required value: at least one point must be specified"
        ],
    );
    check(
        fit,
        shape(json!([])),
        expect![
            "scoringStrategy.requestedToCapacityRatio.shape: Required value: at least one point must be specified"
        ],
    );
    check(
        fit,
        shape(json!([{"utilization": 5}, {"utilization": 5}])),
        expect![
            "scoringStrategy.requestedToCapacityRatio.shape[1].utilization: Invalid value: 5: values must be sorted in increasing order"
        ],
    );
    check(
        fit,
        shape(json!([{"utilization": 9}, {"utilization": 5}])),
        expect![
            "scoringStrategy.requestedToCapacityRatio.shape[1].utilization: Invalid value: 5: values must be sorted in increasing order"
        ],
    );
    check(
        fit,
        shape(json!([{"utilization": -1}])),
        expect![
            "scoringStrategy.requestedToCapacityRatio.shape[0].utilization: Invalid value: -1: not in valid range [0, 100]"
        ],
    );
    check(
        fit,
        shape(json!([{"utilization": 101}])),
        expect![
            "scoringStrategy.requestedToCapacityRatio.shape[0].utilization: Invalid value: 101: not in valid range [0, 100]"
        ],
    );
    check(
        fit,
        shape(json!([{"score": 11}])),
        expect![
            "scoringStrategy.requestedToCapacityRatio.shape[0].score: Invalid value: 11: not in valid range [0, 10]"
        ],
    );
    check(
        fit,
        shape(json!([{"score": -1}])),
        expect![
            "scoringStrategy.requestedToCapacityRatio.shape[0].score: Invalid value: -1: not in valid range [0, 10]"
        ],
    );
    // Another strategy makes no use of it, and a wrong one is wrong nevertheless.
    check(
        fit,
        ratio("MostAllocated", json!({"shape": [{"utilization": 1}]})),
        expect!["ok"],
    );
    check(
        fit,
        ratio("MostAllocated", json!({"shape": []})),
        expect![
            "scoringStrategy.requestedToCapacityRatio.shape: Required value: at least one point must be specified"
        ],
    );
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
    check(
        fit,
        resources(json!(["a", "B ad"])),
        expect![[
            r#"ignoredResources[1]: Invalid value: "B ad": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#
        ]],
    );
    check(
        fit,
        resources(json!([""])),
        expect![[r#"ignoredResources[0]: Invalid value: "": name part must be non-empty"#]],
    );
    check(
        fit,
        resources(json!(["/gpu"])),
        expect![[r#"ignoredResources[0]: Invalid value: "/gpu": prefix part must be non-empty"#]],
    );
    check(
        fit,
        resources(json!(["Example.com/gpu"])),
        expect![[
            r#"ignoredResources[0]: Invalid value: "Example.com/gpu": prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#
        ]],
    );
    check(
        fit,
        resources(json!(["a/b/c"])),
        expect![[
            r#"ignoredResources[0]: Invalid value: "a/b/c": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"#
        ]],
    );
    check(
        fit,
        resources(json!(["x".repeat(64)])),
        expect![[
            r#"ignoredResources[0]: Invalid value: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": name part must be no more than 63 bytes"#
        ]],
    );
    check(
        fit,
        resources(json!("gpu")),
        expect![[r#"invalid type: string "gpu", expected a sequence"#]],
    );
    check(
        fit,
        groups(json!(["example.com", "a/b"])),
        expect![[
            r#"ignoredResourceGroups[1]: Invalid value: "a/b": resource group name can't contain '/'"#
        ]],
    );
    check(
        fit,
        groups(json!(["-"])),
        expect![[
            r#"ignoredResourceGroups[0]: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#
        ]],
    );
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
        expect!["resources[0].weight: Invalid value: 2: must be 1"],
    );
    check(
        balanced,
        resources(json!([{"name": "cpu"}, {"name": "cpu"}])),
        expect![[r#"resources[1].name: Duplicate value: "cpu""#]],
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
    check(
        "InterPodAffinity",
        weight(json!(-1)),
        expect!["hardPodAffinityWeight: Invalid value: -1: not in valid range [0, 100]"],
    );
    check(
        "InterPodAffinity",
        weight(json!(101)),
        expect!["hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]"],
    );
    check(
        "InterPodAffinity",
        weight(json!("1")),
        expect![[r#"invalid type: string "1", expected i64"#]],
    );
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
    check(
        spread,
        json!({"defaultingType": "Some"}),
        expect![[
            r#"defaultingType: Unsupported value: "Some": supported values: "System", "List""#
        ]],
    );
    check(
        spread,
        json!({"defaultConstraints": [rule]}),
        expect![[
            r#"defaultingType: Invalid value: "System": when .defaultConstraints are not empty"#
        ]],
    );
    check(
        spread,
        with("maxSkew", json!(0)),
        expect!["defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)"],
    );
    check(
        spread,
        with("topologyKey", json!("")),
        expect!["defaultConstraints[0].topologyKey: Required value: can not be empty"],
    );
    check(
        spread,
        with("topologyKey", json!("a zone")),
        expect![[
            r#"defaultConstraints[0].topologyKey: Invalid value: "a zone": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#
        ]],
    );
    check(
        spread,
        with("whenUnsatisfiable", json!("")),
        expect!["defaultConstraints[0].whenUnsatisfiable: Required value: can not be empty"],
    );
    check(
        spread,
        with("whenUnsatisfiable", json!("Maybe")),
        expect![[
            r#"defaultConstraints[0].whenUnsatisfiable: Unsupported value: "Maybe": supported values: "DoNotSchedule", "ScheduleAnyway""#
        ]],
    );
    check(
        spread,
        with("labelSelector", json!({})),
        expect![
            "defaultConstraints[0].labelSelector: Forbidden: constraint must not define a selector, as they deduced for each pod"
        ],
    );
    check(
        spread,
        json!({"defaultingType": "List", "defaultConstraints": [rule, rule]}),
        expect![[r#"defaultConstraints[1]: Duplicate value: "{zone, DoNotSchedule}""#]],
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
    check(
        plugin,
        label("Near", json!(["a"])),
        expect![[
            r#"addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator: Unsupported value: "Near": supported values: "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt""#
        ]],
    );
    check(
        plugin,
        label("In", json!([])),
        expect![
            "addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
        ],
    );
    check(
        plugin,
        label("DoesNotExist", json!(["a"])),
        expect![[
            r#"addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Invalid value: ["a"]: values set must be empty for exists and does not exist"#
        ]],
    );
    check(
        plugin,
        label("Gt", json!(["1", "2"])),
        expect![[
            r#"addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Invalid value: ["1","2"]: for 'Gt', 'Lt' operators, exactly one value is required"#
        ]],
    );
    check(
        plugin,
        label("Lt", json!(["few"])),
        expect![[
            r#"addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value: "few": for 'Gt', 'Lt' operators, the value must be an integer"#
        ]],
    );
    check(
        plugin,
        required(
            "matchExpressions",
            json!({"key": "a b", "operator": "Exists"}),
        ),
        expect![[
            r#"addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#
        ]],
    );
    check(
        plugin,
        field("Exists", json!([])),
        expect![[
            r#"addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].operator: Unsupported value: "Exists": supported values: "In", "NotIn""#
        ]],
    );
    check(
        plugin,
        field("In", json!(["n", "m"])),
        expect![[
            r#"addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].values: Invalid value: ["n","m"]: must have one element"#
        ]],
    );
    let preference = json!({"matchExpressions": [{"key": "pool", "operator": "In"}]});
    check(
        plugin,
        json!({"addedAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 1, "preference": preference}]}}),
        expect![
            "addedAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].matchExpressions[0].values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
        ],
    );
}

#[test]
fn preemption_looks_at_some_nodes() {
    let plugin = "DefaultPreemption";
    let few = |percentage: i64, absolute: i64| json!({"minCandidateNodesPercentage": percentage, "minCandidateNodesAbsolute": absolute});
    check(plugin, few(10, 100), expect!["ok"]);
    check(plugin, few(0, 1), expect!["ok"]);
    check(plugin, few(100, 0), expect!["ok"]);
    check(
        plugin,
        few(-1, 1),
        expect!["minCandidateNodesPercentage: Invalid value: -1: not in valid range [0, 100]"],
    );
    check(
        plugin,
        few(101, 1),
        expect!["minCandidateNodesPercentage: Invalid value: 101: not in valid range [0, 100]"],
    );
    check(
        plugin,
        few(1, -1),
        expect!["minCandidateNodesAbsolute: Invalid value: -1: not in valid range [0, inf)"],
    );
    check(
        plugin,
        few(0, 0),
        expect![
            "minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as minCandidateNodesAbsolute"
        ],
    );
}

#[test]
fn a_binding_of_volumes_takes_time() {
    let seconds = |seconds: i64| json!({ "bindTimeoutSeconds": seconds });
    check("VolumeBinding", seconds(0), expect!["ok"]);
    check(
        "VolumeBinding",
        seconds(-1),
        expect![
            "bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a negative value"
        ],
    );
    check(
        "VolumeBinding",
        json!({"shape": []}),
        expect!["unknown field `shape`, expected `bindTimeoutSeconds`"],
    );
}
