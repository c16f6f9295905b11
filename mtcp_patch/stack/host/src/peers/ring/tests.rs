use super::*;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Plain memory in which a test may write what it likes.
struct Plain {
    words: [AtomicU32; 3],
    bytes: RefCell<Vec<u8>>,
}

type Handle = Rc<Plain>;

impl Shared for Handle {
    fn producer(&self) -> &AtomicU32 {
        &self.words[0]
    }

    fn consumer(&self) -> &AtomicU32 {
        &self.words[1]
    }

    fn asleep(&self) -> &AtomicU32 {
        &self.words[2]
    }

    fn bytes(&self) -> u32 {
        self.bytes.borrow().len() as u32
    }

    fn read(&self, at: u32, into: &mut [u8]) {
        assert_eq!(at % 8, 0);
        into.copy_from_slice(&self.bytes.borrow()[at as usize..][..into.len()]);
    }

    fn write(&self, at: u32, from: &[u8]) {
        assert_eq!(at % 8, 0);
        self.bytes.borrow_mut()[at as usize..][..from.len()].copy_from_slice(from);
    }
}

fn pair(bytes: usize) -> (Handle, Producer<Handle>, Consumer<Handle>) {
    let words = [0, 0, 0].map(AtomicU32::new);
    let ring = Rc::new(Plain { words, bytes: RefCell::new(vec![0; bytes]) });
    (Rc::clone(&ring), Producer::new(Rc::clone(&ring)), Consumer::new(ring))
}

fn send(p: &mut Producer<Handle>, frame: &[u8]) -> bool {
    let room = p.make_room(frame.len()) == Ok(true);
    if room {
        p.push(frame);
    }
    room
}

fn take(c: &mut Consumer<Handle>) -> Result<Option<Vec<u8>>, Corrupt> {
    let mut frame = vec![0; 65_535];
    Ok(c.pop(&mut frame)?.map(|len| frame[..len].to_vec()))
}

#[test]
fn nothing_is_seen_before_publish_and_no_room_before_release() {
    let (_, mut p, mut c) = pair(256);
    assert!(send(&mut p, b"one") && send(&mut p, &[7; 3 * 64 - HEADER as usize]));
    assert_eq!((c.look(), take(&mut c)), (Ok(false), Ok(None)));
    p.publish();
    assert_eq!((c.look(), take(&mut c)), (Ok(true), Ok(Some(b"one".to_vec()))));
    assert!(!send(&mut p, b"x"), "not released");
    c.release();
    assert!(send(&mut p, b"x"));
    assert_eq!(take(&mut c).unwrap().unwrap().len(), 184);
    assert_eq!(take(&mut c), Ok(None), "x is not published");
}

#[test]
fn frames_of_any_length_come_out_as_they_went_in_however_the_indices_wrap() {
    let (ring, mut p, mut c) = pair(64 * 1024);
    // The indices wrap early on.
    let start = u32::MAX - 64 * 1024 + 1;
    ring.producer().store(start, Ordering::Relaxed);
    ring.consumer().store(start, Ordering::Relaxed);
    (p.next, p.published, p.consumer) = (start, start, start);
    (c.next, c.released, c.producer) = (start, start, start);
    let mut model: VecDeque<Vec<u8>> = VecDeque::new();
    let mut random = 88_172_645_463_325_252_u64;
    let (mut sent, mut refused) = (0, 0);
    for step in 0..if cfg!(miri) { 300 } else { 40_000_u32 } {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let frame: Vec<u8> =
            (0..(random >> 8) % 9_000 + 1).map(|i| (step ^ i as u32) as u8).collect();
        match random & 7 {
            0..5 => {
                if send(&mut p, &frame) {
                    model.push_back(frame);
                    sent += 1;
                } else {
                    refused += 1;
                }
            }
            _ => {
                p.publish();
                c.look().unwrap();
                for _ in 0..(random >> 32) % 12 {
                    let Some(frame) = take(&mut c).unwrap() else { break };
                    assert_eq!(Some(frame), model.pop_front());
                }
                c.release();
            }
        }
    }
    assert!(cfg!(miri) || sent > 1_000 && refused > 100, "sent {sent}, refused {refused}");
}

