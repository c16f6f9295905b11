//! `TCP_INFO` says what happened; the situations are those of packetdrill's `tcp_info` scripts.

use super::*;
use crate::shard::TcpInfo;

fn info(b: &Bench, id: ConnId) -> TcpInfo {
    b.shard.tcp_info(b.now, id).unwrap()
}

#[test]
fn segments_and_bytes_are_counted() {
    let (mut b, id) = Bench::connected();
    let fresh = info(&b, id);
    assert_eq!((fresh.segs_out, fresh.segs_in, fresh.bytes_acked), (2, 1, 1));
    b.send(id, &[1; 2_500]).unwrap();
    b.sent();
    assert_eq!((info(&b, id).unacked_segs, info(&b, id).data_segs_out), (3, 3));
    b.peer(A, 1, 1_001, b"");
    b.peer(PA, 3, 1_001, b"late");
    b.peer(PA, 1, 1_001, b"ab");
    let now = info(&b, id);
    assert_eq!((now.bytes_sent, now.bytes_acked, now.unacked_segs), (2_500, 1_001, 2));
    assert_eq!((now.bytes_received, now.data_segs_in, now.rcv_ooopack), (6, 2, 1));
    assert_eq!((now.segs_in, now.snd_mss, now.advmss, now.pmtu), (4, 1_000, 1_460, 1_040));
    b.peer(FA, 7, 2_501, b"");
    assert_eq!(info(&b, id).bytes_received, 7);
}

#[test]
fn repetitions_are_counted_apart() {
    let (mut b, id) = Bench::accepted();
    b.send(id, &[1; 700]).unwrap();
    b.sent();
    b.next_sent(1_000_000);
    let now = info(&b, id);
    assert_eq!((now.bytes_sent, now.bytes_retrans, now.total_retrans), (1_400, 700, 1));
    assert_eq!((now.retransmits, now.backoff, now.data_segs_out), (1, 1, 2));
    b.peer(A, 1, 701, b"");
    let now = info(&b, id);
    assert_eq!((now.retransmits, now.backoff, now.bytes_acked), (0, 0, 700));
}

#[test]
fn the_age_of_the_last_data_starts_with_the_connection() {
    let (mut b, id) = Bench::connected();
    b.advance_us(1_000_000);
    assert_eq!(info(&b, id).last_data_recv_us, 1_000_000);
    b.peer(PA, 1, 1, b"x");
    assert_eq!((info(&b, id).last_data_recv_us, info(&b, id).last_ack_recv_us), (0, 0));
    assert_eq!(info(&b, id).last_data_sent_us, 1_000_000);
}

#[test]
fn rwnd_limited_is_the_time_with_data_and_no_window() {
    let (mut b, id) = Bench::connected();
    b.peer_wnd = 0;
    b.peer(A, 1, 1, b"");
    b.advance_us(50_000);
    assert_eq!(info(&b, id).rwnd_limited_us, 0);
    b.send(id, &[1; 1_000]).unwrap();
    b.sent();
    b.advance_us(100_000);
    assert_eq!((info(&b, id).rwnd_limited_us, info(&b, id).busy_us), (100_000, 100_000));
    b.peer_wnd = 2_000;
    b.peer(A, 1, 1, b"");
    assert_eq!(b.sent().len(), 1);
    b.advance_us(30_000);
    assert_eq!((info(&b, id).rwnd_limited_us, info(&b, id).busy_us), (100_000, 130_000));
    b.peer_wnd = 10;
    b.peer(A, 1, 1_001, b"");
    b.advance_us(500_000);
    b.send(id, &[1; 1_000]).unwrap();
    b.sent();
    b.advance_us(100_000);
    assert_eq!((info(&b, id).rwnd_limited_us, info(&b, id).busy_us), (200_000, 230_000));
}

#[test]
fn sndbuf_limited_is_the_time_with_room_in_the_windows_and_a_writer_refused() {
    let (mut b, id) = Bench::connected();
    let options = ConnOptions { send_buffer_bytes: Some(5_000), ..ConnOptions::default() };
    b.shard.set_options(b.now, id, options);
    assert_eq!(b.send(id, &[1; 9_000]), Ok(5_000));
    b.sent();
    b.advance_us(20_000);
    assert_eq!(info(&b, id).sndbuf_limited_us, 20_000);
    assert_eq!((info(&b, id).busy_us, info(&b, id).rwnd_limited_us), (20_000, 0));
    b.peer(A, 1, 5_001, b"");
    b.advance_us(20_000);
    assert_eq!(info(&b, id).sndbuf_limited_us, 20_000);
}
