//! What is remembered of a demand: its average and its peak over the last seconds. Pure.

use std::{collections::VecDeque, time::Duration};

/// Samples of a number, none older than the window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    samples: VecDeque<(Duration, f64)>,
    length: Duration,
}

impl Window {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            samples: VecDeque::new(),
            length,
        }
    }

    /// Adds what was counted at a time.
    pub(crate) fn add(&mut self, now: Duration, value: f64) {
        self.samples.push_back((now, value));
        let first = now.saturating_sub(self.length);
        while self.samples.front().is_some_and(|(at, _)| *at < first) {
            self.samples.pop_front();
        }
    }

    /// The average over the last so long; of a window that is not full yet, over what there is.
    pub(crate) fn average(&self, now: Duration, over: Duration) -> f64 {
        let first = now.saturating_sub(over);
        let recent = self.samples.iter().filter(|(at, _)| *at >= first);
        let (sum, count) = recent.fold((0.0, 0.0), |(sum, count), (_, value)| {
            (sum + value, count + 1.0)
        });
        if count == 0.0 { 0.0 } else { sum / count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_forgets_what_is_old() {
        let at = Duration::from_secs;
        let mut window = Window::new(at(10));
        window.add(at(0), 100.0);
        window.add(at(8), 10.0);
        window.add(at(12), 20.0);
        assert!((window.average(at(12), at(10)) - 15.0).abs() < 1e-9);
        assert!((window.average(at(12), at(2)) - 20.0).abs() < 1e-9);
        assert!(Window::new(at(10)).average(at(3), at(2)).abs() < 1e-9);
    }
}
