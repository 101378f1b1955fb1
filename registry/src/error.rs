//! Refusals, with the specification's codes and bodies.
//!
//! A client reads `{"errors": [{"code", "message", "detail"}]}`. What is our own fault is logged here, once, and told
//! without particulars.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{access::Unavailable, digest::Digest, name::Repository};

/// Why a request was not done.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// The caller must change something.
    #[error("{message}")]
    Refused {
        /// Which of the specification's codes it is.
        code: Code,
        /// In words for the caller.
        message: String,
        /// What it is about.
        detail: Value,
    },
    /// The object store failed.
    #[error("the registry's storage failed")]
    Storage(#[from] object_store::Error),
    /// The cluster could not be asked.
    #[error("the cluster cannot be asked")]
    Cluster(#[from] Unavailable),
}

/// The specification's codes, each with its status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the specification says what they mean")]
pub enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    /// A body of another length than it said.
    SizeInvalid,
    /// A body of more than is taken.
    TooLarge,
    /// A chunk that does not follow the last one, or a part that is not there.
    RangeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
}

impl Code {
    fn parts(self) -> (&'static str, StatusCode) {
        match self {
            Code::BlobUnknown => ("BLOB_UNKNOWN", StatusCode::NOT_FOUND),
            Code::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", StatusCode::BAD_REQUEST),
            Code::BlobUploadUnknown => ("BLOB_UPLOAD_UNKNOWN", StatusCode::NOT_FOUND),
            Code::DigestInvalid => ("DIGEST_INVALID", StatusCode::BAD_REQUEST),
            Code::ManifestBlobUnknown => ("MANIFEST_BLOB_UNKNOWN", StatusCode::NOT_FOUND),
            Code::ManifestInvalid => ("MANIFEST_INVALID", StatusCode::BAD_REQUEST),
            Code::ManifestUnknown => ("MANIFEST_UNKNOWN", StatusCode::NOT_FOUND),
            Code::NameInvalid => ("NAME_INVALID", StatusCode::BAD_REQUEST),
            Code::NameUnknown => ("NAME_UNKNOWN", StatusCode::NOT_FOUND),
            Code::SizeInvalid => ("SIZE_INVALID", StatusCode::BAD_REQUEST),
            Code::TooLarge => ("SIZE_INVALID", StatusCode::PAYLOAD_TOO_LARGE),
            Code::RangeInvalid => ("BLOB_UPLOAD_INVALID", StatusCode::RANGE_NOT_SATISFIABLE),
            Code::Unauthorized => ("UNAUTHORIZED", StatusCode::UNAUTHORIZED),
            Code::Denied => ("DENIED", StatusCode::FORBIDDEN),
            Code::Unsupported => ("UNSUPPORTED", StatusCode::METHOD_NOT_ALLOWED),
            Code::TooManyRequests => ("TOOMANYREQUESTS", StatusCode::TOO_MANY_REQUESTS),
        }
    }
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>, detail: Value) -> Error {
        Error::Refused {
            code,
            message: message.into(),
            detail,
        }
    }

    pub(crate) fn blob_unknown(repository: &Repository, digest: &Digest) -> Error {
        Error::new(
            Code::BlobUnknown,
            format!("blob {digest} is not in repository {repository}"),
            json!({"name": repository.as_str(), "digest": digest.to_string()}),
        )
    }

    pub(crate) fn manifest_unknown(repository: &Repository, reference: &str) -> Error {
        Error::new(
            Code::ManifestUnknown,
            format!("manifest {reference} is not in repository {repository}"),
            json!({"name": repository.as_str(), "reference": reference}),
        )
    }

    pub(crate) fn name_unknown(repository: &Repository, message: String) -> Error {
        Error::new(
            Code::NameUnknown,
            message,
            json!({"name": repository.as_str()}),
        )
    }

    pub(crate) fn upload_unknown(id: &str) -> Error {
        Error::new(
            Code::BlobUploadUnknown,
            format!("upload {id:?} is not known: it was finished, cancelled or too old"),
            json!({"uuid": id}),
        )
    }

    pub(crate) fn size(said: u64, got: u64) -> Error {
        Error::new(
            Code::SizeInvalid,
            format!("the body was to be {said} bytes, and {got} came"),
            json!({"said": said, "received": got}),
        )
    }

    /// Which of the codes it is, if it is a refusal.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            Error::Storage(_) | Error::Cluster(_) => None,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Error::Refused { code, .. } => code.parts().1,
            Error::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Error::Cluster(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (code, detail) = match &self {
            Error::Refused { code, detail, .. } => (code.parts().0, detail.clone()),
            Error::Storage(error) => {
                tracing::error!(error = %error, "the registry's storage failed");
                ("UNKNOWN", Value::Null)
            }
            Error::Cluster(error) => {
                tracing::warn!(error = %error, "the registry could not ask the cluster");
                ("UNAVAILABLE", Value::Null)
            }
        };
        let error = json!({"code": code, "message": self.to_string(), "detail": detail});
        (self.status(), Json(json!({"errors": [error]}))).into_response()
    }
}
