//! When an object that was applied is ready, and what to tell who waits. Pure.

use serde_json::Value;

/// How far an object is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It works, or there is nothing to wait for.
    Ready(String),
    /// Not yet; what is missing.
    Waiting(String),
    /// It will not become ready by waiting; why.
    Failed(String),
}

/// Judges an object by its kind; kinds without a notion of readiness are ready once they exist.
pub fn progress(object: &Value) -> Progress {
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => deployment(object),
        "ReplicaSet" | "ReplicationController" => replicas(object, "readyReplicas"),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        "Job" => job(object),
        "Pod" => pod(object),
        "PersistentVolumeClaim" => claim(object),
        "CustomResourceDefinition" => definition(object),
        "APIService" => condition(object, "Available"),
        "Namespace" if object["status"]["phase"] == "Terminating" => {
            Progress::Failed("it is being deleted".to_owned())
        }
        _ => custom(object),
    }
}

/// How far a hook is: one that runs to an end must succeed, anything else only be there.
pub fn hook_progress(object: &Value) -> Progress {
    match object["kind"].as_str().unwrap_or_default() {
        "Job" => job(object),
        "Pod" => match object["status"]["phase"].as_str().unwrap_or("Pending") {
            "Succeeded" => Progress::Ready("completed".to_owned()),
            "Failed" => Progress::Failed(failure(object)),
            phase => Progress::Waiting(waiting_reason(object).unwrap_or_else(|| phase.to_owned())),
        },
        _ => Progress::Ready(String::new()),
    }
}

/// Why a pod failed: in its own words, or its containers'.
fn failure(pod: &Value) -> String {
    if let Some(message) = pod["status"]["message"].as_str() {
        return message.to_owned();
    }
    let statuses = pod["status"]["containerStatuses"].as_array();
    let ended = statuses.into_iter().flatten().find_map(|status| {
        let ended = &status["state"]["terminated"];
        let code = ended["exitCode"].as_i64().filter(|code| *code != 0)?;
        let name = status["name"].as_str().unwrap_or_default();
        Some(format!("container {name:?} exited with code {code}"))
    });
    ended.unwrap_or_else(|| "it failed".to_owned())
}

fn claim(object: &Value) -> Progress {
    match object["status"]["phase"].as_str().unwrap_or("Pending") {
        "Bound" => Progress::Ready("bound".to_owned()),
        "Lost" => Progress::Failed("its volume is lost".to_owned()),
        _ => Progress::Waiting("not bound yet".to_owned()),
    }
}

/// Established, unless its names are another's.
fn definition(object: &Value) -> Progress {
    let conditions = object["status"]["conditions"].as_array();
    let refused = conditions
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "NamesAccepted" && c["status"] == "False");
    match refused {
        Some(refused) => Progress::Failed(message(refused, "its names are not accepted")),
        None => condition(object, "Established"),
    }
}

fn condition(object: &Value, kind: &str) -> Progress {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|c| c["type"] == kind);
    match found {
        Some(found) if found["status"] == "True" => Progress::Ready(kind.to_lowercase()),
        Some(found) => Progress::Waiting(message(found, "not yet")),
        None => Progress::Waiting(format!("not {} yet", kind.to_lowercase())),
    }
}

/// A kind that is not Kubernetes' own says by the usual conditions how far it is, if it does.
fn custom(object: &Value) -> Progress {
    let group = object["apiVersion"]
        .as_str()
        .and_then(|v| v.split_once('/'));
    let own = group.is_some_and(|(group, _)| group.contains('.') && !group.ends_with(".k8s.io"));
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready");
    if !own || !ready {
        return Progress::Ready(String::new());
    }
    if object["status"]["observedGeneration"].is_number() && !observed(object) {
        return Progress::Waiting("waiting for the spec update to be observed".to_owned());
    }
    condition(object, "Ready")
}

