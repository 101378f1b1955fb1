//! What can go wrong with a request, and the `Status` that tells the client.
//!
//! The only place that chooses codes, reasons and details (Kubernetes' `metav1.Status`). A 5xx says
//! nothing private to the client; its whole chain goes to the log, once, here.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use store::{Revision, StoreError};

use crate::{
    auth::{Attributes, Decision, User, authorizer::Target},
    field::{FieldError, FieldErrors},
    kinds::Names,
};

/// A boxed cause of an internal error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// What an error is about: a resource, and one object of it if the name is not empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subject {
    pub group: &'static str,
    /// Plural, with the subresource if there is one: `pods/binding`.
    pub resource: &'static str,
    /// The kind's own name, for errors that speak of it.
    pub kind: &'static str,
    pub name: String,
}

impl Subject {
    /// An object of a kind.
    pub fn new(names: &Names, name: &str) -> Self {
        Self {
            group: names.group,
            resource: names.plural,
            kind: names.kind,
            name: name.to_owned(),
        }
    }

    fn qualified(&self, word: &str) -> String {
        if self.group.is_empty() {
            word.to_owned()
        } else {
            format!("{word}.{}", self.group)
        }
    }

    fn details(&self, word: &str) -> Map<String, Value> {
        let mut details = Map::new();
        for (key, text) in [
            ("name", self.name.as_str()),
            ("group", self.group),
            ("kind", word),
        ] {
            if !text.is_empty() {
                details.insert(key.to_owned(), text.into());
            }
        }
        details
    }
}

/// What the authorizer refused: of a resource, or of a path if that is empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Denial {
    group: String,
    /// Plural, without a subresource.
    resource: String,
    name: String,
    message: String,
}

impl Denial {
    /// The refusal of a question, in Kubernetes' words.
    pub(crate) fn of(asked: &Attributes<'_>, user: &User, decision: &Decision) -> Self {
        let mut message = asked.refusal(user);
        if !decision.reason.is_empty() {
            message.push_str(": ");
            message.push_str(&decision.reason);
        }
        match asked.target {
            Target::Path(_) => Self {
                message,
                ..Self::default()
            },
            Target::Resource(resource) => Self {
                group: resource.group.to_owned(),
                resource: resource.resource.to_owned(),
                name: resource.name.to_owned(),
                message,
            },
        }
    }

    fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.resource.clone(),
            group => format!("{}.{group}", self.resource),
        }
    }
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let message = &self.message;
        match (self.resource.as_str(), self.name.as_str()) {
            ("", _) => write!(f, "forbidden: {message}"),
            (_, "") => write!(f, "{} is forbidden: {message}", self.qualified()),
            (_, name) => write!(f, "{} {name:?} is forbidden: {message}", self.qualified()),
        }
    }
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        Self::Denied(Box::new(denial))
    }
}

