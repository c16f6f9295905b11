//! What an application says of a single write: `MSG_EOR` and `MSG_MORE`.

use alloc::vec;

use super::*;
use crate::limits::MAX_SENT_SEGMENTS;
use crate::shard::SendFlags;

const MORE: SendFlags = SendFlags { more: true, end_of_record: false };
const EOR: SendFlags = SendFlags { more: false, end_of_record: true };

fn write(b: &mut Bench, id: ConnId, bytes: usize, flags: SendFlags) -> Result<usize, Error> {
    b.shard.send_with(b.now, id, &vec![1; bytes], flags)
}

#[test]
fn a_write_with_msg_eor_shares_its_last_segment_with_no_later_one() {
    let (mut b, id) = Bench::accepted();
    for bytes in [400, 1300, 400] {
        write(&mut b, id, bytes, EOR).unwrap();
    }
    write(&mut b, id, 1000, SendFlags::default()).unwrap();
    let expected = [(PA, 1, 1, 400), (A, 401, 1, 1000), (PA, 1401, 1, 300), (PA, 1701, 1, 400)];
    assert_eq!(b.brief(), [&expected[..], &[(PA, 2101, 1, 1000)]].concat());
}

#[test]
fn a_write_with_msg_eor_joins_what_was_left_by_an_earlier_one() {
    let (mut b, id) = Bench::accepted();
    write(&mut b, id, 400, SendFlags::default()).unwrap();
    write(&mut b, id, 400, EOR).unwrap();
    write(&mut b, id, 400, SendFlags::default()).unwrap();
    // The rest is the last segment, and Nagle holds that.
    assert_eq!(b.brief(), [(PA, 1, 1, 800)]);
    b.peer(A, 1, 801, b"");
    assert_eq!(b.brief(), [(PA, 801, 1, 400)]);
}

#[test]
fn the_end_of_a_record_stays_the_end_of_a_segment_when_it_is_sent_again() {
    let (mut b, id) = Bench::accepted();
    for _ in 0..4 {
        write(&mut b, id, 400, EOR).unwrap();
    }
    // Nagle holds the last.
    assert_eq!(b.brief().len(), 3);
    let (_, again) = b.next_sent(3_000_000);
    assert_eq!(again[0].brief(), (PA, 1, 1, 400));
}

/// The marks are bounded as the segments are that they make.
#[test]
fn a_writer_of_records_waits_when_too_many_are_unacknowledged() {
    let (mut b, id) = Bench::accepted();
    for _ in 0..MAX_SENT_SEGMENTS {
        assert_eq!(write(&mut b, id, 1, EOR), Ok(1));
    }
    assert_eq!(write(&mut b, id, 1, EOR), Err(Error::WouldBlock));
    assert_eq!(b.shard.readiness(id) & crate::event::ready::OUT, 0);
    let out = b.brief().len() as u32;
    b.peer(A, 1, 1 + out, b"");
    assert_ne!(b.shard.readiness(id) & crate::event::ready::OUT, 0);
    assert_eq!(write(&mut b, id, 1, EOR), Ok(1));
}

/// Linux: a small rest waits in spite of TCP_NODELAY, as long as a cork holds.
#[test]
fn msg_more_holds_a_partial_segment_until_a_write_without_it() {
    let (mut b, id) = Bench::accepted();
    b.shard.set_options(b.now, id, ConnOptions { nodelay: true, ..ConnOptions::default() });
    write(&mut b, id, 1100, MORE).unwrap();
    assert_eq!(b.brief(), [(A, 1, 1, 1000)]);
    write(&mut b, id, 100, SendFlags::default()).unwrap();
    assert_eq!(b.brief(), [(PA, 1001, 1, 200)]);
}

#[test]
fn msg_more_holds_for_a_while_only() {
    let (mut b, id) = Bench::accepted();
    write(&mut b, id, 40, MORE).unwrap();
    assert_eq!(b.brief(), []);
    let (us, sent) = b.next_sent(1_000_000);
    assert!((200_000..210_000).contains(&us), "{us}");
    assert_eq!(sent[0].brief(), (PA, 1, 1, 40));
}

/// Linux `tcp_data_snd_check`: the flag is that of the call. What it held leaves without PSH.
#[test]
fn msg_more_holds_until_the_next_segment_of_the_peer() {
    let (mut b, id) = Bench::accepted();
    b.shard.set_options(b.now, id, ConnOptions { nodelay: true, ..ConnOptions::default() });
    write(&mut b, id, 1150, MORE).unwrap();
    assert_eq!(b.brief(), [(A, 1, 1, 1000)]);
    b.peer(A, 1, 1001, b"");
    assert_eq!(b.brief(), [(A, 1001, 1, 150)]);
}

/// Each TCP_NODELAY pushes, also one that changes nothing.
#[test]
fn nodelay_pushes_what_msg_more_holds() {
    let (mut b, id) = Bench::accepted();
    let nodelay = ConnOptions { nodelay: true, ..ConnOptions::default() };
    b.shard.set_options(b.now, id, nodelay);
    write(&mut b, id, 80, MORE).unwrap();
    b.shard.set_options(b.now, id, nodelay);
    assert_eq!(b.brief(), []);
    b.shard.push(id);
    assert_eq!(b.brief(), [(A, 1, 1, 80)]);
}
