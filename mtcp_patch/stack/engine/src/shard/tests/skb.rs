//! The send buffer as Linux counts it (`tcp::skb`). The peer's segments have 1000 bytes; its window is
//! 32,768 bytes, so that a packet has 16 segments.

use alloc::vec;

use super::*;
use crate::event::ready;

const WINDOW: u16 = 32_768;

/// Writes `bytes` as Linux's `write` does, sending while it goes on.
fn write(b: &mut Bench, id: ConnId, bytes: usize) -> usize {
    let mut taken = 0;
    while taken < bytes {
        match b.shard.send(b.now, id, &vec![1; bytes - taken]) {
            Ok(more) => taken += more,
            Err(error) => {
                assert_eq!(error, Error::WouldBlock);
                break;
            }
        }
        b.sent();
    }
    taken
}

fn accepted(send_buffer_bytes: usize) -> (Bench, ConnId) {
    let config = Config {
        send_buffer_by_packets: true,
        send_buffer_initial_bytes: send_buffer_bytes,
        ..Config::default()
    };
    let mut b = Bench::with(config, 16);
    b.peer_wnd = WINDOW;
    b.peer_options = Options { sack_permitted: true, ..b.peer_options };
    let id = b.accept();
    (b, id)
}

fn is_writable(b: &Bench, id: ConnId) -> bool {
    b.shard.readiness(id) & ready::OUT != 0
}

/// 10 segments leave; three packets of 16 follow, the last of which begins below the limit.
#[test]
fn a_write_takes_whole_packets_and_the_last_goes_beyond_the_limit() {
    let (mut b, id) = accepted(50_000);
    assert_eq!(write(&mut b, id, 59_000), 58_000);
    assert!(!is_writable(&b, id));
}

/// Linux `tcp_sndbuf_expand`: twice the window of 36 segments, each of which costs 2304 bytes with a
/// payload of 1000, is 165,888 bytes; two packets of 16,000 bytes and their overhead are out.
#[test]
fn the_buffer_follows_the_window_while_that_is_not_what_limits() {
    let (mut b, id) = accepted(50_000);
    write(&mut b, id, 59_000);
    b.peer(A, 1, 10_001, b"");
    b.sent();
    assert!(!is_writable(&b, id), "20 segments are out, as many as the window lets");
    b.peer(A, 1, 26_001, b"");
    b.sent();
    assert_eq!(b.tcp_info(id).snd_cwnd, 36);
    assert!(is_writable(&b, id));
    assert_eq!(write(&mut b, id, 180_000), 128_000);
}