/// Why a request failed, by what the client does next.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("Unauthorized")]
    Unauthorized,
    #[error("{0}")]
    Denied(Box<Denial>),
    #[error("{} is forbidden: {message}", object_text(subject))]
    Forbidden {
        subject: Subject,
        message: String,
        /// `StatusCause` reason, message and field, if there is one.
        cause: Option<Box<(&'static str, String, &'static str)>>,
    },
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    #[error("{} not found", object_text(.0))]
    NotFound(Subject),
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    #[error("{} already exists", object_text(.0))]
    AlreadyExists(Subject),
    #[error("Operation cannot be fulfilled on {}: {message}", object_text(subject))]
    Conflict { subject: Subject, message: String },
    /// An apply wants fields otherwise that others own.
    #[error("{message}")]
    ApplyConflict {
        message: String,
        /// Manager and field, one pair for each field.
        causes: Vec<(String, String)>,
    },
    #[error("{}", invalid_text(subject, errors))]
    Invalid {
        subject: Subject,
        errors: FieldErrors,
    },
    /// A patch that is well-formed but cannot be carried out.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Unprocessable(String),
    #[error("{0}")]
    BadRequest(String),
    #[error(
        "only the following media types are accepted: application/json, application/json;as=Table;v=v1;g=meta.k8s.io, application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io, application/yaml"
    )]
    NotAcceptable,
    #[error("{0}")]
    UnsupportedMediaType(String),
    #[error("Request entity too large: limit is {limit}")]
    TooLarge { limit: usize },
    /// What is asked for is not kept any more.
    #[error("{message}")]
    Expired {
        message: String,
        /// The `continue` token that a list goes on with from another state, if it is a list's.
        next: Option<String>,
    },
    #[error("Too large resource version: {asked}, current: {current}")]
    FutureRevision { asked: Revision, current: Revision },
    #[error("Too many requests, please try again later.")]
    TooManyRequests,
    /// An eviction that a disruption budget does not allow, and why.
    #[error("Cannot evict pod as it would violate the pod's disruption budget.")]
    Disrupted {
        cause: String,
        retry_seconds: Option<u64>,
    },
    #[error("Timeout: request did not complete within the allotted timeout")]
    Timeout,
    /// Another part did not answer; the message is for the client.
    #[error("{message}")]
    Unavailable {
        message: String,
        #[source]
        source: Option<Source>,
    },
    /// A webhook that converts between versions failed; the message is for the client.
    #[error("{0}")]
    Conversion(String),
    /// A webhook said no, in its own words.
    #[error("{message}")]
    Refused {
        code: StatusCode,
        message: String,
        /// Empty if it gave none.
        reason: String,
        /// `Status.details`, or nothing.
        details: Value,
    },
    /// What the request needed failed; the message is for the client.
    #[error("Internal error occurred: {0}")]
    Failed(String),
    /// Nothing is left to give out; the message is for the client.
    #[error("Internal error occurred: {0}")]
    Exhausted(&'static str),
    /// Nobody's fault but ours; the client learns nothing of it.
    #[error("Internal error occurred")]
    Internal(#[source] Source),
}

fn object_text(subject: &Subject) -> String {
    let resource = subject.qualified(subject.resource);
    if subject.name.is_empty() {
        resource
    } else {
        format!("{resource} {:?}", subject.name)
    }
}

fn invalid_text(subject: &Subject, errors: &FieldErrors) -> String {
    let all: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    let all = match all.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    format!(
        "{} {:?} is invalid: {all}",
        subject.qualified(subject.kind),
        subject.name
    )
}

fn cause(error: &FieldError) -> Value {
    json!({
        "reason": error.cause.reason(),
        "message": error.message(),
        "field": error.path.to_string(),
    })
}

impl Error {
    /// An error of our own making.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::Internal(source.into())
    }

    /// The object changed between being read and being written.
    pub fn modified(subject: Subject) -> Self {
        Self::Conflict {
            subject,
            message: "the object has been modified; please apply your changes to the latest version and try again"
                .to_owned(),
        }
    }

    /// The HTTP status.
    pub fn code(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied(_) | Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::NoSuchPath | Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::AlreadyExists(_) | Self::Conflict { .. } | Self::ApplyConflict { .. } => {
                StatusCode::CONFLICT
            }
            Self::Invalid { .. } | Self::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Expired { .. } => StatusCode::GONE,
            Self::TooManyRequests | Self::Disrupted { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Timeout | Self::FutureRevision { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused { code, .. } => *code,
            Self::Internal(_) | Self::Exhausted(_) | Self::Failed(_) | Self::Conversion(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// `Status.reason`.
    pub fn reason(&self) -> &str {
        match self {
            Self::Unauthorized => "Unauthorized",
            Self::Denied(_) | Self::Forbidden { .. } => "Forbidden",
            Self::NoSuchPath | Self::NotFound(_) => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::AlreadyExists(_) => "AlreadyExists",
            Self::Conflict { .. } | Self::ApplyConflict { .. } => "Conflict",
            Self::Invalid { .. } | Self::Unprocessable(_) => "Invalid",
            Self::BadRequest(_) => "BadRequest",
            Self::NotAcceptable => "NotAcceptable",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::TooLarge { .. } => "RequestEntityTooLarge",
            Self::Expired { .. } => "Expired",
            Self::TooManyRequests | Self::Disrupted { .. } => "TooManyRequests",
            Self::Timeout | Self::FutureRevision { .. } => "Timeout",
            Self::Unavailable { .. } => "ServiceUnavailable",
            Self::Refused { reason, .. } => reason,
            Self::Internal(_) | Self::Exhausted(_) | Self::Failed(_) | Self::Conversion(_) => {
                "InternalError"
            }
        }
    }

    fn retry_seconds(&self) -> Option<u64> {
        match self {
            Self::TooManyRequests | Self::FutureRevision { .. } | Self::Unavailable { .. } => {
                Some(1)
            }
            Self::Disrupted { retry_seconds, .. } => *retry_seconds,
            _ => None,
        }
    }

    fn details(&self) -> Map<String, Value> {
        let mut details = match self {
            Self::Forbidden { subject, .. } | Self::Conflict { subject, .. } => {
                subject.details(subject.resource)
            }
            Self::NotFound(subject) | Self::AlreadyExists(subject) => {
                subject.details(subject.resource)
            }
            Self::Invalid { subject, .. } => subject.details(subject.kind),
            Self::Refused { details, .. } => details.as_object().cloned().unwrap_or_default(),
            Self::Denied(denial) => [
                ("name", &denial.name),
                ("group", &denial.group),
                ("kind", &denial.resource),
            ]
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(key, text)| (key.to_owned(), text.clone().into()))
            .collect(),
            _ => Map::new(),
        };
        let causes: Vec<Value> = match self {
            Self::Invalid { errors, .. } => errors.0.iter().map(cause).collect(),
            Self::ApplyConflict { causes, .. } => causes
                .iter()
                .map(|(message, field)| {
                    json!({"reason": "FieldManagerConflict", "message": message, "field": field})
                })
                .collect(),
            Self::Forbidden {
                cause: Some(cause), ..
            } => {
                let (reason, message, field) = &**cause;
                vec![json!({"reason": reason, "message": message, "field": field})]
            }
            Self::Disrupted { cause, .. } => {
                vec![json!({"reason": "DisruptionBudget", "message": cause})]
            }
            Self::FutureRevision { .. } => vec![
                json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}),
            ],
            _ => Vec::new(),
        };
        if !causes.is_empty() {
            details.insert("causes".to_owned(), causes.into());
        }
        if let Some(seconds) = self.retry_seconds() {
            details.insert("retryAfterSeconds".to_owned(), seconds.into());
        }
        details
    }

    /// The `Status` object for the client.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.to_string(),
            "code": self.code().as_u16(),
        });
        if !self.reason().is_empty() {
            status["reason"] = self.reason().into();
        }
        if let Self::Expired {
            next: Some(next), ..
        } = self
        {
            status["metadata"]["continue"] = next.as_str().into();
        }
        let details = self.details();
        if !details.is_empty() {
            status["details"] = Value::Object(details);
        }
        status
    }

    /// Writes what the client is not told into the log.
    pub fn log(&self) {
        if !self.code().is_server_error() {
            return;
        }
        let mut chain = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            source = cause.source();
        }
        match self {
            Self::Internal(_) => tracing::error!(error = %chain, "request failed"),
            // Somebody's last request in a process that ends, which was asked to or says why.
            Self::Unavailable {
                source: Some(source),
                ..
            } if matches!(
                source.downcast_ref::<StoreError>(),
                Some(StoreError::Stopped)
            ) =>
            {
                tracing::debug!(error = %chain, "request failed");
            }
            _ => tracing::warn!(error = %chain, "request failed"),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.log();
        let mut response = Response::new(Body::from(self.status().to_string()));
        *response.status_mut() = self.code();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(seconds) = self.retry_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Compacted { asked, floor } => {
Self::Expired {
                message: format!("too old resource version: {asked} ({floor})"),
                next: None,
            }
            }
            StoreError::Future { asked, current } => Self::FutureRevision { asked, current },
            StoreError::Unavailable { .. } | StoreError::Stopped => Self::Unavailable {
                message: "the object store is unavailable, please try again later".to_owned(),
                source: Some(error.into()),
            },
            StoreError::Ambiguous => Self::Unavailable {
                message: "it is not known whether the write took place: read the object before trying again"
                    .to_owned(),
                source: Some(error.into()),
            },
            StoreError::Corrupt { .. } => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::field::Path;

    fn deployment() -> Subject {
        Subject {
            group: "apps",
            resource: "deployments",
            kind: "Deployment",
            name: "web".to_owned(),
        }
    }

    #[track_caller]
    fn check(error: Error, expected: Expect) {
        expected.assert_eq(&error.status().to_string());
    }

    #[test]
    fn not_found_names_the_resource_with_its_group() {
        let status = Error::NotFound(deployment()).status();
        assert_eq!(status["message"], r#"deployments.apps "web" not found"#);
        assert_eq!(
            status["details"],
            json!({"name": "web", "group": "apps", "kind": "deployments"})
        );
        assert_eq!(status["code"], 404);
    }

    #[test]
    fn invalid_lists_every_cause() {
        let mut errors = FieldErrors::default();
        errors.invalid(
            &Path::root("spec").field("replicas"),
            -1,
            "must be greater than or equal to 0",
        );
        let status = Error::Invalid {
            subject: deployment(),
            errors,
        }
        .status();
        assert_eq!(
            status["message"],
            r#"Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"#
        );
        assert_eq!(status["details"]["kind"], "Deployment");
        assert_eq!(status["details"]["causes"][0]["field"], "spec.replicas");
        assert_eq!(status["code"], 422);
    }

    #[test]
    fn an_internal_error_tells_the_client_nothing() {
        let status = Error::internal("password is hunter2").status();
        check(
            Error::internal("password is hunter2"),
            expect![[
                r#"{"apiVersion":"v1","code":500,"kind":"Status","message":"Internal error occurred","metadata":{},"reason":"InternalError","status":"Failure"}"#
            ]],
        );
        assert!(!status.to_string().contains("hunter2"));
    }

    #[test]
    fn compacted_history_is_gone() {
        let error = Error::from(StoreError::Compacted {
            asked: Revision(3),
            floor: Revision(9),
        });
        assert_eq!(error.code(), 410);
        assert_eq!(error.to_string(), "too old resource version: 3 (9)");
    }
}
