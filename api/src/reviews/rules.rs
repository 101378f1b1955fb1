//! SelfSubjectRulesReview: every rule that holds for the user who asks, in a namespace.

use serde_json::{Value, json};

use crate::{
    auth::{authorizers::Authorizer, rbac::rule::Rule},
    error::Error,
    verbs::call::Call,
};

pub(super) fn answer(call: &Call, review: &Value) -> Result<Value, Error> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Error::BadRequest("no namespace on request".to_owned()));
    }
    let mut status = status(&call.server.authorizer.rules(&call.user, namespace));
    if let Some(why) = Authorizer::unlisted(&call.user) {
        status["incomplete"] = true.into();
        status["evaluationError"] = why.into();
    }
    Ok(status)
}

fn status(rules: &[Rule]) -> Value {
    let mut resources = Vec::new();
    let mut paths = Vec::new();
    for rule in rules {
        if rule.is_of_resources() {
            let mut entry = json!({
                "verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources,
            });
            if !rule.resource_names.is_empty() {
                entry["resourceNames"] = json!(rule.resource_names);
            }
            resources.push(entry);
        }
        if !rule.non_resource_urls.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}
