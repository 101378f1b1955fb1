//! The reviews, and the Transaction: kinds that are created to be answered and are never stored.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Kind, Names};

/// One of them.
pub(crate) struct Review(&'static Names);

const fn names(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    definition: &'static str,
) -> Names {
    Names {
        group,
        version: "v1",
        kind,
        plural,
        singular,
        short: &[],
        categories: &[],
        namespaced: false,
        definition,
    }
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

static TOKEN_NAMES: Names = names(
    AUTHENTICATION,
    "TokenReview",
    "tokenreviews",
    "tokenreview",
    "io.k8s.api.authentication.v1.TokenReview",
);
static SELF_NAMES: Names = names(
    AUTHENTICATION,
    "SelfSubjectReview",
    "selfsubjectreviews",
    "selfsubjectreview",
    "io.k8s.api.authentication.v1.SelfSubjectReview",
);
static ACCESS_NAMES: Names = names(
    AUTHORIZATION,
    "SubjectAccessReview",
    "subjectaccessreviews",
    "subjectaccessreview",
    "io.k8s.api.authorization.v1.SubjectAccessReview",
);
static LOCAL_ACCESS_NAMES: Names = Names {
    namespaced: true,
    ..names(
        AUTHORIZATION,
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
    )
};
static SELF_ACCESS_NAMES: Names = names(
    AUTHORIZATION,
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    "selfsubjectaccessreview",
    "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
);
static SELF_RULES_NAMES: Names = names(
    AUTHORIZATION,
    "SelfSubjectRulesReview",
    "selfsubjectrulesreviews",
    "selfsubjectrulesreview",
    "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
);

static TRANSACTION_NAMES: Names = names(
    "apply.wk.dev",
    "Transaction",
    "transactions",
    "transaction",
    "dev.wk.apply.v1.Transaction",
);

pub(super) const TOKEN: Review = Review(&TOKEN_NAMES);
pub(super) const SELF: Review = Review(&SELF_NAMES);
pub(super) const ACCESS: Review = Review(&ACCESS_NAMES);
pub(super) const LOCAL_ACCESS: Review = Review(&LOCAL_ACCESS_NAMES);
pub(super) const SELF_ACCESS: Review = Review(&SELF_ACCESS_NAMES);
pub(super) const SELF_RULES: Review = Review(&SELF_RULES_NAMES);
pub(super) const TRANSACTION: Review = Review(&TRANSACTION_NAMES);

impl Kind for Review {
    fn names(&self) -> &Names {
        self.0
    }

    fn verbs(&self) -> &[&'static str] {
        &["create"]
    }

    fn is_stored(&self) -> bool {
        false
    }

    fn columns(&self) -> &[Column] {
        &[]
    }

    fn cells(&self, _object: &Value, _now: Timestamp) -> Vec<Value> {
        Vec::new()
    }
}
