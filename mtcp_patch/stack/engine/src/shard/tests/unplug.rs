use super::*;
use crate::device::DeviceId;
use crate::event::ready;

/// Unplugs the only device and checks the tables.
fn unplug(b: &mut Bench) {
    b.shard.remove_device(b.now, DEVICE);
    b.shard.check().unwrap();
}

#[test]
fn connections_of_a_device_that_is_gone_are_reset_and_what_had_arrived_stays_readable() {
    let (mut b, id) = Bench::accepted();
    b.peer(PA, 1, 1, b"last words");
    b.send(id, b"never sent").unwrap();
    b.events();
    unplug(&mut b);
    assert_eq!(b.events(), [Event::Conn(id)]);
    let all = ready::IN | ready::OUT | ready::ERR | ready::HUP | ready::RDHUP;
    assert_eq!((b.state(id), b.shard.readiness(id)), (State::Closed, all));
    assert_eq!(b.recv(id).unwrap(), b"last words");
    assert_eq!(b.recv(id), Err(Error::ConnectionReset));
    assert_eq!(b.shard.next_timeout(), None);
    assert!(!b.shard.has_output(DEVICE));
}

#[test]
fn an_attempt_to_connect_over_it_is_refused() {
    let mut b = Bench::new();
    let id = b.connect();
    unplug(&mut b);
    assert_eq!(b.shard.take_error(id), Some(Error::ConnectionRefused));
}

#[test]
fn after_the_peers_fin_it_is_a_broken_pipe_as_after_a_reset() {
    let (mut b, id) = Bench::accepted();
    b.peer(FA, 1, 1, b"");
    unplug(&mut b);
    assert_eq!(b.shard.take_error(id), Some(Error::BrokenPipe));
}

#[test]
fn what_nobody_holds_is_freed_in_every_state() {
    let (mut b, orphan) = Bench::accepted();
    b.shard.close(b.now, orphan);
    b.sent();
    b.theirs.set_port(4001);
    let waiting = b.accept();
    b.peer(FA, 1, 1, b"");
    b.shard.close(b.now, waiting);
    b.theirs.set_port(4002);
    b.peer(S, 0, 0, b"");
    b.events();
    assert_eq!(b.shard.connections().count(), 3);
    unplug(&mut b);
    let events = b.events();
    assert!(events.contains(&Event::Freed(orphan)) && events.contains(&Event::Freed(waiting)));
    assert_eq!(b.shard.connections().count(), 0);
    assert_eq!(b.shard.stats().memory_bytes, 0);
}

#[test]
fn connections_of_other_devices_go_on_and_the_number_can_be_used_again() {
    let (mut b, id) = Bench::accepted();
    b.shard.add_device(DeviceId(77), caps());
    b.shard.remove_device(b.now, DeviceId(77));
    assert_eq!(b.state(id), State::Established);
    b.peer(PA, 1, 1, b"still here");
    assert_eq!(b.recv(id).unwrap(), b"still here");
    unplug(&mut b);
    b.shard.add_device(DEVICE, caps());
    b.theirs.set_port(4001);
    let next = b.accept();
    assert_eq!(b.state(next), State::Established);
}
