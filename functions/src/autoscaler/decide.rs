//! How many pods a revision should have. Pure.
//!
//! Two averages of the requests at once: over a minute (stable) and over six seconds (panic). As many pods as keep each
//! at its target. Where the short one asks for twice what is ready, it decides, and nothing is taken away until a minute
//! after it last did. A minute ... `idleSeconds` without a request, and the last pod goes. As Knative's autoscaler,
//! whose windows and factors these are.

use std::time::Duration;

use function_kinds::RevisionSpec;

use super::{Sample, window::Window};

const STABLE: Duration = Duration::from_secs(60);
const PANIC: Duration = Duration::from_secs(6);
/// Panic begins where this many times what is ready would be needed.
const PANIC_FACTOR: f64 = 2.0;
/// At once, not more than this many times what is ready.
const FASTEST_UP: f64 = 1000.0;
/// At once, not less than this share of what is ready.
const FASTEST_DOWN: f64 = 0.5;
/// Requests at once in a pod that has no bound of its own.
const UNBOUNDED_TARGET: f64 = 100.0;
/// The share of its bound that a pod is to be used to.
const UTILISATION: f64 = 0.7;
const IDLE_SECONDS: i32 = 60;

/// What a revision's spec says of its scale.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Bounds {
    pub(crate) least: u32,
    pub(crate) most: u32,
    /// Requests at once in one pod.
    pub(crate) target: f64,
    /// How long the last pod is kept after the last request.
    pub(crate) idle: Duration,
}

impl Bounds {
    pub(crate) fn of(spec: &RevisionSpec) -> Self {
        let scale = spec.scale.clone().unwrap_or_default();
        let bound = spec.concurrency.filter(|bound| *bound > 0);
        let target = match (scale.target_concurrency, bound) {
            (Some(target), _) => f64::from(target),
            (None, Some(bound)) => f64::from(bound) * UTILISATION,
            (None, None) => UNBOUNDED_TARGET,
        };
        let whole = |number: i32| u32::try_from(number).unwrap_or(0);
        let idle = scale.idle_seconds.unwrap_or(IDLE_SECONDS);
        Self {
            least: whole(scale.min),
            most: whole(scale.max).max(1),
            target: target.max(0.01),
            idle: Duration::from_secs(whole(idle).into()),
        }
    }
}

/// What is remembered of a revision between decisions.
#[derive(Clone, Debug)]
pub(crate) struct State {
    demand: Window,
    /// When there was last a request; at first, when it was first looked at.
    busy: Duration,
    /// While in panic: since when it was last called for, and the most pods that were.
    panic: Option<(Duration, u32)>,
    began: Duration,
    /// Whether the last sample was not of all gateways.
    gaps: bool,
}

impl State {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            demand: Window::new(STABLE),
            busy: now,
            panic: None,
            began: now,
            gaps: false,
        }
    }

    /// Says how much the next sample tells. One with gaps counts for what is added, and is forgotten once all is known;
    /// what may be taken away is counted from then on.
    pub(crate) fn learn(&mut self, gaps: bool, now: Duration) {
        if gaps {
            self.busy = now;
            self.began = now;
        }
        if gaps || self.gaps {
            self.demand = Window::new(STABLE);
        }
        self.gaps = gaps;
    }
}

/// What was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Decision {
    pub(crate) replicas: u32,
    pub(crate) panics: bool,
}

/// Takes in a sample and decides; `ready` pods are ready, `current` are asked for.
pub(crate) fn decide(
    bounds: &Bounds,
    state: &mut State,
    sample: Sample,
    ready: u32,
    current: u32,
    now: Duration,
) -> Decision {
    state.demand.add(now, sample.concurrency);
    if sample.concurrency > 0.0 || sample.waiting > 0 {
        state.busy = now;
    }
    let (stable, panic) = (
        state.demand.average(now, STABLE),
        state.demand.average(now, PANIC),
    );
    let base = f64::from(ready.max(1));
    let (up, down) = ((base * FASTEST_UP).ceil(), (base * FASTEST_DOWN).floor());
    let pods = |average: f64| whole((average / bounds.target).ceil().clamp(down, up));
    let (by_stable, by_panic) = (pods(stable), pods(panic));
    let calls = panic / bounds.target >= base * PANIC_FACTOR;
    state.panic = match state.panic {
        Some((_, most)) if calls => Some((now, most.max(by_panic))),
        None if calls => Some((now, by_panic.max(ready))),
        Some((since, most)) if now.saturating_sub(since) < STABLE => {
            Some((since, most.max(by_panic)))
        }
        _ => None,
    };
    let mut wanted = match state.panic {
        Some((_, most)) => most.max(by_stable),
        None => by_stable,
    };
    // The first minute after a start knows too little to take anything away.
    if now.saturating_sub(state.began) < STABLE && now.saturating_sub(state.busy) < bounds.idle {
        wanted = wanted.max(current);
    }
    let idle = now.saturating_sub(state.busy) >= bounds.idle;
    if idle {
        state.panic = None;
    }
    // One stays until the revision has been idle for as long as its spec says.
    let wanted = if idle { 0 } else { wanted.max(1) };
    Decision {
        replicas: wanted.clamp(bounds.least, bounds.most.max(bounds.least)),
        panics: state.panic.is_some(),
    }
}

/// A number of pods.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast of a float saturates, and a number of pods is no fraction"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests;
