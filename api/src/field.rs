//! Paths into an object and what is wrong at them, in the words that `kubectl` users know.
//!
//! Pure. The texts follow Kubernetes' field errors: `spec.replicas: Invalid value: -1: must be …`.

use serde_json::Value;

/// A path into an object: `spec.containers[0].name`, `metadata.labels[a/b]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Path(String);

impl Path {
    /// The path of a top-level field.
    pub fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A field below this one.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }

    /// An item of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What sort of wrong; `reason` is the `StatusCause` reason on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    Required,
    Invalid,
    NotSupported,
    Forbidden,
    Duplicate,
    TooLong,
    TooMany,
    NotFound,
    TypeInvalid,
}

/// One thing wrong with an object.
#[derive(Clone, PartialEq, Debug)]
pub struct FieldError {
    pub path: Path,
    pub cause: Cause,
    /// What stands there; `Null` when there is nothing to show.
    pub value: Value,
    pub detail: String,
}

impl Cause {
    /// As in `StatusCause.reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
        }
    }
}

impl FieldError {
    /// The text without the path, as in `StatusCause.message`.
    pub fn message(&self) -> String {
        let shown = matches!(
            self.cause,
            Cause::Invalid
                | Cause::TypeInvalid
                | Cause::NotSupported
                | Cause::Duplicate
                | Cause::NotFound
        ) || (self.cause == Cause::TooMany && !self.value.is_null());
        let mut text = self.cause.title().to_owned();
        if shown {
            text.push_str(": ");
            text.push_str(&self.value.to_string());
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message())
    }
}

/// Everything wrong with an object, gathered so that the user sees all of it at once.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// Adds one.
    pub fn push(&mut self, path: &Path, cause: Cause, value: Value, detail: impl Into<String>) {
        self.0.push(FieldError {
            path: path.clone(),
            cause,
            value,
            detail: detail.into(),
        });
    }

    /// A field that must be there.
    pub fn required(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Cause::Required, Value::Null, detail);
    }

    /// A value that cannot be.
    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(path, Cause::Invalid, value.into(), detail);
    }

    /// A value outside a closed set.
    pub fn not_supported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        let list: Vec<_> = supported.iter().map(|s| format!("{s:?}")).collect();
        self.push(
            path,
            Cause::NotSupported,
            value.into(),
            format!("supported values: {}", list.join(", ")),
        );
    }

    /// A value that may not stand there.
    pub fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Cause::Forbidden, Value::Null, detail);
    }

    /// True if nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
