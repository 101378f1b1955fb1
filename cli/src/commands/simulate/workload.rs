//! Which pods an object of a manifest makes. Pure.
//!
//! A StatefulSet's claims are made with its pods, a DaemonSet's pods are one for each node, a Job's as many as run at
//! once, a CronJob's those of one run.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// Plugins whose objection to a DaemonSet's own node means that no pod is wanted there.
pub(super) const UNWANTED: &[&str] = &["NodeAffinity", "NodeName", "TaintToleration"];

/// Pods of one kind, and the claims that are made for them.
#[derive(Debug)]
pub(super) struct Plan {
    /// A pod without what differs between them.
    pub(super) template: Value,
    pub(super) copies: Vec<Copy>,
    pub(super) claims: Vec<Value>,
}

/// What one pod has for itself.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) name: String,
    /// Volumes, and the claims that they are.
    pub(super) claims: Vec<(String, String)>,
    /// The only node that it may run on.
    pub(super) node: Option<String>,
}

/// Whether objects of a kind make pods that are told of.
pub(super) fn makes_pods(kind: &str) -> bool {
    matches!(
        kind,
        "Pod"
            | "Deployment"
            | "ReplicaSet"
            | "ReplicationController"
            | "StatefulSet"
            | "DaemonSet"
            | "Job"
            | "CronJob"
    )
}

/// The pods of an object.
pub(super) fn plan(kind: &str, name: &str, object: &Value, nodes: &[String]) -> Result<Plan> {
    let spec = match kind {
        "CronJob" => &object["spec"]["jobTemplate"]["spec"],
        _ => &object["spec"],
    };
    let template = match kind {
        "Pod" => json!({"metadata": object["metadata"], "spec": spec}),
        _ => spec["template"].clone(),
    };
    if !template["spec"].is_object() {
        bail!("it has no pod template");
    }
    let number = |field: &str, otherwise: u64| -> Result<u64> {
        match &spec[field] {
            Value::Null => Ok(otherwise),
            given => given
                .as_u64()
                .with_context(|| format!("spec.{field}: must be a number that is not negative")),
        }
    };
    let numbered = |first: u64, count: u64| {
        let names = (first..first + count).map(|number| format!("{name}-{number}"));
        names.map(|name| Copy {
            name,
            ..Copy::default()
        })
    };
    let mut claims = Vec::new();
    let copies = match kind {
        "Pod" => vec![Copy {
            name: name.to_owned(),
            ..Copy::default()
        }],
        "DaemonSet" => {
            let copy = |node: &String| Copy {
                name: format!("{name}-{node}"),
                claims: Vec::new(),
                node: Some(node.clone()),
            };
            nodes.iter().map(copy).collect()
        }
        "StatefulSet" => {
            let first = spec["ordinals"]["start"].as_u64().unwrap_or_default();
            let mut copies: Vec<Copy> = numbered(first, number("replicas", 1)?).collect();
            for made in spec["volumeClaimTemplates"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let volume = made["metadata"]["name"].as_str().unwrap_or_default();
                for copy in &mut copies {
                    let claim = format!("{volume}-{}", copy.name);
                    claims.push(claim_of(made, &claim));
                    copy.claims.push((volume.to_owned(), claim));
                }
            }
            copies
        }
        "Job" | "CronJob" => {
            let at_once = number("parallelism", 1)?;
            let count = at_once.min(number("completions", at_once)?);
            numbered(1, count).collect()
        }
        _ => numbered(1, number("replicas", 1)?).collect(),
    };
    Ok(Plan {
        template,
        copies,
        claims,
    })
}

fn claim_of(template: &Value, name: &str) -> Value {
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"]},
        "spec": template["spec"],
    });
    if let Some(metadata) = claim["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    claim
}

