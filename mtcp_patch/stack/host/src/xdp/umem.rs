//! Memory shared with the kernel: the pages of a UMEM and the mappings of its rings.
//!
//! `Mapping` owns one `mmap`; `Umem` cuts one into chunks and hands out slices, after checking
//! every offset and length, because they come from descriptors that another party writes.

use std::io;
use std::ptr::NonNull;

/// Bytes of a chunk: the most that the kernel accepts (a page), so that a 64 KB super-packet
/// needs the fewest.
pub const CHUNK_BYTES: usize = 4096;

/// Of the processors that `prefetch` is for.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const CACHE_LINE_BYTES: usize = 64;

/// One `mmap`, unmapped when dropped by the process that made it.
pub struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    pid: u32,
}

// SAFETY: the mapping belongs to the value and has no thread affinity; those who read and write
// it (`Umem`, the rings) take care of exclusion themselves.
unsafe impl Send for Mapping {}
// SAFETY: as above; `Mapping` itself only hands out its base pointer.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Private zeroed pages, populated at once; large ones where the kernel has them, because frames
    /// go through more small pages than the processor remembers the places of.
    pub fn anonymous(bytes: usize) -> io::Result<Self> {
        let mapping = Self::map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
        // Before the first touch, which decides. Neither is indispensable: a kernel may have no large
        // pages (EINVAL), and what is not populated now costs page faults, which Miri has none of.
        #[cfg(not(miri))]
        for advice in [libc::MADV_HUGEPAGE, libc::MADV_POPULATE_WRITE] {
            // SAFETY: the range is the mapping that we have just made.
            unsafe { libc::madvise(mapping.base.as_ptr().cast(), bytes, advice) };
        }
        Ok(mapping)
    }

    /// A shared mapping of a descriptor, such as a ring of an AF_XDP socket.
    pub fn shared(fd: i32, bytes: usize, offset: u64) -> io::Result<Self> {
        Self::map(bytes, libc::MAP_SHARED | libc::MAP_POPULATE, fd, offset)
    }

    /// The same, whose pages come to be when they are first touched.
    pub fn shared_on_demand(fd: i32, bytes: usize) -> io::Result<Self> {
        Self::map(bytes, libc::MAP_SHARED, fd, 0)
    }

    fn map(bytes: usize, flags: i32, fd: i32, offset: u64) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let offset = libc::off_t::try_from(offset)
            .map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        // SAFETY: a new mapping where the kernel likes it; no memory of ours is touched.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A child gets none of it: it would have to copy the pinned pages at fork, and must never
        // touch the rings. Failure would only cost that copy.
        #[cfg(not(miri))]
        // SAFETY: the range is the mapping that we have just made.
        unsafe {
            libc::madvise(base, bytes, libc::MADV_DONTFORK)
        };
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { base, bytes, pid: std::process::id() })
    }

    /// The same memory mapped twice, as a ring is by us and by the kernel.
    #[cfg(all(test, not(miri)))]
    pub fn twins(bytes: usize) -> io::Result<(Self, Self)> {
        // SAFETY: a plain memfd.
        let fd = unsafe { libc::memfd_create(c"ring".as_ptr(), 0) };
        // SAFETY: `fd` is ours, or -1, which is refused.
        if unsafe { libc::ftruncate(fd, bytes as libc::off_t) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let twins =
            Self::shared(fd, bytes, 0).and_then(|one| Ok((one, Self::shared(fd, bytes, 0)?)));
        // SAFETY: `fd` is ours; the mappings keep the memory.
        unsafe { libc::close(fd) };
        twins
    }

    /// Miri knows private mappings only, so there both are one, which outlives both.
    #[cfg(all(test, miri))]
    pub fn twins(bytes: usize) -> io::Result<(Self, Self)> {
        let mapping = std::mem::ManuallyDrop::new(Self::anonymous(bytes)?);
        let twin = || Self { base: mapping.base, bytes, pid: 0 };
        Ok((twin(), twin()))
    }

    /// Where it begins.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a forked child nothing is mapped here, or something else is.
        if self.pid == std::process::id() {
            // SAFETY: our own mapping; whoever had a pointer into it held a reference to `self`.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
        }
    }
}

/// The frame memory of one queue: `rx_chunks` chunks that circulate through the fill ring, then
/// the chunks of the transmit side.
pub struct Umem {
    mapping: Mapping,
    rx_chunks: u32,
    tx_chunks: u32,
}

impl Umem {
    /// Allocates the chunks.
    pub fn new(rx_chunks: u32, tx_chunks: u32) -> io::Result<Self> {
        let chunks = rx_chunks as usize + tx_chunks as usize;
        Ok(Self { mapping: Mapping::anonymous(chunks * CHUNK_BYTES)?, rx_chunks, tx_chunks })
    }

