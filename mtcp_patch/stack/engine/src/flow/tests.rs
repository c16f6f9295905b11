//! The map's laws, and that its cost does not grow: counted, not timed.

use super::{part, Entry, FlowTable, Key, PARTS};
use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::vec::Vec;

const KEY: [u8; 16] = *b"0123456789abcdef";

fn flow(number: u32, v6: bool) -> (SocketAddr, SocketAddr) {
    let port = (number % 60_000) as u16;
    let peer: IpAddr = if v6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, (number / 60_000) as u16 + 2).into()
    } else {
        Ipv4Addr::from(0x0a00_0002 + number / 60_000).into()
    };
    let own: IpAddr =
        if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::new(10, 0, 0, 1).into() };
    (SocketAddr::new(own, 80), SocketAddr::new(peer, port))
}

#[test]
fn agrees_with_a_map_through_random_operations() {
    let mut table = FlowTable::new(KEY);
    let mut model = HashMap::new();
    let mut random = 0x1234_5678_u64;
    for step in 0..100_000_u32 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let (local, remote) = flow((random >> 20) as u32 % 2_000, random & 1 == 1);
        match random >> 1 & 3 {
            0 | 1 => {
                assert_eq!(table.insert(local, remote, step), model.insert((local, remote), step));
            }
            2 => assert_eq!(table.remove(local, remote), model.remove(&(local, remote))),
            _ => assert_eq!(table.get(local, remote), model.get(&(local, remote)).copied()),
        }
        assert_eq!(table.len(), model.len());
    }
    for ((local, remote), index) in model {
        assert_eq!(table.remove(local, remote), Some(index));
    }
    assert!(table.is_empty());
}

#[test]
fn each_of_the_four_numbers_counts() {
    let mut table = FlowTable::new(KEY);
    let (local, remote) = flow(5, false);
    table.insert(local, remote, 1);
    assert_eq!(table.get(local, remote), Some(1));
    assert_eq!(table.get(remote, local), None);
    for (local, remote) in [
        (SocketAddr::new(local.ip(), 81), remote),
        (SocketAddr::new(Ipv4Addr::new(10, 0, 0, 9).into(), 80), remote),
        (local, SocketAddr::new(remote.ip(), 6)),
        (local, SocketAddr::new(Ipv4Addr::new(10, 0, 0, 9).into(), 5)),
    ] {
        assert_eq!(table.get(local, remote), None);
    }
}

#[test]
fn scope_and_flow_label_do_not_count() {
    let mut table = FlowTable::new(KEY);
    let (local, _) = flow(0, true);
    let address = "fe80::1".parse().unwrap();
    table.insert(local, SocketAddrV6::new(address, 9, 0, 3).into(), 7);
    assert_eq!(table.get(local, SocketAddrV6::new(address, 9, 5, 0).into()), Some(7));
}

#[test]
fn lookups_compare_about_one_key_however_many_there_are() {
    for count in [1_000, 200_000] {
        let mut table = FlowTable::new(KEY);
        for number in 0..count {
            let (local, remote) = flow(number, false);
            table.insert(local, remote, number);
        }
        let mut compared = 0;
        for number in 0..count {
            let (local, remote) = flow(number, false);
            let Key::V4(key) = Key::new(local, remote) else { panic!() };
            let hash = table.hasher.hash(&key);
            let found = table.v4.parts[part(hash)].find(hash, |entry| {
                compared += 1;
                entry.key == key
            });
            assert_eq!(found.map(|entry| entry.index), Some(number));
        }
        assert!(compared < count + count / 10, "{compared} comparisons for {count} lookups");
    }
}

#[test]
fn growth_moves_a_part_at_a_time() {
    const COUNT: u32 = 100_000;
    let mut table = FlowTable::new(KEY);
    let mut most = 0;
    for index in 0..COUNT {
        let (local, remote) = flow(index, false);
        let Key::V4(key) = Key::new(local, remote) else { panic!() };
        let hash = table.hasher.hash(&key);
        let moved = Cell::new(0);
        table.v4.parts[part(hash)].insert_unique(hash, Entry { key, index }, |entry| {
            moved.set(moved.get() + 1);
            table.hasher.hash(&entry.key)
        });
        most = most.max(moved.get());
    }
    assert!(most > 0 && most < COUNT / 16, "one insertion moved {most} of {COUNT}");
    let sizes: Vec<usize> = table.v4.parts.iter().map(hashbrown::HashTable::len).collect();
    let fair = COUNT as usize / PARTS;
    assert!(sizes.iter().all(|size| (fair / 2..fair * 2).contains(size)), "{sizes:?}");
}

#[test]
fn the_key_decides_who_collides() {
    let hash = |key: [u8; 16], number| {
        let (local, remote) = flow(number, false);
        let Key::V4(tuple) = Key::new(local, remote) else { panic!() };
        FlowTable::new(key).hasher.hash(&tuple) as u8
    };
    let wanted = hash(KEY, 0);
    let attack: Vec<u32> = (0..20_000).filter(|number| hash(KEY, *number) == wanted).collect();
    let still = attack.iter().filter(|number| hash([9; 16], **number) == hash([9; 16], 0)).count();
    assert!(still <= attack.len() / 8, "{still} of {} collide under another key", attack.len());
}
