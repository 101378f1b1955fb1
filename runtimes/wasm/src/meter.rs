//! How much CPU time a container has used, and how much it may.
//!
//! CPU time is the thread's own around each poll of a guest. A limit is a rate with a burst of one
//! period, as the kernel's CFS quota has: a guest that is ahead of it sleeps at its next epoch tick,
//! and a server that is takes no further request meanwhile.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

use crate::clock::Clock;

/// How much work may be done ahead of the rate.
const PERIOD: Duration = Duration::from_millis(100);

/// One container's use of the CPU, or one instance's where each has a limit of its own.
pub(crate) struct Meter {
    limit_millis: Option<u64>,
    /// Counts what this one does too.
    whole: Option<Arc<Meter>>,
    clock: Arc<Clock>,
    born: Instant,
    used_nanos: AtomicU64,
    /// What has been allowed and not used is lost: the rate is no savings account.
    forfeited_nanos: AtomicU64,
}

impl Meter {
    pub(crate) fn new(limit_millis: Option<u64>, clock: Arc<Clock>) -> Meter {
        Meter {
            limit_millis: limit_millis.filter(|millis| *millis > 0),
            whole: None,
            clock,
            born: Instant::now(),
            used_nanos: AtomicU64::new(0),
            forfeited_nanos: AtomicU64::new(0),
        }
    }

    /// A meter with this one's limit to itself; what it counts, this one does too.
    pub(crate) fn part(self: &Arc<Meter>) -> Meter {
        Meter {
            whole: Some(self.clone()),
            ..Meter::new(self.limit_millis, self.clock.clone())
        }
    }

    /// CPU time used so far.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used_nanos.load(Ordering::Relaxed))
    }

    /// Waits until the container may go on.
    pub(crate) async fn rest(&self) {
        while let Some(rest) = self.debt() {
            tokio::time::sleep(rest).await;
        }
    }

    /// How long the container must rest before it may go on.
    pub(crate) fn debt(&self) -> Option<Duration> {
        self.debt_after(self.born.elapsed())
    }

    fn debt_after(&self, age: Duration) -> Option<Duration> {
        let millis = self.limit_millis?;
        let cpu_of = |wall: u64| wall.saturating_mul(millis) / 1000;
        let allowed = cpu_of(nanos(age));
        let spent =
            self.used_nanos.load(Ordering::Relaxed) + self.forfeited_nanos.load(Ordering::Relaxed);
        let ahead = spent.saturating_sub(allowed);
        if ahead == 0 {
            let idle = allowed - spent;
            self.forfeited_nanos.fetch_add(idle, Ordering::Relaxed);
        }
        let burst = cpu_of(nanos(PERIOD));
        let over = ahead.saturating_sub(burst);
        (over > 0).then(|| Duration::from_nanos(ahead.saturating_mul(1000) / millis))
    }

    /// Counts the CPU time of a future's polls.
    pub(crate) async fn measure<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| self.poll(future.as_mut(), context)).await
    }

    fn poll<T>(
        &self,
        future: Pin<&mut impl Future<Output = T>>,
        context: &mut Context<'_>,
    ) -> Poll<T> {
        self.clock.run();
        let before = thread_time();
        let poll = future.poll(context);
        let used = nanos(thread_time().saturating_sub(before));
        self.used_nanos.fetch_add(used, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.used_nanos.fetch_add(used, Ordering::Relaxed);
        }
        poll
    }
}

/// The CPU time of the calling thread, in user and kernel mode.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(limit_millis: Option<u64>) -> Meter {
        Meter::new(limit_millis, Arc::default())
    }

    #[test]
    fn a_limit_is_its_rate_over_time_whatever_the_length_of_a_turn() {
        for turn in [1, 2, 10, 40] {
            let meter = meter(Some(100));
            let turn = Duration::from_millis(turn);
            let (mut wall, mut used) = (Duration::ZERO, Duration::ZERO);
            while wall < Duration::from_secs(60) {
                used += turn;
                wall += turn;
                meter.used_nanos.store(nanos(used), Ordering::Relaxed);
                wall += meter.debt_after(wall).unwrap_or_default();
            }
            let share = used.as_secs_f64() / wall.as_secs_f64();
            assert!(
                (0.09..0.11).contains(&share),
                "{share} in turns of {turn:?}"
            );
        }
    }

    #[test]
    fn what_a_thread_does_is_counted_and_what_it_waits_is_not() {
        let meter = meter(None);
        let mut spun = false;
        let work = std::future::poll_fn(|_| {
            if !std::mem::replace(&mut spun, true) {
                std::thread::sleep(Duration::from_millis(50));
            }
            let begun = thread_time();
            while thread_time() - begun < Duration::from_millis(5) {}
            Poll::Ready(())
        });
        let mut work = std::pin::pin!(meter.measure(work));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(work.as_mut().poll(&mut context).is_ready());
        let used = meter.used();
        assert!(
            used >= Duration::from_millis(5) && used < Duration::from_millis(50),
            "{used:?}"
        );
    }

    #[test]
    fn a_guest_within_its_rate_and_burst_does_not_rest() {
        let meter = meter(Some(500));
        meter.used_nanos.store(50_000_000, Ordering::Relaxed);
        assert_eq!(meter.debt_after(Duration::ZERO), None);
        assert_eq!(meter.debt_after(Duration::from_millis(100)), None);
    }

    #[test]
    fn a_guest_ahead_of_its_rate_rests_until_it_is_not() {
        let meter = meter(Some(500));
        meter.used_nanos.store(100_000_000, Ordering::Relaxed);
        let rest = meter.debt_after(Duration::from_millis(20));
        assert_eq!(rest, Some(Duration::from_millis(180)));
    }

    #[test]
    fn idle_time_is_not_saved() {
        let meter = meter(Some(500));
        assert_eq!(meter.debt_after(Duration::from_secs(10)), None);
        meter.used_nanos.store(200_000_000, Ordering::Relaxed);
        let rest = meter.debt_after(Duration::from_secs(10));
        assert_eq!(rest, Some(Duration::from_millis(400)));
    }

    #[test]
    fn a_part_rests_for_itself_and_counts_for_the_whole() {
        let whole = Arc::new(meter(Some(500)));
        let (one, other) = (whole.part(), whole.part());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let spin = async {
            let begun = thread_time();
            while thread_time() - begun < Duration::from_millis(60) {}
        };
        let mut work = std::pin::pin!(one.measure(spin));
        assert!(work.as_mut().poll(&mut context).is_ready());
        assert!(one.debt_after(Duration::from_millis(1)).is_some());
        assert_eq!(other.debt_after(Duration::from_millis(1)), None);
        assert!(whole.used() >= Duration::from_millis(60));
    }

    #[test]
    fn no_limit_is_no_rest() {
        let meter = meter(None);
        meter.used_nanos.store(u64::MAX / 2, Ordering::Relaxed);
        assert_eq!(meter.debt_after(Duration::ZERO), None);
    }
}
