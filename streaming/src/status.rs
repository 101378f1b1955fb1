//! How a command's end is told: `v1.Status` as the kubelet writes it, or its message alone to old clients.

use serde::Serialize;

/// The parts of `v1.Status` that an end needs, in the order that Kubernetes writes them.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Status {
    metadata: Empty,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
struct Empty {}

#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
struct Details {
    causes: [Cause; 1],
}

#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
struct Cause {
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    message: String,
}

impl Status {
    /// It ended well.
    pub(crate) fn success() -> Status {
        Status {
            metadata: Empty {},
            status: "Success",
            message: String::new(),
            reason: "",
            details: None,
            code: None,
        }
    }

    /// A command ended by itself with another code than 0.
    pub(crate) fn exit(command: &[String], code: i32) -> Status {
        let command = command.join(" ");
        let message = format!(
            "command terminated with non-zero exit code: error executing command [{command}], exit code {code}"
        );
        let cause = Cause {
            reason: "ExitCode",
            message: code.to_string(),
        };
        Status::failure("NonZeroExitCode", message, cause, None)
    }

    /// It could not be done.
    pub(crate) fn internal(message: String) -> Status {
        let cause = Cause {
            reason: "",
            message: message.clone(),
        };
        let message = format!("Internal error occurred: {message}");
        Status::failure("InternalError", message, cause, Some(500))
    }

    fn failure(reason: &'static str, message: String, cause: Cause, code: Option<u16>) -> Status {
        Status {
            metadata: Empty {},
            status: "Failure",
            message,
            reason,
            details: Some(Details { causes: [cause] }),
            code,
        }
    }

    /// For clients from protocol 4 on: JSON.
    pub(crate) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a status is only text and numbers")
    }

    /// For older clients: the message; nothing if it ended well.
    pub(crate) fn text(&self) -> &str {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(status: &Status, expected: Expect) {
        expected.assert_eq(&String::from_utf8(status.json()).unwrap());
    }

    #[test]
    fn an_end_is_told_as_the_kubelet_tells_it() {
        check(
            &Status::success(),
            expect![[r#"{"metadata":{},"status":"Success"}"#]],
        );
        let command = ["sh".to_owned(), "-c".to_owned(), "exit 7".to_owned()];
        check(
            &Status::exit(&command, 7),
            expect![[
                r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: error executing command [sh -c exit 7], exit code 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#
            ]],
        );
        check(
            &Status::internal("no".to_owned()),
            expect![[
                r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: no","reason":"InternalError","details":{"causes":[{"message":"no"}]},"code":500}"#
            ]],
        );
    }
}
