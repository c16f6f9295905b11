//! Urgent data, both ways, as Linux has it.

use super::*;
use crate::event::ready;

const URG: Flags = Flags(32 | 16);
const PU: Flags = Flags(32 | 16 | 8);

/// The peer sends `payload`, whose octet before `pointer` is urgent.
fn peer_urgent(b: &mut Bench, seq: u32, pointer: u16, payload: &[u8]) {
    b.peer_pointer = pointer;
    b.peer(URG, seq, 1, payload);
    b.peer_pointer = 0;
}

/// RFC 9293 3.8.5 (MUST-30, MUST-62); RFC 6093 3.1: the pointer is that of the octet after the urgent one.
#[test]
fn what_is_sent_urgently_is_marked_until_it_is_acknowledged() {
    let (mut b, id) = Bench::accepted();
    assert_eq!(b.shard.send_urgent(b.now, id, b"abc"), Ok(3));
    let sent = b.sent();
    assert_eq!((sent[0].brief(), sent[0].urgent), ((PU, 1, 1, 3), 3));
    // Nagle holds nothing urgent back; the mark moves.
    assert_eq!(b.shard.send_urgent(b.now, id, b"d"), Ok(1));
    let sent = b.sent();
    assert_eq!((sent[0].brief(), sent[0].urgent), ((PU, 4, 1, 1), 1));
    b.peer(A, 1, 5, b"");
    b.send(id, b"e").unwrap();
    assert_eq!(b.brief(), [(PA, 5, 1, 1)]);
}

#[test]
fn an_urgent_octet_far_ahead_is_pointed_at_when_it_is_near() {
    let mut b = Bench::new();
    b.peer_options.wscale = Some(7);
    b.peer_wnd = 60_000;
    let id = b.accept();
    b.peer(A, 1, 1, b"");
    b.shard.send_urgent(b.now, id, &[1; 100_000]).unwrap();
    let mut acked = 1;
    let mut pointers = Vec::new();
    while acked < 100_001 {
        for sent in b.sent() {
            acked = sent.seq + sent.payload.len() as u32;
            if sent.flags.contains(Flags::URG) {
                let at = sent.seq + u32::from(sent.urgent);
                pointers.push(if sent.urgent == u16::MAX { 0 } else { at });
            }
        }
        b.peer(A, 1, acked, b"");
    }
    assert!(pointers.len() > 60 && pointers.iter().all(|at| *at == 0 || *at == 100_001));
}

/// RFC 9293 3.8.5 (MUST-32): the application hears of it.
#[test]
fn out_of_line_the_octet_is_taken_by_itself_and_skipped_in_the_stream() {
    let (mut b, id) = Bench::accepted();
    assert_eq!(b.shard.recv_urgent(id, false), Err(Error::Invalid));
    peer_urgent(&mut b, 1, 3, b"abUcd");
    assert_eq!(b.events(), [Event::Conn(id)]);
    assert_eq!(b.shard.readiness(id) & (ready::IN | ready::PRI), ready::IN | ready::PRI);
    assert_eq!((b.recv(id).unwrap(), b.shard.is_at_mark(id)), (b"ab".to_vec(), true));
    assert_eq!(b.shard.info(id).unwrap().unread_bytes, 0);
    assert_eq!(b.shard.recv_urgent(id, true), Ok(Some(b'U')));
    assert_eq!(b.shard.recv_urgent(id, false), Ok(Some(b'U')));
    assert_eq!(b.shard.recv_urgent(id, false), Err(Error::Invalid));
    assert_eq!(b.shard.readiness(id) & ready::PRI, 0);
    assert_eq!((b.recv(id).unwrap(), b.shard.is_at_mark(id)), (b"cd".to_vec(), false));
}

#[test]
fn inline_the_octet_stays_in_the_stream_behind_a_mark() {
    let (mut b, id) = Bench::accepted();
    let inline = ConnOptions { oob_inline: true, ..ConnOptions::default() };
    b.shard.set_options(b.now, id, inline);
    peer_urgent(&mut b, 1, 3, b"abUcd");
    assert_eq!((b.recv(id).unwrap(), b.shard.is_at_mark(id)), (b"ab".to_vec(), true));
    assert_eq!(b.shard.recv_urgent(id, false), Err(Error::Invalid));
    assert_eq!(b.recv(id).unwrap(), b"Ucd");
    assert_eq!(b.shard.readiness(id) & ready::PRI, 0);
}

#[test]
fn an_announced_octet_is_not_there_before_it_arrives() {
    let (mut b, id) = Bench::accepted();
    peer_urgent(&mut b, 1, 5, b"ab");
    assert_eq!(b.shard.recv_urgent(id, false), Err(Error::WouldBlock));
    assert_eq!(b.recv(id).unwrap(), b"ab");
    b.peer(A, 3, 1, b"cdU");
    assert_eq!(b.shard.recv_urgent(id, false), Ok(Some(b'U')));
    assert_eq!(b.recv(id).unwrap(), b"cd");
    // The urgent octet alone is nothing to read.
    assert_eq!((b.recv(id), b.shard.readiness(id) & ready::IN), (Err(Error::WouldBlock), 0));
    b.peer(FA, 6, 1, b"");
    assert_eq!(b.recv(id).unwrap(), b"");
}

/// Linux `tcp_check_urg`: a second mark takes the place of the first.
/// RFC 9293 MUST-31.
#[test]
fn a_later_octet_replaces_one_that_nobody_took() {
    let (mut b, id) = Bench::accepted();
    peer_urgent(&mut b, 1, 1, b"U");
    peer_urgent(&mut b, 2, 2, b"aV");
    assert_eq!(b.shard.recv_urgent(id, false), Ok(Some(b'V')));
    assert_eq!(b.recv(id).unwrap(), b"a");
    // A repetition of what was read is no news.
    peer_urgent(&mut b, 1, 1, b"U");
    assert_eq!(b.shard.recv_urgent(id, false), Err(Error::Invalid));
}
