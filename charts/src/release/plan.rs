//! What an action decides before it does anything: names, what it starts from, what is whose, what goes. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Error,
    cluster::ObjectId,
    manifest::{MANAGED_BY, RELEASE_NAME, RELEASE_NAMESPACE},
    record::{Release, Status},
    secret,
};

/// Longest name of a release.
const NAME_LENGTH: usize = 53;

/// Checks a release's name: a DNS subdomain of at most 53 characters.
///
/// # Errors
/// When it is none; in Helm's words.
pub fn check_name(name: &str) -> Result<(), Error> {
    let label = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty()
            && part.chars().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.is_empty() {
        return Err(Error::Refused("no name provided".to_owned()));
    }
    if name.len() > NAME_LENGTH || !name.split('.').all(label) {
        return Err(Error::Refused(format!(
            "release name {name:?}: invalid release name, must match regex ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$ and the length must not be longer than {NAME_LENGTH}"
        )));
    }
    Ok(())
}

/// Checks labels that a user gives a release.
///
/// # Errors
/// When one is Helm's own.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Error> {
    match labels.keys().find(|label| secret::reserved(label)) {
        None => Ok(()),
        Some(label) => Err(Error::Refused(format!(
            "user supplied labels contains system reserved label name {label:?}. System labels: [name owner status version createdAt modifiedAt]"
        ))),
    }
}

/// The labels of the next revision: those of the last, changed by the user's; `null` removes one.
pub fn merge_labels(
    last: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut labels = last.clone();
    labels.extend(given.clone());
    labels.retain(|_, value| value != "null");
    labels
}

/// The label of a record that says whose the release is, if it keeps itself: the UID of its ChartRelease.
pub const OWNER: &str = "charts.wk.dev/owner";

/// Whose a release is: what its newest revision says that says so.
pub fn owner(history: &[Release]) -> Option<&str> {
    let said = history.iter().rev().find_map(|old| old.labels.get(OWNER));
    said.map(String::as_str)
}

/// Refuses a release that is another's; `owners` are whoever acts, then those that it may take over from. With none,
/// whoever acts may do all.
///
/// # Errors
/// When it is another ChartRelease's.
pub fn check_owner(name: &str, history: &[Release], owners: &[String]) -> Result<(), Error> {
    match owner(history) {
        Some(owner) if !owners.is_empty() && !owners.iter().any(|own| own == owner) => {
            Err(Error::Refused(format!(
                "release {name:?} is kept by another ChartRelease (uid {owner})"
            )))
        }
        _ => Ok(()),
    }
}

/// What an upgrade starts from.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// The newest revision, however it ended.
    pub last: &'a Release,
    /// The revision whose objects and values count.
    pub current: &'a Release,
    /// The number of the next revision.
    pub next: u32,
}

/// Finds what an upgrade starts from; `history` is in order of revisions and has none pending.
///
/// # Errors
/// When nothing was ever deployed or it has been uninstalled; in Helm's words.
pub fn base<'a>(name: &str, history: &'a [Release]) -> Result<Base<'a>, Error> {
    let none = || Error::Refused(format!("{name:?} has no deployed releases"));
    let last = history.last().ok_or_else(none)?;
    let deployed = history
        .iter()
        .rev()
        .find(|release| release.info.status == Status::Deployed);
    let current = match deployed {
        Some(deployed) => deployed,
        None if matches!(last.info.status, Status::Failed | Status::Superseded) => last,
        None => return Err(none()),
    };
    Ok(Base {
        last,
        current,
        next: last.version + 1,
    })
}

/// Whether a release of this name may be installed; answers the number of its first revision.
///
/// # Errors
/// When the name is in use; in Helm's words.
pub fn first_revision(history: &[Release], replace: bool) -> Result<u32, Error> {
    let Some(last) = history.last() else {
        return Ok(1);
    };
    let ended = matches!(last.info.status, Status::Uninstalled | Status::Failed);
    if ended && (replace || interrupted_install(history)) {
        return Ok(last.version + 1);
    }
    Err(Error::Refused(
        "cannot reuse a name that is still in use".to_owned(),
    ))
}

