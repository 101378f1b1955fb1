//! Which pods a user means by `POD` or `TYPE/NAME`, and which of their containers.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{query, selection, session::Session};

/// A pod by its name, or those of a workload or Service: running ones first, then by name. At least one.
pub(crate) async fn find(
    session: &Session,
    namespace: &str,
    target: &str,
    verb: &str,
) -> Result<Vec<Value>> {
    let api = session.api().await?;
    let Some((kind, name)) = target.split_once('/') else {
        return Ok(vec![
            api.get(&format!("/api/v1/namespaces/{namespace}/pods/{target}"))
                .await?,
        ]);
    };
    let resources = session.resources().await?;
    let named = selection::parse(resources, &[format!("{kind}/{name}")], verb)?;
    let Some((resource, _)) = named.first() else {
        bail!("name a pod");
    };
    let object = api.get(&resource.object(namespace, name)).await?;
    if resource.kind == "Pod" {
        return Ok(vec![object]);
    }
    let selector = selector_of(&object);
    if selector.is_empty() {
        bail!(
            "cannot {verb} {}: it selects no pods",
            resource.quoted(name)
        );
    }
    let mut pods = list(session, namespace, &selector).await?;
    pods.sort_by_key(|pod| {
        (
            pod["status"]["phase"] != "Running",
            pod["metadata"]["name"].to_string(),
        )
    });
    if pods.is_empty() {
        bail!("{} has no pods yet", resource.display(name));
    }
    Ok(pods)
}

/// The first of them.
pub(crate) async fn first(
    session: &Session,
    namespace: &str,
    target: &str,
    verb: &str,
) -> Result<Value> {
    let pods = find(session, namespace, target, verb).await?;
    Ok(pods.into_iter().next().unwrap_or_default())
}

/// The pods with these labels.
pub(crate) async fn list(session: &Session, namespace: &str, selector: &str) -> Result<Vec<Value>> {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let mut list = session
        .api()
        .await?
        .get(&query::with(&path, &[("labelSelector", selector)]))
        .await?;
    Ok(list["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default())
}

/// A pod's name.
pub(crate) fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

/// True if none of a pod's containers will run again.
pub(crate) fn has_ended(pod: &Value) -> bool {
    matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    )
}

/// The names of a pod's containers in one of its lists: `containers`, `initContainers`, `ephemeralContainers`.
pub(crate) fn containers(pod: &Value, list: &str) -> Vec<String> {
    let containers = pod["spec"][list].as_array().into_iter().flatten();
    containers
        .filter_map(|container| Some(container["name"].as_str()?.to_owned()))
        .collect()
}

/// The container that the user names; else the one that the pod's annotation names, else the first.
pub(crate) fn container(
    session: &Session,
    pod: &Value,
    wanted: Option<&str>,
    quiet: bool,
) -> Result<String> {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let [main, init, ephemeral] = lists.map(|list| containers(pod, list));
    if let Some(wanted) = wanted {
        if !main
            .iter()
            .chain(&init)
            .chain(&ephemeral)
            .any(|name| name == wanted)
        {
            bail!("container {wanted} is not valid for pod {}", name(pod));
        }
        return Ok(wanted.to_owned());
    }
    let annotated =
        pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    let annotated = annotated.filter(|name| main.iter().any(|own| own == name));
    let chosen = annotated
        .map(str::to_owned)
        .or_else(|| main.first().cloned());
    let Some(chosen) = chosen else {
        bail!("pod {} has no container", name(pod));
    };
    let others = main.len() + init.len() + ephemeral.len() > 1;
    if annotated.is_none() && others && !quiet {
        let init = init.iter().map(|name| format!("{name} (init)"));
        let ephemeral = ephemeral.iter().map(|name| format!("{name} (ephem)"));
        let all: Vec<String> = main.iter().cloned().chain(ephemeral).chain(init).collect();
        session.note(format_args!(
            "Defaulted container {chosen:?} out of: {}",
            all.join(", ")
        ));
    }
    Ok(chosen)
}

/// The pods that a workload or Service selects, as a label selector. Pure.
pub(crate) fn selector_of(object: &Value) -> String {
    let selector = &object["spec"]["selector"];
    let labels = selector
        .get("matchLabels")
        .or(Some(selector).filter(|_| selector.get("matchExpressions").is_none()));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let equal = labels.and_then(Value::as_object).into_iter().flatten();
    let mut parts: Vec<String> = equal
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    for expression in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let key = text(&expression["key"]);
        let values: Vec<String> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect();
        parts.push(match text(&expression["operator"]).as_str() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key,
        });
    }
    parts.join(",")
}
