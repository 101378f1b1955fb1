//! Which revisions are kept. Pure.

use std::collections::BTreeSet;

use super::revision::Revision;

/// The revisions that go: of those that nothing needs, all but the newest so many.
pub(crate) fn old<'a>(
    revisions: &'a [Revision],
    needed: &BTreeSet<String>,
    limit: usize,
) -> Vec<&'a Revision> {
    let mut idle: Vec<&Revision> = revisions
        .iter()
        .filter(|revision| !revision.deleting && !needed.contains(&revision.name))
        .collect();
    idle.sort_by_key(|revision| std::cmp::Reverse(revision.number));
    idle.split_off(limit.min(idle.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(count: u32, needed: &[u32], limit: usize, gone: &[u32]) {
        let name = |number: u32| super::super::revision::name("f", number);
        let revisions: Vec<Revision> = (1..=count)
            .map(|number| {
                let object = json!({"metadata": {"name": name(number)}, "spec": {}});
                Revision::read(&serde_json::from_value(object).unwrap()).unwrap()
            })
            .collect();
        let needed = needed.iter().map(|number| name(*number)).collect();
        let old = old(&revisions, &needed, limit);
        let numbers: Vec<u32> = old.iter().map(|revision| revision.number).collect();
        assert_eq!(numbers, gone);
    }

    #[test]
    fn the_newest_are_kept_and_what_is_needed_does_not_count() {
        check(5, &[5], 10, &[]);
        check(5, &[5], 2, &[2, 1]);
        check(5, &[1, 5], 2, &[2]);
        check(5, &[5], 0, &[4, 3, 2, 1]);
    }
}
