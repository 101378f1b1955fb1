//! What `wk up -f` shows while it waits: a live line per object on a terminal, a plain log elsewhere.

use std::io::{IsTerminal as _, Write as _};

use cli::wait::Progress;

/// The objects waited for and how far each is.
pub(crate) struct Board {
    lines: Vec<(String, Option<Progress>)>,
    /// Lines drawn last, to be drawn over; `None` where nothing can be drawn over.
    drawn: Option<usize>,
}

impl Board {
    /// A board of objects named as output lines name them: `deployment.apps/hello`.
    pub(crate) fn new(objects: impl IntoIterator<Item = String>) -> Self {
        let lines = objects.into_iter().map(|name| (name, None)).collect();
        Self {
            lines,
            drawn: std::io::stderr().is_terminal().then_some(0),
        }
    }

    /// Notes how far an object is, and shows it if that is news.
    pub(crate) fn set(&mut self, index: usize, progress: Progress) {
        let Some((name, last)) = self.lines.get_mut(index) else {
            return;
        };
        if last.as_ref() == Some(&progress) {
            return;
        }
        let text = line(name, &progress);
        *last = Some(progress);
        match self.drawn {
            Some(_) => self.draw(),
            None => eprintln!("{text}"),
        }
    }

    fn draw(&mut self) {
        let mut err = std::io::stderr().lock();
        let up = self
            .drawn
            .filter(|n| *n > 0)
            .map(|n| format!("\x1b[{n}A"))
            .unwrap_or_default();
        let text: String = self
            .lines
            .iter()
            .filter_map(|(name, progress)| {
                Some(format!("\x1b[2K{}\n", line(name, progress.as_ref()?)))
            })
            .collect();
        self.drawn = Some(text.lines().count());
        // A terminal that went away is no reason to stop the cluster.
        let _ = err
            .write_all(format!("{up}{text}").as_bytes())
            .and_then(|()| err.flush());
    }
}

fn line(name: &str, progress: &Progress) -> String {
    let (mark, text) = match progress {
        Progress::Ready(text) => ("✓", text),
        Progress::Waiting(text) => ("…", text),
        Progress::Failed(text) => ("✗", text),
    };
    if text.is_empty() {
        format!("  {mark} {name}")
    } else {
        format!("  {mark} {name}: {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_an_object_waits_for() {
        let waiting = Progress::Waiting("1 of 2 updated replicas are available".to_owned());
        assert_eq!(
            line("deployment.apps/hello", &waiting),
            "  … deployment.apps/hello: 1 of 2 updated replicas are available"
        );
        assert_eq!(
            line("service/hello", &Progress::Ready(String::new())),
            "  ✓ service/hello"
        );
    }
}
