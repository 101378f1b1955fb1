//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration: servers that are asked about writes.

use jiff::Timestamp;
use serde_json::Value;

use super::{FAILURE_POLICIES, GROUP, REINVOCATION_POLICIES, rule};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, check, column,
        value::{each, fill, find, items, number, part, plain, present, text},
    },
    name,
};

/// Asked whether a write may be.
pub(crate) struct ValidatingWebhookConfiguration;

/// Asked what a write should be.
pub(crate) struct MutatingWebhookConfiguration;

static VALIDATING: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    short: &[],
    categories: &["api-extensions"],
    namespaced: false,
    definition: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
};

static MUTATING: Names = Names {
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    definition: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
    ..VALIDATING
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::count("Webhooks", "How many webhooks it has"),
    column::AGE,
];

/// Effects that a webhook may have: a dry run never has any.
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
/// Versions of AdmissionReview, of which a webhook takes one at least.
const REVIEWS: &[&str] = &["v1", "v1beta1"];

impl Kind for ValidatingWebhookConfiguration {
    fn names(&self) -> &Names {
        &VALIDATING
    }

    fn counted(&self) -> &[&'static str] {
        &["webhooks"]
    }

    fn default(&self, object: &mut Value) {
        for webhook in each(object, "webhooks") {
            default_webhook(webhook);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, now)
    }
}

impl Kind for MutatingWebhookConfiguration {
    fn names(&self) -> &Names {
        &MUTATING
    }

    fn counted(&self) -> &[&'static str] {
        &["webhooks"]
    }

    fn default(&self, object: &mut Value) {
        for webhook in each(object, "webhooks") {
            default_webhook(webhook);
            fill(webhook, "reinvocationPolicy", "Never");
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        cells(object, now)
    }
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        column::name(object),
        items(object, "/webhooks").len().into(),
        column::age(object, now),
    ]
}

fn default_webhook(webhook: &mut Value) {
    fill(webhook, "failurePolicy", "Fail");
    rule::default_selectors(webhook);
    rule::default_rules(webhook, "rules");
    fill(webhook, "timeoutSeconds", 10);
    if let Some(service) = find(webhook, "clientConfig").and_then(|config| find(config, "service"))
    {
        fill(service, "port", 443);
    }
}

fn validate(object: &Value, errors: &mut FieldErrors) {
    let mut names = check::Seen::new();
    for (index, webhook) in items(object, "/webhooks").iter().enumerate() {
        let path = Path::root("webhooks").index(index);
        let own = text(webhook, "/name");
        if own.is_empty() {
            errors.required(&path.field("name"), "");
        } else {
            let problems = name::domain_problems(own, 3);
            check::problems(&path.field("name"), own, problems, errors);
        }
        validate_webhook(&path, webhook, errors);
        validate_reviews(&path.field("admissionReviewVersions"), webhook, errors);
        if !own.is_empty() {
            check::unique(&path.field("name"), own, &mut names, errors);
        }
    }
}

fn validate_webhook(path: &Path, webhook: &Value, errors: &mut FieldErrors) {
    for (index, one) in items(webhook, "/rules").iter().enumerate() {
        rule::validate(&path.field("rules").index(index), one, errors);
    }
    check::one_of(
        &path.field("failurePolicy"),
        part(webhook, "/failurePolicy"),
        FAILURE_POLICIES,
        errors,
    );
    let effects = path.field("sideEffects");
    if present(webhook, "/sideEffects") {
        check::one_of(
            &effects,
            part(webhook, "/sideEffects"),
            SIDE_EFFECTS,
            errors,
        );
    } else {
        let detail = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
        errors.required(&effects, detail);
    }
    if let Some(seconds) = number(webhook, "/timeoutSeconds")
        && !(1..=30).contains(&seconds)
    {
        errors.invalid(
            &path.field("timeoutSeconds"),
            seconds,
            "the timeout value must be between 1 and 30 seconds",
        );
    }
    rule::validate_selectors(path, webhook, errors);
    check::one_of(
        &path.field("reinvocationPolicy"),
        part(webhook, "/reinvocationPolicy"),
        REINVOCATION_POLICIES,
        errors,
    );
    let config = path.field("clientConfig");
    let url = part(webhook, "/clientConfig/url").as_str();
    match (url, present(webhook, "/clientConfig/service")) {
        (Some(url), false) => validate_url(&config.field("url"), url, errors),
        (None, true) => validate_service(
            &config.field("service"),
            part(webhook, "/clientConfig/service"),
            errors,
        ),
        _ => errors.required(&config, "exactly one of url or service is required"),
    }
    rule::validate_conditions(path, webhook, errors);
}

