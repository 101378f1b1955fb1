//! What is not an object but is read all the same, made hostile: tokens, headers, certificates' requests,
//! `continue` tokens, field sets, definitions, rules, and what webhooks answer.
//!
//! The properties are those of [`crate::hostile`]: never a 5xx, a panic or a hang.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::{
    custom_resources::{CRONTABS, DEFINITIONS, crontab, definition, schema},
    harness::{Cluster, DEPLOYMENTS, MAPS, PODS, config, config_map},
    hooks::Hooks,
    hostile_kinds::{Dice, send},
};

/// Sends what is below 500 in its answer, whatever it is.
async fn survives(cluster: &Cluster, line: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    let (code, text) = send(cluster, line, headers, body.as_bytes().to_vec()).await;
    let shown: String = body.chars().take(2_000).collect();
    assert!(code < 500, "{code} for {line} {headers:?}: {shown}\n{text}");
    code
}

#[tokio::test]
async fn no_token_that_the_server_did_not_sign_is_taken() {
    let cluster = Cluster::start().await;
    let request = r#"{"spec":{"audiences":[]}}"#;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    cluster
        .ok(&format!("POST {accounts}"), r#"{"metadata":{"name":"a"}}"#)
        .await;
    let made = cluster
        .ok(&format!("POST {accounts}/a/token"), request)
        .await;
    let token = made["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let own = format!("Bearer {token}");
    let json = ("content-type", "application/json");
    let review = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";
    let known = survives(&cluster, review, &[("authorization", &own), json], "{}").await;
    assert_eq!(known, 201);

    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let parts: Vec<&str> = token.split('.').collect();
    let header = |alg: &str| part(json!({"alg": alg, "typ": "JWT"}));
    let mut texts = vec![
        format!("Bearer {}.{}.", header("none"), parts[1]),
        format!("Bearer {}.{}.{}", header("HS256"), parts[1], parts[2]),
        format!("Bearer {}.{}.{}", header("ES256"), parts[1], parts[2]),
        format!("Bearer {}.{}", parts[0], parts[1]),
        format!("Bearer {token}.{token}"),
        format!("Bearer {}", part(json!(token))),
        format!("Bearer {}", "ey".repeat(100_000)),
        format!("Bearer {}", ".".repeat(10_000)),
        format!(
            "Bearer {}.{}.{}",
            parts[0],
            URL_SAFE_NO_PAD.encode("[".repeat(9_000)),
            parts[2]
        ),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Basic YTpi".to_owned(),
        "\u{e4}".to_owned(),
    ];
    let mut dice = Dice(2);
    texts.extend((0..300).map(|_| {
        let mutant = dice.mutate(token.as_bytes());
        let text = String::from_utf8_lossy(&mutant).replace(|c: char| c.is_control(), "");
        format!("Bearer {text}")
    }));
    for text in texts.iter().filter(|text| **text != own) {
        let code = survives(
            &cluster,
            &format!("GET {MAPS}"),
            &[("authorization", text)],
            "",
        )
        .await;
        assert_eq!(code, 401, "{text}");
    }
    for text in texts {
        let body = json!({"spec": {"token": text.trim_start_matches("Bearer ")}}).to_string();
        let line = "POST /apis/authentication.k8s.io/v1/tokenreviews";
        survives(
            &cluster,
            line,
            &[("content-type", "application/json")],
            &body,
        )
        .await;
    }
}

#[tokio::test]
async fn headers_are_read_or_refused() {
    let cluster = Cluster::start().await;
    let names = [
        "impersonate-user",
        "impersonate-group",
        "impersonate-uid",
        "impersonate-extra-a",
        "impersonate-extra-%zz%00",
        "impersonate-extra-",
        "impersonate-odd",
        "accept",
        "accept-encoding",
        "content-type",
        "content-length",
        "if-match",
        "x-forwarded-for",
        "x-remote-user",
        "user-agent",
        "upgrade",
        "connection",
        "audit-id",
    ];
    let long = "a".repeat(60_000);
    let values = [
        "",
        "a",
        "system:masters",
        "system:serviceaccount:",
        "system:serviceaccount:default:a",
        "system:node:",
        "%zz",
        "\u{e4}",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        ";;;==,,q=9e999",
        "-1",
        "99999999999999999999",
        "gzip;q=0",
        "SPDY/3.1",
        "websocket",
        &long,
    ];
    let mut dice = Dice(3);
    for _ in 0..600 {
        let count = 1 + dice.roll(4);
        let headers: Vec<_> = (0..count)
            .map(|_| (*dice.pick(&names), *dice.pick(&values)))
            .collect();
        let path = *dice.pick(&[
            MAPS,
            PODS,
            "/openapi/v2",
            "/apis",
            "/api/v1/namespaces/default/pods/a/log",
        ]);
        survives(&cluster, &format!("GET {path}"), &headers, "").await;
    }
}

#[tokio::test]
async fn requests_for_certificates_are_read_or_refused() {
    let cluster = Cluster::start().await;
    let key = KeyPair::generate().expect("a key");
    let made = CertificateParams::default()
        .serialize_request(&key)
        .expect("a request");
    let (pem, der) = (made.pem().expect("PEM"), made.der().to_vec());
    let mut dice = Dice(4);
    for round in 0..300 {
        // Either the text is odd, or what it holds is.
        let pem = match round % 2 {
            0 => dice.mutate(pem.as_bytes()),
            _ => {
                let text = STANDARD.encode(dice.mutate(&der));
                format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n").into_bytes()
            }
        };
        let body = json!({"metadata": {"name": "r"}, "spec": {
            "request": STANDARD.encode(pem), "signerName": "example.com/s", "usages": ["client auth"],
        }});
        let line = "POST /apis/certificates.k8s.io/v1/certificatesigningrequests?dryRun=All";
        survives(
            &cluster,
            line,
            &[("content-type", "application/json")],
            &body.to_string(),
        )
        .await;
        let _ = api::auth::certificate::user(&dice.mutate(&der));
    }
}

#[tokio::test]
async fn pages_times_and_paths_are_read_or_refused() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        cluster
            .ok(&format!("POST {MAPS}"), &config_map(name, "1"))
            .await;
    }
    let page = cluster.ok(&format!("GET {MAPS}?limit=1"), "").await;
    let token = page["metadata"]["continue"]
        .as_str()
        .expect("a token")
        .to_owned();
    let plain = URL_SAFE_NO_PAD.decode(&token).expect("base64");
    let mut dice = Dice(5);
    let escape = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    for _ in 0..200 {
        let token = match dice.roll(2) {
            0 => dice.mutate(token.as_bytes()),
            _ => URL_SAFE_NO_PAD.encode(dice.mutate(&plain)).into_bytes(),
        };
        // A revision that is not there yet is waited for: that is a 504 in Kubernetes, too.
        let line = format!("GET {MAPS}?limit=1&timeout=1s&continue={}", escape(&token));
        let (code, text) = send(&cluster, &line, &[], Vec::new()).await;
        assert!(code < 500 || code == 504, "{code} for {line}: {text}");

        let time = dice.mutate(b"2026-01-01T00:00:00.123456Z");
        let line = format!("GET {PODS}/none/log?sinceTime={}", escape(&time));
        survives(&cluster, &line, &[], "").await;
        let path = dice.mutate(b"/api/v1/namespaces/default/configmaps/a/status");
        survives(&cluster, &format!("GET /{}", escape(&path)), &[], "").await;
        let path = String::from_utf8_lossy(&path)
            .replace(|c: char| !c.is_ascii_alphanumeric() && c != '/', "");
        survives(&cluster, &format!("GET /{path}"), &[], "").await;
        let time = String::from_utf8_lossy(&time).into_owned();
        let lease =
            json!({"metadata": {"name": "a"}, "spec": {"renewTime": time, "acquireTime": time}});
        let line = "POST /apis/coordination.k8s.io/v1/namespaces/default/leases?dryRun=All";
        survives(
            &cluster,
            line,
            &[("content-type", "application/json")],
            &lease.to_string(),
        )
        .await;
    }
}

