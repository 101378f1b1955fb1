//! The other kinds that have a description of their own. Each says whether its events are shown. Pure.

use serde_json::Value;

use super::{Subject, items, metadata, or_none, pod, text, time};
use crate::{duration, pods::selector_of};

/// Describes a Deployment.
pub(super) fn deployment(subject: &Subject<'_>, into: &mut String) -> bool {
    let (object, spec, status) = (
        subject.object,
        &subject.object["spec"],
        &subject.object["status"],
    );
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let mut head = String::new();
    metadata(object, &mut head);
    let labels = head.find("Labels:").unwrap_or(head.len());
    into.push_str(&head[..labels]);
    into.push_str(&format!(
        "CreationTimestamp:\t{}\n",
        time(&object["metadata"]["creationTimestamp"])
    ));
    into.push_str(&head[labels..]);
    into.push_str(&format!("Selector:\t{}\n", selector(object)));
    into.push_str(&format!(
        "Replicas:\t{} desired | {} updated | {} total | {} available | {} unavailable\n",
        spec["replicas"].as_i64().unwrap_or(1),
        number(&status["updatedReplicas"]),
        number(&status["replicas"]),
        number(&status["availableReplicas"]),
        number(&status["unavailableReplicas"])
    ));
    into.push_str(&format!(
        "StrategyType:\t{}\n",
        text(&spec["strategy"]["type"])
    ));
    into.push_str(&format!(
        "MinReadySeconds:\t{}\n",
        number(&spec["minReadySeconds"])
    ));
    let rolling = &spec["strategy"]["rollingUpdate"];
    if rolling.is_object() {
        into.push_str(&format!(
            "RollingUpdateStrategy:\t{} max unavailable, {} max surge\n",
            text(&rolling["maxUnavailable"]),
            text(&rolling["maxSurge"])
        ));
    }
    into.push_str("Pod Template:\n");
    pod::template(&spec["template"], into);
    let conditions = items(&status["conditions"]);
    if !conditions.is_empty() {
        into.push_str("Conditions:\n  Type\tStatus\tReason\n  ----\t------\t------\n");
    }
    for condition in conditions {
        let of = |field: &str| text(&condition[field]);
        into.push_str(&format!(
            "  {}\t{}\t{}\n",
            of("type"),
            of("status"),
            of("reason")
        ));
    }
    let (new, old) = replica_sets(subject);
    into.push_str(&format!("OldReplicaSets:\t{old}\nNewReplicaSet:\t{new}\n"));
    true
}

/// The newest ReplicaSet of a Deployment, and the others that still count.
fn replica_sets(subject: &Subject<'_>) -> (String, String) {
    let revision = "deployment.kubernetes.io/revision";
    let uid = &subject.object["metadata"]["uid"];
    let newest = &subject.object["metadata"]["annotations"][revision];
    let line = |set: &Value| {
        let replicas = |value: &Value| value.as_i64().unwrap_or_default();
        format!(
            "{} ({}/{} replicas created)",
            text(&set["metadata"]["name"]),
            replicas(&set["status"]["replicas"]),
            replicas(&set["spec"]["replicas"])
        )
    };
    let owned = |set: &&Value| {
        items(&set["metadata"]["ownerReferences"])
            .iter()
            .any(|owner| owner["uid"] == *uid)
    };
    let sets = subject.related.iter().filter(owned);
    let (new, old): (Vec<&Value>, Vec<&Value>) = sets
        .partition(|set| newest.is_string() && set["metadata"]["annotations"][revision] == *newest);
    let join = |sets: Vec<&Value>| {
        let lines: Vec<String> = sets.into_iter().map(line).collect();
        if lines.is_empty() {
            "<none>".to_owned()
        } else {
            lines.join(", ")
        }
    };
    (join(new), join(old))
}