fn validate_reviews(path: &Path, webhook: &Value, errors: &mut FieldErrors) {
    let versions: Vec<String> = items(webhook, "/admissionReviewVersions")
        .iter()
        .map(plain)
        .collect();
    if versions.is_empty() {
        let detail = format!("must specify one of {}", REVIEWS.join(", "));
        errors.required(path, detail);
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if versions[..index].contains(version) {
            errors.invalid(&path, version.as_str(), "duplicate version");
        } else {
            let problems = name::letter_label_problems(version);
            check::problems(&path, version, problems, errors);
        }
    }
    if !versions
        .iter()
        .any(|version| REVIEWS.contains(&version.as_str()))
    {
        let detail = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.invalid(path, versions, detail);
    }
}

fn validate_url(path: &Path, url: &str, errors: &mut FieldErrors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (rest, fragment) = match url.split_once('#') {
        Some((rest, fragment)) => (rest, fragment),
        None => (url, ""),
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, query),
        None => (rest, ""),
    };
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let blank = url.contains(|c: char| c.is_whitespace() || c.is_control());
    if blank {
        errors.required(path, format!("url must be a valid URL{FORM}"));
        return;
    }
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid(path, scheme, detail);
    }
    if host.is_empty() || scheme.is_empty() {
        errors.invalid(path, "", format!("host must be specified{FORM}"));
    }
    for (given, what) in [
        (user, "user information is"),
        (fragment, "fragments are"),
        (query, "query parameters are"),
    ] {
        if !given.is_empty() {
            errors.invalid(path, given, format!("{what} not permitted in the URL"));
        }
    }
}

