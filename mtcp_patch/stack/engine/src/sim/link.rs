//! One direction of a link: a bottleneck with its queue, a delay, and every kind of bad luck, from a
//! seed and in virtual time.
//!
//! [`crate::device::faults`] mistreats single frames; here is what happens over time as well: a
//! rate, bursts of loss, delay spikes, a link that is down for a while or for good, and an MTU that
//! shrinks, with or without the ICMP message that says so.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use super::Random;
use crate::device::faults::Faults;
use crate::device::{Caps, Device, Medium, RxChecksum};
use crate::time::Instant;
use crate::wire::checksum::Sum;

/// After so long a silence a bad time is over, in microseconds.
const LONGEST_SILENCE_US: u64 = 10_000_000;

/// A stretch of virtual time, in microseconds from the beginning of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// When it begins.
    pub from_us: u64,
    /// When it is over; `u64::MAX`: never.
    pub until_us: u64,
}

impl Stretch {
    fn contains(&self, us: u64) -> bool {
        (self.from_us..self.until_us).contains(&us)
    }
}

/// What a link does over time. Odds in parts of a million.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Bits a second of the bottleneck; 0: no bottleneck.
    pub rate_bps: u64,
    /// What its queue holds, in bytes.
    pub queue_bytes: u64,
    /// Whether the queue, once half full, marks what is capable of it (RFC 3168 5) instead of waiting
    /// to overflow.
    pub marks: bool,
    /// Odds that a good time turns bad, and a bad one good, at each frame (Gilbert, Elliott).
    pub burst: Option<(u32, u32)>,
    /// Odds that a frame of a bad time is lost.
    pub burst_loss: u32,
    /// When every frame takes this much longer, in microseconds.
    pub spike: Option<(Stretch, u64)>,
    /// When nothing passes.
    pub down: Option<Stretch>,
    /// From when on larger packets do not pass, and whether ICMP says so.
    pub shrink: Option<Shrink>,
}

/// An MTU that shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shrink {
    /// When, in microseconds from the beginning of the run.
    pub at_us: u64,
    /// To how many bytes.
    pub mtu: usize,
    /// Whether a router says so, or the path is a black hole (RFC 2923 2.1).
    pub told: bool,
}

struct Pending {
    due: Instant,
    frame: Vec<u8>,
}

/// One direction of a link. The sender transmits into it, the receiver receives from it.
pub(super) struct Link {
    faults: Faults,
    weather: Weather,
    caps: Caps,
    random: Random,
    begin: Instant,
    now: Instant,
    /// When the bottleneck has sent what waits for it.
    idle_at: Instant,
    bad_time: bool,
    /// When a frame was sent last.
    last_frame: Instant,
    pending: VecDeque<Pending>,
    /// ICMP errors on their way back to the sender.
    errors: VecDeque<Pending>,
}

impl Link {
    pub(super) fn new(
        faults: Faults,
        weather: Weather,
        mtu: usize,
        random: Random,
        begin: Instant,
    ) -> Self {
        let caps = Caps {
            medium: Medium::Ip,
            mtu,
            rx_checksum: RxChecksum::Verify,
            tx_checksum: true,
            hw_addr: [0; 6],
        };
        Self {
            faults,
            weather,
            caps,
            random,
            begin,
            now: begin,
            idle_at: begin,
            bad_time: false,
            last_frame: begin,
            pending: VecDeque::new(),
            errors: VecDeque::new(),
        }
    }

    pub(super) fn advance(&mut self, now: Instant) {
        self.now = now;
    }

