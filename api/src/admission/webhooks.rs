//! Webhooks: what MutatingWebhookConfigurations and ValidatingWebhookConfigurations ask of others.
//!
//! - [`hook`]: a configuration's webhooks, in order. [`rules`]: which writes they are about; pure.
//! - [`conditions`]: their match conditions, in CEL. [`exchange`]: AdmissionReviews; pure.
//!
//! Configurations are read from the watch cache. Nobody is asked about a configuration itself, so that a
//! broken one can always be mended. Calls in flight are bounded: a webhook that causes writes that it is
//! itself asked about runs into its deadline and not away.

mod conditions;
mod exchange;
mod hook;
mod rules;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use serde_json::Value;
use tokio::{sync::Semaphore, time::timeout};

use super::{Operation, Review, objects, plugins};
use crate::{
    error::Error,
    field::{FieldErrors, Path},
    server::state::Resource,
    verbs::decode,
    webhook_client::Webhook,
};
use exchange::{Answer, Asked};
use hook::{Failure, Hook, Phase};

/// Calls to webhooks at once; more wait within their deadlines.
const CALLS: usize = 256;
/// Characters of a warning that are passed on.
const WARNING: usize = 256;

/// The bound on calls.
pub(crate) struct Calls(Semaphore);

impl Default for Calls {
    fn default() -> Self {
        Self(Semaphore::new(CALLS))
    }
}

/// A webhook that wants to be asked, and the version of the object that it wants to see.
struct Call {
    hook: Hook,
    resource: Arc<Resource>,
}

/// True if a webhook's rules are about the write.
pub(super) fn are_concerned(review: &Review<'_>) -> Result<bool, Error> {
    Ok([Phase::Mutating, Phase::Validating]
        .into_iter()
        .map(|phase| concerned(review, phase))
        .collect::<Result<Vec<_>, _>>()?
        .iter()
        .any(|calls| !calls.is_empty()))
}

/// The webhooks of a phase whose rules are about the write, in order.
fn concerned(review: &Review<'_>, phase: Phase) -> Result<Vec<Call>, Error> {
    let names = review.call.resource.names();
    if names.group == "admissionregistration.k8s.io" {
        return Ok(Vec::new());
    }
    let hooks = hook::list(review.call, phase)?;
    if hooks.is_empty() {
        return Ok(Vec::new());
    }
    let others = review
        .call
        .server
        .catalog
        .served()
        .versions(&review.call.resource);
    let calls = hooks.into_iter().filter_map(|hook| {
        let of = |resource: &Resource| rules::any(&hook.rules, review, resource.names());
        let resource = if of(&review.call.resource) {
            review.call.resource.clone()
        } else if hook.equivalent {
            others.iter().find(|other| of(other))?.clone()
        } else {
            return None;
        };
        Some(Call { hook, resource })
    });
    Ok(calls.collect())
}

/// Lets mutating webhooks change the object, one after another. Once something was changed, the built-in
/// plugins see it again, and so do the webhooks that asked for it.
pub(super) async fn mutate(
    review: &Review<'_>,
    mut object: Option<&mut Value>,
    old: Option<&Value>,
) -> Result<(), Error> {
    let calls = concerned(review, Phase::Mutating)?;
    if calls.is_empty() {
        return Ok(());
    }
    let mut asked = BTreeSet::new();
    let mut again = BTreeSet::new();
    for (index, call) in calls.iter().enumerate() {
        let Some(changed) = ask_and_apply(review, call, &mut object, old).await? else {
            continue;
        };
        if changed {
            again.append(&mut asked);
        }
        if call.hook.reinvoked {
            asked.insert(index);
        }
        if changed && let Some(object) = object.as_deref_mut() {
            let before = object.clone();
            plugins::mutate(review, Some(object), old)?;
            if before != *object {
                again.append(&mut asked);
            }
        }
    }
    for index in again {
        ask_and_apply(review, &calls[index], &mut object, old).await?;
    }
    Ok(())
}

