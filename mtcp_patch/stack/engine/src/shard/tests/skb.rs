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

/// Linux `sk_stream_is_writeable`: half as much must be free as is used.
#[test]
fn a_writer_is_woken_when_a_third_of_the_buffer_is_free() {
    let (mut b, id) = accepted(1);
    let own = ConnOptions { send_buffer_bytes: Some(21_000), ..ConnOptions::default() };
    b.shard.set_options(b.now, id, own);
    // 10 segments, 16 and 16 in packets of their own.
    assert_eq!(write(&mut b, id, 61_000), 42_000);
    b.peer(A, 1, 10_001, b"");
    b.sent();
    b.peer(A, 1, 16_001, b"");
    b.sent();
    // 26,000 bytes in the packets that end at 26001, 30001 (what the window let go) and 42001.
    assert!(!is_writable(&b, id));
    b.peer(A, 1, 19_001, b"");
    b.sent();
    assert!(is_writable(&b, id));
}

/// Linux `__sk_stream_memory_free`: below the mark another whole packet begins.
#[test]
fn notsent_lowat_lets_a_packet_begin_below_it() {
    let (mut b, id) = accepted(1 << 20);
    let own = ConnOptions { notsent_lowat: Some(4_000), ..ConnOptions::default() };
    b.shard.set_options(b.now, id, own);
    assert_eq!(write(&mut b, id, 59_000), 26_000);
    b.peer(A, 1, 10_001, b"");
    b.sent();
    assert!(is_writable(&b, id));
}

/// Linux `forced_push`: within one write PSH stands at every half of the peer's window.
#[test]
fn a_long_write_pushes_at_every_half_of_the_peers_window() {
    let (mut b, id) = accepted(1 << 20);
    write(&mut b, id, 60_000);
    b.peer(A, 1, 10_001, b"");
    let pushed = |sent: Vec<Sent>| -> Vec<u32> {
        sent.iter().filter(|s| s.flags == PA).map(|s| s.seq + s.payload.len() as u32).collect()
    };
    assert_eq!(pushed(b.sent()), [26_001]);
    b.peer(A, 1, 30_001, b"");
    assert_eq!(pushed(b.sent()), [58_001, 60_001]);
}
