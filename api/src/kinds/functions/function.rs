//! Function: code that requests start.

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, route, template, traffic, trigger};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column,
        value::{child, each, fill, items, number, part, text},
        write,
    },
    name, object,
};

/// The kind.
pub(crate) struct Function;

static NAMES: Names = Names {
    group: GROUP,
    version: function_kinds::VERSION,
    kind: "Function",
    plural: "functions",
    singular: "function",
    short: &["fn"],
    categories: &["all"],
    namespaced: true,
    definition: "dev.wk.functions.v1.Function",
};

/// A revision's name is its Function's with a dash and a number, and is a Service's too.
const LONGEST_NAME: usize = 52;

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("URL", "Where it answers from outside of the cluster"),
    column::shown(
        "Ready",
        "Whether the newest revision and the routes are ready",
    ),
    column::shown("Reason", "Why not"),
    column::shown("Latest", "The newest revision"),
    column::AGE,
    column::wide("Traffic", "Which revisions the requests go to"),
    column::wide("Image", "What the newest revision runs"),
];

impl Kind for Function {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn name_problems(&self, given: &str) -> Vec<String> {
        let mut problems = name::letter_label_problems(given);
        if given.len() > LONGEST_NAME {
            problems.push(format!("must be no more than {LONGEST_NAME} characters"));
        }
        if given.contains("---") {
            problems.push("must not contain '---', which follows a tag in a host".to_owned());
        }
        problems
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", write::empty());
        let Some(spec) = child(object, "spec") else {
            return;
        };
        template::default(spec);
        each(spec, "routes").for_each(route::default);
        each(spec, "triggers").for_each(trigger::default);
        fill(spec, "revisionHistoryLimit", 10);
        fill(spec, "progressDeadlineSeconds", 60);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        template::validate(&path, spec, errors);
        route::validate(&path.field("routes"), spec, errors);
        trigger::validate(&path.field("triggers"), spec, errors);
        traffic::validate(&path.field("traffic"), spec, object::name(object), errors);
        check::counts(object, "spec", &["revisionHistoryLimit"], errors);
        template::within(
            &path,
            spec,
            "progressDeadlineSeconds",
            1..=i64::from(i32::MAX),
            errors,
        );
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [ready, reason] = readiness(object);
        let shares = items(object, "/status/traffic").iter();
        let shares: Vec<String> = shares.map(share).collect();
        vec![
            column::name(object),
            column::or_none(text(object, "/status/url")),
            ready,
            reason,
            column::or_none(text(object, "/status/latestCreatedRevision")),
            column::age(object, now),
            column::or_none(&shares.join(",")),
            text(object, "/spec/image").into(),
        ]
    }
}

/// `hello-00002=90%`, and the tag in brackets.
fn share(share: &Value) -> String {
    let percent = number(share, "/percent").unwrap_or(0);
    let tag = match text(share, "/tag") {
        "" => String::new(),
        tag => format!("({tag})"),
    };
    format!("{}{tag}={percent}%", text(share, "/revision"))
}