#[tokio::test]
async fn field_sets_are_read_or_refused() {
    let cluster = Cluster::start().await;
    let good = r#"{"f:metadata":{"f:labels":{".":{},"f:v":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{}}},"f:x":{"v:\"a\"":{},"i:3":{}}}}"#;
    let steps = [
        "",
        ".",
        "f:",
        "k:",
        "v:",
        "i:",
        "k:{",
        "k:{\"a\":[]}",
        "i:-1",
        "i:99999999999999999999",
        "v:{\"a\":1}",
        "x:y",
        "f:data",
        "f:spec",
    ];
    let mut dice = Dice(6);
    for round in 0..200 {
        let fields = match dice.roll(2) {
            0 => serde_json::from_slice(&dice.mutate(good.as_bytes()))
                .unwrap_or_else(|_| json!({"f:a": 1})),
            _ => (0..dice.roll(60))
                .fold(json!({}), |below, _| json!({ (*dice.pick(&steps)): below })),
        };
        let managers = json!([{"manager": "m", "operation": *dice.pick(&["Apply", "Update", "x"]), "apiVersion": *dice.pick(&["v1", "", "a/b/c"]), "fieldsType": "FieldsV1", "fieldsV1": fields}]);
        let mut object: Value = serde_json::from_str(&config_map("m", "1")).expect("JSON");
        object["metadata"]["managedFields"] = managers;
        let line = match round % 3 {
            0 => format!("POST {MAPS}"),
            1 => format!("PUT {MAPS}/m"),
            _ => format!("PATCH {MAPS}/m?fieldManager=m"),
        };
        let kind = if round % 3 == 2 {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        survives(
            &cluster,
            &line,
            &[("content-type", kind)],
            &object.to_string(),
        )
        .await;
        let metadata = object["metadata"].as_object_mut().expect("an object");
        metadata.remove("managedFields");
        let body = dice.mutate(object.to_string().as_bytes());
        let line = format!("PATCH {MAPS}/m?fieldManager=n&force=true");
        let body = String::from_utf8_lossy(&body).into_owned();
        survives(
            &cluster,
            &line,
            &[("content-type", "application/apply-patch+yaml")],
            &body,
        )
        .await;
    }
}

#[tokio::test]
async fn definitions_and_rules_are_read_or_refused() {
    let cluster = Cluster::start().await;
    let json = [("content-type", "application/json")];
    let seed = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "pattern": "^(a+)+$", "enum": ["a", 1, null], "format": "date-time", "maxLength": 5, "default": "a"},
        "b": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "integer", "default": 1}}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]},
        "c": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true},
        "d": {"type": "object", "additionalProperties": {"type": "number", "multipleOf": 0.1, "minimum": -1e300}},
        "e": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-embedded-resource": true},
        "f": {"$ref": "#/definitions/x"},
    }, "x-kubernetes-validations": [{"rule": "self.a == 'a'", "messageExpression": "'x' + self.a", "fieldPath": ".a"}]});
    let seed = seed.to_string();
    let mut dice = Dice(7);
    for _ in 0..250 {
        let Ok(mutant) = serde_json::from_slice::<Value>(&dice.mutate(seed.as_bytes())) else {
            continue;
        };
        let body = definition(json!({"schema": schema(mutant)})).to_string();
        survives(
            &cluster,
            &format!("POST {DEFINITIONS}?dryRun=All"),
            &json,
            &body,
        )
        .await;
    }
    let nested = |open: &str, close: &str, count: usize| {
        format!("{}self.n{} == 1", open.repeat(count), close.repeat(count))
    };
    let mut rules = vec![
        nested("(", ")", 40),
        nested("(", ")", 3_000),
        nested("-", "", 3_000),
        nested("[", "][0]", 40),
        nested("size('a') + ", "", 900),
        "self.l.all(a, self.l.all(b, self.l.all(c, self.l.all(d, a + b + c + d != ''))))".to_owned(),
        "self.l.map(a, self.l.map(b, self.l.map(c, a + b + c))).size() > 0".to_owned(),
        "self.s.matches('(a*)*(b*)*(c*)*$')".to_owned(),
        "self.s.matches('(((a{1,100}){1,100}){1,100})')".to_owned(),
        "self.n / 0 == 1 || self.n % 0 == 1".to_owned(),
        "9223372036854775807 + self.n > 0 && -(-9223372036854775807 - 1) > 0".to_owned(),
        "self.l[self.n] == 'a' && self.l[-1] == 'a'".to_owned(),
        "duration('99999999999h') > duration('-1ns') && timestamp('9999-99-99T00:00:00Z') > timestamp('0')".to_owned(),
        "has(self.s.t) && has(self)".to_owned(),
        "[1, 'a', null, {1: 2}].exists_one(x, x == self)".to_owned(),
        "'\\u{110000}' == '\\x00' || b'\\xff' == b''".to_owned(),
        "self.s.replace('', self.s).split('').join(self.s).size() > 1".to_owned(),
        "oldSelf.n == self.n".to_owned(),
    ];
    let good = "self.l.exists(x, x.startsWith('a') && size(x) < 9) ? self.n in [1, 2u, -3] : has(self.s) && self.s.matches('^a+$')";
    rules.extend(
        (0..250).map(|_| String::from_utf8_lossy(&dice.mutate(good.as_bytes())).into_owned()),
    );
    let mut held = 0;
    for rule in rules {
        let spec = json!({"type": "object", "properties": {
            "l": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}},
            "n": {"type": "integer"},
            "s": {"type": "string", "maxLength": 20},
        }, "x-kubernetes-validations": [{"rule": rule}]});
        let body = definition(json!({"schema": schema(spec)})).to_string();
        let line = format!("POST {DEFINITIONS}");
        if held < 3 && survives(&cluster, &line, &json, &body).await == 201 {
            held += 1;
            cluster
                .until(&format!("GET {CRONTABS}"), |list| {
                    list["kind"] == "CronTabList"
                })
                .await;
            let spec = json!({"l": vec!["aaaaaaaaaa"; 10], "n": i64::MIN, "s": "a".repeat(20)});
            survives(&cluster, &format!("POST {CRONTABS}"), &json, &crontab(spec)).await;
            let name = format!("{DEFINITIONS}/crontabs.stable.example.com");
            cluster.ok(&format!("DELETE {name}"), "").await;
            cluster
                .until(&format!("GET {name}"), |found| found["code"] == 404)
                .await;
        } else {
            let line = format!("{line}?dryRun=All");
            survives(&cluster, &line, &json, &body).await;
        }
    }
    assert!(held > 0, "no rule is taken");
}