    /// When the next frame, or the next error for the sender, is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let first = |queue: &VecDeque<Pending>| queue.front().map(|pending| pending.due);
        [first(&self.pending), first(&self.errors)].into_iter().flatten().min()
    }

    /// The next ICMP error that has come back to the sender.
    pub(super) fn take_error(&mut self) -> Option<Vec<u8>> {
        let due = self.errors.front().is_some_and(|pending| pending.due <= self.now);
        due.then(|| self.errors.pop_front()).flatten().map(|pending| pending.frame)
    }

    fn elapsed_us(&self) -> u64 {
        self.now.micros_since(self.begin)
    }

    fn happens(&mut self, odds: u32) -> bool {
        self.random.below(1_000_000) < u64::from(odds)
    }

    /// Whether a frame is lost on the way, whatever its size.
    fn loses(&mut self) -> bool {
        // A bad time that only frames could end would outlast any number of retries.
        if self.now.micros_since(self.last_frame) > LONGEST_SILENCE_US {
            self.bad_time = false;
        }
        self.last_frame = self.now;
        if let Some((turn_bad, turn_good)) = self.weather.burst {
            let turn = if self.bad_time { turn_good } else { turn_bad };
            self.bad_time ^= self.happens(turn);
        }
        let burst = self.bad_time && self.happens(self.weather.burst_loss);
        let elapsed = self.elapsed_us();
        let down = self.weather.down.is_some_and(|down| down.contains(elapsed));
        self.happens(self.faults.loss) || burst || down
    }

    /// Puts a frame on its way, or loses it.
    fn depart(&mut self, mut frame: Vec<u8>) {
        let elapsed = self.elapsed_us();
        if let Some(shrink) = self.weather.shrink.filter(|shrink| elapsed >= shrink.at_us) {
            if frame.len() > shrink.mtu {
                if shrink.told {
                    let due = self.now + self.faults.delay_us;
                    let frame = too_big(&frame, shrink.mtu);
                    self.errors.push_back(Pending { due, frame });
                }
                return;
            }
        }
        if self.loses() {
            return;
        }
        let Some(sent) = self.through_bottleneck(&mut frame) else { return };
        if self.happens(self.faults.corrupt) {
            let bit = self.random.below(frame.len() as u64 * 8);
            if let Some(byte) = frame.get_mut((bit / 8) as usize) {
                *byte ^= 1 << (bit % 8);
            }
        }
        let mut due = sent + self.faults.delay_us;
        if self.faults.jitter_us > 0 {
            due = due + self.random.below(self.faults.jitter_us);
        }
        if self.happens(self.faults.reorder) {
            due = due + self.faults.reorder_us;
        }
        if let Some((_, by)) = self.weather.spike.filter(|(when, _)| when.contains(elapsed)) {
            due = due + by;
        }
        let at = self.pending.partition_point(|other| other.due <= due);
        self.pending.insert(at, Pending { due, frame });
    }

    /// When a frame has left the bottleneck; `None`: the queue is full.
    fn through_bottleneck(&mut self, frame: &mut [u8]) -> Option<Instant> {
        let len = frame.len() as u64;
        if self.faults.capacity > 0 && self.pending.len() >= self.faults.capacity {
            return None;
        }
        let rate = self.weather.rate_bps;
        if rate == 0 {
            return Some(self.now);
        }
        let begin = self.idle_at.max(self.now);
        let waiting_bytes = begin.micros_since(self.now).saturating_mul(rate) / 8_000_000;
        if waiting_bytes + len > self.weather.queue_bytes.max(len) {
            return None;
        }
        if self.weather.marks && waiting_bytes > self.weather.queue_bytes / 2 {
            mark(frame);
        }
        self.idle_at = begin + (len * 8_000_000 / rate).max(1);
        Some(self.idle_at)
    }
}

impl Device for Link {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) -> usize {
        let mut received = 0;
        while received < budget && self.pending.front().is_some_and(|p| p.due <= self.now) {
            let Some(pending) = self.pending.pop_front() else { break };
            received += 1;
            sink(&pending.frame);
        }
        received
    }

    fn transmit(&mut self, len: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        let mut frame = vec![0xa5; len];
        fill(&mut frame);
        if self.happens(self.faults.duplicate) {
            self.depart(frame.clone());
        }
        self.depart(frame);
        true
    }

    fn flush(&mut self) {}
}

