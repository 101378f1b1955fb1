//! Probes and hooks: what is wrong with what is done to a container to see or tell it something.

use serde_json::Value;

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        value::{items, number, part, present, text},
    },
    name,
};

const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// Checks the probes and hooks of a container that stands at `path`; `grace` is how long its pod may
/// take to stop.
pub(super) fn validate(path: &Path, container: &Value, grace: i64, errors: &mut FieldErrors) {
    for hook in ["postStart", "preStop"] {
        let handler = part(container, &format!("/lifecycle/{hook}"));
        if !handler.is_null() {
            let path = path.field("lifecycle").field(hook);
            validate_handler(&path, handler, grace, errors);
        }
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.get(field).unwrap_or(&Value::Null);
        if probe.is_null() {
            continue;
        }
        let path = path.field(field);
        validate_probe(&path, probe, grace, errors);
        let success = number(probe, "/successThreshold").unwrap_or(1);
        if field != "readinessProbe" && success != 1 {
            errors.invalid(&path.field("successThreshold"), success, "must be 1");
        }
        if field == "readinessProbe" && present(probe, "/terminationGracePeriodSeconds") {
            errors.invalid(
                &path.field("terminationGracePeriodSeconds"),
                part(probe, "/terminationGracePeriodSeconds").clone(),
                "must not be set for readinessProbes",
            );
        }
    }
}

fn validate_probe(path: &Path, probe: &Value, grace: i64, errors: &mut FieldErrors) {
    validate_handler(path, probe, grace, errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        let given = probe.get(field).unwrap_or(&Value::Null);
        check::not_negative(&path.field(field), given, errors);
    }
    if let Some(seconds) = number(probe, "/terminationGracePeriodSeconds")
        && seconds <= 0
    {
        errors.invalid(
            &path.field("terminationGracePeriodSeconds"),
            seconds,
            "must be greater than 0",
        );
    }
}

fn validate_handler(path: &Path, handler: &Value, grace: i64, errors: &mut FieldErrors) {
    let given: Vec<_> = HANDLERS
        .iter()
        .filter(|kind| handler.get(**kind).is_some_and(|own| !own.is_null()))
        .collect();
    if given.is_empty() {
        errors.required(path, "must specify a handler type");
    }
    for (index, kind) in given.into_iter().enumerate() {
        let path = path.field(kind);
        if index > 0 {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        validate_kind(&path, kind, &handler[*kind], grace, errors);
    }
}

fn validate_kind(path: &Path, kind: &str, own: &Value, grace: i64, errors: &mut FieldErrors) {
    match kind {
        "exec" => {
            if items(own, "/command").is_empty() {
                errors.required(&path.field("command"), "");
            }
        }
        "httpGet" => {
            if text(own, "/path").is_empty() {
                errors.required(&path.field("path"), "");
            }
            validate_port(&path.field("port"), part(own, "/port"), errors);
            check::one_of(
                &path.field("scheme"),
                part(own, "/scheme"),
                &["HTTP", "HTTPS"],
                errors,
            );
            for (index, header) in items(own, "/httpHeaders").iter().enumerate() {
                let given = text(header, "/name");
                let valid = !given.is_empty()
                    && given
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-');
                if !valid {
                    errors.invalid(
                        &path.field("httpHeaders").index(index).field("name"),
                        given,
                        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. \
                         'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
                    );
                }
            }
        }
        "tcpSocket" => validate_port(&path.field("port"), part(own, "/port"), errors),
        "grpc" => check::port(&path.field("port"), part(own, "/port"), errors),
        _ => {
            let seconds = number(own, "/seconds").unwrap_or(0);
            if seconds < 0 || seconds > grace {
                errors.invalid(
                    &path.field("seconds"),
                    seconds,
                    format!(
                        "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                    ),
                );
            }
        }
    }
}

/// The number of a port, or the name that one of the container's ports has.
fn validate_port(path: &Path, port: &Value, errors: &mut FieldErrors) {
    match port {
        Value::String(given) => {
            check::problems(path, given, name::port_problems(given), errors);
        }
        port => check::port(path, port, errors),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::kinds::{pod::Pod, tests::errors};

    #[track_caller]
    fn check(container: &str, expect: Expect) {
        expect.assert_eq(&errors(
            &Pod,
            &format!("{{spec: {{containers: [{{name: a, image: i, {container}}}]}}}}"),
        ));
    }

    #[test]
    fn a_probe_asks_one_thing() {
        check("livenessProbe: {httpGet: {port: http}}", expect![[""]]);
        check(
            "livenessProbe: {successThreshold: 2, periodSeconds: -1}, readinessProbe: {exec: {}, \
             tcpSocket: {port: 0}, terminationGracePeriodSeconds: 0}, startupProbe: {httpGet: {port: \
             'A_', scheme: ftp, httpHeaders: [{name: 'a b'}]}}",
            expect![[r#"
                spec.containers[0].livenessProbe: Required value: must specify a handler type
                spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
                spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
                spec.containers[0].readinessProbe.exec.command: Required value
                spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
                spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0
                spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 0: must not be set for readinessProbes
                spec.containers[0].startupProbe.httpGet.port: Invalid value: "A_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
                spec.containers[0].startupProbe.httpGet.port: Invalid value: "A_": must contain at least one letter (a-z)
                spec.containers[0].startupProbe.httpGet.scheme: Unsupported value: "ftp": supported values: "HTTP", "HTTPS"
                spec.containers[0].startupProbe.httpGet.httpHeaders[0].name: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')
            "#]],
        );
    }

    #[test]
    fn a_hook_does_something_in_time() {
        check(
            "lifecycle: {preStop: {sleep: {seconds: 31}}, postStart: {}}",
            expect![[r#"
                spec.containers[0].lifecycle.postStart: Required value: must specify a handler type
                spec.containers[0].lifecycle.preStop.sleep.seconds: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)
            "#]],
        );
    }
}
