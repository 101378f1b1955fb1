//! What work on values may still cost: one rendering's steps, its longest text, its deadline.
//!
//! A value of a few entries may stand for any number of nodes, as lists are shared. So whoever walks one charges each node
//! here, and stops at a refusal; what it made so far is of no use: the rendering fails with the reason. A rendering lives on
//! one thread, and so does its meter; where there is none, nothing is refused.

use std::{cell::Cell, time::Instant};

use crate::Limits;

/// Units between two looks at the clock.
const LOOK: u64 = 1 << 14;

thread_local! {
    static METER: Cell<Option<Meter>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Meter {
    left: u64,
    limits: Limits,
    refused: Option<Refusal>,
}

/// Why a rendering is not to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    Steps,
    Output,
    Depth,
    Deadline,
}

/// A rendering's meter; gone with this.
pub(crate) struct Metering {
    before: Option<Meter>,
}

impl Metering {
    /// Starts to count, where `spent` steps are used already.
    pub(crate) fn start(limits: Limits, spent: u64) -> Metering {
        let late = limits.deadline.is_some_and(|end| Instant::now() >= end);
        let meter = Meter {
            left: limits.steps.saturating_sub(spent),
            limits,
            refused: late.then_some(Refusal::Deadline),
        };
        Metering {
            before: METER.replace(Some(meter)),
        }
    }

    /// The steps used, those from before with them.
    pub(crate) fn spent(&self) -> u64 {
        METER
            .get()
            .map_or(0, |meter| meter.limits.steps.saturating_sub(meter.left))
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        METER.set(self.before);
    }
}

/// Counts work; whether it may go on.
pub(crate) fn charge(units: u64) -> bool {
    let Some(mut meter) = METER.get() else {
        return true;
    };
    if meter.refused.is_some() {
        return false;
    }
    let before = meter.left;
    match before.checked_sub(units) {
        Some(left) => meter.left = left,
        None => (meter.left, meter.refused) = (0, Some(Refusal::Steps)),
    }
    if let Some(end) = meter.limits.deadline
        && before / LOOK != meter.left / LOOK
        && Instant::now() >= end
    {
        meter.refused = Some(Refusal::Deadline);
    }
    METER.set(Some(meter));
    meter.refused.is_none()
}

/// Whether a text may be of this length.
pub(crate) fn fits(length: usize) -> bool {
    match METER.get() {
        None => true,
        Some(meter) if length <= meter.limits.output => meter.refused.is_none(),
        Some(_) => {
            refuse(Refusal::Output);
            false
        }
    }
}

/// Ends the rendering at hand; the first reason counts.
pub(crate) fn refuse(why: Refusal) {
    if let Some(mut meter) = METER.get() {
        meter.refused.get_or_insert(why);
        METER.set(Some(meter));
    }
}

/// Why the rendering at hand may not go on.
pub(crate) fn refusal() -> Option<Refusal> {
    METER.get()?.refused
}