/// Asks one webhook. `None` if it does not want to be asked; true if it changed the object.
async fn ask_and_apply(
    review: &Review<'_>,
    call: &Call,
    object: &mut Option<&mut Value>,
    old: Option<&Value>,
) -> Result<Option<bool>, Error> {
    let Some(answer) = ask(review, call, object.as_deref(), old).await? else {
        return Ok(None);
    };
    let Some(patch) = answer.patch else {
        return Ok(Some(false));
    };
    let name = &call.hook.name;
    let Some(object) = object.as_deref_mut() else {
        return Err(Error::Failed(format!(
            "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
        )));
    };
    let seen = view(review, call, object).await?;
    let patched = crate::schema::merge::json_patch(seen, &patch)
        .map_err(|error| Error::Failed(format!("admission webhook {name:?}: {error}")))?;
    let patched = checked(review, call, patched).await?;
    let changed = patched != *object;
    *object = patched;
    Ok(Some(changed))
}

/// What a webhook made of an object, in normal form and in the version of the request.
async fn checked(review: &Review<'_>, call: &Call, object: Value) -> Result<Value, Error> {
    if review.own_kind().is_some() {
        return Ok(object);
    }
    let broken = |error: String| {
        Error::Failed(format!(
            "admission webhook {:?} made an object that is none: {error}",
            call.hook.name
        ))
    };
    let mut object = object;
    decode::identify(&call.resource, &mut object).map_err(|error| broken(error.to_string()))?;
    let checked = crate::schema::check(&call.resource.schema, object);
    if let Some(error) = checked.errors.first() {
        return Err(broken(error.to_string()));
    }
    let mut object = checked.value;
    if !Arc::ptr_eq(&call.resource, &review.call.resource) {
        object = convert(object, &call.resource, &review.call.resource).await?;
    }
    if review.subresource != "status" {
        review.call.resource.kind.default(&mut object);
    }
    Ok(object)
}

