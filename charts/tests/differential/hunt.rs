//! Hunts for differences between Helm and us: asks both about many texts, and shrinks those they differ on.
//!
//! The number of texts is fixed, and so is the seed; `WK_FUZZ_SECONDS` makes it go on for so long, `WK_FUZZ_SEED` begins
//! elsewhere.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::oracle::Helm;

/// Texts that are asked about at once.
const BATCH: usize = 100;

/// Questions asked to shrink one text.
const SHRINKING: usize = 400;

/// Differences that are shown.
const SHOWN: usize = 40;

/// Something of which both have an opinion.
pub(crate) struct Subject {
    pub(crate) request: fn(&str) -> Value,
    pub(crate) ours: fn(&str) -> Value,
    /// Whether Helm's answer and ours mean the same.
    pub(crate) same: fn(&str, &Value, &Value) -> bool,
}

impl Subject {
    fn difference(&self, text: &str, helm: &Value) -> Option<Value> {
        if helm["died"] == true {
            return None;
        }
        let ours = catch_unwind(AssertUnwindSafe(|| (self.ours)(text)))
            .unwrap_or_else(|_| json!({"panicked": true}));
        (!(self.same)(text, helm, &ours)).then_some(ours)
    }

    /// The text without all that does not matter to the difference.
    fn shrink(&self, helm: &mut Helm, text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        let mut left = SHRINKING;
        let mut size = letters.len() / 2;
        while size > 0 && left > 0 {
            let mut at = 0;
            while at < letters.len() && left > 0 {
                let end = (at + size).min(letters.len());
                let shorter: String = letters[..at].iter().chain(&letters[end..]).collect();
                left -= 1;
                let answer = helm.ask(&(self.request)(&shorter));
                match self.difference(&shorter, &answer) {
                    Some(_) => letters = shorter.chars().collect(),
                    None => at = end,
                }
            }
            size /= 2;
        }
        letters.into_iter().collect()
    }
}

/// Asks about so many texts, and fails with those that differ.
pub(crate) fn hunt(subject: &Subject, texts: usize, generate: impl FnMut(&mut StdRng) -> String) {
    hunt_past(subject, texts, 0, generate);
}

/// The same where so many of the texts of the usual seed are known to differ: no more may.
pub(crate) fn hunt_past(
    subject: &Subject,
    texts: usize,
    known: usize,
    mut generate: impl FnMut(&mut StdRng) -> String,
) {
    let Some(mut helm) = Helm::start() else {
        return;
    };
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let longer = number("WK_FUZZ_SECONDS").map(Duration::from_secs);
    let mut random = StdRng::seed_from_u64(number("WK_FUZZ_SEED").unwrap_or(1));
    let start = Instant::now();
    let (mut asked, mut failed, mut died) = (0, 0, 0);
    let mut found = BTreeSet::new();
    let mut shown = String::new();
    while found.len() < SHOWN
        && (asked < texts || longer.is_some_and(|longer| start.elapsed() < longer))
    {
        let batch: Vec<String> = (0..BATCH).map(|_| generate(&mut random)).collect();
        let requests: Vec<Value> = batch.iter().map(|text| (subject.request)(text)).collect();
        let answers = helm.ask_all(&requests);
        asked += batch.len();
        for (text, answer) in batch.iter().zip(&answers) {
            failed += usize::from(answer["error"].is_string());
            died += usize::from(answer["died"] == true);
            if subject.difference(text, answer).is_none() || found.len() >= SHOWN {
                continue;
            }
            let small = subject.shrink(&mut helm, text);
            let answer = helm.ask(&(subject.request)(&small));
            let ours = subject.difference(&small, &answer).unwrap_or_default();
            if found.insert(small.clone()) {
                shown += &format!("{small}\n  Helm: {answer}\n  here: {ours}\n");
            }
        }
    }
    println!("{asked} texts, {failed} of them refused by Helm, {died} ended it");
    let known = match longer {
        Some(_) => 0,
        None => known,
    };
    assert!(
        found.len() <= known,
        "{} differ, {known} of them known:\n{shown}",
        found.len()
    );
}