/// Status and reason of the condition `Ready`; the reason is only shown where it is not ready.
pub(crate) fn readiness(object: &Value) -> [Value; 2] {
    let mut conditions = items(object, "/status/conditions").iter();
    let ready = conditions.find(|condition| text(condition, "/type") == "Ready");
    let ready = ready.unwrap_or(&Value::Null);
    match text(ready, "/status") {
        "" => ["Unknown".into(), "".into()],
        "True" => ["True".into(), "".into()],
        other => [other.into(), text(ready, "/reason").into()],
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row};

    #[track_caller]
    fn check(spec: &str, expected: Expect) {
        expected.assert_eq(&errors(
            &Function,
            &format!("{{metadata: {{name: hello}}, spec: {{image: hello, {spec}}}}}"),
        ));
    }

    #[test]
    fn an_image_is_enough() {
        expect![[r#"{"spec":{"concurrency":0,"image":"hello","isolation":"fresh","progressDeadlineSeconds":60,"revisionHistoryLimit":10,"scale":{"idleSeconds":60,"max":100,"min":0},"timeoutSeconds":60},"status":{}}"#]]
            .assert_eq(&defaulted(&Function, "{spec: {image: hello}}"));
        check("", expect![[""]]);
    }

    #[test]
    fn what_has_a_port_is_a_container_of_which_there_are_fewer() {
        expect![[r#"{"spec":{"concurrency":0,"image":"web","isolation":"fresh","port":80,"progressDeadlineSeconds":60,"revisionHistoryLimit":10,"routes":[{"path":"/","pathType":"Prefix"}],"scale":{"idleSeconds":60,"max":12,"min":12},"timeoutSeconds":60,"triggers":[{"cron":{"method":"POST","path":"/"}}],"volumes":[{"emptyDir":{}}]},"status":{}}"#]]
            .assert_eq(&defaulted(
                &Function,
                "{spec: {image: web, port: 80, scale: {min: 12}, routes: [{}], triggers: [{cron: {}}], volumes: [{}]}}",
            ));
    }

    #[test]
    fn the_parts_of_a_pod_are_checked_as_a_pods_are() {
        check(
            "env: [{name: 'a b'}], envFrom: [{}], labels: {functions.wk.dev/x: y}, \
             volumes: [{name: v, hostPath: {path: /}}], volumeMounts: [{name: w, mountPath: /w}], \
             resources: {limits: {cpu: 1}, requests: {cpu: 2}}, serviceAccountName: A_, imagePullSecrets: [{}]",
            expect![[r#"
                spec.volumes[0]: Unsupported value: "hostPath": supported values: "configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"
                spec.envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
                spec.volumeMounts[0].name: Not found: "w"
                spec.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
                spec.labels[functions.wk.dev/x]: Forbidden: labels that begin with functions.wk.dev/ are the system's
                spec.serviceAccountName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.imagePullSecrets[0].name: Required value
            "#]],
        );
    }

    #[test]
    fn numbers_have_bounds() {
        check(
            "port: 0, runtimeClassName: wasm, timeoutSeconds: 0, concurrency: 5, isolation: none, \
             retries: {attempts: 11, backoffMilliseconds: -1}, revisionHistoryLimit: -1, \
             progressDeadlineSeconds: 0, scale: {min: 3, max: 2, targetConcurrency: 6, idleSeconds: 0}",
            expect![[r#"
                spec.port: Forbidden: may not be set for components: they have no port
                spec.port: Invalid value: 0: must be between 1 and 65535, inclusive
                spec.isolation: Unsupported value: "none": supported values: "fresh", "pooled"
                spec.timeoutSeconds: Invalid value: 0: must be between 1 and 3600, inclusive
                spec.scale.idleSeconds: Invalid value: 0: must be between 1 and 86400, inclusive
                spec.scale.max: Invalid value: 2: must be greater than or equal to `min`
                spec.scale.targetConcurrency: Invalid value: 6: must be less than or equal to spec.concurrency (5)
                spec.retries.attempts: Invalid value: 11: must be between 0 and 10, inclusive
                spec.retries.backoffMilliseconds: Invalid value: -1: must be between 0 and 60000, inclusive
                spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0
                spec.progressDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
            "#]],
        );
    }

    #[test]
    fn routes_are_requests_that_there_can_be_and_each_is_there_once() {
        check(
            "routes: [{host: 10.0.0.1, path: a}, {host: '*.x', path: /a//b}, {host: Upper}, {methods: [GET, get]}, \
             {host: x.org}, {host: x.org, methods: [PUT]}, {host: z, methods: [GET]}, {host: z, methods: [PUT]}]",
            expect![[r#"
                spec.routes[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address
                spec.routes[0].path: Invalid value: "a": must be an absolute path
                spec.routes[1].path: Invalid value: "/a//b": must not contain '//', '/./' or '/../'
                spec.routes[2].host: Invalid value: "Upper": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.routes[3].methods[1]: Unsupported value: "get": supported values: "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"
                spec.routes[5]: Duplicate value: {"host":"x.org","methods":["PUT"],"path":"/","pathType":"Prefix"}
            "#]],
        );
    }

    #[test]
    fn traffic_sums_to_a_hundred_and_tags_differ() {
        check(
            "traffic: [{percent: 100}, {tag: next, revision: hello-00002}]",
            expect![[""]],
        );
        check(
            "traffic: [{percent: 50, tag: a}, {percent: 101, tag: a}, {}, {percent: 1, tag: A---b}]",
            expect![[r#"
                spec.traffic[1].percent: Invalid value: 101: must be between 0 and 100, inclusive
                spec.traffic[1].tag: Duplicate value: "a"
                spec.traffic[2].percent: Required value: or a tag must be given
                spec.traffic[3].tag: Invalid value: "A---b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.traffic[3].tag: Invalid value: "A---b": must not contain '---'
                spec.traffic: Invalid value: 152: percentages must sum to 100, not to 152
            "#]],
        );
    }

    #[test]
    fn a_trigger_is_a_schedule() {
        check(
            "triggers: [{name: t, cron: {schedule: '@hourly', timeZone: Europe/Berlin}}, {name: t}, {cron: \
             {schedule: often, timeZone: X, method: LOOK, path: x, startingDeadlineSeconds: -1}}]",
            expect![[r#"
                spec.triggers[1].name: Duplicate value: "t"
                spec.triggers[1]: Required value: must specify one of: `cron`
                spec.triggers[2].name: Required value
                spec.triggers[2].cron.schedule: Invalid value: "often": expected exactly 5 fields, found 1: [often]
                spec.triggers[2].cron.timeZone: Invalid value: "X": unknown time zone X
                spec.triggers[2].cron.method: Unsupported value: "LOOK": supported values: "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"
                spec.triggers[2].cron.path: Invalid value: "x": must be an absolute path
                spec.triggers[2].cron.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0
            "#]],
        );
    }

    #[test]
    fn a_name_leaves_room_for_numbers_and_tags() {
        assert!(Function.name_problems(&"a".repeat(52)).is_empty());
        assert!(!Function.name_problems(&"a".repeat(53)).is_empty());
        assert!(!Function.name_problems("a---b").is_empty());
        assert!(!Function.name_problems("1a").is_empty());
    }

    #[test]
    fn a_row_says_where_it_answers_and_why_it_does_not() {
        expect!["hello|http://h|False|ErrImagePull|hello-00002|60m|hello-00001=100%,hello-00002(next)=0%|i"].assert_eq(&row(
            &Function,
            "{metadata: {name: hello}, spec: {image: i}, status: {url: 'http://h', latestCreatedRevision: hello-00002, \
             traffic: [{revision: hello-00001, percent: 100}, {revision: hello-00002, percent: 0, tag: next}], \
             conditions: [{type: Ready, status: 'False', reason: ErrImagePull}]}}",
        ));
    }
}
