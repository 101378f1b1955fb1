//! Tells of a pull that lasts.

use std::{future::Future, pin::pin, time::Duration};

use runtimes::{Images, Progress};

/// From when on a pull is told of.
const UNSEEN: Duration = Duration::from_secs(10);
/// So long it may be between two words of it, at most.
const PAUSE: Duration = Duration::from_secs(30);

/// Waits for a pull of `reference`; while it lasts, `note` gets now and then how much has come, if more has.
pub(super) async fn told<T>(
    images: &dyn Images,
    reference: &str,
    note: impl Fn(String),
    pull: impl Future<Output = T>,
) -> T {
    let mut pull = pin!(pull);
    let mut pause = UNSEEN;
    let mut last = None;
    loop {
        if let Ok(answer) = tokio::time::timeout(pause, pull.as_mut()).await {
            return answer;
        }
        let progress = images.progress(reference).and_then(in_words);
        if let Some(words) = progress.filter(|words| last.as_ref() != Some(words)) {
            note(format!("Pulling image {reference:?}: {words}"));
            last = Some(words);
        }
        pause = (pause + UNSEEN).min(PAUSE);
    }
}

/// `120 of 430 MB`; none before the source has told how much there is.
fn in_words(progress: Progress) -> Option<String> {
    let Progress {
        received_bytes,
        total_bytes,
    } = progress;
    match total_bytes {
        0 => None,
        1..10_000_000 => Some(format!(
            "{} of {} kB",
            received_bytes / 1000,
            total_bytes.div_ceil(1000)
        )),
        _ => Some(format!(
            "{} of {} MB",
            received_bytes / 1_000_000,
            total_bytes.div_ceil(1_000_000)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_says_most() {
        let check = |received_bytes, total_bytes, want: Option<&str>| {
            let progress = Progress {
                received_bytes,
                total_bytes,
            };
            assert_eq!(in_words(progress).as_deref(), want);
        };
        check(0, 0, None);
        check(1500, 2001, Some("1 of 3 kB"));
        check(120_900_000, 429_000_001, Some("120 of 430 MB"));
    }
}