/// How the description of a revision begins whose operation was interrupted.
pub const INTERRUPTED: &str = "Interrupted: ";

/// Whether all there is are installs that were interrupted: the next install goes on from there.
fn interrupted_install(history: &[Release]) -> bool {
    history.iter().all(|release| {
        release.info.status == Status::Failed && release.info.description.starts_with(INTERRUPTED)
    })
}

/// The revision to roll back to: the one given, else the one before the last.
///
/// # Errors
/// When there is none.
pub fn rollback_target(
    history: &[Release],
    revision: Option<u32>,
) -> Result<(&Release, &Release), Error> {
    let last = history.last().ok_or(Error::NotFound)?;
    let wanted = revision
        .filter(|revision| *revision > 0)
        .unwrap_or(last.version.saturating_sub(1));
    let target = history
        .iter()
        .find(|release| release.version == wanted)
        .ok_or_else(|| Error::Refused(format!("release has no {wanted} version")))?;
    Ok((last, target))
}

/// The revision to return to after a failure: the last that was once deployed.
pub fn last_good(history: &[Release]) -> Option<&Release> {
    let good =
        |release: &&Release| matches!(release.info.status, Status::Deployed | Status::Superseded);
    history.iter().rev().find(good)
}

/// The revisions whose objects may exist: from the last that was deployed on, those that failed after it included.
pub fn leftovers(history: &[Release]) -> &[Release] {
    let deployed = history
        .iter()
        .rposition(|release| release.info.status == Status::Deployed)
        .or_else(|| {
            // Nothing is deployed: what was superseded last came before whatever failed.
            history
                .iter()
                .rposition(|release| release.info.status == Status::Superseded)
        });
    &history[deployed.unwrap_or_default()..]
}

/// The oldest revisions beyond `keep`, which counts the one that follows. Before that one is deployed: never one whose
/// objects may exist, unless a later one has the same.
pub fn surplus(history: &[Release], keep: usize) -> Vec<u32> {
    let left = leftovers(history);
    let first = history.len() - left.len();
    let needed = |index: usize, release: &Release| {
        index >= first
            && (index == first && release.info.status != Status::Failed
                || history[index + 1..]
                    .iter()
                    .all(|later| later.manifest != release.manifest))
    };
    history
        .iter()
        .enumerate()
        .filter(|(index, release)| !needed(*index, release))
        .map(|(_, release)| release.version)
        .take(excess(history, keep))
        .collect()
}

/// How many revisions are beyond `keep`, which counts the one that follows; 0 keeps all.
pub fn excess(history: &[Release], keep: usize) -> usize {
    match keep {
        0 => 0,
        keep => (history.len() + 1).saturating_sub(keep),
    }
}

/// Whether an object that exists is the release's; otherwise why not, in Helm's words.
pub fn ownership(live: &Value, release: &str, namespace: &str) -> Result<(), String> {
    let metadata = &live["metadata"];
    let mut wrong = Vec::new();
    let mut require = |what: &str, map: &Value, key: &str, value: &str| match map[key].as_str() {
        None => wrong.push(format!(
            "{what} validation error: missing key {key:?}: must be set to {value:?}"
        )),
        Some(actual) if actual != value => wrong.push(format!(
            "{what} validation error: key {key:?} must equal {value:?}: current value is {actual:?}"
        )),
        Some(_) => {}
    };
    require("label", &metadata["labels"], MANAGED_BY, "Helm");
    let annotations = &metadata["annotations"];
    require("annotation", annotations, RELEASE_NAME, release);
    require("annotation", annotations, RELEASE_NAMESPACE, namespace);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("invalid ownership metadata; {}", wrong.join("; ")))
}

/// What refuses to take over an object that is another's.
pub fn not_ours(action: &str, id: &ObjectId, why: &str) -> Error {
    Error::Refused(format!(
        "unable to continue with {action}: {id} exists and cannot be imported into the current release: {why} (--take-ownership imports it)"
    ))
}

