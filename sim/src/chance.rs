//! Takes the system's randomness away from this program. Hash maps and tokio draw from
//! it at moments of their own; here they get the same numbers in each run, so that a
//! seed decides everything. Each thread has numbers of its own, since SQLite's threads
//! draw at moments that no seed decides. Nothing of what is simulated is secret.

use std::cell::Cell;

thread_local! {
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// Stands in for the C library's function of this name, from which the standard
/// library takes its randomness.
///
/// # Safety
/// `buffer` must be good for `length` bytes, as for the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    for at in 0..length {
        let drawn = DRAWN.replace(DRAWN.get().wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // SAFETY: the caller gives so many bytes.
        unsafe { buffer.add(at).write((drawn >> 56) as u8) };
    }
    isize::try_from(length).unwrap_or(-1)
}