/// Asks all validating webhooks at once; the first refusal counts.
pub(super) async fn validate(
    review: &Review<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Error> {
    let calls = concerned(review, Phase::Validating)?;
    let answers = join_all(calls.iter().map(|call| ask(review, call, object, old))).await;
    answers.into_iter().try_for_each(|answer| answer.map(drop))
}

/// Asks a webhook, if it wants to be. A refusal is an error; so is a failure, if its policy says so.
async fn ask(
    review: &Review<'_>,
    call: &Call,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<Option<Answer>, Error> {
    let hook = &call.hook;
    if !selects(review, hook, object, old)? {
        return Ok(None);
    }
    let seen = seen_by(review, call, object, old).await?;
    match conditions::hold(&hook.conditions, &seen.request(), call_deadline(hook)).await {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(message) => {
            return match hook.failure {
                Failure::Fail => Err(objects::forbidden(review, message)),
                Failure::Ignore => {
                    tracing::warn!(
                        webhook = hook.name,
                        message,
                        "passed over: its conditions fail"
                    );
                    Ok(None)
                }
            };
        }
    }
    if review.dry_run && !hook.dry_runs {
        return Err(Error::BadRequest(format!(
            "admission webhook {:?} does not support dry run",
            hook.name
        )));
    }
    match call_out(review, hook, &seen).await {
        Ok(answer) => {
            for warning in &answer.warnings {
                let text: String = warning.chars().take(WARNING).collect();
                review.call.warnings.add(text);
            }
            match answer.denial(&hook.name) {
                Some(denial) => Err(denial),
                None => Ok(Some(answer)),
            }
        }
        Err(message) => match hook.failure {
            Failure::Fail => Err(Error::Failed(format!(
                "failed calling webhook {:?}: {message}",
                hook.name
            ))),
            Failure::Ignore => {
                tracing::warn!(
                    webhook = hook.name,
                    message,
                    "a webhook failed and is passed over"
                );
                Ok(None)
            }
        },
    }
}

fn call_deadline(hook: &Hook) -> Duration {
    hook.deadline
}

async fn call_out(review: &Review<'_>, hook: &Hook, asked: &Asked<'_>) -> Result<Answer, String> {
    let failed = |error: &dyn std::fmt::Display| format!("failed to call webhook: {error}");
    let server = &review.call.server;
    let client = Webhook::read(&hook.client).map_err(|error| failed(&error))?;
    let exchange = async {
        let _permit = server.webhooks.0.acquire().await;
        client
            .call(&server.cache, &asked.review(), hook.deadline)
            .await
    };
    let answer = timeout(hook.deadline, exchange)
        .await
        .map_err(|_| failed(&"context deadline exceeded"))?
        .map_err(|error| failed(&error))?;
    exchange::read(&answer, &asked.uid, hook.phase == Phase::Mutating)
        .map_err(|error| format!("received invalid webhook response: {error}"))
}

/// True if a webhook's selectors choose the namespace and the object.
fn selects(
    review: &Review<'_>,
    hook: &Hook,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<bool, Error> {
    let of_objects = [object, old]
        .into_iter()
        .flatten()
        .any(|object| rules::selects(&hook.objects, &object["metadata"]["labels"]));
    if !of_objects {
        return Ok(false);
    }
    if rules::is_everything(&hook.namespaces) {
        return Ok(true);
    }
    let names = review.call.resource.names();
    let labels = if names.group.is_empty() && names.plural == "namespaces" {
        let namespace = object.filter(|_| review.operation != Operation::Delete);
        namespace
            .or(old)
            .map(|namespace| namespace["metadata"]["labels"].clone())
    } else if names.namespaced {
        let namespace = objects::find(review.call, "", "namespaces", "", &review.call.namespace)?;
        namespace.map(|namespace| namespace["metadata"]["labels"].clone())
    } else {
        return Ok(true);
    };
    Ok(rules::selects(
        &hook.namespaces,
        &labels.unwrap_or_default(),
    ))
}

/// An object as a webhook wants to see it.
async fn view(review: &Review<'_>, call: &Call, object: &Value) -> Result<Value, Error> {
    if Arc::ptr_eq(&call.resource, &review.call.resource) || review.own_kind().is_some() {
        return Ok(object.clone());
    }
    convert(object.clone(), &review.call.resource, &call.resource).await
}

async fn convert(mut object: Value, from: &Resource, to: &Resource) -> Result<Value, Error> {
    let version = crate::object::resource_version(&object).to_owned();
    let stored = from.stored(&mut object).await?;
    let served = to.served(stored).await?;
    let mut object: Value = serde_json::from_slice(&served).map_err(Error::internal)?;
    if !version.is_empty() {
        crate::object::set(&mut object, "resourceVersion", version);
    }
    Ok(object)
}

async fn seen_by<'a>(
    review: &'a Review<'a>,
    call: &'a Call,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<Asked<'a>, Error> {
    let shown = match object {
        Some(object) => view(review, call, object).await?,
        None => Value::Null,
    };
    // What is new has no past; of a subresource with a kind of its own, only that is shown.
    let past = match old.filter(|_| review.operation != Operation::Create) {
        Some(old) => view(review, call, old).await?,
        None => Value::Null,
    };
    Ok(Asked::new(review, call.resource.names(), shown, past))
}

/// What is wrong with the conditions of a webhook configuration.
pub(super) fn check_configuration(review: &Review<'_>, object: &Value) -> Result<(), Error> {
    let names = review.call.resource.names();
    let concerned = names.group == "admissionregistration.k8s.io"
        && matches!(
            names.plural,
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations"
        );
    if !concerned {
        return Ok(());
    }
    let mut errors = FieldErrors::default();
    let hooks = object["webhooks"].as_array().into_iter().flatten();
    for (index, hook) in hooks.enumerate() {
        let path = Path::root("webhooks").index(index).field("matchConditions");
        let conditions = hook["matchConditions"].as_array().into_iter().flatten();
        for (index, condition) in conditions.enumerate() {
            let expression = condition["expression"].as_str().unwrap_or_default();
            if let Err(error) = conditions::check(expression) {
                errors.invalid(
                    &path.index(index).field("expression"),
                    expression,
                    format!("compilation failed: {error}"),
                );
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid {
        subject: review.call.subject(&review.name),
        errors,
    })
}
