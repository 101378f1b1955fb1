//! Which revisions the requests go to: names and percentages out of what is wanted and what is ready. Pure.
//!
//! It moves as a whole or not at all: while a revision that is named is missing or not ready, it stays as it was.

use std::collections::BTreeSet;

use function_kinds::{Traffic, TrafficStatus};

use super::readiness::Why;

/// What there is to choose from.
pub(crate) struct Choice<'a> {
    /// Revisions that can serve.
    pub(crate) ready: &'a BTreeSet<String>,
    /// All of the Function's revisions.
    pub(crate) all: &'a BTreeSet<String>,
    /// What "the latest" is.
    pub(crate) latest: Option<&'a str>,
    /// What was decided last.
    pub(crate) before: &'a [TrafficStatus],
}

/// What was decided, and why it is not what is wanted.
pub(crate) fn decide(
    wanted: &[Traffic],
    choice: &Choice<'_>,
    url: impl Fn(&str) -> String,
) -> (Vec<TrafficStatus>, Option<Why>) {
    let everything = [Traffic {
        percent: Some(100),
        ..Traffic::default()
    }];
    let wanted = if wanted.is_empty() {
        &everything
    } else {
        wanted
    };
    let shares: Result<Vec<TrafficStatus>, Why> = wanted
        .iter()
        .map(|share| {
            Ok(TrafficStatus {
                revision: choice.resolve(share)?,
                percent: share.percent.unwrap_or(0),
                url: share.tag.as_deref().map(&url),
                tag: share.tag.clone(),
            })
        })
        .collect();
    match shares {
        Ok(shares) => (shares, None),
        Err(why) => {
            let before = choice.before.iter();
            let before = before.filter(|share| choice.all.contains(&share.revision));
            (before.cloned().collect(), Some(why))
        }
    }
}

impl Choice<'_> {
    fn resolve(&self, share: &Traffic) -> Result<String, Why> {
        let Some(name) = share.revision.as_deref().filter(|name| !name.is_empty()) else {
            let latest = self.latest.map(str::to_owned);
            return latest.ok_or_else(|| Why::new("NoRevision", "no revision is ready yet"));
        };
        if !self.all.contains(name) {
            let message =
                format!("spec.traffic names {name}, which is no revision of this Function");
            return Err(Why::new("RevisionMissing", message));
        }
        if !self.ready.contains(name) {
            let message = format!("spec.traffic names {name}, which is not ready");
            return Err(Why::new("RevisionNotReady", message));
        }
        Ok(name.to_owned())
    }
}

/// `hello-00002=90%,hello-00003=10%`, as Events have it.
pub(crate) fn shown(traffic: &[TrafficStatus]) -> String {
    let shares: Vec<String> = traffic
        .iter()
        .map(|share| format!("{}={}%", share.revision, share.percent))
        .collect();
    shares.join(",")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// `NAME=PERCENT`, `NAME=PERCENT/TAG`; `@` is the latest.
    fn wanted(text: &str) -> Vec<Traffic> {
        text.split_whitespace()
            .map(|word| {
                let (name, rest) = word.split_once('=').unwrap();
                let (percent, tag) = rest.split_once('/').unwrap_or((rest, ""));
                Traffic {
                    revision: (name != "@").then(|| name.to_owned()),
                    percent: percent.parse().ok(),
                    tag: (!tag.is_empty()).then(|| tag.to_owned()),
                }
            })
            .collect()
    }

    /// Ready revisions have a `+`; the last of those is the latest.
    #[track_caller]
    fn check(text: &str, revisions: &str, before: &str, expected: Expect) {
        let words: Vec<&str> = revisions.split_whitespace().collect();
        let all = words
            .iter()
            .map(|word| word.trim_end_matches('+').to_owned())
            .collect();
        let ready: BTreeSet<String> = words
            .iter()
            .filter_map(|word| word.strip_suffix('+').map(str::to_owned))
            .collect();
        let before: Vec<TrafficStatus> = wanted(before)
            .into_iter()
            .map(|share| TrafficStatus {
                revision: share.revision.unwrap_or_default(),
                percent: share.percent.unwrap_or(0),
                ..TrafficStatus::default()
            })
            .collect();
        let choice = Choice {
            ready: &ready,
            all: &all,
            latest: ready.last().map(String::as_str),
            before: &before,
        };
        let (traffic, why) = decide(&wanted(text), &choice, |tag| format!("http://{tag}"));
        let why = why.map_or(String::new(), |why| {
            format!(" {}: {}", why.reason, why.message)
        });
        expected.assert_eq(&format!("{}{why}", shown(&traffic)));
    }

    #[test]
    fn all_of_it_goes_to_the_latest_that_is_ready() {
        check("", "a+ b+ c", "", expect!["b=100%"]);
        check(
            "",
            "a",
            "",
            expect![" NoRevision: no revision is ready yet"],
        );
    }

    #[test]
    fn names_and_shares_are_as_wanted() {
        check("a=90 @=10/next", "a+ b+", "", expect!["a=90%,b=10%"]);
    }

    #[test]
    fn it_stays_as_it_was_until_all_that_is_named_is_ready() {
        check(
            "a=50 b=50",
            "a+ b",
            "a=100",
            expect!["a=100% RevisionNotReady: spec.traffic names b, which is not ready"],
        );
        check(
            "x=100",
            "a+ b+",
            "a=60 gone=40",
            expect![
                "a=60% RevisionMissing: spec.traffic names x, which is no revision of this Function"
            ],
        );
    }
}
