//! ChartRelease: a release of a chart that a controller keeps as it says.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column,
        functions::readiness,
        value::{child, each, fill, items, number, part, present, text},
        write,
    },
    name,
};

/// The kind.
pub(crate) struct ChartRelease;

static NAMES: Names = Names {
    group: "charts.wk.dev",
    version: "v1",
    kind: "ChartRelease",
    plural: "chartreleases",
    singular: "chartrelease",
    short: &["cr"],
    categories: &[],
    namespaced: true,
    definition: "dev.wk.charts.v1.ChartRelease",
};

/// Longest name of a release.
const LONGEST_NAME: usize = 53;

/// Longest interval and timeout, in seconds.
const LONGEST_TIME: u64 = 24 * 3600;

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Ready", "Whether the release is as the spec says"),
    column::shown("Reason", "Why not"),
    column::shown("Revision", "The newest revision"),
    column::shown("Chart", "The chart's version"),
    column::AGE,
    column::wide("Message", "What happened last"),
];

impl Kind for ChartRelease {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", write::empty());
        let Some(spec) = child(object, "spec") else {
            return;
        };
        fill(spec, "interval", "10m");
        fill(spec, "timeout", "5m");
        fill(spec, "historyMax", 10);
        each(spec, "valuesFrom").for_each(|from| fill(from, "key", "values.yaml"));
        if let Some(archive) = spec.pointer_mut("/chart/archive") {
            fill(archive, "key", "chart.tgz");
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        chart(&path.field("chart"), part(spec, "/chart"), errors);
        for field in ["interval", "timeout"] {
            duration(&path.field(field), text(spec, &format!("/{field}")), errors);
        }
        let release = text(spec, "/releaseName");
        let default = text(object, "/metadata/name");
        let given = if release.is_empty() { default } else { release };
        let mut problems = name::subdomain_problems(given);
        if given.len() > LONGEST_NAME {
            problems.push(format!("must be no more than {LONGEST_NAME} characters"));
        }
        for problem in problems {
            errors.invalid(&path.field("releaseName"), given, &problem);
        }
        let namespace = text(spec, "/targetNamespace");
        if !namespace.is_empty() {
            for problem in name::label_problems(namespace) {
                errors.invalid(&path.field("targetNamespace"), namespace, &problem);
            }
        }
        let account = text(spec, "/serviceAccountName");
        if !account.is_empty() {
            for problem in name::subdomain_problems(account) {
                errors.invalid(&path.field("serviceAccountName"), account, &problem);
            }
        }
        for (index, from) in items(spec, "/valuesFrom").iter().enumerate() {
            let path = path.field("valuesFrom").index(index);
            if text(from, "/name").is_empty() {
                errors.required(&path.field("name"), "");
            }
        }
        check::counts(object, "spec", &["historyMax"], errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        // Another name or namespace would be another release, and leave the one that is there to nobody.
        for (field, default) in [
            ("releaseName", "/metadata/name"),
            ("targetNamespace", "/metadata/namespace"),
        ] {
            let of = |object| match text(object, &format!("/spec/{field}")) {
                "" => text(object, default).to_owned(),
                given => given.to_owned(),
            };
            if of(object) != of(old) {
                let path = Path::root("spec").field(field);
                errors.invalid(&path, of(object), "field is immutable");
            }
        }
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [ready, reason] = readiness(object);
        let mut conditions = items(object, "/status/conditions").iter();
        let message = conditions.find(|condition| text(condition, "/type") == "Ready");
        vec![
            column::name(object),
            ready,
            reason,
            number(object, "/status/revision").unwrap_or(0).into(),
            column::or_none(text(object, "/status/chartVersion")),
            column::age(object, now),
            message.map_or("", |ready| text(ready, "/message")).into(),
        ]
    }
}

/// Where the chart comes from is said once, and wholly.
fn chart(path: &Path, chart: &Value, errors: &mut FieldErrors) {
    let sources = ["ref", "repository", "archive"];
    let given: Vec<&str> = sources
        .into_iter()
        .filter(|source| present(chart, &format!("/{source}")))
        .collect();
    match given.as_slice() {
        [] => errors.required(path, "must specify one of: `ref`, `repository`, `archive`"),
        [_] => {}
        [_, second, ..] => {
            errors.forbidden(&path.field(second), "may not be set beside another source");
        }
    }
    let reference = text(chart, "/ref");
    if present(chart, "/ref") {
        let rest = reference.strip_prefix("oci://").unwrap_or_default();
        let (host, path_of) = rest.split_once('/').unwrap_or_default();
        if host.is_empty() || path_of.is_empty() {
            errors.invalid(&path.field("ref"), reference, "must be oci://HOST/PATH");
        }
    }
    if present(chart, "/repository") {
        let url = text(chart, "/repository");
        let rest = url.strip_prefix("https://").or(url.strip_prefix("http://"));
        if rest.is_none_or(str::is_empty) {
            let problem = "must be a URL with the scheme https or http";
            errors.invalid(&path.field("repository"), url, problem);
        }
        if text(chart, "/name").is_empty() {
            errors.required(&path.field("name"), "a repository has several charts");
        }
    }
    if present(chart, "/archive") && text(chart, "/archive/name").is_empty() {
        errors.required(&path.field("archive").field("name"), "");
    }
}

/// `30s`, `5m`, `1h30m`.
fn duration(path: &Path, given: &str, errors: &mut FieldErrors) {
    let mut rest = given;
    let mut whole = !rest.is_empty();
    let mut seconds: u64 = 0;
    while whole && !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest.get(digits..digits + 1).unwrap_or_default();
        whole = (1..=6).contains(&digits) && matches!(unit, "s" | "m" | "h");
        let number: u64 = rest.get(..digits).and_then(|n| n.parse().ok()).unwrap_or(0);
        let length = match unit {
            "h" => 3600,
            "m" => 60,
            _ => 1,
        };
        seconds = seconds.saturating_add(number.saturating_mul(length));
        rest = rest.get(digits + 1..).unwrap_or_default();
    }
    if !whole {
        errors.invalid(path, given, "must be a duration such as 30s, 5m or 1h30m");
    } else if seconds > LONGEST_TIME {
        errors.invalid(path, given, "must be no more than 24h");
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row, update_errors};

