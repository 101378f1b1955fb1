//! AdmissionReviews: what a webhook is asked, and what it answers. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{admission::Review, error::Error, kinds::Names};

const VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A question.
pub(super) struct Asked<'a> {
    review: &'a Review<'a>,
    /// Of the version that the webhook wants to see.
    names: &'a Names,
    object: Value,
    old: Value,
    pub(super) uid: String,
}

impl<'a> Asked<'a> {
    pub(super) fn new(review: &'a Review<'a>, names: &'a Names, object: Value, old: Value) -> Self {
        Self {
            review,
            names,
            object,
            old,
            uid: uuid::Uuid::new_v4().to_string(),
        }
    }

    /// The whole body.
    pub(super) fn review(&self) -> Value {
        json!({"kind": KIND, "apiVersion": VERSION, "request": self.request()})
    }

    /// What conditions see of it, too.
    pub(super) fn request(&self) -> Value {
        let review = self.review;
        let own = review.own_kind();
        let kind = |names: &Names| match own {
            Some([group, version, kind]) => {
                json!({"group": group, "version": version, "kind": kind})
            }
            None => json!({"group": names.group, "version": names.version, "kind": names.kind}),
        };
        let resource = |names: &Names| json!({"group": names.group, "version": names.version, "resource": names.plural});
        let asked = review.call.resource.names();
        let mut request = json!({
            "uid": self.uid,
            "kind": kind(self.names),
            "resource": resource(self.names),
            "requestKind": kind(asked),
            "requestResource": resource(asked),
            "name": review.name,
            "namespace": review.namespace(),
            "operation": review.operation.name(),
            "userInfo": user(review),
            "object": self.object,
            "oldObject": self.old,
            "dryRun": review.dry_run,
            "options": review.options,
        });
        if !review.subresource.is_empty() {
            request["subResource"] = review.subresource.into();
            request["requestSubResource"] = review.subresource.into();
        }
        request
    }
}

fn user(review: &Review<'_>) -> Value {
    let user = &review.call.user;
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// What a webhook answered.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    allowed: bool,
    status: Value,
    /// A JSON patch that is not empty.
    pub(super) patch: Option<Value>,
    pub(super) warnings: Vec<String>,
}

/// Reads an answer to the question `uid`; only one to a mutating webhook may hold a patch.
pub(super) fn read(answer: &Value, uid: &str, mutating: bool) -> Result<Answer, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if answer["kind"] != KIND || answer["apiVersion"] != VERSION {
        return Err(format!(
            "expected webhook response of {VERSION}, Kind={KIND}, got {}, Kind={}",
            text(&answer["apiVersion"]),
            text(&answer["kind"])
        ));
    }
    let response = &answer["response"];
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    if response["uid"] != uid {
        return Err(format!(
            "expected response.uid={uid:?}, got {:?}",
            text(&response["uid"])
        ));
    }
    let Some(allowed) = response["allowed"].as_bool() else {
        return Err("response.allowed must be true or false".to_owned());
    };
    let patch = text(&response["patch"]);
    let patch_type = text(&response["patchType"]);
    let patch = match (patch.is_empty(), patch_type.is_empty()) {
        (true, true) => None,
        (true, false) => {
            return Err("webhook returned response.patchType but not response.patch".to_owned());
        }
        (false, true) => {
            return Err("webhook returned response.patch but not response.patchType".to_owned());
        }
        (false, false) if !mutating => {
            return Err("a validating webhook may not return response.patch".to_owned());
        }
        (false, false) if patch_type != "JSONPatch" => {
            return Err(format!(
                "webhook returned invalid response.patchType of {patch_type:?}"
            ));
        }
        (false, false) => Some(decode(&patch)?),
    };
    let warnings = response["warnings"].as_array().into_iter().flatten();
    Ok(Answer {
        allowed,
        status: response["status"].clone(),
        patch: patch.filter(|patch| *patch != json!([])),
        warnings: warnings
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    })
}

fn decode(patch: &str) -> Result<Value, String> {
    let bytes = STANDARD
        .decode(patch)
        .map_err(|error| format!("response.patch: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("response.patch: {error}"))
}

impl Answer {
    /// The error that a refusal is for the client, in the webhook's own words.
    pub(super) fn denial(&self, name: &str) -> Option<Error> {
        if self.allowed {
            return None;
        }
        let status = &self.status;
        let text = |field: &str| status[field].as_str().filter(|text| !text.is_empty());
        let denied = format!("admission webhook {name:?} denied the request");
        let code = status["code"]
            .as_u64()
            .and_then(|code| u16::try_from(code).ok())
            .and_then(|code| StatusCode::from_u16(code).ok())
            .filter(|code| code.is_client_error() || code.is_server_error());
        Some(Error::Refused {
            code: code.unwrap_or(StatusCode::BAD_REQUEST),
            message: match text("message").or(text("reason")) {
                Some(why) => format!("{denied}: {why}"),
                None => format!("{denied} without explanation"),
            },
            reason: text("reason").unwrap_or_default().to_owned(),
            details: status["details"].clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(response: Value, expected: Expect) {
        let answer = json!({"kind": KIND, "apiVersion": VERSION, "response": response});
        expected.assert_eq(&match read(&answer, "1", true) {
            Err(error) => error,
            Ok(answer) => match answer.denial("w") {
                Some(error) => error.status().to_string(),
                None => format!("{:?} {:?}", answer.patch, answer.warnings),
            },
        });
    }

    #[test]
    fn an_answer_is_to_the_question() {
        check(
            json!({"uid": "2", "allowed": true}),
            expect![[r#"expected response.uid="1", got "2""#]],
        );
        check(
            json!({"uid": "1"}),
            expect!["response.allowed must be true or false"],
        );
        check(Value::Null, expect!["webhook response was absent"]);
        let answer = json!({"kind": KIND, "apiVersion": "admission.k8s.io/v1beta1"});
        assert!(read(&answer, "1", true).is_err());
    }

    #[test]
    fn a_patch_is_a_json_patch() {
        let patch = STANDARD.encode(r#"[{"op":"remove","path":"/a"}]"#);
        check(
            json!({"uid": "1", "allowed": true, "patch": patch, "patchType": "JSONPatch", "warnings": ["w"]}),
            expect![[
                r#"Some(Array [Object {"op": String("remove"), "path": String("/a")}]) ["w"]"#
            ]],
        );
        check(
            json!({"uid": "1", "allowed": true, "patch": patch}),
            expect!["webhook returned response.patch but not response.patchType"],
        );
        check(
            json!({"uid": "1", "allowed": true, "patch": patch, "patchType": "Merge"}),
            expect![[r#"webhook returned invalid response.patchType of "Merge""#]],
        );
        check(
            json!({"uid": "1", "allowed": true, "patch": "!", "patchType": "JSONPatch"}),
            expect!["response.patch: Invalid symbol 33, offset 0."],
        );
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        check(
            json!({"uid": "1", "allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "no"}}),
            expect![[
                r#"{"apiVersion":"v1","code":403,"kind":"Status","message":"admission webhook \"w\" denied the request: no","metadata":{},"reason":"Forbidden","status":"Failure"}"#
            ]],
        );
        check(
            json!({"uid": "1", "allowed": false, "status": {"code": 200}}),
            expect![[
                r#"{"apiVersion":"v1","code":400,"kind":"Status","message":"admission webhook \"w\" denied the request without explanation","metadata":{},"status":"Failure"}"#
            ]],
        );
    }
}
