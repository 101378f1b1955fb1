//! Pods and pod templates. Pure.

use serde_json::Value;

use super::{Subject, items, metadata, or_none, pairs, text, time};

/// Describes a pod.
pub(super) fn describe(subject: &Subject<'_>, into: &mut String) -> bool {
    let (object, status) = (subject.object, &subject.object["status"]);
    let mut head = String::new();
    metadata(object, &mut head);
    // Where it runs belongs before its labels.
    let labels = head.find("Labels:").unwrap_or(head.len());
    into.push_str(&head[..labels]);
    let spec = &object["spec"];
    into.push_str(&format!(
        "Priority:\t{}\n",
        spec["priority"].as_i64().unwrap_or_default()
    ));
    if spec["serviceAccountName"].is_string() {
        into.push_str(&format!(
            "Service Account:\t{}\n",
            text(&spec["serviceAccountName"])
        ));
    }
    match spec["nodeName"].as_str() {
        Some(node) => into.push_str(&format!("Node:\t{node}/{}\n", text(&status["hostIP"]))),
        None => into.push_str("Node:\t<none>\n"),
    }
    if status["startTime"].is_string() {
        into.push_str(&format!("Start Time:\t{}\n", time(&status["startTime"])));
    }
    into.push_str(&head[labels..]);
    match object["metadata"]["deletionTimestamp"].as_str() {
        Some(when) => {
            let grace = text(&object["metadata"]["deletionGracePeriodSeconds"]);
            let since = crate::duration::age(when, subject.now);
            into.push_str(&format!(
                "Status:\tTerminating (lasts {since})\nTermination Grace Period:\t{grace}s\n"
            ));
        }
        None => into.push_str(&format!("Status:\t{}\n", text(&status["phase"]))),
    }
    for (title, field) in [("Reason:", "reason"), ("Message:", "message")] {
        if status[field].is_string() {
            into.push_str(&format!("{title}\t{}\n", text(&status[field])));
        }
    }
    into.push_str(&format!("IP:\t{}\n", text(&status["podIP"])));
    let ips = items(&status["podIPs"]);
    into.push_str(if ips.is_empty() {
        "IPs:\t<none>\n"
    } else {
        "IPs:\n"
    });
    for ip in ips {
        into.push_str(&format!("  IP:\t{}\n", text(&ip["ip"])));
    }
    let owners = items(&object["metadata"]["ownerReferences"]);
    if let Some(owner) = owners.iter().find(|owner| owner["controller"] == true) {
        into.push_str(&format!(
            "Controlled By:\t{}/{}\n",
            text(&owner["kind"]),
            text(&owner["name"])
        ));
    }
    containers(
        "Init Containers:",
        &spec["initContainers"],
        &status["initContainerStatuses"],
        "",
        into,
    );
    containers(
        "Containers:",
        &spec["containers"],
        &status["containerStatuses"],
        "",
        into,
    );
    let conditions = items(&status["conditions"]);
    if !conditions.is_empty() {
        into.push_str("Conditions:\n  Type\tStatus\n");
        for condition in conditions {
            into.push_str(&format!(
                "  {}\t{}\n",
                text(&condition["type"]),
                text(&condition["status"])
            ));
        }
    }
    volumes(spec, "", into);
    if status["qosClass"].is_string() {
        into.push_str(&format!("QoS Class:\t{}\n", text(&status["qosClass"])));
    }
    pairs("Node-Selectors:", "=", &spec["nodeSelector"], into);
    tolerations(spec, into);
    true
}

/// Describes the pod template of a workload, indented.
pub(in crate::commands) fn template(template: &Value, into: &mut String) {
    pairs("  Labels:", "=", &template["metadata"]["labels"], into);
    if template["metadata"]["annotations"].is_object() {
        pairs(
            "  Annotations:",
            ": ",
            &template["metadata"]["annotations"],
            into,
        );
    }
    let spec = &template["spec"];
    if spec["serviceAccountName"].is_string() {
        into.push_str(&format!(
            "  Service Account:\t{}\n",
            text(&spec["serviceAccountName"])
        ));
    }
    containers(
        "Init Containers:",
        &spec["initContainers"],
        &Value::Null,
        "  ",
        into,
    );
    containers("Containers:", &spec["containers"], &Value::Null, "  ", into);
    volumes(spec, "  ", into);
    pairs("  Node-Selectors:", "=", &spec["nodeSelector"], into);
}

