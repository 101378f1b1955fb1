//! POST `pods/<name>/eviction`: deletes a pod if the PodDisruptionBudget that it counts for allows it.
//!
//! Reads the budgets of the pod's namespace; writes the budget's status (one disruption less, and the
//! pod's name until it is gone) and the pod's condition, then deletes the pod. A budget whose status
//! is behind its spec allows nothing. Never deletes for free a pod that changed since it was looked at.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    admission::{self, Review},
    error::{Error, Subject},
    kinds::{Subresource, check},
    object, time,
    verbs::{
        accept::View,
        answer::Answer,
        call::Call,
        change::{Part, change},
        create::ATTEMPTS,
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
    let mut eviction = decode::body(call, body, "policy/v1", "Eviction")?.value;
    let name = object::name(&eviction);
    if !name.is_empty() && name != call.name {
        return Err(Error::BadRequest(
            "name in URL does not match name in Eviction object".to_owned(),
        ));
    }
    let options = DeleteOptions::of(call, &eviction["deleteOptions"])?;
    let mut review = Review::create(call, &call.name)?;
    review.dry_run |= options.dry_run();
    admission::mutate(&review, Some(&mut eviction), None).await?;
    admission::validate(&review, Some(&eviction), None).await?;
    get::reach(call).await?;
    let named = options.expects_revision();
    for _ in 0..ATTEMPTS {
        let pod = newest(call).await?;
        options.check(call, &pod)?;
        if !is_finished(&pod) {
            return within_budget(call, &pod, options).await;
        }
        let mut options = options.clone();
        // One that may become ready meanwhile is another matter then.
        if !named && !is_over(&pod) {
            options.expect_revision(object::resource_version(&pod));
        }
        match mark_and_remove(call, options).await {
            Err(Error::Conflict { .. }) if !named => {}
            done => return done,
        }
    }
    Err(Error::modified(call.subject(&call.name)))
}

async fn newest(call: &Call) -> Result<Value, Error> {
    call.server.cache.fresh().await?;
    let item = call.server.cache.get(&call.key(&call.name));
    let item = item.ok_or_else(|| call.not_found(&call.name))?;
    view::parse(&item.decoded.value)
}

/// Evicts a pod that somebody may miss.
async fn within_budget(
    call: &Call,
    pod: &Value,
    mut options: DeleteOptions,
) -> Result<Response, Error> {
    let named = options.expects_revision();
    let mut free = None;
    if let Some(budget) = budget_of(call, pod)? {
        let name = budget.name.clone();
        if !spend(call, budget, pod, options.dry_run()).await? {
            // It costs nothing only as long as it is not ready.
            if !named {
                options.expect_revision(object::resource_version(pod));
            }
            free = Some(name);
        }
    }
    match (mark_and_remove(call, options).await, free) {
        (Err(Error::Conflict { .. }), Some(budget)) if !named => Err(unsettled(&budget)),
        (done, _) => done,
    }
}

/// Says in the pod's status why it goes, and deletes it.
async fn mark_and_remove(call: &Call, mut options: DeleteOptions) -> Result<Response, Error> {
    if !options.dry_run()
        && let Some(revision) = mark(call, &options).await?
        && options.expects_revision()
    {
        options.expect_revision(&revision);
    }
    remove(call, &call.name, &options).await?;
    Ok(Answer::success(StatusCode::CREATED, &Subject::default(), "").into_response())
}

/// A pod that has ended or is going away: it gets no readier.
fn is_over(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed") || object::deleting(pod)
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
        let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not \
                       support.";
        return Err(Error::Refused {
            code: StatusCode::INTERNAL_SERVER_ERROR,
            message: message.to_owned(),
            reason: String::new(),
            details: Value::Null,
        });
    }
    Ok(names.pop().map(|name| Call {
        server: Arc::clone(&call.server),
        user: call.user.clone(),
        resource,
        subresource: Some(Subresource::Status),
        warnings: call.warnings.clone(),
        together: None,
        namespace: call.namespace.clone(),
        name,
        query: call.query.clone(),
        view: View::Object,
        headers: call.headers.clone(),
        draining: call.draining.clone(),
    }))
}

/// Takes one disruption from a budget; false if the pod may go anyway.
async fn spend(call: &Call, budget: Call, pod: &Value, dry_run: bool) -> Result<bool, Error> {
    let now = time::seconds(call.server.now());
    let ready = is_ready(pod);
    if dry_run {
        let item = call.server.cache.get(&budget.key(&budget.name));
        let item = item.ok_or_else(|| budget.not_found(&budget.name))?;
        let old = view::parse(&item.decoded.value)?;
        return Ok(spent(&budget, &old, &call.name, ready, &now)?.is_some());
    }
    let mut costs = false;
    change(&budget, &budget.name, Part::System, |old| {
        let new = spent(&budget, old, &call.name, ready, &now)?;
        costs = new.is_some();
        Ok(new.unwrap_or_else(|| old.clone()))
    })
    .await?;
    Ok(costs)
}

/// What is answered while nobody knows what a budget allows.
fn unsettled(budget: &str) -> Error {
    Error::Disrupted {
        cause: format!("The disruption budget {budget} is still being processed by the server."),
        retry_seconds: Some(RETRY_SECONDS),
    }
}

/// The budget after the pod's eviction; none if it does not cost a disruption.
fn spent(
    call: &Call,
    old: &Value,
    pod: &str,
    ready: bool,
    now: &str,
) -> Result<Option<Value>, Error> {
    let name = object::name(old);
    let status = |field: &str| old["status"][field].as_i64().unwrap_or_default();
    let (healthy, wanted) = (status("currentHealthy"), status("desiredHealthy"));
    if !ready {
        let policy = old["spec"]["unhealthyPodEvictionPolicy"].as_str();
        if policy == Some("AlwaysAllow") || (healthy >= wanted && wanted > 0) {
            return Ok(None);
        }
    }
    if status("observedGeneration") < object::generation(old) {
        return Err(unsettled(name));
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
    Ok(Some(budget))
}

/// Says in the pod's status why it goes; gives the pod's revision after that, if it is there still.
async fn mark(call: &Call, options: &DeleteOptions) -> Result<Option<String>, Error> {
    let now = time::seconds(call.server.now());
    let marked = change(call, &call.name, Part::System, |old| {
        options.check(call, old)?;
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
        Ok(marked) => {
            let pod = view::parse(&marked.bytes)?;
            Ok(Some(object::resource_version(&pod).to_owned()))
        }
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets a condition, which is as old as it has been so.
fn set_condition(status: &mut Value, mut condition: Value) {
    if !status.is_object() {
        *status = json!({});
    }
    let Some(conditions) = status["conditions"].as_array_mut() else {
        status["conditions"] = json!([condition]);
        return;
    };
    let place = conditions
        .iter()
        .position(|known| known["type"] == condition["type"]);
    match place.map(|place| &mut conditions[place]) {
        Some(known) => {
            if known["status"] == condition["status"] {
                condition["lastTransitionTime"] = known["lastTransitionTime"].take();
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
}
