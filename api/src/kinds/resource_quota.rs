//! ResourceQuota: how much all objects of a namespace may use together.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, Subresource, check, column,
    value::{entries, items, part, plain, text},
    write,
};
use crate::{
    field::{FieldErrors, Path},
    name,
    quantity::Quantity,
};

/// The kind.
pub(crate) struct ResourceQuota;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short: &["quota"],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.core.v1.ResourceQuota",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Request", "What is requested, of how much may be"),
    column::shown("Limit", "What is allowed to pods, of how much may be"),
    column::AGE,
];

/// What a quota may count by a name without a domain.
const STANDARD: &[&str] = &[
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// What is counted in whole objects.
const WHOLE: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

impl Kind for ResourceQuota {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn counted(&self) -> &[&'static str] {
        &[]
    }

    fn default(&self, object: &mut Value) {
        super::value::fill(object, "status", write::empty());
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        validate_amounts(&path.field("hard"), part(spec, "/hard"), errors);
        let scopes = items(spec, "/scopes");
        validate_scopes(&path.field("scopes"), scopes, errors);
        for (index, rule) in items(spec, "/scopeSelector/matchExpressions")
            .iter()
            .enumerate()
        {
            let path = path
                .field("scopeSelector")
                .field("matchExpressions")
                .index(index);
            validate_rule(&path, rule, errors);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec").field("scopes");
        check::immutable(&path, object, old, "/spec/scopes", errors);
    }

    fn validate_status(&self, object: &Value, _old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("status");
        for (field, pointer) in [("hard", "/status/hard"), ("used", "/status/used")] {
            validate_amounts(&path.field(field), part(object, pointer), errors);
        }
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let shown = |limits: bool| {
            let all: Vec<_> = entries(object, "/status/hard")
                .filter(|(resource, _)| resource.starts_with("limits") == limits)
                .map(|(resource, hard)| {
                    let used = part(object, "/status/used").get(resource);
                    let used = used.map_or_else(|| "0".to_owned(), plain);
                    format!("{resource}: {used}/{}", plain(hard))
                })
                .collect();
            all.join(", ").into()
        };
        vec![
            column::name(object),
            shown(false),
            shown(true),
            column::age(object, now),
        ]
    }
}

fn validate_amounts(path: &Path, amounts: &Value, errors: &mut FieldErrors) {
    for (resource, given) in entries(amounts, "") {
        let path = path.key(resource);
        let problems = name::qualified_problems(resource);
        let is_fine = problems.is_empty();
        check::problems(&path, resource, problems, errors);
        let standard = STANDARD.contains(&resource.as_str())
            || resource.starts_with("requests.hugepages-")
            || resource.starts_with("hugepages-");
        if is_fine && !resource.contains('/') && !standard {
            errors.invalid(
                &path,
                resource.as_str(),
                "must be a standard resource for quota",
            );
        }
        let Ok(amount) = plain(given).parse::<Quantity>() else {
            let detail = "quantities must match the regular expression \
                          '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
            errors.invalid(&path, given.clone(), detail);
            continue;
        };
        if amount.nanos() < 0 {
            let detail = "must be greater than or equal to 0";
            errors.invalid(&path, plain(given), detail);
        }
        let whole = WHOLE.contains(&resource.as_str()) || resource.starts_with("count/");
        if whole && !amount.is_whole() {
            errors.invalid(&path, plain(given), "must be an integer");
        }
    }
}

fn validate_scopes(path: &Path, scopes: &[Value], errors: &mut FieldErrors) {
    let has = |scope: &str| scopes.iter().any(|given| given == scope);
    let mut seen = check::Seen::new();
    let given = || scopes.iter().filter_map(Value::as_str);
    for scope in given().filter(|scope| SCOPES.contains(scope)) {
        check::unique(path, scope, &mut seen, errors);
    }
    if given().any(|scope| !SCOPES.contains(&scope)) {
        errors.invalid(path, Value::from(scopes), "unsupported scope");
    }
    for (one, other) in [
        ("BestEffort", "NotBestEffort"),
        ("Terminating", "NotTerminating"),
    ] {
        if has(one) && has(other) {
            errors.invalid(path, Value::from(scopes), "conflicting scopes");
        }
    }
}

fn validate_rule(path: &Path, rule: &Value, errors: &mut FieldErrors) {
    let scope = text(rule, "/scopeName");
    if !SCOPES.contains(&scope) {
        errors.invalid(&path.field("scopeName"), scope, "unsupported scope");
    }
    let operator = text(rule, "/operator");
    let classes = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
    if SCOPES.contains(&scope) && !classes && operator != "Exists" {
        errors.invalid(
            &path.field("operator"),
            operator,
            "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
             ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
             ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
        );
    }
    let values = items(rule, "/values");
    match operator {
        "In" | "NotIn" if values.is_empty() => errors.required(
            &path.field("values"),
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.invalid(
            &path.field("values"),
            Value::from(values),
            "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(
            &path.field("operator"),
            other,
            "not a valid selector operator",
        ),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        let yaml = format!("{{spec: {{{spec}}}}}");
        expect.assert_eq(&errors(&ResourceQuota, &yaml));
    }

    #[test]
    fn it_counts_what_can_be_counted() {
        check(
            "hard: {pods: 10, requests.cpu: 100m, count/jobs.batch: 3}",
            expect![[""]],
        );
        check(
            "hard: {pods: 1500m, gpus: 1, memory: -1}, scopes: [BestEffort, NotBestEffort, Big], \
             scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In}, {scopeName: \
             Terminating, operator: In, values: [a]}]}",
            expect![[r#"
                spec.hard[gpus]: Invalid value: "gpus": must be a standard resource for quota
                spec.hard[memory]: Invalid value: "-1": must be greater than or equal to 0
                spec.hard[pods]: Invalid value: "1500m": must be an integer
                spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Big"]: unsupported scope
                spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Big"]: conflicting scopes
                spec.scopeSelector.matchExpressions[0].values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector
                spec.scopeSelector.matchExpressions[1].operator: Invalid value: "In": must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity
            "#]],
        );
    }

    #[test]
    fn its_scopes_never_change() {
        expect![[r#"
            spec.scopes: Invalid value: ["BestEffort"]: field is immutable
        "#]]
        .assert_eq(&update_errors(
            &ResourceQuota,
            "{spec: {}}",
            "{spec: {scopes: [BestEffort]}}",
        ));
    }

    #[test]
    fn a_row_says_what_is_used() {
        expect!["q|pods: 1/10, requests.cpu: 0/1|limits.cpu: 0/2|60m"].assert_eq(&row(
            &ResourceQuota,
            "{metadata: {name: q}, status: {hard: {pods: 10, requests.cpu: 1, limits.cpu: 2}, used: {pods: 1}}}",
        ));
    }
}
