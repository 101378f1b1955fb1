//! `ListOptions`: which state a list is of, and where a watch starts.
//!
//! Pure: the rules of Kubernetes' `resourceVersion`, `resourceVersionMatch`, `limit` and `continue`,
//! in one place and as one table. Never waits for a state and never reads one.

use super::{query::Query, token::Token};
use crate::{
    error::{Error, Subject},
    field::{FieldErrors, Path},
};

/// The state that a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Whatever is at hand.
    Any,
    /// Everything that was committed before the request came.
    Newest,
    /// That revision or a later one.
    NotOlderThan(u64),
    Exactly(u64),
}

/// What a list is of.
#[derive(Debug)]
pub(crate) struct ListOptions {
    pub(crate) state: State,
    /// Objects of a page; as many as there are if it is `usize::MAX`.
    pub(crate) limit: usize,
    /// The key that the page starts after, if it is not the first.
    pub(crate) start: Option<String>,
}

impl ListOptions {
    pub(crate) fn read(query: &Query) -> Result<Self, Error> {
        let limit = match query.integer("limit")? {
            Some(limit) if limit > 0 => usize::try_from(limit).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let revision = query.revision()?;
        let token = query.text("continue");
        check_list(query, revision, token)?;
        let Some(token) = token.map(Token::read).transpose()? else {
            let exact = query.text("resourceVersionMatch") == Some("Exact");
            // As Kubernetes has it: a page of a named revision is exactly of it.
            let paged = limit != usize::MAX && query.text("resourceVersionMatch").is_none();
            let state = match revision {
                None => State::Newest,
                Some(0) => State::Any,
                Some(revision) if exact || paged => State::Exactly(revision),
                Some(revision) => State::NotOlderThan(revision),
            };
            return Ok(Self {
                state,
                limit,
                start: None,
            });
        };
        if revision.is_some_and(|revision| revision > 0) {
            return Err(Error::BadRequest(
                "specifying resource version is not allowed when using continue".to_owned(),
            ));
        }
        Ok(Self {
            state: token.revision.map_or(State::Newest, State::Exactly),
            limit,
            start: Some(token.start),
        })
    }
}

/// What is wrong with a list's options.
fn check_list(query: &Query, revision: Option<u64>, token: Option<&str>) -> Result<(), Error> {
    let mut errors = FieldErrors::default();
    if let Some(matching) = query.text("resourceVersionMatch") {
        let path = Path::root("resourceVersionMatch");
        if revision.is_none() {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if token.is_some() {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        if !["Exact", "NotOlderThan"].contains(&matching) {
            errors.not_supported(&path, matching, &["Exact", "NotOlderThan", ""]);
        }
        if matching == "Exact" && revision == Some(0) {
            errors.forbidden(
                &path,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
    }
    if query.flag("sendInitialEvents")?.is_some() {
        errors.forbidden(
            &Path::root("sendInitialEvents"),
            "sendInitialEvents is forbidden for list",
        );
    }
    refuse(errors)
}

/// Where a watch starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WatchOptions {
    pub(crate) state: State,
    /// True if it begins with the objects that are there.
    pub(crate) initial: bool,
    /// True if the end of those is marked by a bookmark.
    pub(crate) marked: bool,
    /// True if the client understands bookmarks.
    pub(crate) bookmarks: bool,
    /// How long it lasts, if the client says.
    pub(crate) seconds: Option<u64>,
}

impl WatchOptions {
    pub(crate) fn read(query: &Query) -> Result<Self, Error> {
        let revision = query.revision()?;
        let wanted = query.flag("sendInitialEvents")?;
        let bookmarks = query.flag("allowWatchBookmarks")?.unwrap_or(false);
        check_watch(query, wanted)?;
        let seconds = query.integer("timeoutSeconds")?;
        Ok(Self {
            state: match revision {
                None => State::Newest,
                Some(0) => State::Any,
                Some(revision) => State::NotOlderThan(revision),
            },
            initial: wanted.unwrap_or(revision.unwrap_or_default() == 0),
            marked: wanted == Some(true) && bookmarks,
            bookmarks,
            seconds: seconds
                .filter(|seconds| *seconds > 0)
                .map(i64::unsigned_abs),
        })
    }
}

/// `sendInitialEvents` and `resourceVersionMatch` come together (KEP-3157).
fn check_watch(query: &Query, wanted: Option<bool>) -> Result<(), Error> {
    let mut errors = FieldErrors::default();
    let matching = query.text("resourceVersionMatch");
    let path = Path::root("resourceVersionMatch");
    if wanted.is_some() && matching != Some("NotOlderThan") {
        errors.forbidden(
            &path,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
    }
    if let Some(matching) = matching {
        if wanted.is_none() {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if matching != "NotOlderThan" {
            errors.not_supported(&path, matching, &["NotOlderThan"]);
        }
        if query.text("continue").is_some() {
            errors.forbidden(
                &path,
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
    }
    refuse(errors)
}

fn refuse(errors: FieldErrors) -> Result<(), Error> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid {
        subject: Subject {
            group: "meta.k8s.io",
            kind: "ListOptions",
            ..Default::default()
        },
        errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::read(&format!("/?{text}").parse().expect("a path")).expect("a query")
    }

    fn list(text: &str) -> String {
        match ListOptions::read(&query(text)) {
            Ok(options) => format!("{:?}", options.state),
            Err(error) => format!("{} {error}", error.code().as_u16()),
        }
    }

    /// `resourceVersion`, down, by `resourceVersionMatch`, across, as Kubernetes documents them.
    #[test]
    fn the_state_of_a_list_follows_kubernetes_table() {
        let token = Token {
            revision: Some(5),
            start: "/pods/a/b".to_owned(),
        }
        .write();
        let page = format!("continue={token}&limit=1");
        let forbidden = |why: &str| {
            format!(
                "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch {why}"
            )
        };
        let unset = forbidden("is forbidden unless resourceVersion is provided");
        let zero = forbidden("\"exact\" is forbidden for resourceVersion \"0\"");
        let both = "400 specifying resource version is not allowed when using continue";
        for (query, expected) in [
            ("", "Newest"),
            ("limit=1", "Newest"),
            ("resourceVersion=0", "Any"),
            ("resourceVersion=0&limit=1", "Any"),
            ("resourceVersion=7", "NotOlderThan(7)"),
            ("resourceVersion=7&limit=1", "Exactly(7)"),
            ("resourceVersionMatch=Exact", &unset),
            ("resourceVersionMatch=NotOlderThan", &unset),
            ("resourceVersion=0&resourceVersionMatch=Exact", &zero),
            ("resourceVersion=0&resourceVersionMatch=NotOlderThan", "Any"),
            (
                "resourceVersion=7&resourceVersionMatch=Exact&limit=1",
                "Exactly(7)",
            ),
            (
                "resourceVersion=7&resourceVersionMatch=NotOlderThan",
                "NotOlderThan(7)",
            ),
            (
                "resourceVersion=7&resourceVersionMatch=NotOlderThan&limit=1",
                "NotOlderThan(7)",
            ),
            (&page, "Exactly(5)"),
            (&format!("{page}&resourceVersion=0"), "Exactly(5)"),
            (&format!("{page}&resourceVersion=7"), both),
            (
                &format!("{page}&resourceVersion=0&resourceVersionMatch=NotOlderThan"),
                &forbidden("is forbidden when continue is provided"),
            ),
            (
                "resourceVersion=7&resourceVersionMatch=Newest",
                "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: \"Newest\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
            ),
            (
                "sendInitialEvents=true",
                "422 ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ),
        ] {
            assert_eq!(list(query), expected, "{query}");
        }
    }

    fn watch(text: &str) -> String {
        match WatchOptions::read(&query(text)) {
            Ok(options) => format!(
                "{:?}{}{}",
                options.state,
                if options.initial { " initial" } else { "" },
                if options.marked { " marked" } else { "" },
            ),
            Err(error) => format!("{} {error}", error.code().as_u16()),
        }
    }

    #[test]
    fn a_watch_starts_as_kubernetes_documents_it() {
        let streams = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        let invalid = "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        for (query, expected) in [
            ("", "Newest initial"),
            ("resourceVersion=0", "Any initial"),
            ("resourceVersion=7", "NotOlderThan(7)"),
            (streams, "Newest initial"),
            (
                &format!("{streams}&allowWatchBookmarks=true"),
                "Newest initial marked",
            ),
            (
                &format!("{streams}&allowWatchBookmarks=true&resourceVersion=7"),
                "NotOlderThan(7) initial marked",
            ),
            (
                "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1",
                "Newest",
            ),
            ("sendInitialEvents=true", invalid),
            ("sendInitialEvents=false", invalid),
        ] {
            assert_eq!(watch(query), expected, "{query}");
        }
        assert!(watch("resourceVersionMatch=NotOlderThan").starts_with("422 "));
        assert!(watch("resourceVersionMatch=Exact").contains("supported values: \"NotOlderThan\""));
    }
}
