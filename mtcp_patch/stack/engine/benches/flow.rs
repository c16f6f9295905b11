//! The cost of the flow table by its size: `cargo bench -p mtcp-engine --bench flow`.

#![allow(missing_docs)] // a benchmark

use mtcp_engine::flow::FlowTable;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

const LOOKUPS: u32 = 1_000_000;

fn flow(number: u32) -> (SocketAddr, SocketAddr) {
    let local = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 80));
    let peer = Ipv4Addr::from(0x0a00_0002 + number / 60_000);
    (local, SocketAddr::from((peer, (number % 60_000) as u16)))
}

fn main() {
    // One small table when `cargo test` only looks whether it runs.
    let real = std::env::args().any(|argument| argument == "--bench");
    let sizes: &[u32] = if real { &[100, 10_000, 100_000, 1_000_000] } else { &[100] };
    println!("    flows   lookup ns   missing ns   insert ns  worst insert us   bytes a flow");
    for &count in sizes {
        let mut table = FlowTable::new(*b"a key for a test");
        let mut worst = 0;
        let start = Instant::now();
        for number in 0..count {
            let (local, remote) = flow(number);
            let one = Instant::now();
            table.insert(local, remote, number);
            worst = worst.max(one.elapsed().as_nanos());
        }
        let insert = start.elapsed().as_nanos() as f64 / f64::from(count);
        let lookup = |missing: u32| {
            let start = Instant::now();
            let mut number = 1_u32;
            for _ in 0..LOOKUPS {
                // A walk that the prefetcher cannot foresee.
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (local, remote) = flow(number % count + missing);
                black_box(table.get(local, remote));
            }
            start.elapsed().as_nanos() as f64 / f64::from(LOOKUPS)
        };
        println!(
            "{count:9} {:11.1} {:12.1} {insert:11.1} {:16.1} {:14.1}",
            lookup(0),
            lookup(count),
            worst as f64 / 1_000.0,
            table.memory_bytes() as f64 / f64::from(count)
        );
    }
}