/// Describes a ReplicaSet.
pub(super) fn replica_set(subject: &Subject<'_>, into: &mut String) -> bool {
    let (object, spec, status) = (
        subject.object,
        &subject.object["spec"],
        &subject.object["status"],
    );
    let mut head = String::new();
    metadata(object, &mut head);
    let labels = head.find("Labels:").unwrap_or(head.len());
    into.push_str(&head[..labels]);
    into.push_str(&format!("Selector:\t{}\n", selector(object)));
    into.push_str(&head[labels..]);
    let owners = items(&object["metadata"]["ownerReferences"]);
    if let Some(owner) = owners.iter().find(|owner| owner["controller"] == true) {
        into.push_str(&format!(
            "Controlled By:\t{}/{}\n",
            text(&owner["kind"]),
            text(&owner["name"])
        ));
    }
    into.push_str(&format!(
        "Replicas:\t{} current / {} desired\n",
        status["replicas"].as_i64().unwrap_or_default(),
        spec["replicas"].as_i64().unwrap_or(1)
    ));
    let uid = &object["metadata"]["uid"];
    let owned = |pod: &&Value| {
        items(&pod["metadata"]["ownerReferences"])
            .iter()
            .any(|owner| owner["uid"] == *uid)
    };
    let pods: Vec<&Value> = subject.related.iter().filter(owned).collect();
    let in_phase = |phase: &str| {
        pods.iter()
            .filter(|pod| pod["status"]["phase"] == phase)
            .count()
    };
    into.push_str(&format!(
        "Pods Status:\t{} Running / {} Waiting / {} Succeeded / {} Failed\n",
        in_phase("Running"),
        in_phase("Pending"),
        in_phase("Succeeded"),
        in_phase("Failed")
    ));
    into.push_str("Pod Template:\n");
    pod::template(&spec["template"], into);
    true
}

fn selector(object: &Value) -> String {
    Some(selector_of(object))
        .filter(|selector| !selector.is_empty())
        .unwrap_or_else(|| "<none>".to_owned())
}

/// Describes a Service with the addresses behind each port.
pub(super) fn service(subject: &Subject<'_>, into: &mut String) -> bool {
    let (object, spec) = (subject.object, &subject.object["spec"]);
    metadata(object, into);
    into.push_str(&format!("Selector:\t{}\n", selector(object)));
    into.push_str(&format!("Type:\t{}\n", text(&spec["type"])));
    if spec["ipFamilyPolicy"].is_string() {
        into.push_str(&format!(
            "IP Family Policy:\t{}\n",
            text(&spec["ipFamilyPolicy"])
        ));
    }
    into.push_str(&format!("IP:\t{}\n", or_none(&spec["clusterIP"])));
    if spec["externalName"].is_string() {
        into.push_str(&format!(
            "External Name:\t{}\n",
            text(&spec["externalName"])
        ));
    }
    for port in items(&spec["ports"]) {
        let name = port["name"].as_str().unwrap_or("<unset>");
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        into.push_str(&format!(
            "Port:\t{name}\t{}/{protocol}\n",
            text(&port["port"])
        ));
        into.push_str(&format!(
            "TargetPort:\t{}/{protocol}\n",
            text(&port["targetPort"])
        ));
        if !port["nodePort"].is_null() {
            into.push_str(&format!(
                "NodePort:\t{name}\t{}/{protocol}\n",
                text(&port["nodePort"])
            ));
        }
        into.push_str(&format!(
            "Endpoints:\t{}\n",
            endpoints(&subject.related, port)
        ));
    }
    into.push_str(&format!(
        "Session Affinity:\t{}\n",
        text(&spec["sessionAffinity"])
    ));
    true
}

/// Up to three ready addresses behind a port of a Service.
fn endpoints(slices: &[Value], port: &Value) -> String {
    let name = port["name"].as_str().unwrap_or_default();
    let mut all = Vec::new();
    for slice in slices {
        let ports = items(&slice["ports"]).iter();
        for port in ports.filter(|port| port["name"].as_str().unwrap_or_default() == name) {
            let ready = items(&slice["endpoints"])
                .iter()
                .filter(|endpoint| endpoint["conditions"]["ready"] != false);
            for address in ready.flat_map(|endpoint| items(&endpoint["addresses"])) {
                all.push(format!("{}:{}", text(address), text(&port["port"])));
            }
        }
    }
    match all.len() {
        0 => "<none>".to_owned(),
        1..=3 => all.join(","),
        count => format!("{} + {} more...", all[..3].join(","), count - 3),
    }
}

