//! The query of a request: typed reads that say which parameter is wrong.

use axum::extract;
use http::Uri;

use crate::error::Error;

/// A request's query parameters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// What happens to fields that no schema knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl Query {
    pub(crate) fn read(uri: &Uri) -> Result<Self, Error> {
        extract::Query::try_from_uri(uri)
            .map(|extract::Query(pairs)| Self(pairs))
            .map_err(|error| Error::BadRequest(format!("the query cannot be read: {error}")))
    }

    /// A parameter's first value; an empty one is as good as none.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.first(name).filter(|value| !value.is_empty())
    }

    /// Every value of a parameter, in order.
    pub(crate) fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.0.iter().filter(move |(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn first(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.first(name) {
            None => Ok(None),
            // As Kubernetes reads them: whatever is not false is true.
            Some(value) => Ok(Some(value != "0" && !value.eq_ignore_ascii_case("false"))),
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Error> {
        self.text(name)
            .map(|value| {
                value.parse().map_err(|_| {
                    Error::BadRequest(format!(
                        "{name}: Invalid value: {value:?}: must be an integer"
                    ))
                })
            })
            .transpose()
    }

    /// A revision; `None` if it is not given. 0 means "any".
    pub(crate) fn revision(&self) -> Result<Option<u64>, Error> {
        self.text("resourceVersion")
            .map(|value| {
                value.parse().map_err(|_| {
                    Error::BadRequest(format!(
                        "resourceVersion: Invalid value: {value:?}: must be a number that this server gave"
                    ))
                })
            })
            .transpose()
    }

    pub(crate) fn field_validation(&self) -> Result<FieldValidation, Error> {
        match self.text("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => Err(Error::BadRequest(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }

    pub(crate) fn dry_run(&self) -> Result<bool, Error> {
        let mut dry = false;
        for (_, value) in self.0.iter().filter(|(key, _)| key == "dryRun") {
            match value.as_str() {
                "All" => dry = true,
                "" => {}
                other => {
                    return Err(Error::BadRequest(format!(
                        "dryRun: Unsupported value: {other:?}: supported values: \"All\""
                    )));
                }
            }
        }
        Ok(dry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::read(&format!("/?{text}").parse().expect("a path")).expect("a query")
    }

    #[test]
    fn values_are_decoded_and_empty_ones_are_absent() {
        let query = query("labelSelector=a%3Db%2Cc&fieldSelector=&limit=5");
        assert_eq!(query.text("labelSelector"), Some("a=b,c"));
        assert_eq!(query.text("fieldSelector"), None);
        assert_eq!(query.integer("limit").expect("an integer"), Some(5));
    }

    #[test]
    fn whatever_is_not_false_is_true() {
        let flag = |text: &str| query(text).flag("tty").expect("a flag");
        for text in ["tty=false", "tty=False", "tty=0"] {
            assert_eq!(flag(text), Some(false), "{text}");
        }
        for text in ["tty=true", "tty=1", "tty"] {
            assert_eq!(flag(text), Some(true), "{text}");
        }
        assert_eq!(flag(""), None);
    }

    #[test]
    fn wrong_values_name_their_parameter() {
        for (text, name) in [
            ("limit=x", "limit"),
            ("resourceVersion=-1", "resourceVersion"),
        ] {
            let query = query(text);
            let error = query
                .integer("limit")
                .and(query.revision())
                .expect_err("an error");
            assert!(error.to_string().starts_with(name), "{error}");
        }
        assert!(query("fieldValidation=strict").field_validation().is_err());
        assert!(query("dryRun=Some").dry_run().is_err());
        assert!(query("dryRun=All").dry_run().expect("valid"));
    }
}
