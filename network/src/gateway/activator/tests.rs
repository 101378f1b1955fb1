use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

#[derive(Default)]
struct Asked(AtomicU32);

impl Wake for Asked {
    fn wake(&self, _revision: &RevisionRef) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn capacity() -> Arc<Capacity> {
    Capacity::new(RevisionRef {
        namespace: "default".to_owned(),
        name: "web-00001".to_owned(),
    })
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 64, 0, number], 8080))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_first_pod_which_is_asked_for_at_once() {
    let (capacity, asked) = (capacity(), Asked::default());
    let waiting = capacity.acquire(soon(), &[], &asked);
    let coming = async {
        tokio::task::yield_now().await;
        assert_eq!(asked.0.load(Ordering::Relaxed), 1);
        capacity.offer(vec![address(1)]);
    };
    let (permit, ()) = tokio::join!(waiting, coming);
    assert_eq!(permit.ok().unwrap().address, address(1));
}

#[tokio::test(start_paused = true)]
async fn a_request_gives_up_at_its_deadline_and_asks_until_then() {
    let (capacity, asked) = (capacity(), Asked::default());
    let deadline = Instant::now() + Duration::from_secs(9);
    let refused = capacity.acquire(deadline, &[], &asked).await.err();
    assert_eq!(refused, Some(NoPod::Late));
    assert_eq!(asked.0.load(Ordering::Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_ask_once_and_only_for_the_first_pod() {
    let (capacity, asked) = (capacity(), Asked::default());
    let wait = || capacity.acquire(Instant::now() + Duration::from_secs(3), &[], &asked);
    let _ = tokio::join!(wait(), wait(), wait());
    assert_eq!(asked.0.load(Ordering::Relaxed), 2);
    capacity.scaled(false);
    assert!(wait().await.is_err());
    assert_eq!(asked.0.load(Ordering::Relaxed), 2, "pods are on their way");
    capacity.scaled(true);
    assert!(wait().await.is_err());
    assert_eq!(asked.0.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn a_pod_serves_as_many_at_once_as_it_may() {
    let (capacity, asked) = (capacity(), Asked::default());
    capacity.bound(1);
    capacity.offer(vec![address(1), address(2)]);
    let first = capacity.acquire(soon(), &[], &asked).await.ok().unwrap();
    let second = capacity.acquire(soon(), &[], &asked).await.ok().unwrap();
    assert_ne!(first.address, second.address);
    let third = capacity.acquire(soon(), &[], &asked);
    let ending = async {
        tokio::task::yield_now().await;
        drop(second);
    };
    let (third, ()) = tokio::join!(third, ending);
    assert_eq!(third.ok().unwrap().address, address(2));
    assert_eq!(asked.0.load(Ordering::Relaxed), 0, "there are pods");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_nobody_waits_for_any_more_is_free() {
    let (capacity, asked) = (capacity(), Asked::default());
    capacity.bound(1);
    capacity.offer(vec![address(1)]);
    let first = capacity.acquire(soon(), &[], &asked).await.ok().unwrap();
    let late = Instant::now() + Duration::from_millis(1);
    assert_eq!(
        capacity.acquire(late, &[], &asked).await.err(),
        Some(NoPod::Late)
    );
    drop(first);
    assert!(capacity.acquire(soon(), &[], &asked).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_request_too_many_is_refused() {
    let (capacity, asked) = (capacity(), Asked::default());
    let mut waiting: Vec<_> = (0..WAITING)
        .map(|_| Box::pin(capacity.acquire(soon(), &[], &asked)))
        .collect();
    for each in &mut waiting {
        assert!(futures::poll!(each).is_pending());
    }
    assert_eq!(
        capacity.acquire(soon(), &[], &asked).await.err(),
        Some(NoPod::Full)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_left_ends_what_it_serves_and_gets_no_more() {
    let (capacity, asked) = (capacity(), Asked::default());
    capacity.offer(vec![address(1)]);
    let first = capacity.acquire(soon(), &[], &asked).await.ok().unwrap();
    capacity.offer(vec![address(2)]);
    let second = capacity.acquire(soon(), &[], &asked).await.ok().unwrap();
    assert_eq!(second.address, address(2));
    drop(first);
    assert_eq!(capacity.state().pods.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn demand_is_the_average_of_the_last_second() {
    let capacity = capacity();
    capacity.sample(Instant::now());
    let first = capacity.count();
    let second = capacity.count();
    tokio::time::advance(Duration::from_millis(500)).await;
    drop(first);
    tokio::time::advance(Duration::from_millis(500)).await;
    capacity.sample(Instant::now());
    let (_, sample) = capacity.demand();
    assert!((sample.concurrency - 1.5).abs() < 0.01, "{sample:?}");
    assert!(
        (sample.requests_per_second - 2.0).abs() < 0.01,
        "{sample:?}"
    );
    drop(second);
    tokio::time::advance(Duration::from_secs(1)).await;
    capacity.sample(Instant::now());
    assert_eq!(capacity.demand().1, DemandSample::default());
}
