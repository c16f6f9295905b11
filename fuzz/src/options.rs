//! Option bytes: what is read is written and read again unchanged; a SYN with any options opens a
//! connection within the bounds, and an acknowledgment with any options ends none.

use core::net::SocketAddr;
use mtcp_engine::device::{Caps, Medium, RxChecksum};
use mtcp_engine::wire::{self, Flags, Header, Link, Options, Parsed, Seq};
use mtcp_engine::{Config, State};

use crate::parse::check_options;
use crate::peer::{caps, Bench, Fields, DEVICE};

const US: ([u8; 4], u16) = ([10, 0, 0, 2], 80);
const PEER: ([u8; 4], u16) = ([10, 0, 0, 1], 4000);
const ISS: Seq = Seq(u32::MAX - 3);

/// The first byte: where the options stand. The rest: the options.
pub fn run(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let bytes = bytes.get(..40).unwrap_or(bytes);
    round_trip(if choice & 1 == 0 { Flags::SYN } else { Flags::ACK }, bytes);
    if choice & 2 == 0 {
        let syn = bytes.get(..usize::from(choice >> 2) % 41).unwrap_or(bytes);
        let later = bytes.get(syn.len()..).unwrap_or_default();
        connection(syn, later);
    }
}

/// A segment whose option bytes are `options`, padded with End.
fn frame(flags: Flags, seq: Seq, ack: Seq, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = Header {
        link: Link::default(),
        src: SocketAddr::from(PEER),
        dst: SocketAddr::from(US),
        seq,
        ack,
        flags,
        wnd: 1000,
        options: Options::default(),
        urgent: 0,
        ecn: 0,
        dscp: 0,
        hop_limit: 64,
        ip_id: 0,
    };
    let mut padded = options.to_vec();
    padded.resize(options.len().div_ceil(4) * 4, 0);
    let mut frame = vec![0; header.len(Medium::Ip)];
    header.emit(&caps(), [&[], &[]], &mut frame);
    frame.extend(&padded);
    frame.extend(payload);
    let len = u16::try_from(frame.len()).unwrap();
    frame[2..4].copy_from_slice(&len.to_be_bytes());
    frame[32] = (((20 + padded.len()) / 4) << 4) as u8;
    frame
}

fn trusting() -> Caps {
    Caps { rx_checksum: RxChecksum::Trusted, ..caps() }
}

fn read(frame: &[u8]) -> Option<Options> {
    match wire::parse(frame, &trusting()) {
        Ok(Parsed::Tcp(segment)) => {
            check_options(&segment.options, segment.flags);
            Some(segment.options)
        }
        Ok(Parsed::Icmp(error)) => panic!("{error:?}"),
        Err(reason) => {
            assert_eq!(reason, wire::Drop::BadOptions);
            None
        }
    }
}

fn round_trip(flags: Flags, bytes: &[u8]) {
    let Some(options) = read(&frame(flags, ISS, Seq(0), bytes, b"")) else { return };
    let header = Header {
        link: Link::default(),
        src: SocketAddr::from(PEER),
        dst: SocketAddr::from(US),
        seq: ISS,
        ack: Seq(0),
        flags,
        wnd: 1000,
        options,
        urgent: 0,
        ecn: 0,
        dscp: 0,
        hop_limit: 64,
        ip_id: 0,
    };
    let mut out = vec![0xa5; header.len(Medium::Ip)];
    header.emit(&caps(), [&[], &[]], &mut out);
    let again = read(&out);
    // Blocks that do not fit beside the rest are left out, the last first (RFC 2018 4).
    let Some(again) = again else { panic!("what we write we cannot read: {options:?}") };
    let without = |o: Options| Options { sack: [None; 4], ..o };
    assert_eq!(without(again), without(options));
    let (kept, all) = (again.sack.iter().flatten(), options.sack.iter().flatten());
    assert!(kept.clone().count() >= all.clone().count().min(3), "{options:?}");
    assert!(kept.zip(all).all(|(a, b)| a == b), "{again:?} of {options:?}");
}

/// A handshake and some data, with these option bytes in the SYN and behind it.
fn connection(syn: &[u8], later: &[u8]) {
    let mut bench = Bench::new(Config::default());
    let trusting = trusting();
    bench.shard.add_device(DEVICE, trusting);
    let listener = bench.listen(SocketAddr::from(US), 4);
    let readable = read(&frame(Flags::SYN, ISS, Seq(0), syn, b""));
    bench.shard.handle_frame(bench.now, DEVICE, &frame(Flags::SYN, ISS, Seq(0), syn, b""));
    let sent = bench.sent(9);
    let (Some(offer), [syn_ack]) = (readable, &sent[..]) else {
        assert!(readable.is_none() && sent.is_empty(), "{readable:?}: {sent:?}");
        return;
    };
    assert_eq!((syn_ack.flags, syn_ack.ack), (Flags::SYN | Flags::ACK, ISS + 1));
    // RFC 7323 2.2 and 3.2, RFC 2018 2: only what was offered is answered.
    let answer = &syn_ack.options;
    assert!(answer.wscale.is_none() || offer.wscale.is_some(), "{offer:?}: {answer:?}");
    assert!(answer.timestamps.is_none() || offer.timestamps.is_some(), "{offer:?}: {answer:?}");
    assert!(!answer.sack_permitted || offer.sack_permitted, "{offer:?}: {answer:?}");
    if let (Some(ours), Some(theirs)) = (answer.timestamps, offer.timestamps) {
        assert_eq!(ours.1, theirs.0, "RFC 7323 3.2: TSecr of the SYN-ACK");
    }
    let (iss, stamp) = (syn_ack.seq, answer.timestamps);
    let fields = Fields {
        flags: Flags::ACK,
        seq: ISS + 1,
        ack: iss + 1,
        wnd: 1000,
        urgent: 0,
        options: Options {
            timestamps: stamp.map(|(ours, theirs)| (theirs, ours)),
            ..Options::default()
        },
        ecn: 0,
    };
    bench.peer(SocketAddr::from(PEER), SocketAddr::from(US), &fields, b"");
    let id = bench.shard.accept(listener).unwrap();
    let info = bench.shard.info(id).unwrap();
    assert!((1..=1460).contains(&info.mss), "{}", info.mss);
    bench.shard.send(bench.now, id, &[7; 3000]).unwrap();
    bench.sent(99);
    // RFC 9293 3.10.7.4: no option of an acknowledgment ends a connection.
    bench.shard.handle_frame(
        bench.now,
        DEVICE,
        &frame(Flags::ACK, ISS + 1, iss + 1, later, b"data"),
    );
    bench.check();
    assert_eq!(bench.shard.info(id).unwrap().state, State::Established);
    bench.sent(99);
    bench.shard.abort(bench.now, id);
    bench.shard.close_listener(bench.now, listener);
    bench.expect_the_end();
}
