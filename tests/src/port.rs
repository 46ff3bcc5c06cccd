//! Ports for servers that tests stop and start again.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// Ports that the system gives to nobody by itself: one of a process that is down stays free.
static NEXT: AtomicU16 = AtomicU16::new(0);
const FIRST: u16 = 12_000;
const PORTS: u16 = 8_000;

/// A port that nobody listens at and that this program has not given out before.
pub(crate) fn free() -> u16 {
    let start = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap();
    loop {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