fn containers(title: &str, containers: &Value, statuses: &Value, indent: &str, into: &mut String) {
    let containers = items(containers);
    if containers.is_empty() {
        return;
    }
    into.push_str(&format!("{indent}{title}\n"));
    for container in containers {
        let status = items(statuses)
            .iter()
            .find(|status| status["name"] == container["name"]);
        let mut lines = String::new();
        one_container(container, status, &mut lines);
        into.push_str(&format!("{indent}  {}:\n", text(&container["name"])));
        for line in lines.lines() {
            into.push_str(&format!("{indent}    {line}\n"));
        }
    }
}

fn one_container(container: &Value, status: Option<&Value>, into: &mut String) {
    if let Some(status) = status {
        into.push_str(&format!(
            "Container ID:\t{}\n",
            text(&status["containerID"])
        ));
    }
    into.push_str(&format!("Image:\t{}\n", text(&container["image"])));
    if let Some(status) = status {
        into.push_str(&format!("Image ID:\t{}\n", text(&status["imageID"])));
    }
    let ports: Vec<String> = items(&container["ports"])
        .iter()
        .map(|port| {
            format!(
                "{}/{}",
                text(&port["containerPort"]),
                port["protocol"].as_str().unwrap_or("TCP")
            )
        })
        .collect();
    let title = if ports.len() > 1 { "Ports" } else { "Port" };
    into.push_str(&format!(
        "{title}:\t{}\n",
        if ports.is_empty() {
            "<none>".to_owned()
        } else {
            ports.join(", ")
        }
    ));
    for (title, field) in [("Command:", "command"), ("Args:", "args")] {
        let words = items(&container[field]);
        if !words.is_empty() {
            into.push_str(&format!("{title}\n"));
        }
        for word in words {
            into.push_str(&format!("  {}\n", text(word)));
        }
    }
    if let Some(status) = status {
        state("State:", &status["state"], into);
        if status["lastState"]
            .as_object()
            .is_some_and(|last| !last.is_empty())
        {
            state("Last State:", &status["lastState"], into);
        }
        let ready = if status["ready"] == true {
            "True"
        } else {
            "False"
        };
        into.push_str(&format!(
            "Ready:\t{ready}\nRestart Count:\t{}\n",
            text(&status["restartCount"])
        ));
    }
    for (title, field) in [("Limits:", "limits"), ("Requests:", "requests")] {
        let amounts = container["resources"][field].as_object();
        for (index, (name, amount)) in amounts.into_iter().flatten().enumerate() {
            if index == 0 {
                into.push_str(&format!("{title}\n"));
            }
            into.push_str(&format!("  {name}:\t{}\n", text(amount)));
        }
    }
    for (title, field) in [
        ("Liveness:", "livenessProbe"),
        ("Readiness:", "readinessProbe"),
        ("Startup:", "startupProbe"),
    ] {
        if container[field].is_object() {
            into.push_str(&format!("{title}\t{}\n", probe(&container[field])));
        }
    }
    environment(container, into);
    mounts(container, into);
}

fn state(title: &str, state: &Value, into: &mut String) {
    let (name, details) = match state.as_object().and_then(|state| state.iter().next()) {
        Some((name, details)) => (name.as_str(), details),
        None => ("waiting", &Value::Null),
    };
    let mut shown = name.to_owned();
    if let Some(first) = shown.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    into.push_str(&format!("{title}\t{shown}\n"));
    for (title, field) in [
        ("Reason:", "reason"),
        ("Message:", "message"),
        ("Exit Code:", "exitCode"),
        ("Signal:", "signal"),
    ] {
        if !details[field].is_null() {
            into.push_str(&format!(
                "  {title}\t{}\n",
                text(&details[field]).replace('\n', " ")
            ));
        }
    }
    for (title, field) in [("Started:", "startedAt"), ("Finished:", "finishedAt")] {
        if details[field].is_string() {
            into.push_str(&format!("  {title}\t{}\n", time(&details[field])));
        }
    }
}