#[test]
fn sides_that_keep_up_with_each_other_stay_at_the_beginning() {
    let (_, mut p, mut c) = pair(1 << 20);
    for _ in 0..10_000 {
        assert!(send(&mut p, &[1; 100]));
        p.publish();
        c.look().unwrap();
        assert!(take(&mut c).unwrap().is_some());
        c.release();
        assert!(p.next & ((1 << 20) - 1) <= REWIND + occupied(100));
    }
}

#[test]
fn what_is_larger_than_the_ring_or_empty_is_refused() {
    let (_, mut p, _) = pair(1024);
    for len in [0, 1024 - 7, 1025, usize::MAX] {
        assert_eq!(p.make_room(len), Ok(false), "{len}");
    }
    assert_eq!(p.make_room(1024 - 8), Ok(true));
}

#[test]
fn a_consumer_that_takes_what_is_not_there_is_corrupt() {
    let (ring, mut p, _) = pair(256);
    for _ in 0..4 {
        assert!(send(&mut p, b"x"));
    }
    for lie in [64, 256, u32::MAX] {
        ring.consumer().store(lie, Ordering::Relaxed);
        assert_eq!(p.make_room(1), Err(Corrupt), "nothing was published: {lie}");
    }
    ring.consumer().store(0, Ordering::Relaxed);
    p.publish();
    ring.consumer().store(192, Ordering::Relaxed);
    assert_eq!(p.make_room(1), Ok(true));
    p.push(b"y");
    ring.consumer().store(128, Ordering::Relaxed);
    assert_eq!(p.make_room(250), Ok(false), "not looked at while there is room");
    assert!(send(&mut p, b"z") && send(&mut p, b"z"));
    assert_eq!(p.make_room(1), Err(Corrupt), "it goes back");
}

#[test]
fn a_producer_index_that_cannot_be_is_corrupt() {
    let (ring, _, mut c) = pair(256);
    for lie in [1, 63, 65, 320, 1 << 31, u32::MAX, u32::MAX - 63] {
        ring.producer().store(lie, Ordering::Relaxed);
        assert_eq!((c.look(), take(&mut c)), (Err(Corrupt), Ok(None)), "{lie}");
    }
}

#[test]
fn a_length_that_cannot_be_is_corrupt_and_nothing_outside_is_read() {
    let lies = [0, 57, 249, 256, 65_536, SKIP - 1, SKIP - 8, SKIP - 64, SKIP];
    for lie in lies {
        let (ring, _, mut c) = pair(256);
        ring.write(0, &header(lie));
        ring.producer().store(64, Ordering::Relaxed);
        assert_eq!(c.look(), Ok(true));
        assert_eq!(take(&mut c), Err(Corrupt), "{lie}");
    }
    // The last line of the ring, with frames said to go on behind its end.
    let (ring, mut p, mut c) = pair(256);
    for _ in 0..3 {
        assert!(send(&mut p, b"x"));
    }
    p.publish();
    c.look().unwrap();
    while take(&mut c).unwrap().is_some() {}
    ring.write(192, &header(100));
    ring.producer().store(192 + 256, Ordering::Relaxed);
    assert_eq!((c.look(), take(&mut c)), (Ok(true), Err(Corrupt)));
}

#[test]
fn a_frame_larger_than_the_caller_takes_is_corrupt() {
    let (_, mut p, mut c) = pair(1024);
    assert!(send(&mut p, &[1; 101]));
    p.publish();
    c.look().unwrap();
    assert_eq!(c.pop(&mut [0; 100]), Err(Corrupt));
}

#[test]
fn a_sleeper_is_woken_once_and_knows_whether_it_was() {
    let (_, mut p, mut c) = pair(1024);
    assert_eq!(c.arm(), Ok(true));
    assert!(send(&mut p, b"a") && p.publish());
    assert!(send(&mut p, b"b") && !p.publish(), "the bell was rung");
    assert!(!p.publish(), "nothing new");
    assert!(c.disarm() && !c.disarm());
    assert_eq!(c.arm(), Ok(false), "there are frames");
    assert!(!c.disarm());
    assert!(send(&mut p, b"c") && !p.publish(), "it is awake");
}