/// Which user values the next revision has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reuse {
    /// The given ones, or the last revision's if none are given.
    #[default]
    UnlessGiven,
    /// The given ones alone.
    Reset,
    /// The given ones over the last revision's, over the defaults of the last revision's chart.
    Reuse,
    /// The given ones over the last revision's, over the defaults of the new chart.
    ResetThenReuse,
}

impl Reuse {
    /// The user values of the next revision.
    pub fn values(
        self,
        given: Map<String, Value>,
        last: &Map<String, Value>,
    ) -> Map<String, Value> {
        match self {
            Reuse::Reset => given,
            Reuse::UnlessGiven if given.is_empty() => last.clone(),
            Reuse::UnlessGiven => given,
            Reuse::Reuse | Reuse::ResetThenReuse => overlay(given, last),
        }
    }
}

/// The entries of `over`, and those of `under` that it has not; maps within maps alike. A `null` of the user stays: it
/// removes a default.
fn overlay(mut over: Map<String, Value>, under: &Map<String, Value>) -> Map<String, Value> {
    for (key, below) in under {
        let merged = match (over.remove(key), below) {
            (Some(Value::Object(over)), Value::Object(below)) => {
                Value::Object(overlay(over, below))
            }
            (Some(over), _) => over,
            (None, below) => below.clone(),
        };
        over.insert(key.clone(), merged);
    }
    over
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    /// `1s 2d 3f`: revisions and the first letter of their status; `i` is a failed one that was interrupted.
    fn history(text: &str) -> Vec<Release> {
        text.split_whitespace()
            .map(|word| {
                let (version, status) = word.split_at(word.len() - 1);
                let mut release = Release {
                    version: version.parse().unwrap(),
                    ..Release::default()
                };
                let (status, why) = match status {
                    "d" => (Status::Deployed, ""),
                    "s" => (Status::Superseded, ""),
                    "f" => (Status::Failed, ""),
                    "i" => (Status::Failed, INTERRUPTED),
                    "u" => (Status::Uninstalled, ""),
                    other => panic!("{other}"),
                };
                release.set_status(status, why);
                release
            })
            .collect()
    }

    #[track_caller]
    fn check_base(text: &str, expected: Expect) {
        let shown = match base("a", &history(text)) {
            Ok(base) => format!(
                "from {} after {} to {}",
                base.current.version, base.last.version, base.next
            ),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn an_upgrade_starts_from_what_is_deployed() {
        check_base("1s 2d", expect!["from 2 after 2 to 3"]);
        check_base("1d 2f 3i", expect!["from 1 after 3 to 4"]);
        check_base("1f", expect!["from 1 after 1 to 2"]);
        check_base("1u", expect![[r#""a" has no deployed releases"#]]);
        check_base("", expect![[r#""a" has no deployed releases"#]]);
    }

    #[test]
    fn a_name_in_use_is_refused_unless_its_install_was_interrupted() {
        let first = |text: &str, replace| first_revision(&history(text), replace).ok();
        assert_eq!(first("", false), Some(1));
        assert_eq!(first("1d", true), None);
        assert_eq!(first("1f", false), None);
        assert_eq!(first("1f", true), Some(2));
        assert_eq!(first("1s 2u", true), Some(3));
        assert_eq!(first("1i", false), Some(2));
        assert_eq!(first("1s 2i", false), None);
    }

    #[track_caller]
    fn check_rollback(text: &str, revision: Option<u32>, expected: Expect) {
        let shown = match rollback_target(&history(text), revision) {
            Ok((_, target)) => target.version.to_string(),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_rollback_goes_one_back_or_where_it_is_told() {
        check_rollback("1s 2s 3d", None, expect!["2"]);
        check_rollback("1s 2s 3d", Some(0), expect!["2"]);
        check_rollback("1s 2s 3d", Some(1), expect!["1"]);
        check_rollback("1s 2s 3d", Some(7), expect!["release has no 7 version"]);
        check_rollback("1d", None, expect!["release has no 0 version"]);
        check_rollback("", None, expect!["release: not found"]);
    }

    #[test]
    fn objects_of_failed_revisions_are_not_forgotten() {
        let left = |text: &str| -> Vec<u32> {
            let history = history(text);
            leftovers(&history).iter().map(|r| r.version).collect()
        };
        assert_eq!(left("1s 2d 3f 4i"), [2, 3, 4]);
        assert_eq!(left("1f 2f"), [1, 2]);
        assert_eq!(left("1s 2f"), [1, 2]);
        assert_eq!(left("1s 2d"), [2]);
        assert_eq!(left(""), [0; 0]);
    }

    #[test]
    fn the_oldest_revisions_go_but_never_the_deployed_one() {
        assert_eq!(surplus(&history("1s 2s 3d"), 3), [1]);
        assert_eq!(surplus(&history("1d 2f 3f"), 2), [2]);
        let mut different = history("1s 2d 3f 4f");
        different[2].manifest = "kind: A".to_owned();
        assert_eq!(surplus(&different, 1), [1]);
        assert_eq!(surplus(&history("1s 2s 3d"), 0), [0; 0]);
        assert_eq!(surplus(&history("1d"), 10), [0; 0]);
    }

    #[test]
    fn a_release_is_its_owners_whoever_upgraded_it_since() {
        let mut history = history("1s 2s 3d");
        assert!(check_owner("a", &history, &["x".to_owned()]).is_ok());
        history[1].labels.insert(OWNER.to_owned(), "x".to_owned());
        assert_eq!(owner(&history), Some("x"));
        let allowed = |owners: &[&str]| {
            let owners: Vec<String> = owners.iter().map(|&owner| owner.to_owned()).collect();
            check_owner("a", &history, &owners).is_ok()
        };
        assert!(allowed(&["x"]));
        assert!(!allowed(&["y"]));
        assert!(allowed(&["y", "x"]));
        assert!(allowed(&[]));
    }

    #[test]
    fn names_are_those_that_helm_takes() {
        for name in ["a", "my-app", "a.b", "9x"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "a".repeat(54);
        for name in ["", "A", "-a", "a-", "a..b", "a_b", long.as_str()] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_object_says_whose_it_is() {
        expect![[r#"invalid ownership metadata; label validation error: missing key "app.kubernetes.io/managed-by": must be set to "Helm"; annotation validation error: key "meta.helm.sh/release-name" must equal "a": current value is "b"; annotation validation error: missing key "meta.helm.sh/release-namespace": must be set to "n""#]].assert_eq(
            &ownership(&json!({"metadata": {"annotations": {"meta.helm.sh/release-name": "b"}}}), "a", "n").unwrap_err(),
        );
    }

    #[track_caller]
    fn check_values(reuse: Reuse, given: Value, last: Value, expected: Expect) {
        let map = |value: Value| value.as_object().unwrap().clone();
        let values = reuse.values(map(given), &map(last));
        expected.assert_eq(&Value::Object(values).to_string());
    }

    #[test]
    fn values_of_the_last_revision_stay_as_asked() {
        let last = json!({"a": {"x": 1, "y": 2}, "b": 1});
        check_values(
            Reuse::UnlessGiven,
            json!({}),
            last.clone(),
            expect![[r#"{"a":{"x":1,"y":2},"b":1}"#]],
        );
        check_values(
            Reuse::UnlessGiven,
            json!({"c": 1}),
            last.clone(),
            expect![[r#"{"c":1}"#]],
        );
        check_values(Reuse::Reset, json!({}), last.clone(), expect!["{}"]);
        check_values(
            Reuse::Reuse,
            json!({"a": {"x": 9}, "b": null}),
            last,
            expect![[r#"{"a":{"x":9,"y":2},"b":null}"#]],
        );
    }

    #[test]
    fn labels_are_added_changed_and_removed() {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(
            merge_labels(
                &map(&[("a", "1"), ("b", "2")]),
                &map(&[("b", "null"), ("c", "3")])
            ),
            map(&[("a", "1"), ("c", "3")])
        );
        assert!(check_labels(&map(&[("owner", "me")])).is_err());
    }
}