/// Describes a Node with the pods on it.
pub(super) fn node(subject: &Subject<'_>, into: &mut String) -> bool {
    let (object, status) = (subject.object, &subject.object["status"]);
    metadata(object, into);
    into.push_str(&format!(
        "CreationTimestamp:\t{}\n",
        time(&object["metadata"]["creationTimestamp"])
    ));
    let mut title = "Taints:";
    for taint in items(&object["spec"]["taints"]) {
        let value = taint["value"]
            .as_str()
            .map(|value| format!("={value}"))
            .unwrap_or_default();
        into.push_str(&format!(
            "{title}\t{}{value}:{}\n",
            text(&taint["key"]),
            text(&taint["effect"])
        ));
        title = "";
    }
    if !title.is_empty() {
        into.push_str(&format!("{title}\t<none>\n"));
    }
    into.push_str(&format!(
        "Unschedulable:\t{}\n",
        object["spec"]["unschedulable"] == true
    ));
    into.push_str(
        "Conditions:\n  Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage\n",
    );
    into.push_str("  ----\t------\t-----------------\t------------------\t------\t-------\n");
    for condition in items(&status["conditions"]) {
        let of = |field: &str| text(&condition[field]);
        into.push_str(&format!(
            "  {}\t{}\t{}\t{}\t{}\t{}\n",
            of("type"),
            of("status"),
            time(&condition["lastHeartbeatTime"]),
            time(&condition["lastTransitionTime"]),
            of("reason"),
            of("message")
        ));
    }
    into.push_str("Addresses:\n");
    for address in items(&status["addresses"]) {
        into.push_str(&format!(
            "  {}:\t{}\n",
            text(&address["type"]),
            text(&address["address"])
        ));
    }
    for (title, field) in [("Capacity:", "capacity"), ("Allocatable:", "allocatable")] {
        into.push_str(&format!("{title}\n"));
        for (name, amount) in status[field].as_object().into_iter().flatten() {
            into.push_str(&format!("  {name}:\t{}\n", text(amount)));
        }
    }
    into.push_str("System Info:\n");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        into.push_str(&format!(
            "  {title}:\t{}\n",
            text(&status["nodeInfo"][field])
        ));
    }
    into.push_str(&format!("PodCIDR:\t{}\n", text(&object["spec"]["podCIDR"])));
    let ended =
        |pod: &&Value| pod["status"]["phase"] != "Succeeded" && pod["status"]["phase"] != "Failed";
    let pods: Vec<&Value> = subject.related.iter().filter(ended).collect();
    into.push_str(&format!(
        "Non-terminated Pods:\t({} in total)\n",
        pods.len()
    ));
    into.push_str("  Namespace\tName\tCPU Requests\tMemory Requests\tAge\n  ---------\t----\t------------\t---------------\t---\n");
    for pod in pods {
        let metadata = &pod["metadata"];
        let requests = |name: &str| {
            let containers = items(&pod["spec"]["containers"]).iter();
            let amounts: Vec<String> = containers
                .map(|c| text(&c["resources"]["requests"][name]))
                .filter(|amount| !amount.is_empty())
                .collect();
            if amounts.is_empty() {
                "0".to_owned()
            } else {
                amounts.join("+")
            }
        };
        into.push_str(&format!(
            "  {}\t{}\t{}\t{}\t{}\n",
            text(&metadata["namespace"]),
            text(&metadata["name"]),
            requests("cpu"),
            requests("memory"),
            duration::age(&text(&metadata["creationTimestamp"]), subject.now)
        ));
    }
    true
}

/// Describes a Namespace.
pub(super) fn namespace(subject: &Subject<'_>, into: &mut String) -> bool {
    let object = subject.object;
    metadata(object, into);
    into.push_str(&format!("Status:\t{}\n", text(&object["status"]["phase"])));
    let conditions = items(&object["status"]["conditions"])
        .iter()
        .filter(|condition| condition["status"] == "True");
    for condition in conditions {
        into.push_str(&format!(
            "  {}:\t{}\n",
            text(&condition["type"]),
            text(&condition["message"])
        ));
    }
    false
}

/// Describes a ConfigMap.
pub(super) fn config_map(subject: &Subject<'_>, into: &mut String) -> bool {
    let object = subject.object;
    metadata(object, into);
    into.push_str("\nData\n====\n");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        // Tabs would be taken for columns.
        into.push_str(&format!(
            "{key}:\n----\n{}\n\n",
            text(value).replace('\t', "    ")
        ));
    }
    into.push_str("\nBinaryData\n====\n");
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        into.push_str(&format!("{key}: {} bytes\n", size(value)));
    }
    into.push('\n');
    true
}

/// Describes a Secret: names and sizes, never what is in it.
pub(super) fn secret(subject: &Subject<'_>, into: &mut String) -> bool {
    let object = subject.object;
    metadata(object, into);
    into.push_str(&format!(
        "\nType:\t{}\n\nData\n====\n",
        text(&object["type"])
    ));
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        into.push_str(&format!("{key}:\t{} bytes\n", size(value)));
    }
    false
}

/// The length of what a base64 text stands for.
fn size(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() * 3 / 4).saturating_sub(padding)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_size_of_a_secret_is_that_of_what_it_stands_for() {
        for (text, bytes) in [("", 0), ("YQ==", 1), ("YWI=", 2), ("YWJj", 3)] {
            assert_eq!(size(&json!(text)), bytes);
        }
    }
}
