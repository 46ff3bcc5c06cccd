//! Waiting for something to become true, with a limit.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// The longest that anything in these tests may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Waits until `check` gives a value.
///
/// # Panics
/// After [`LIMIT`], naming `what`.
pub async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    until_ok(what, async || check().await.ok_or("")).await
}

/// As [`until`], where `check` says what it found instead.
///
/// # Panics
/// After [`LIMIT`], naming `what` and what was found last.
pub async fn until_ok<T, E: Display>(
    what: &str,
    mut check: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match check().await {
            Ok(value) => return value,
            Err(found) => assert!(start.elapsed() < LIMIT, "waited too long for: {what} {found}"),
        }
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
