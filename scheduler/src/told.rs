//! What a pod's status says of why it is not placed: as the watch shows it, and as it is being written.
//!
//! Pure. What was to be written and was not (the report was dropped, or the API refused it) is written at the next attempt.

use std::sync::Arc;

use tokio::sync::oneshot::{self, error::TryRecvError};

/// What the status says, or is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The message of the condition `PodScheduled=False`; `None` if there is no such condition.
    pub(crate) message: Option<String>,
    /// `status.nominatedNodeName`.
    pub(crate) nominated: Option<Arc<str>>,
}

/// What becomes of the pod's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It says so already.
    Kept,
    /// It is false from now on.
    Set,
    /// It stays false, for another reason.
    Reworded,
}

/// What becomes of `status.nominatedNodeName`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nominated {
    Kept,
    On(Arc<str>),
    Nowhere,
}

/// What must be written so that the status says what it is to say.
#[derive(Debug)]
pub(crate) struct Amendment {
    pub(crate) condition: Condition,
    pub(crate) nominated: Nominated,
    /// Told once it is written; if this is dropped instead, it was not.
    pub(crate) written: oneshot::Sender<()>,
}

/// What the status of one pod says.
#[derive(Debug)]
pub(crate) struct Status {
    seen: Told,
    /// What was to be written last, until it is seen or known to be lost.
    told: Option<(Told, Progress)>,
}

#[derive(Debug)]
enum Progress {
    UnderWay(oneshot::Receiver<()>),
    Written,
}

impl Status {
    pub(crate) fn new(seen: Told) -> Self {
        Self { seen, told: None }
    }

    /// Takes in what the watch shows. It may be older than what was written: then some is written once more.
    pub(crate) fn see(&mut self, seen: Told) {
        self.seen = seen;
        self.settle();
        if matches!(self.told, Some((_, Progress::Written))) {
            self.told = None;
        }
    }

    /// What must be written so that the status says this. `None` if it does, or is about to.
    pub(crate) fn amend(&mut self, wanted: Told) -> Option<Amendment> {
        self.settle();
        let told = self.told.as_ref().map(|(told, _)| told);
        if told == Some(&wanted) {
            return None;
        }
        // Which of these it says is not known.
        let said = || [Some(&self.seen), told].into_iter().flatten();
        let condition = if said().all(|said| said.message == wanted.message) {
            Condition::Kept
        } else if self.seen.message.is_none() {
            Condition::Set
        } else {
            Condition::Reworded
        };
        let nominated = match &wanted.nominated {
            node if said().all(|said| said.nominated == *node) => Nominated::Kept,
            Some(node) => Nominated::On(Arc::clone(node)),
            None => Nominated::Nowhere,
        };
        if condition == Condition::Kept && nominated == Nominated::Kept {
            return None;
        }
        let (written, outcome) = oneshot::channel();
        self.told = Some((wanted, Progress::UnderWay(outcome)));
        Some(Amendment {
            condition,
            nominated,
            written,
        })
    }

    /// Finds out what became of what was to be written.
    fn settle(&mut self) {
        let Some((_, Progress::UnderWay(outcome))) = &mut self.told else {
            return;
        };
        match outcome.try_recv() {
            Ok(()) => {
                if let Some((_, progress)) = &mut self.told {
                    *progress = Progress::Written;
                }
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Closed) => self.told = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// `message@node`, either of which may be missing.
    fn told(text: &str) -> Told {
        let (message, node) = text.split_once('@').unwrap_or((text, ""));
        Told {
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
            nominated: Some(node).filter(|node| !node.is_empty()).map(Arc::from),
        }
    }

    /// Steps: `a@n` is to be said; `ok` what is under way is written, `lost` it is not; `sees:a@n` the watch shows this. Shown is
    /// what is written of each thing that is to be said.
    #[track_caller]
    fn check(steps: &str, expected: Expect) {
        let mut status = Status::new(Told::default());
        let (mut shown, mut under_way) = (Vec::new(), None);
        for step in steps.split_whitespace() {
            match (step, step.split_once(':')) {
                ("ok", _) => {
                    let written: oneshot::Sender<()> = Option::take(&mut under_way).unwrap();
                    written.send(()).unwrap();
                }
                ("lost", _) => under_way = None,
                (_, Some((_, seen))) => status.see(told(seen)),
                (wanted, None) => match status.amend(told(wanted)) {
                    None => shown.push("nothing".to_owned()),
                    Some(amendment) => {
                        let Amendment {
                            condition,
                            nominated,
                            written,
                        } = amendment;
                        shown.push(format!("{condition:?} {nominated:?}"));
                        under_way = Some(written);
                    }
                },
            }
        }
        expected.assert_eq(&shown.join(", "));
    }

    #[test]
    fn what_the_status_says_or_is_about_to_is_not_written_again() {
        check("a a", expect!["Set Kept, nothing"]);
        check("a ok a", expect!["Set Kept, nothing"]);
        check("a ok sees:a a", expect!["Set Kept, nothing"]);
        check("sees:a@n a@n", expect!["nothing"]);
        check("a sees: a", expect!["Set Kept, nothing"]);
    }

    #[test]
    fn what_was_not_written_is_written_at_the_next_attempt() {
        check("a lost a", expect!["Set Kept, Set Kept"]);
        check(
            "sees:a b@n lost b@n",
            expect![[r#"Reworded On("n"), Reworded On("n")"#]],
        );
        check("sees:a@n a lost a", expect!["Kept Nowhere, Kept Nowhere"]);
    }

    #[test]
    fn only_what_changes_is_written() {
        check("sees:a a@n", expect![[r#"Kept On("n")"#]]);
        check("sees:a@n b@n", expect!["Reworded Kept"]);
        check("sees:a@n a", expect!["Kept Nowhere"]);
    }

    #[test]
    fn what_somebody_else_takes_away_is_written_again() {
        check("a ok sees:a sees: a", expect!["Set Kept, Set Kept"]);
    }

    #[test]
    fn nothing_is_left_out_of_which_it_is_not_known_whether_it_was_written() {
        check(
            "a a@n lost a@n",
            expect![[r#"Set Kept, Set On("n"), Set On("n")"#]],
        );
    }
}
