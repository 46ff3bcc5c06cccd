//! Three clocks. Limits are never measured with [`wall`]: it jumps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Microseconds since the epoch, for records.
#[expect(
    clippy::disallowed_methods,
    reason = "the shim stamps what it reads; nobody can lend it a clock"
)]
pub(crate) fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Time for limits on the job, which stands still while the host sleeps.
pub(crate) fn monotonic() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Time for the lease, which goes on while the host sleeps.
pub(crate) fn boottime() -> Duration {
    read(ClockId::CLOCK_BOOTTIME)
}

fn read(clock: ClockId) -> Duration {
    // Both clocks exist on every Linux that this program's libc runs on, and
    // the call has no other way to fail.
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}
