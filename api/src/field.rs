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

impl FieldError {
    /// About how long it is. What is not a text has at most [`MOST_SHOWN`] bytes.
    fn bytes(&self) -> usize {
        let value = match &self.value {
            Value::String(text) => text.len(),
            Value::Array(_) | Value::Object(_) => MOST_SHOWN,
            _ => 0,
        };
        self.path.0.len() + self.detail.len() + value
    }
}

/// A value, cut where nobody would read on.
fn shown(value: Value) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) => {
            let mut text = value.to_string();
            if text.len() <= MOST_SHOWN {
                return value;
            }
            text.truncate(text.floor_char_boundary(MOST_SHOWN));
            text.push('…');
            text.into()
        }
        value => value,
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message())
    }
}

/// How much is told of one object: a hostile one cannot make its answer much larger than itself.
const MOST_ERRORS: usize = 500;
const MOST_BYTES: usize = 1024 * 1024;
/// A list or an object is shown as it is up to this many bytes.
const MOST_SHOWN: usize = 16 * 1024;

/// Everything wrong with an object, gathered so that the user sees all of it at once.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// Adds one, unless there are too many.
    pub fn push(&mut self, path: &Path, cause: Cause, value: Value, detail: impl Into<String>) {
        if self.0.len() < MOST_ERRORS
            && self.0.iter().map(FieldError::bytes).sum::<usize>() < MOST_BYTES
        {
            self.0.push(FieldError {
                path: path.clone(),
                cause,
                value: shown(value),
                detail: detail.into(),
            });
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_told_of_a_hostile_object_is_bounded() {
        let mut errors = FieldErrors::default();
        let list = Value::from(vec!["x"; 100_000]);
        for index in 0..2_000 {
            errors.invalid(&Path::root("spec").index(index), list.clone(), "odd");
        }
        assert!(errors.0.len() < 100, "{}", errors.0.len());
        assert!(
            errors.0[0]
                .value
                .as_str()
                .is_some_and(|text| text.ends_with('…'))
        );
        let mut errors = FieldErrors::default();
        for index in 0..2_000 {
            errors.invalid(&Path::root("spec").index(index), json!([1]), "odd");
        }
        assert_eq!(errors.0[0].value, json!([1]));
        assert!(errors.0.len() <= MOST_ERRORS);
    }
}
