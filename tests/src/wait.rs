//! Waiting for something to become true, with a limit.

use std::time::{Duration, Instant};

/// The longest that anything in these tests may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Waits until `check` gives a value.
///
/// # Panics
/// After [`LIMIT`], naming `what`.
pub async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for a future.
///
/// # Panics
/// After [`LIMIT`], naming `what`.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for: {what}"),
    }
}
