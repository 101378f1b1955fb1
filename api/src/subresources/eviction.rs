//! POST `pods/<name>/eviction`: deletes a pod if the PodDisruptionBudget that it counts for allows it.
//!
//! Reads the budgets of the pod's namespace; writes the budget's status (one disruption less, and the
//! pod's name until it is gone) and the pod's condition, then deletes the pod. A budget whose status
//! is behind its spec allows nothing. Never deletes a pod that changed since it was looked at.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    error::{Error, Subject},
    kinds::{Subresource, check},
    object, time,
    verbs::{
        accept::View,
        answer::Answer,
        call::Call,
        change::{Part, change},
        decode,
        delete::{DeleteOptions, remove},
        get, view,
    },
};

/// How many evicted pods a budget waits for at most.
const MOST_DISRUPTED: usize = 2000;
/// When to ask again while the budget's status is behind.
const RETRY_SECONDS: u64 = 10;

pub(crate) async fn serve(call: &Call, method: &Method, body: &Bytes) -> Result<Response, Error> {
    if *method != Method::POST {
        return Err(Error::MethodNotAllowed);
    }
    let eviction = decode::body(call, body, "policy/v1", "Eviction")?.value;
    let name = object::name(&eviction);
    if !name.is_empty() && name != call.name {
        return Err(Error::BadRequest(
            "name in URL does not match name in Eviction object".to_owned(),
        ));
    }
    let mut options = DeleteOptions::of(call, &eviction["deleteOptions"])?;
    get::reach(call).await?;
    call.server.cache.fresh().await?;
    let item = call.server.cache.get(&call.key(&call.name));
    let item = item.ok_or_else(|| call.not_found(&call.name))?;
    let pod = view::parse(&item.decoded.value)?;
    if !is_finished(&pod) {
        if let Some(budget) = budget_of(call, &pod)? {
            spend(call, budget, &pod, options.dry_run()).await?;
        }
        if !options.dry_run() {
            mark(call).await?;
        }
    } else {
        options.expect_revision(object::resource_version(&pod));
    }
    remove(call, &call.name, &options).await?;
    Ok(Answer::success(StatusCode::CREATED, &Subject::default(), "").into_response())
}

/// Nobody misses a pod that has not begun, has ended or is going away.
fn is_finished(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    matches!(phase, "Pending" | "Succeeded" | "Failed") || object::deleting(pod)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The budget that a pod counts for, as a call about it.
fn budget_of(call: &Call, pod: &Value) -> Result<Option<Call>, Error> {
    let Some(resource) = call.server.find("policy", "v1", "poddisruptionbudgets") else {
        return Ok(None);
    };
    let budgets = call.server.cache.list(&resource.key, Some(&call.namespace));
    let mut names = Vec::new();
    for item in &budgets.items {
        let budget = view::parse(&item.decoded.value)?;
        let selector = &budget["spec"]["selector"];
        if selector.is_object() && check::selects(selector, &pod["metadata"]["labels"]) {
            names.push(item.key.name().to_owned());
        }
    }
    if names.len() > 1 {
        return Err(Error::Exhausted(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    Ok(names.pop().map(|name| Call {
        server: Arc::clone(&call.server),
        user: call.user.clone(),
        resource,
        subresource: Some(Subresource::Status),
        warnings: call.warnings.clone(),
        namespace: call.namespace.clone(),
        name,
        query: call.query.clone(),
        view: View::Object,
        headers: call.headers.clone(),
        draining: call.draining.clone(),
    }))
}

/// Takes one disruption from a budget, unless the pod may go anyway.
async fn spend(call: &Call, budget: Call, pod: &Value, dry_run: bool) -> Result<(), Error> {
    let now = time::seconds(call.server.now());
    let ready = is_ready(pod);
    if dry_run {
        let item = call.server.cache.get(&budget.key(&budget.name));
        let item = item.ok_or_else(|| budget.not_found(&budget.name))?;
        spent(
            &budget,
            &view::parse(&item.decoded.value)?,
            &call.name,
            ready,
            &now,
        )?;
        return Ok(());
    }
    change(&budget, &budget.name, Part::System, |old| {
        spent(&budget, old, &call.name, ready, &now)
    })
    .await?;
    Ok(())
}

/// The budget after the pod's eviction; the same if it does not cost a disruption.
fn spent(call: &Call, old: &Value, pod: &str, ready: bool, now: &str) -> Result<Value, Error> {
    let name = object::name(old);
    let status = |field: &str| old["status"][field].as_i64().unwrap_or_default();
    let (healthy, wanted) = (status("currentHealthy"), status("desiredHealthy"));
    if !ready {
        let policy = old["spec"]["unhealthyPodEvictionPolicy"].as_str();
        if policy == Some("AlwaysAllow") || (healthy >= wanted && wanted > 0) {
            return Ok(old.clone());
        }
    }
    if status("observedGeneration") < object::generation(old) {
        return Err(Error::Disrupted {
            cause: format!("The disruption budget {name} is still being processed by the server."),
            retry_seconds: Some(RETRY_SECONDS),
        });
    }
    let forbidden = |message: &str| Error::Forbidden {
        subject: call.subject(name),
        message: message.to_owned(),
        cause: None,
    };
    let allowed = status("disruptionsAllowed");
    if allowed < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    let disrupted = old["status"]["disruptedPods"].as_object();
    if disrupted.is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        return Err(forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        return Err(Error::Disrupted {
            cause: format!(
                "The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently"
            ),
            retry_seconds: None,
        });
    }
    let mut budget = old.clone();
    let status = &mut budget["status"];
    status["disruptionsAllowed"] = (allowed - 1).into();
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][pod] = now.into();
    if allowed == 1 {
        set_condition(
            status,
            json!({
                "type": "DisruptionAllowed",
                "status": "False",
                "reason": "InsufficientPods",
                "message": "",
                "observedGeneration": object::generation(old),
                "lastTransitionTime": now,
            }),
        );
    }
    Ok(budget)
}

/// Says in the pod's status why it goes.
async fn mark(call: &Call) -> Result<(), Error> {
    let now = time::seconds(call.server.now());
    let marked = change(call, &call.name, Part::System, |old| {
        let mut pod = old.clone();
        set_condition(
            &mut pod["status"],
            json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
                "lastProbeTime": null,
                "lastTransitionTime": now,
            }),
        );
        Ok(pod)
    });
    match marked.await {
        Ok(_) | Err(Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn set_condition(status: &mut Value, condition: Value) {
    if !status.is_object() {
        *status = json!({});
    }
    match status["conditions"].as_array_mut() {
        Some(conditions) => {
            conditions.retain(|known| known["type"] != condition["type"]);
            conditions.push(condition);
        }
        None => status["conditions"] = json!([condition]),
    }
}