/// Gives a pod its name, its claims and, if it is to be `pinned`, its node.
pub(super) fn fill(pod: &mut Value, copy: &Copy, pinned: bool) {
    pod["metadata"]["name"] = copy.name.clone().into();
    for (volume, claim) in &copy.claims {
        let own = json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}});
        match pod["spec"]["volumes"].as_array_mut() {
            Some(volumes) => {
                volumes.retain(|other| other["name"] != volume.as_str());
                volumes.push(own);
            }
            None => pod["spec"]["volumes"] = json!([own]),
        }
    }
    if let Some(node) = copy.node.as_deref().filter(|_| pinned) {
        pin(&mut pod["spec"], node);
    }
}

/// As the DaemonSet controller pins its pods: to one node, and bearing what befalls nodes.
fn pin(spec: &mut Value, node: &str) {
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let required =
        &mut spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match required["nodeSelectorTerms"].as_array_mut() {
        Some(terms) => {
            for term in terms {
                term["matchFields"] = json!([field]);
            }
        }
        None => *required = json!({"nodeSelectorTerms": [{"matchFields": [field]}]}),
    }
    let borne = [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    let borne = borne.map(|(key, effect)| {
        json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": effect})
    });
    match spec["tolerations"].as_array_mut() {
        Some(tolerations) => tolerations.extend(borne),
        None => spec["tolerations"] = json!(borne),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(kind: &str, spec: Value, expected: Expect) {
        let mut spec = spec;
        let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}});
        match kind {
            "Pod" => spec["containers"] = json!([]),
            "CronJob" => {
                spec = json!({"jobTemplate": {"spec": {"template": template, "parallelism": spec["parallelism"]}}});
            }
            _ => spec["template"] = template,
        }
        let nodes = ["a".to_owned(), "b".to_owned()];
        let object = json!({"metadata": {"name": "x"}, "spec": spec});
        let told = match plan(kind, "x", &object, &nodes) {
            Ok(plan) => {
                let copies = plan.copies.iter().map(|copy| {
                    let node = copy.node.as_ref().map(|node| format!("@{node}"));
                    let claims = copy
                        .claims
                        .iter()
                        .map(|(volume, claim)| format!("+{volume}={claim}"));
                    format!(
                        "{}{}{}",
                        copy.name,
                        node.unwrap_or_default(),
                        claims.collect::<String>()
                    )
                });
                copies.collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&told);
    }

    #[test]
    fn each_kind_makes_its_pods() {
        check("Pod", json!({}), expect!["x"]);
        check("Deployment", json!({}), expect!["x-1"]);
        check("ReplicaSet", json!({"replicas": 2}), expect!["x-1 x-2"]);
        check("ReplicationController", json!({"replicas": 0}), expect![""]);
        check(
            "Job",
            json!({"parallelism": 3, "completions": 2}),
            expect!["x-1 x-2"],
        );
        check("Job", json!({"completions": 9}), expect!["x-1"]);
        check("CronJob", json!({"parallelism": 2}), expect!["x-1 x-2"]);
        check("DaemonSet", json!({}), expect!["x-a@a x-b@b"]);
        let claim = json!([{"metadata": {"name": "data"}, "spec": {}}]);
        check(
            "StatefulSet",
            json!({"replicas": 2, "ordinals": {"start": 5}, "volumeClaimTemplates": claim}),
            expect!["x-5+data=data-x-5 x-6+data=data-x-6"],
        );
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        check(
            "Deployment",
            json!({"replicas": -1}),
            expect!["spec.replicas: must be a number that is not negative"],
        );
        let object = json!({"spec": {}});
        let error = plan("Deployment", "x", &object, &[]).expect_err("no template");
        assert_eq!(error.to_string(), "it has no pod template");
    }

    #[test]
    fn a_pod_of_a_daemon_set_keeps_to_its_node_and_its_own_affinity() {
        let own = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]});
        let mut pod = json!({"spec": {"affinity": {"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": own}}}});
        let copy = Copy {
            name: "x-a".to_owned(),
            node: Some("a".to_owned()),
            ..Copy::default()
        };
        fill(&mut pod, &copy, true);
        let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let term = &required["nodeSelectorTerms"][0];
        assert_eq!(term["matchExpressions"][0]["key"], "gpu");
        assert_eq!(term["matchFields"][0]["values"], json!(["a"]));
        assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(6));
    }
}
