//! Which ports have an address that is steered: one bit each, in memory that the program reads and we
//! write without a system call.
//!
//! Owned by `Steering`. Most of what passes an interface is not for us, and our own replies to a kernel
//! client on `lo` pass the program, too: a bit costs them less than two look-ups in a hash table.

use std::collections::HashMap;
use std::io;
use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bpf::{self, Map};
use super::umem::Mapping;

/// Ports of one word.
const BITS: u16 = 64;
const WORDS: usize = (u16::MAX / BITS) as usize + 1;

/// The word of a port, and its bit there: of the number that a load of its two bytes in network order
/// gives.
fn place(port: u16) -> (usize, u64) {
    let loaded = port.to_be();
    (usize::from(loaded / BITS), 1 << (loaded % BITS))
}

/// See the module's text.
pub struct Ports {
    map: Map,
    words: Mapping,
    /// How many keys have each port.
    keys: HashMap<u16, u32>,
}

impl Ports {
    /// No port.
    pub fn new() -> io::Result<Self> {
        let (bytes, flags) = (size_of::<u64>(), bpf::MAP_MMAPABLE);
        let map = Map::create(bpf::MAP_ARRAY, 4, bytes, WORDS as u32, flags, "mtcp_ports")?;
        let words = Mapping::shared(map.raw_fd(), WORDS * bytes, 0)?;
        Ok(Self { map, words, keys: HashMap::new() })
    }

    /// Its descriptor's number, for `Assembler::load_map`.
    pub fn raw_fd(&self) -> i32 {
        self.map.raw_fd()
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < WORDS);
        // SAFETY: `index` comes from `place`, so it is below WORDS, as many as are mapped; the mapping
        // begins at a page, lives as long as `self`, and the kernel only reads it.
        unsafe { AtomicU64::from_ptr(self.words.base().as_ptr().cast::<u64>().add(index)) }
    }

    /// One key more has this port. To be called before the key is entered.
    pub fn add(&mut self, port: u16) {
        *self.keys.entry(port).or_default() += 1;
        let (index, bit) = place(port);
        self.word(index).fetch_or(bit, Ordering::Relaxed);
    }

    /// One key fewer has it. To be called once the key is out.
    pub fn remove(&mut self, port: u16) {
        let Some(keys) = self.keys.get_mut(&port) else { return };
        *keys -= 1;
        if *keys == 0 {
            self.keys.remove(&port);
            let (index, bit) = place(port);
            self.word(index).fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_a_bit_of_its_own_within_the_map() {
        let mut seen = vec![0u64; WORDS];
        for port in 0..=u16::MAX {
            let (index, bit) = place(port);
            assert_eq!(seen[index] & bit, 0, "{port}");
            seen[index] |= bit;
        }
        assert!(seen.iter().all(|word| *word == u64::MAX));
    }
}
