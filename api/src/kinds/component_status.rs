//! ComponentStatus: how the cluster's parts were, before they had health checks of their own.
//!
//! wk's parts are one process: there is nothing to list. Clients ask all the same.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, column,
    value::{items, text},
};

/// The kind.
pub(crate) struct ComponentStatus;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "ComponentStatus",
    plural: "componentstatuses",
    singular: "componentstatus",
    short: &["cs"],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.core.v1.ComponentStatus",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Status", "Healthy or not"),
    column::shown("Message", "What it says of itself"),
    column::shown("Error", "What is wrong"),
];

impl Kind for ComponentStatus {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn verbs(&self) -> &[&'static str] {
        &["get", "list"]
    }

    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 ComponentStatus is deprecated in v1.19+")
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let health = items(object, "/conditions")
            .iter()
            .find(|condition| text(condition, "/type") == "Healthy");
        let said = |pointer: &str| health.map_or("", |condition| text(condition, pointer));
        let status = match said("/status") {
            "True" => "Healthy",
            "False" => "Unhealthy",
            _ => "Unknown",
        };
        vec![
            column::name(object),
            status.into(),
            said("/message").into(),
            said("/error").into(),
        ]
    }
}
