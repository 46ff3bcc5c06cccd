//! Faults of the protocol, to see that the checker finds them.

/// One rule of the protocol that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Reports count whatever lease they name.
    NoFencing,
    /// A runner counts a lease from when the answer to its heartbeat came, and not
    /// from when it sent it.
    DatedByAnswer,
    /// A runner counts a new lease from when it was told of it.
    DatedByAssignment,
    /// A new leader counts each lease from when it was granted, which is all that is
    /// in the log, and does not give it its whole time again.
    NewLeaderCountsFromGrant,
    /// A leader answers heartbeats without asking whether it still leads.
    NoReadBarrier,
    /// A runner uses the whole time to live, and its clock may be slow.
    NoMargin,
    /// A lease is taken away when the runner's stream breaks.
    LostWithStream,
    /// A lease that was found to have run out is renewed all the same.
    RenewedWhileGivenAway,
    /// A hello that a newer one has overtaken takes the session back, and a job that it
    /// lacks counts as not held.
    OldHelloTakesOver,
    /// A runner that was restarted starts what it had prepared, and counts from then.
    StartedUndated,
    /// A lease that has run out is never taken away.
    NeverTakenAway,
    /// A runner that opens a session does not repeat what it has to report.
    ReportedOnce,
}
