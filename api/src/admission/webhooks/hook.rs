//! The webhooks of the cluster's configurations, in the order in which they are asked.

use std::time::Duration;

use serde_json::Value;

use crate::{
    admission::objects,
    error::Error,
    kinds::value::{items, number, text},
    verbs::call::Call,
};

const GROUP: &str = "admissionregistration.k8s.io";
/// How long a webhook may take that does not say.
const DEADLINE: i64 = 10;

/// Before or after the object is completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Mutating,
    Validating,
}

/// What a webhook that cannot be asked means for the write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    Fail,
    Ignore,
}

/// One webhook.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) phase: Phase,
    pub(super) name: String,
    pub(super) client: Value,
    pub(super) rules: Vec<Value>,
    /// A rule for one version of a resource is for all of them.
    pub(super) equivalent: bool,
    pub(super) namespaces: Value,
    pub(super) objects: Value,
    pub(super) conditions: Vec<Value>,
    pub(super) failure: Failure,
    pub(super) deadline: Duration,
    /// It may be asked about what will not be written.
    pub(super) dry_runs: bool,
    /// It wants to see what others changed after it.
    pub(super) reinvoked: bool,
}

/// All webhooks of a phase: by their configurations' names, then as they stand there.
pub(super) fn list(call: &Call, phase: Phase) -> Result<Vec<Hook>, Error> {
    let plural = match phase {
        Phase::Mutating => "mutatingwebhookconfigurations",
        Phase::Validating => "validatingwebhookconfigurations",
    };
    let configurations = objects::list(call, GROUP, plural, None)?;
    let hooks = configurations
        .iter()
        .flat_map(|configuration| items(configuration, "/webhooks"))
        .map(|hook| Hook::read(phase, hook));
    Ok(hooks.collect())
}

impl Hook {
    fn read(phase: Phase, hook: &Value) -> Self {
        let seconds = number(hook, "/timeoutSeconds").unwrap_or(DEADLINE);
        let seconds = u64::try_from(seconds.clamp(1, 30)).unwrap_or_default();
        Self {
            phase,
            name: text(hook, "/name").to_owned(),
            client: hook["clientConfig"].clone(),
            rules: items(hook, "/rules").to_vec(),
            equivalent: text(hook, "/matchPolicy") != "Exact",
            namespaces: hook["namespaceSelector"].clone(),
            objects: hook["objectSelector"].clone(),
            conditions: items(hook, "/matchConditions").to_vec(),
            failure: match text(hook, "/failurePolicy") {
                "Ignore" => Failure::Ignore,
                _ => Failure::Fail,
            },
            deadline: Duration::from_secs(seconds),
            dry_runs: matches!(text(hook, "/sideEffects"), "None" | "NoneOnDryRun"),
            reinvoked: text(hook, "/reinvocationPolicy") == "IfNeeded",
        }
    }
}
