//! What work on values may still cost: one rendering's steps, its longest text, its deadline.
//!
//! A value of a few entries may stand for any number of nodes, as lists are shared. So whoever walks one charges each node
//! here, and stops at a refusal; what it made so far is of no use: the rendering fails with the reason. A rendering lives on
//! one thread, and so does its meter; where there is none, nothing is refused.

use std::{cell::Cell, time::Instant};

use crate::Limits;

/// About what a step takes.
const NANOSECONDS_A_STEP: u64 = 50;

/// Units between two looks at the clock.
const LOOK: u64 = 1 << 14;

thread_local! {
    static METER: Cell<Option<Meter>> = const { Cell::new(None) };
    /// Units of the meter's that may go before anything is looked at.
    static FREE: Cell<u64> = const { Cell::new(u64::MAX) };
}

#[derive(Clone, Copy)]
struct Meter {
    /// Without those that are free.
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
    before: (Option<Meter>, u64),
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
            before: (METER.replace(Some(meter)), FREE.replace(0)),
        }
    }

    /// The steps used, those from before with them.
    pub(crate) fn spent(&self) -> u64 {
        METER.get().map_or(0, |meter| {
            let left = meter.left + FREE.get();
            meter.limits.steps.saturating_sub(left)
        })
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        METER.set(self.before.0);
        FREE.set(self.before.1);
    }
}

/// Counts work; whether it may go on.
pub(crate) fn charge(units: u64) -> bool {
    let free = FREE.get();
    if units < free {
        FREE.set(free - units);
        return true;
    }
    look(units, free)
}

/// Counts what took time: for what cannot be counted otherwise.
pub(crate) fn charge_time(start: Instant) -> bool {
    let nanoseconds = start.elapsed().as_nanos();
    charge(u64::try_from(nanoseconds).unwrap_or(u64::MAX) / NANOSECONDS_A_STEP)
}

/// As [`charge`], with a look at the clock.
#[cold]
fn look(units: u64, free: u64) -> bool {
    let Some(mut meter) = METER.get() else {
        FREE.set(u64::MAX);
        return true;
    };
    if meter.refused.is_none() {
        match (meter.left + free).checked_sub(units) {
            Some(left) => meter.left = left,
            None => (meter.left, meter.refused) = (0, Some(Refusal::Steps)),
        }
        if meter
            .limits
            .deadline
            .is_some_and(|end| Instant::now() >= end)
        {
            meter.refused.get_or_insert(Refusal::Deadline);
        }
        let free = match meter.refused {
            None => meter.left.min(LOOK),
            Some(_) => 0,
        };
        meter.left -= free;
        FREE.set(free);
        METER.set(Some(meter));
    }
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
        meter.left += FREE.replace(0);
        METER.set(Some(meter));
    }
}

/// Why the rendering at hand may not go on.
pub(crate) fn refusal() -> Option<Refusal> {
    METER.get()?.refused
}