#[tokio::test]
async fn whatever_a_webhook_answers_the_request_is_answered() {
    let answers = [
        json!(null),
        json!({}),
        json!({"allowed": "yes"}),
        json!({"allowed": 1}),
        json!({"allowed": true, "patchType": "JSONPatch"}),
        json!({"allowed": true, "patch": "AA=="}),
        json!({"allowed": true, "patchType": "JSONPatch", "patch": "%%%"}),
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode("[".repeat(50_000))}),
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(r#"[{"op":"remove","path":""}]"#)}),
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(r#"[{"op":"replace","path":"","value":[]}]"#)}),
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(r#"[{"op":"replace","path":"/metadata/name","value":"b"}]"#)}),
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(r#"[{"op":"replace","path":"/kind","value":"Pod"}]"#)}),
        json!({"allowed": false, "status": {"code": 99_999, "message": "x\r\n\u{0}"}}),
        json!({"allowed": false, "status": {"code": -1, "reason": {}, "details": []}}),
        json!({"allowed": false, "status": []}),
        json!({"allowed": true, "warnings": ["\r\nx: y", "\u{0}", "ä", {}]}),
        json!({"allowed": true, "warnings": ["\r\nx: y", "\u{0}", "ä"], "auditAnnotations": {"": 1}}),
    ];
    let given = answers.clone();
    let hooks = Hooks::start(move |_, request| {
        let name = request["object"]["metadata"]["name"].as_str()?;
        let place: usize = name.trim_start_matches('a').parse().ok()?;
        given.get(place).cloned()
    })
    .await;
    for kind in ["mutating", "validating"] {
        let cluster = Cluster::start().await;
        let configuration =
            json!({"metadata": {"name": "h"}, "webhooks": [hooks.hook("h", json!({}))]});
        let plural = format!("{kind}webhookconfigurations");
        cluster
            .plant("admissionregistration.k8s.io", &plural, &configuration)
            .await;
        cluster.ok(&format!("GET {MAPS}"), "").await;
        for (place, answer) in answers.iter().enumerate() {
            let body = config_map(&format!("a{place}"), "1").into_bytes();
            let line = format!("POST {MAPS}");
            let (code, text) = send(
                &cluster,
                &line,
                &[("content-type", "application/json")],
                body,
            )
            .await;
            // A webhook that cannot be understood has failed, which is a 500 in Kubernetes, too.
            assert!(
                code < 500 || text.contains("webhook"),
                "{kind} {answer}: {code} {text}"
            );
        }
    }
}

#[tokio::test]
async fn an_object_that_its_defaults_make_too_large_is_refused() {
    let mut config = config();
    config.limits.body_bytes = 64 * 1024;
    let cluster = Cluster::start_with(config).await;
    let containers = |count: usize| {
        let containers =
            (0..count).map(|number| json!({"name": format!("c{number}"), "image": "i"}));
        json!({"metadata": {"name": "p"}, "spec": {"containers": containers.collect::<Vec<_>>()}})
            .to_string()
    };
    let (fits, grows) = (containers(100), containers(1_000));
    assert!(
        grows.len() < 64 * 1024,
        "the body itself is no larger than allowed"
    );
    let template = |body: &str| {
        let pod: Value = serde_json::from_str(body).expect("JSON");
        json!({
            "metadata": {"name": "d"},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod["spec"]},
            },
        })
        .to_string()
    };
    let (small, large) = (template(&fits), template(&grows));
    cluster.ok(&format!("POST {PODS}"), &fits).await;
    cluster.ok(&format!("POST {DEPLOYMENTS}"), &small).await;
    for (line, body) in [
        (format!("POST {PODS}"), &grows),
        (format!("POST {DEPLOYMENTS}"), &large),
        (format!("PUT {DEPLOYMENTS}/d"), &large),
        (format!("PATCH {DEPLOYMENTS}/d"), &large),
    ] {
        let reply = cluster.send(&line, body).await;
        assert_eq!(reply.code, 413, "{line}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_hundred_thousand_containers_are_answered_in_time() {
    let cluster = Cluster::start().await;
    let containers: Vec<_> = (0..100_000).map(|_| json!({"name": "c"})).collect();
    let body = json!({"metadata": {"name": "p"}, "spec": {"containers": containers}}).to_string();
    survives(&cluster, &format!("POST {PODS}"), &[], &body).await;
}

#[tokio::test]
async fn expressions_are_bounded_by_their_bytes() {
    let cluster = Cluster::start().await;
    let long = format!("self.a == '{}'", "x".repeat(15_000));
    let rules = |count: usize| {
        let rules = vec![json!({"rule": long}); count];
        let schema = schema(json!({
            "type": "object",
            "properties": {"a": {"type": "string", "maxLength": 10}},
            "x-kubernetes-validations": rules,
        }));
        definition(json!({"schema": schema})).to_string()
    };
    let line = format!("POST {DEFINITIONS}");
    let refused = cluster.failure(&line, &rules(200)).await;
    assert!(
        refused.contains("the expressions of a version may have at most 262144 bytes together"),
        "{refused}"
    );
    cluster.ok(&line, &rules(10)).await;
}