fn validate_service(path: &Path, service: &Value, errors: &mut FieldErrors) {
    for field in ["name", "namespace"] {
        if text(service, &format!("/{field}")).is_empty() {
            errors.required(&path.field(field), format!("service {field} is required"));
        }
    }
    let port = number(service, "/port").unwrap_or_default();
    if !(1..=65_535).contains(&port) {
        errors.invalid(
            &path.field("port"),
            port,
            "port is not valid: must be between 1 and 65535, inclusive",
        );
    }
    let Some(own) = part(service, "/path").as_str() else {
        return;
    };
    let path = path.field("path");
    let Some(rest) = own.strip_prefix('/') else {
        errors.invalid(&path, own, "must start with a '/'");
        return;
    };
    let steps = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return;
    }
    for (index, step) in steps.split('/').enumerate() {
        if step.is_empty() {
            let detail = format!("segment[{index}] may not be empty");
            errors.invalid(&path, own, detail);
            continue;
        }
        for problem in name::subdomain_problems(step) {
            errors.invalid(&path, own, format!("segment[{index}]: {problem}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row};

    #[track_caller]
    fn check(webhook: &str, expect: Expect) {
        let yaml = format!("{{webhooks: [{{{webhook}}}]}}");
        expect.assert_eq(&errors(&MutatingWebhookConfiguration, &yaml));
    }

    const GOOD: &str = "name: a.example.com, sideEffects: None, admissionReviewVersions: [v1]";

    #[test]
    fn a_webhook_is_complete() {
        expect![[r#"{"webhooks":[{"clientConfig":{"service":{"port":443}},"failurePolicy":"Fail","matchPolicy":"Equivalent","namespaceSelector":{},"objectSelector":{},"reinvocationPolicy":"Never","rules":[{"scope":"*"}],"timeoutSeconds":10}]}"#]]
            .assert_eq(&defaulted(
                &MutatingWebhookConfiguration,
                "{webhooks: [{rules: [{}], clientConfig: {service: {}}}]}",
            ));
        let yaml = "{webhooks: [{}]}";
        let validating = defaulted(&ValidatingWebhookConfiguration, yaml);
        assert!(!validating.contains("reinvocationPolicy"), "{validating}");
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        check(
            "name: a, timeoutSeconds: 31, failurePolicy: x, reinvocationPolicy: x, sideEffects: Some, \
             admissionReviewVersions: [v2, v2], matchConditions: [{name: a}, {name: a, expression: 'true'}]",
            expect![[r#"
                webhooks[0].name: Invalid value: "a": should be a domain with at least three segments separated by dots
                webhooks[0].failurePolicy: Unsupported value: "x": supported values: "Fail", "Ignore"
                webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"
                webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds
                webhooks[0].reinvocationPolicy: Unsupported value: "x": supported values: "IfNeeded", "Never"
                webhooks[0].clientConfig: Required value: exactly one of url or service is required
                webhooks[0].matchConditions[0].expression: Required value
                webhooks[0].matchConditions[1].name: Duplicate value: "a"
                webhooks[0].admissionReviewVersions[1]: Invalid value: "v2": duplicate version
                webhooks[0].admissionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1
            "#]],
        );
        check(
            "",
            expect![[r#"
                webhooks[0].name: Required value
                webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun
                webhooks[0].clientConfig: Required value: exactly one of url or service is required
                webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1
            "#]],
        );
    }

    #[test]
    fn a_webhook_is_at_a_url_or_behind_a_service() {
        let client = |config: &str| format!("{GOOD}, clientConfig: {{{config}}}");
        check(&client("url: 'https://a.b/c'"), expect![""]);
        check(
            &client("url: 'http://u@/c?q#f'"),
            expect![[r#"
                webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]
                webhooks[0].clientConfig.url: Invalid value: "": host must be specified; desired format: https://host[/path]
                webhooks[0].clientConfig.url: Invalid value: "u": user information is not permitted in the URL
                webhooks[0].clientConfig.url: Invalid value: "f": fragments are not permitted in the URL
                webhooks[0].clientConfig.url: Invalid value: "q": query parameters are not permitted in the URL
            "#]],
        );
        check(
            &client("service: {name: s, namespace: d, path: /a/b/}"),
            expect![""],
        );
        check(
            &client("service: {port: 0, path: /a//b}"),
            expect![[r#"
                webhooks[0].clientConfig.service.name: Required value: service name is required
                webhooks[0].clientConfig.service.namespace: Required value: service namespace is required
                webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive
                webhooks[0].clientConfig.service.path: Invalid value: "/a//b": segment[1] may not be empty
            "#]],
        );
    }

    #[test]
    fn a_rule_names_what_it_is_about_once() {
        let rule =
            |rule: &str| format!("{GOOD}, clientConfig: {{url: 'https://a'}}, rules: [{{{rule}}}]");
        check(
            &rule(
                "operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [pods, pods/*]",
            ),
            expect![""],
        );
        check(
            &rule(
                "operations: ['*', READ], apiGroups: ['*', a], apiVersions: [''], scope: x, resources: ['*', \
                 pods, 'pods/*', pods/log, '*/log', a/log]",
            ),
            expect![[r#"
                webhooks[0].rules[0].operations: Invalid value: ["*","READ"]: if '*' is present, must not specify other operations
                webhooks[0].rules[0].operations[1]: Unsupported value: "READ": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"
                webhooks[0].rules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other API groups
                webhooks[0].rules[0].apiVersions[0]: Required value
                webhooks[0].rules[0].resources[3]: Invalid value: "pods/log": if 'pods/*' is present, must not specify pods/log
                webhooks[0].rules[0].resources[5]: Invalid value: "a/log": if '*/log' is present, must not specify a/log
                webhooks[0].rules[0].resources: Invalid value: ["*","pods","pods/*","pods/log","*/log","a/log"]: if '*' is present, must not specify other resources without subresources
                webhooks[0].rules[0].scope: Unsupported value: "x": supported values: "*", "Cluster", "Namespaced"
            "#]],
        );
        check(
            &rule(""),
            expect![[r#"
                webhooks[0].rules[0].operations: Required value
                webhooks[0].rules[0].apiGroups: Required value
                webhooks[0].rules[0].apiVersions: Required value
                webhooks[0].rules[0].resources: Required value
            "#]],
        );
    }

    #[test]
    fn a_row_counts_the_webhooks() {
        expect!["w|2|60m"].assert_eq(&row(
            &ValidatingWebhookConfiguration,
            "{metadata: {name: w}, webhooks: [{}, {}]}",
        ));
    }
}
