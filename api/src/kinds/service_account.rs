//! ServiceAccount: the identity that a pod's processes have towards the API.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, Subresource, column,
    not_acted_on::{self, SERVICE_ACCOUNT},
    value::items,
};

/// The kind.
pub(crate) struct ServiceAccount;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short: &["sa"],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.core.v1.ServiceAccount",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::count("Secrets", "How many secrets it lists"),
    column::AGE,
];

impl Kind for ServiceAccount {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Token]
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        not_acted_on::warnings("", object, SERVICE_ACCOUNT)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            items(object, "/secrets").len().into(),
            column::age(object, now),
        ]
    }
}