fn message(condition: &Value, otherwise: &str) -> String {
    let text = condition["message"].as_str().filter(|m| !m.is_empty());
    text.unwrap_or(otherwise).to_owned()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// True once the controller has seen the latest change of the object's spec.
fn observed(object: &Value) -> bool {
    number(&object["status"]["observedGeneration"]) >= number(&object["metadata"]["generation"])
}

fn deployment(object: &Value) -> Progress {
    let status = &object["status"];
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let conditions = status["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let late = conditions
        .iter()
        .find(|c| c["type"] == "Progressing" && c["reason"] == "ProgressDeadlineExceeded");
    if let Some(late) = late {
        return Progress::Failed(
            late["message"]
                .as_str()
                .unwrap_or("it exceeded its progress deadline")
                .to_owned(),
        );
    }
    let (updated, total, available) = (
        number(&status["updatedReplicas"]),
        number(&status["replicas"]),
        number(&status["availableReplicas"]),
    );
    if !observed(object) {
        Progress::Waiting("waiting for the spec update to be observed".to_owned())
    } else if updated < wanted {
        Progress::Waiting(format!(
            "{updated} out of {wanted} new replicas have been updated"
        ))
    } else if total > updated {
        Progress::Waiting(format!(
            "{} old replicas are pending termination",
            total - updated
        ))
    } else if available < updated {
        Progress::Waiting(format!(
            "{available} of {updated} updated replicas are available"
        ))
    } else {
        Progress::Ready(format!("{available}/{wanted} ready"))
    }
}

fn replicas(object: &Value, field: &str) -> Progress {
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let ready = number(&object["status"][field]);
    if observed(object) && ready >= wanted {
        Progress::Ready(format!("{ready}/{wanted} ready"))
    } else {
        Progress::Waiting(format!("{ready} of {wanted} replicas are ready"))
    }
}

fn stateful_set(object: &Value) -> Progress {
    let (spec, status) = (&object["spec"], &object["status"]);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let ready = number(&status["readyReplicas"]);
    let updated = number(&status["updatedReplicas"]);
    let strategy = &spec["updateStrategy"];
    let partition = number(&strategy["rollingUpdate"]["partition"]);
    let revision = status["updateRevision"].as_str().unwrap_or_default();
    // Whoever asked for `OnDelete` replaces the pods.
    let new = if strategy["type"] == "OnDelete" {
        0
    } else {
        (wanted - partition).max(0)
    };
    if !observed(object) {
        Progress::Waiting("waiting for the spec update to be observed".to_owned())
    } else if ready < wanted {
        Progress::Waiting(format!("{ready} of {wanted} pods are ready"))
    } else if updated < new {
        Progress::Waiting(format!(
            "{updated} of {new} pods are at revision {revision}"
        ))
    } else {
        Progress::Ready(format!("{ready}/{wanted} ready"))
    }
}

fn daemon_set(object: &Value) -> Progress {
    let status = &object["status"];
    let wanted = number(&status["desiredNumberScheduled"]);
    let updated = number(&status["updatedNumberScheduled"]);
    let available = number(&status["numberAvailable"]);
    let rolls = object["spec"]["updateStrategy"]["type"] != "OnDelete";
    if !observed(object) {
        Progress::Waiting("waiting for the spec update to be observed".to_owned())
    } else if rolls && updated < wanted {
        Progress::Waiting(format!(
            "{updated} out of {wanted} new pods have been updated"
        ))
    } else if available < wanted {
        Progress::Waiting(format!(
            "{available} of {wanted} updated pods are available"
        ))
    } else {
        Progress::Ready(format!("{available}/{wanted} ready"))
    }
}

fn job(object: &Value) -> Progress {
    let status = &object["status"];
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let is = |kind: &str| {
        let mut conditions = conditions.clone();
        conditions.find(|c| c["type"] == kind && c["status"] == "True")
    };
    if is("Complete").is_some() {
        Progress::Ready("complete".to_owned())
    } else if let Some(failed) = is("Failed") {
        Progress::Failed(failed["message"].as_str().unwrap_or("it failed").to_owned())
    } else if object["spec"]["suspend"] == true {
        Progress::Ready("suspended".to_owned())
    } else {
        let (active, succeeded) = (number(&status["active"]), number(&status["succeeded"]));
        let completions = object["spec"]["completions"].as_i64();
        let wanted = completions.map_or(String::new(), |wanted| format!("/{wanted}"));
        Progress::Waiting(format!("{succeeded}{wanted} succeeded, {active} active"))
    }
}

fn pod(object: &Value) -> Progress {
    let status = &object["status"];
    let conditions = status["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    match status["phase"].as_str().unwrap_or("Pending") {
        "Succeeded" => Progress::Ready("completed".to_owned()),
        "Failed" => Progress::Failed(status["message"].as_str().unwrap_or("it failed").to_owned()),
        _ if conditions
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True") =>
        {
            Progress::Ready("ready".to_owned())
        }
        phase => Progress::Waiting(waiting_reason(object).unwrap_or_else(|| phase.to_owned())),
    }
}

/// Why a pod is not ready yet, in the words of its containers or of the scheduler.
pub fn waiting_reason(pod: &Value) -> Option<String> {
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let waiting = statuses.iter().find_map(|status| {
        let waiting = &status["state"]["waiting"];
        let reason = waiting["reason"].as_str()?;
        Some(match waiting["message"].as_str() {
            Some(message) => format!("{reason}: {message}"),
            None => reason.to_owned(),
        })
    });
    let conditions = pod["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    waiting.or_else(|| {
        let unscheduled = conditions
            .iter()
            .find(|c| c["type"] == "PodScheduled" && c["status"] == "False")?;
        unscheduled["message"].as_str().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(object: Value, expected: Progress) {
        assert_eq!(progress(&object), expected);
    }

    #[test]
    fn a_deployment_is_ready_when_all_its_pods_are_new_and_available() {
        let deployment = |status: Value| json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status});
        check(
            deployment(
                json!({"observedGeneration": 1, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}),
            ),
            Progress::Waiting("waiting for the spec update to be observed".to_owned()),
        );
        check(
            deployment(
                json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 3, "availableReplicas": 2}),
            ),
            Progress::Waiting("1 old replicas are pending termination".to_owned()),
        );
        check(
            deployment(
                json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}),
            ),
            Progress::Ready("2/2 ready".to_owned()),
        );
    }

    #[test]
    fn a_waiting_pod_says_what_for() {
        let status = json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such file"}}}]});
        check(
            json!({"kind": "Pod", "status": status}),
            Progress::Waiting("ErrImagePull: no such file".to_owned()),
        );
    }

    #[test]
    fn a_job_is_ready_when_it_is_complete() {
        let job = |status| json!({"kind": "Job", "spec": {"completions": 3}, "status": status});
        check(
            job(json!({"active": 1, "succeeded": 2})),
            Progress::Waiting("2/3 succeeded, 1 active".to_owned()),
        );
        check(
            job(json!({"conditions": [{"type": "Complete", "status": "True"}]})),
            Progress::Ready("complete".to_owned()),
        );
        let why = "Job has reached the specified backoff limit";
        check(
            job(json!({"conditions": [{"type": "Failed", "status": "True", "message": why}]})),
            Progress::Failed(why.to_owned()),
        );
    }

    #[test]
    fn a_custom_kind_is_ready_when_it_says_so() {
        let toy = |status: Value| json!({"apiVersion": "demo.example.com/v1", "kind": "Toy", "metadata": {"generation": 1}, "status": status});
        check(toy(json!({})), Progress::Ready(String::new()));
        check(
            toy(
                json!({"conditions": [{"type": "Ready", "status": "False", "message": "no paint"}]}),
            ),
            Progress::Waiting("no paint".to_owned()),
        );
        check(
            toy(json!({"conditions": [{"type": "Ready", "status": "True"}]})),
            Progress::Ready("ready".to_owned()),
        );
    }

    #[test]
    fn a_hook_is_done_when_it_ran_to_its_end() {
        let pod = |status| json!({"kind": "Pod", "status": status});
        let running =
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(
            hook_progress(&pod(running)),
            Progress::Waiting("Running".to_owned())
        );
        let failed = json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 3}}}]});
        assert_eq!(
            hook_progress(&pod(failed)),
            Progress::Failed("container \"a\" exited with code 3".to_owned())
        );
        assert_eq!(
            hook_progress(&json!({"kind": "Secret"})),
            Progress::Ready(String::new())
        );
    }

    #[test]
    fn kinds_without_readiness_are_ready() {
        check(json!({"kind": "ConfigMap"}), Progress::Ready(String::new()));
    }
}