fn probe(probe: &Value) -> String {
    let number = |field: &str, default: i64| probe[field].as_i64().unwrap_or(default);
    let http = &probe["httpGet"];
    let how = if http.is_object() {
        let scheme = http["scheme"].as_str().unwrap_or("HTTP").to_lowercase();
        format!(
            "http-get {scheme}://{}:{}{}",
            text(&http["host"]),
            text(&http["port"]),
            text(&http["path"])
        )
    } else if probe["tcpSocket"].is_object() {
        format!(
            "tcp-socket {}:{}",
            text(&probe["tcpSocket"]["host"]),
            text(&probe["tcpSocket"]["port"])
        )
    } else if probe["exec"].is_object() {
        let words: Vec<String> = items(&probe["exec"]["command"]).iter().map(text).collect();
        format!("exec [{}]", words.join(" "))
    } else {
        "unknown".to_owned()
    };
    format!(
        "{how} delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds", 0),
        number("timeoutSeconds", 1),
        number("periodSeconds", 10),
        number("successThreshold", 1),
        number("failureThreshold", 3)
    )
}

fn environment(container: &Value, into: &mut String) {
    let from = items(&container["envFrom"]);
    if !from.is_empty() {
        into.push_str("Environment Variables from:\n");
    }
    for source in from {
        for (field, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
            if source[field].is_object() {
                let optional = source[field]["optional"] == true;
                into.push_str(&format!(
                    "  {}\t{kind}\tOptional: {optional}\n",
                    text(&source[field]["name"])
                ));
            }
        }
    }
    let variables = items(&container["env"]);
    into.push_str(if variables.is_empty() {
        "Environment:\t<none>\n"
    } else {
        "Environment:\n"
    });
    for variable in variables {
        let from = &variable["valueFrom"];
        let reference = |field: &str, what: &str| {
            format!(
                "<set to the key '{}' in {what} '{}'>",
                text(&from[field]["key"]),
                text(&from[field]["name"])
            )
        };
        let value = if from["configMapKeyRef"].is_object() {
            reference("configMapKeyRef", "config map")
        } else if from["secretKeyRef"].is_object() {
            reference("secretKeyRef", "secret")
        } else if from["fieldRef"].is_object() {
            format!("({})", text(&from["fieldRef"]["fieldPath"]))
        } else {
            text(&variable["value"])
        };
        into.push_str(&format!("  {}:\t{value}\n", text(&variable["name"])));
    }
}

fn mounts(container: &Value, into: &mut String) {
    let mounts = items(&container["volumeMounts"]);
    into.push_str(if mounts.is_empty() {
        "Mounts:\t<none>\n"
    } else {
        "Mounts:\n"
    });
    for mount in mounts {
        let mode = if mount["readOnly"] == true {
            "ro"
        } else {
            "rw"
        };
        into.push_str(&format!(
            "  {} from {} ({mode})\n",
            text(&mount["mountPath"]),
            text(&mount["name"])
        ));
    }
}

fn volumes(spec: &Value, indent: &str, into: &mut String) {
    let volumes = items(&spec["volumes"]);
    let title = if volumes.is_empty() {
        "Volumes:\t<none>"
    } else {
        "Volumes:"
    };
    into.push_str(&format!("{indent}{title}\n"));
    for volume in volumes {
        into.push_str(&format!("{indent}  {}:\n", text(&volume["name"])));
        let sources = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key != "name");
        for (source, details) in sources {
            into.push_str(&format!("{indent}    Type:\t{source}\n"));
            for (key, value) in details
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, value)| !value.is_object() && !value.is_array())
            {
                into.push_str(&format!("{indent}    {key}:\t{}\n", text(value)));
            }
        }
    }
}

fn tolerations(spec: &Value, into: &mut String) {
    let mut title = "Tolerations:";
    for toleration in items(&spec["tolerations"]) {
        let mut line = text(&toleration["key"]);
        if toleration["value"].is_string() {
            line.push_str(&format!("={}", text(&toleration["value"])));
        }
        if toleration["effect"].is_string() {
            line.push_str(&format!(":{}", text(&toleration["effect"])));
        }
        if toleration["operator"] == "Exists" {
            line.push_str(" op=Exists");
        }
        if !toleration["tolerationSeconds"].is_null() {
            line.push_str(&format!(
                " for {}s",
                or_none(&toleration["tolerationSeconds"])
            ));
        }
        into.push_str(&format!("{title}\t{line}\n"));
        title = "";
    }
    if !title.is_empty() {
        into.push_str(&format!("{title}\t<none>\n"));
    }
}