    #[track_caller]
    fn check(spec: &str, expected: Expect) {
        let object = format!("{{metadata: {{name: web}}, spec: {{{spec}}}}}");
        expected.assert_eq(&errors(&ChartRelease, &object));
    }

    #[test]
    fn a_chart_comes_from_one_place() {
        check(
            "chart: {ref: 'oci://registry.wk.internal/team/nginx', version: 1.2.3}",
            expect![[""]],
        );
        check(
            "chart: {repository: 'https://x.org', name: a}",
            expect![[""]],
        );
        check(
            "chart: {archive: {kind: ConfigMap, name: a}}",
            expect![[""]],
        );
        check(
            "chart: {version: '1'}",
            expect![[r#"
            spec.chart: Required value: must specify one of: `ref`, `repository`, `archive`
        "#]],
        );
        check(
            "chart: {ref: nginx, repository: 'ftp://x'}",
            expect![[r#"
            spec.chart.repository: Forbidden: may not be set beside another source
            spec.chart.ref: Invalid value: "nginx": must be oci://HOST/PATH
            spec.chart.repository: Invalid value: "ftp://x": must be a URL with the scheme https or http
            spec.chart.name: Required value: a repository has several charts
        "#]],
        );
    }

    #[test]
    fn names_and_times_are_checked() {
        check(
            "chart: {archive: {kind: Secret, name: a}}, interval: soon, timeout: 1h30m, releaseName: A, targetNamespace: a.b, historyMax: -1, valuesFrom: [{kind: Secret, name: ''}]",
            expect![[r#"
                spec.interval: Invalid value: "soon": must be a duration such as 30s, 5m or 1h30m
                spec.releaseName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.targetNamespace: Invalid value: "a.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.valuesFrom[0].name: Required value
                spec.historyMax: Invalid value: -1: must be greater than or equal to 0
            "#]],
        );
    }

    #[test]
    fn no_time_is_longer_than_a_day() {
        check(
            "chart: {archive: {kind: Secret, name: a}}, interval: 24h, timeout: 999999h999999h",
            expect![[r#"
                spec.timeout: Invalid value: "999999h999999h": must be no more than 24h
            "#]],
        );
    }

    #[test]
    fn which_release_it_is_never_changes() {
        let of = |spec: &str| {
            format!(
                "{{metadata: {{name: web, namespace: shop}}, spec: {{chart: {{archive: {{kind: Secret, name: a}}}}, {spec}}}}}"
            )
        };
        let change = |old: &str, new: &str| update_errors(&ChartRelease, &of(old), &of(new));
        expect![[""]].assert_eq(&change("", "releaseName: web, targetNamespace: shop"));
        expect![[r#"
            spec.releaseName: Invalid value: "b": field is immutable
            spec.targetNamespace: Invalid value: "c": field is immutable
        "#]]
        .assert_eq(&change(
            "releaseName: a",
            "releaseName: b, targetNamespace: c",
        ));
    }

    #[test]
    fn what_is_not_said_is_filled_in() {
        expect![[r#"
            {"metadata":{"name":"a"},"spec":{"chart":{"archive":{"key":"chart.tgz"}},"historyMax":10,"interval":"10m","timeout":"5m","valuesFrom":[{"key":"values.yaml"}]},"status":{}}"#]]
        .assert_eq(&defaulted(&ChartRelease, "{metadata: {name: a}, spec: {chart: {archive: {}}, valuesFrom: [{}]}}").to_string());
    }

    #[test]
    fn a_row_says_how_far_it_is() {
        expect!["web|False|UpgradeFailed|3|1.2.3|60m|why"].assert_eq(&row(
            &ChartRelease,
            "{metadata: {name: web}, status: {revision: 3, chartVersion: 1.2.3, \
             conditions: [{type: Ready, status: 'False', reason: UpgradeFailed, message: why}]}}",
        ));
    }
}