    /// Where the kernel finds it.
    pub fn address(&self) -> u64 {
        self.mapping.base().as_ptr() as usize as u64
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.mapping.bytes()
    }

    /// The offset of the receive chunk that contains `address`; None when that is not one.
    pub fn rx_chunk(&self, address: u64) -> Option<u64> {
        let chunk = address / CHUNK_BYTES as u64;
        (chunk < u64::from(self.rx_chunks)).then_some(chunk * CHUNK_BYTES as u64)
    }

    /// How many transmit chunks there are.
    pub fn tx_chunks(&self) -> u32 {
        self.tx_chunks
    }

    /// The offset of transmit chunk `index`.
    pub fn tx_address(&self, index: u32) -> u64 {
        (u64::from(self.rx_chunks) + u64::from(index)) * CHUNK_BYTES as u64
    }

    /// Which transmit chunk contains `address`; None when that is not one.
    pub fn tx_index(&self, address: u64) -> Option<u32> {
        let chunk = (address / CHUNK_BYTES as u64).checked_sub(u64::from(self.rx_chunks))?;
        u32::try_from(chunk).ok().filter(|chunk| *chunk < self.tx_chunks)
    }

    /// What the kernel received at `address`; None when it is not inside one receive chunk.
    pub fn received(&self, address: u64, len: u32) -> Option<&[u8]> {
        let chunk = self.rx_chunk(address)?;
        if address - chunk + u64::from(len) > CHUNK_BYTES as u64 {
            return None;
        }
        // SAFETY: inside the mapping by the checks above (receive chunks come first). The kernel
        // does not write into a chunk between its descriptor in the receive ring and its return
        // to the fill ring, which `Queue::receive` does after the borrow has ended.
        Some(unsafe {
            std::slice::from_raw_parts(
                self.mapping.base().as_ptr().add(address as usize),
                len as usize,
            )
        })
    }

    /// Begins to load the headers of the frame at `address`, which another core has written: its look
    /// can then go on with the frame before it. No more than a hint; any address will do.
    #[inline]
    pub fn prefetch(&self, address: u64) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if self.rx_chunk(address).is_some() {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
            // SAFETY: inside the mapping by the check, up to a line past the last receive chunk; the
            // instruction never faults.
            unsafe {
                let frame = self.mapping.base().as_ptr().add(address as usize).cast::<i8>();
                _mm_prefetch::<_MM_HINT_T0>(frame);
                _mm_prefetch::<_MM_HINT_T0>(frame.wrapping_add(CACHE_LINE_BYTES));
            }
        }
    }

    /// `len` bytes from transmit chunk `first` on, to be written.
    pub fn tx_slice(&mut self, first: u32, len: usize) -> Option<&mut [u8]> {
        let room = self.tx_chunks.checked_sub(first)? as usize * CHUNK_BYTES;
        if len > room {
            return None;
        }
        let start = self.tx_address(first) as usize;
        // SAFETY: inside the mapping, past the receive chunks; `&mut self` excludes other slices,
        // and the kernel only reads transmit chunks.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.mapping.base().as_ptr().add(start), len)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_that_lie_get_no_slice() {
        let umem = Umem::new(4, 2).unwrap();
        let chunk = CHUNK_BYTES as u64;
        assert!(umem.received(0, 4096).is_some());
        assert!(umem.received(256, 3840).is_some());
        assert!(umem.received(256, 3841).is_none());
        assert!(umem.received(3 * chunk + 4095, 1).is_some());
        assert!(umem.received(4 * chunk, 1).is_none(), "a transmit chunk");
        assert!(umem.received(u64::MAX, 1).is_none());
        assert!(umem.received(0, u32::MAX).is_none());
        for any in [0, 3 * chunk + 4095, 4 * chunk, u64::MAX] {
            umem.prefetch(any);
        }
        assert_eq!(umem.rx_chunk(2 * chunk + 300), Some(2 * chunk));
        assert_eq!(umem.rx_chunk(4 * chunk), None);
    }

    #[test]
    fn transmit_chunks_follow_the_receive_chunks() {
        let mut umem = Umem::new(4, 2).unwrap();
        assert_eq!(umem.tx_address(1), 5 * CHUNK_BYTES as u64);
        assert_eq!(umem.tx_index(umem.tx_address(1) + 7), Some(1));
        assert_eq!(umem.tx_index(umem.tx_address(2)), None);
        assert_eq!(umem.tx_index(0), None);
        assert_eq!(umem.tx_slice(0, 2 * CHUNK_BYTES).map(|s| s.len()), Some(8192));
        assert!(umem.tx_slice(1, CHUNK_BYTES + 1).is_none());
        assert!(umem.tx_slice(3, 0).is_none());
    }
}
