//! The clock that the mock upstream and the client share.

/// `CLOCK_MONOTONIC` in nanoseconds. Every process of one host reads the same clock, which is what makes a send time
/// written by the upstream comparable with a receive time read by the client.
pub(crate) fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