/// RFC 3168 5: ECT becomes CE; what is not capable stays as it is.
fn mark(packet: &mut [u8]) {
    let Some([version, second]) = packet.first_chunk_mut() else { return };
    if *version >> 4 == 6 {
        if *second & 0x30 != 0 {
            *second |= 0x30;
        }
    } else if *second & 3 != 0 {
        *second |= 3;
        put(packet, 10, &[0; 2]);
        let check = packet.get(..20).map(|header| Sum::default().bytes(header).finish());
        put(packet, 10, &check.unwrap_or_default().to_be_bytes());
    }
}

/// What a router answers to a packet that does not fit (RFC 1191 4, RFC 4443 3.2).
fn too_big(packet: &[u8], mtu: usize) -> Vec<u8> {
    let v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let mtu = u32::try_from(mtu).unwrap_or(u32::MAX).to_be_bytes();
    let (kind, code) = if v4 { (3, 4) } else { (2, 0) };
    let mut message = vec![kind, code, 0, 0];
    message.extend(mtu);
    message.extend(packet.iter().take(if v4 { 28 } else { 1000 }));
    let header_len = if v4 { 20 } else { 40 };
    let mut frame: Vec<u8> = packet.iter().take(header_len).copied().collect();
    let (source, addresses) = if v4 { (12, 4) } else { (8, 16) };
    // From the destination's own address back to the source: the router behind it has none here.
    let (ours, theirs) = (source..source + addresses, source + addresses..source + 2 * addresses);
    let swapped: Vec<u8> =
        [packet.get(theirs), packet.get(ours)].into_iter().flatten().flatten().copied().collect();
    put(&mut frame, source, &swapped);
    let len = u16::try_from(message.len()).unwrap_or(0);
    let sum = if v4 {
        put(&mut frame, 2, &(len + 20).to_be_bytes());
        put(&mut frame, 9, &[1, 0, 0]);
        let check = Sum::default().bytes(&frame).finish();
        put(&mut frame, 10, &check.to_be_bytes());
        Sum::default()
    } else {
        put(&mut frame, 4, &len.to_be_bytes());
        put(&mut frame, 6, &[58]);
        Sum::default().pseudo_header(&swapped, 58, message.len())
    };
    let check = sum.bytes(&message).finish();
    put(&mut message, 2, &check.to_be_bytes());
    frame.extend(message);
    frame
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(field) = to.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{parse, Flags, Header, IcmpKind, Options, Parsed, Seq};
    use std::vec::Vec;

    fn link(faults: Faults, weather: Weather) -> Link {
        Link::new(faults, weather, 1500, Random::new(1), Instant::default())
    }

    fn header(seq: u32) -> Header {
        let nowhere = core::net::SocketAddr::from(([0; 4], 0));
        Header {
            link: crate::wire::Link::default(),
            src: nowhere,
            dst: nowhere,
            seq: Seq(seq),
            ack: Seq(0),
            flags: Flags::ACK,
            wnd: 1,
            options: Options::default(),
            urgent: 0,
            ecn: 0,
            dscp: 0,
            hop_limit: 64,
            ip_id: 0,
        }
    }

    /// Sends `count` frames of 1000 bytes a millisecond apart; when each arrives.
    fn arrivals(link: &mut Link, count: u64) -> Vec<u64> {
        let mut times = Vec::new();
        for ms in 0..count {
            link.advance(Instant::from_micros(ms * 1000));
            assert!(link.transmit(1000, &mut |_| {}));
        }
        while let Some(due) = link.next_due() {
            link.advance(due);
            link.receive(1, &mut |_| times.push(due.micros));
        }
        times
    }

    #[test]
    fn the_bottleneck_spaces_frames_and_its_queue_overflows() {
        let weather = Weather { rate_bps: 4_000_000, queue_bytes: 5_000, ..Weather::default() };
        let times = arrivals(&mut link(Faults::default(), weather), 100);
        // 1000 bytes take 2 ms, twice what they are offered at: half are lost, the rest is even.
        assert!((50..=56).contains(&times.len()), "{}", times.len());
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 2000), "{times:?}");
    }

    #[test]
    fn a_queue_that_is_half_full_marks_what_is_capable() {
        let weather =
            Weather { rate_bps: 8_000, queue_bytes: 3_000, marks: true, ..Weather::default() };
        for (address, capable) in [("10.0.0.1:1", true), ("10.0.0.1:1", false), ("[::1]:1", true)] {
            let header = Header {
                src: address.parse().unwrap(),
                dst: address.parse().unwrap(),
                flags: Flags::ACK,
                ecn: if capable { 2 } else { 0 },
                ..header(1)
            };
            let mut link = link(Faults::default(), weather.clone());
            let caps = link.caps();
            let len = header.len(Medium::Ip) + 900;
            for _ in 0..3 {
                link.transmit(len, &mut |out| header.emit(&caps, [&[7; 900], &[]], out));
            }
            link.advance(Instant::from_micros(u64::MAX));
            let mut seen = vec![];
            link.receive(9, &mut |frame| {
                let Ok(Parsed::Tcp(segment)) = parse(frame, &caps) else { panic!("{frame:?}") };
                seen.push(segment.ecn);
            });
            assert_eq!(seen, if capable { [2, 2, 3] } else { [0, 0, 0] });
        }
    }

    #[test]
    fn losses_come_in_bursts() {
        let burst = Some((10_000, 200_000));
        let weather = Weather { burst, burst_loss: 1_000_000, ..Weather::default() };
        let times = arrivals(&mut link(Faults::default(), weather), 20_000);
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let lost: u64 = gaps.iter().map(|gap| gap / 1000 - 1).sum();
        let bursts = gaps.iter().filter(|gap| **gap > 1000).count() as u64;
        // One frame in 21 is of a bad time, and five in a row.
        assert!(
            (500..1_700).contains(&lost) && (3..8).contains(&(lost / bursts)),
            "{lost} {bursts}"
        );
    }

    #[test]
    fn a_bad_time_does_not_outlast_a_silence() {
        let weather =
            Weather { burst: Some((1_000_000, 0)), burst_loss: 1_000_000, ..Weather::default() };
        let mut link = link(Faults::default(), weather);
        let mut lost = 0;
        for at in [1_000, 1_000 + LONGEST_SILENCE_US, 1_000 + 2 * LONGEST_SILENCE_US + 1] {
            link.weather.burst = Some((if at == 1_000 { 1_000_000 } else { 0 }, 0));
            link.advance(Instant::from_micros(at));
            lost += u32::from(link.loses());
        }
        assert_eq!(lost, 2, "the first, and the one not more than that after it");
    }

    #[test]
    fn a_spike_delays_and_an_outage_loses() {
        let when = |from_us, until_us| Stretch { from_us, until_us };
        let spike = Some((when(10_000, 20_000), 500_000));
        let weather = Weather { spike, down: Some(when(40_000, 60_000)), ..Weather::default() };
        let times = arrivals(&mut link(Faults::default(), weather), 100);
        assert_eq!(times.len(), 80);
        assert_eq!(times.iter().filter(|time| **time >= 500_000).count(), 10);
    }

    #[test]
    fn a_packet_that_does_not_fit_comes_back_as_icmp() {
        for (src, dst) in [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00::1]:1", "[fd00::2]:2")] {
            let shrink = Some(Shrink { at_us: 0, mtu: 1280, told: true });
            let mut link = link(Faults::default(), Weather { shrink, ..Weather::default() });
            let ends = (src.parse().unwrap(), dst.parse().unwrap());
            let header = Header { src: ends.0, dst: ends.1, ..header(77) };
            let payload = vec![0; 1400];
            let caps = link.caps();
            let len = header.len(Medium::Ip) + payload.len();
            assert!(link.transmit(len, &mut |out| header.emit(&caps, [&payload, &[]], out)));
            let error = link.take_error().unwrap();
            let Ok(Parsed::Icmp(error)) = parse(&error, &caps) else { panic!("{error:?}") };
            assert_eq!(error.kind, IcmpKind::FragNeeded { mtu: 1280 });
            assert_eq!((error.local, error.remote), (header.src, header.dst));
            assert_eq!(error.seq, Seq(77));
            assert_eq!(link.next_due(), None, "the packet itself is gone");
        }
    }
}
