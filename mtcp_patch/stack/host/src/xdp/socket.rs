//! One receive queue of an interface: an AF_XDP socket with its UMEM and rings.
//!
//! Owned by `XdpDevice`, one a queue; only queue 0 transmits. It knows descriptors and chunks,
//! nothing of what the frames contain. No allocation per frame.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::mapped::{Mapped, Offsets};
use super::ring::{Consumer, Producer};
use super::txpool::TxPool;
use super::umem::{Mapping, Umem, CHUNK_BYTES};
use crate::runtime_fd::RuntimeFd;

/// Most bytes of one frame, either way: Ethernet, IPv6 and the most that its length field can say.
pub const MAX_FRAME_BYTES: usize = 14 + 40 + 65_535;

/// setsockopt name: how many descriptors one `sendto` may take (libc lacks it; Linux 6.17).
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Receive descriptors after which chunks go back to the kernel within one batch.
const REFILL_DESCRIPTORS: u32 = 64;
/// How many frames ahead headers are loaded: about as long as one takes to come from another core.
const PREFETCH_AHEAD: u32 = 2;
/// System calls that one `flush` makes at most while the kernel leaves descriptors behind.
const MAX_KICKS: u32 = 64;
/// Flushes without any completion, while the pool is exhausted and the kernel has taken every
/// descriptor, after which the chunks count as lost. (The kernel drops without completing.)
const LOST_AFTER_FLUSHES: u32 = 1000;

/// What went wrong, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// System calls made to move frames.
    pub syscalls: u64,
    /// Frames received in several buffers.
    pub multi_buffer: u64,
    /// Descriptors that lay outside the memory they should describe.
    pub bad_descriptors: u64,
    /// Received frames longer than any that we take.
    pub oversized: u64,
    /// Transmit system calls that failed for other reasons than a full queue.
    pub tx_errors: u64,
    /// Transmit chunks that the kernel never completed.
    pub tx_lost: u64,
}

/// The transmit half of a queue.
struct Transmit {
    ring: Producer<Mapped<libc::xdp_desc>>,
    pool: TxPool,
    stalled_flushes: u32,
}

/// One queue of an interface.
pub struct Queue {
    umem: Umem,
    fill: Producer<Mapped<u64>>,
    completion: Consumer<Mapped<u64>>,
    rx: Consumer<Mapped<libc::xdp_desc>>,
    tx: Option<Transmit>,
    /// A multi-buffer frame put together.
    scratch: Vec<u8>,
    /// The flags it was bound with.
    flags: u16,
    /// Whether the last `flush` left descriptors behind.
    unsent: bool,
    /// Last, so that the rings are unmapped before the socket closes.
    fd: RuntimeFd,
}

fn set_option<T>(fd: RawFd, name: libc::c_int, value: &T) -> io::Result<()> {
    set_socket_option(fd, libc::SOL_XDP, name, value)
}

fn set_socket_option<T>(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let bytes = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is a live plain-data block of the size passed.
    let result =
        unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), bytes) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads an option of plain data; `value` keeps its content beyond what the kernel writes.
fn get_option<T>(fd: RawFd, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut bytes = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is a live plain-data block of the size passed; the kernel writes no more.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_XDP, name, std::ptr::from_mut(value).cast(), &mut bytes)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

const fn no_offsets() -> libc::xdp_ring_offset {
    libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 }
}

/// Maps one ring; `page` is its fixed place in the socket's address space.
fn map_ring<T: Copy>(
    fd: RawFd,
    at: &libc::xdp_ring_offset,
    size: u32,
    page: u64,
) -> io::Result<Mapped<T>> {
    let bytes = at.desc + u64::from(size) * size_of::<T>() as u64;
    let bytes =
        usize::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    let offsets = Offsets {
        producer: at.producer,
        consumer: at.consumer,
        flags: at.flags,
        descriptors: at.desc,
    };
    Mapped::new(Mapping::shared(fd, bytes, page)?, offsets, size)
}

impl Queue {
    /// A socket with its memory registered and its rings mapped, not bound yet. `tx_chunks` may be
    /// zero; both are powers of two otherwise.
    pub fn new(rx_chunks: u32, tx_chunks: u32) -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that we have just made and nobody else has.
        let owned = RuntimeFd::new(unsafe { OwnedFd::from_raw_fd(fd) });
        let fd = owned.as_raw_fd();
        let umem = Umem::new(rx_chunks, tx_chunks)?;
        let registration = libc::xdp_umem_reg {
            addr: umem.address(),
            len: umem.bytes() as u64,
            chunk_size: CHUNK_BYTES as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set_option(fd, libc::XDP_UMEM_REG, &registration)?;
        // The kernel wants a completion ring even where nothing is transmitted.
        let completions = tx_chunks.max(2);
        set_option(fd, libc::XDP_UMEM_FILL_RING, &rx_chunks)?;
        set_option(fd, libc::XDP_UMEM_COMPLETION_RING, &completions)?;
        set_option(fd, libc::XDP_RX_RING, &rx_chunks)?;
        if tx_chunks != 0 {
            set_option(fd, libc::XDP_TX_RING, &tx_chunks)?;
        }
        let mut at = libc::xdp_mmap_offsets {
            rx: no_offsets(),
            tx: no_offsets(),
            fr: no_offsets(),
            cr: no_offsets(),
        };
        get_option(fd, libc::XDP_MMAP_OFFSETS, &mut at)?;
        let fill =
            Producer::new(map_ring::<u64>(fd, &at.fr, rx_chunks, libc::XDP_UMEM_PGOFF_FILL_RING)?);
        let page = libc::XDP_UMEM_PGOFF_COMPLETION_RING;
        let completion = Consumer::new(map_ring::<u64>(fd, &at.cr, completions, page)?);
        let page = libc::XDP_PGOFF_RX_RING as u64;
        let rx = Consumer::new(map_ring::<libc::xdp_desc>(fd, &at.rx, rx_chunks, page)?);
        let tx = if tx_chunks == 0 {
            None
        } else {
            let page = libc::XDP_PGOFF_TX_RING as u64;
            let ring = Producer::new(map_ring::<libc::xdp_desc>(fd, &at.tx, tx_chunks, page)?);
            Some(Transmit { ring, pool: TxPool::new(tx_chunks), stalled_flushes: 0 })
        };
        let scratch = Vec::with_capacity(MAX_FRAME_BYTES);
        let mut queue =
            Self { umem, fill, completion, rx, tx, scratch, flags: 0, unsent: false, fd: owned };
        for chunk in 0..rx_chunks {
            queue.fill.push(u64::from(chunk) * CHUNK_BYTES as u64);
        }
        queue.fill.publish();
        Ok(queue)
    }

    /// Lets one `sendto` take as many descriptors as the ring holds (the kernel's default is 32).
    pub fn raise_tx_budget(&self) -> io::Result<()> {
        set_option(self.fd.as_raw_fd(), XDP_MAX_TX_SKB_BUDGET, &self.umem.tx_chunks())
    }

    /// Lets as much be under way in the kernel as there are transmit chunks. With the default send
    /// buffer (208 KiB) `sendto` gives up as soon as the receiver's soft interrupt lags behind.
    pub fn raise_send_buffer(&self) -> io::Result<()> {
        // A buffer of the kernel's takes up to twice the page that it carries, and Linux doubles
        // what it is told.
        let bytes = self.umem.tx_chunks() as usize * CHUNK_BYTES;
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX / 2);
        set_socket_option(self.fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes)
    }

    /// Ties the socket to a queue of an interface.
    pub fn bind(&mut self, ifindex: u32, queue: u32, flags: u16) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let bytes = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: `address` is a live sockaddr of the size passed.
        let result =
            unsafe { libc::bind(self.fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), bytes) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.flags = flags;
        Ok(())
    }

    /// The socket; readable when frames wait.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// What the kernel counted: frames dropped for want of chunks, of room in the ring, for size.
    pub fn kernel_drops(&self) -> io::Result<libc::xdp_statistics> {
        let mut statistics = libc::xdp_statistics {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: 0,
            rx_fill_ring_empty_descs: 0,
            tx_ring_empty_descs: 0,
        };
        get_option(self.fd.as_raw_fd(), libc::XDP_STATISTICS, &mut statistics)?;
        Ok(statistics)
    }

    /// Hands at most `budget` frames to `sink` and gives their chunks back to the kernel.
    pub fn receive(
        &mut self,
        budget: usize,
        counters: &mut Counters,
        sink: &mut dyn FnMut(&[u8]),
    ) -> usize {
        if self.unsent {
            self.flush(counters);
        }
        let mut frames = 0;
        if self.rx.available() == 0 {
            return 0;
        }
        while frames < budget {
            let mut taken = 0;
            while frames < budget && taken < REFILL_DESCRIPTORS {
                let used = self.receive_one(taken, counters, sink);
                if used == 0 {
                    break;
                }
                taken += used;
                frames += 1;
            }
            if taken == 0 {
                break;
            }
            self.rx.release(taken);
            self.fill.publish();
        }
        if self.fill.need_wakeup() {
            // Only zero-copy drivers ask for it.
            self.wake_receive(counters);
        }
        frames
    }

    /// Hands the frame that begins `ahead` descriptors from here to `sink`; how many descriptors
    /// it had, 0 when there is no whole one.
    fn receive_one(
        &mut self,
        ahead: u32,
        counters: &mut Counters,
        sink: &mut dyn FnMut(&[u8]),
    ) -> u32 {
        let Some(first) = self.rx.peek(ahead) else { return 0 };
        if let Some(later) = self.rx.peek(ahead + PREFETCH_AHEAD) {
            self.umem.prefetch(later.addr);
        }
        if first.options & libc::XDP_PKT_CONTD != 0 {
            return self.receive_parts(ahead, counters, sink);
        }
        match self.umem.received(first.addr, first.len) {
            Some(frame) => sink(frame),
            None => counters.bad_descriptors += 1,
        }
        self.refill(first.addr, counters);
        1
    }

    /// The same for a frame in several buffers: the parts are copied together.
    fn receive_parts(
        &mut self,
        ahead: u32,
        counters: &mut Counters,
        sink: &mut dyn FnMut(&[u8]),
    ) -> u32 {
        let mut parts = 0;
        loop {
            let Some(part) = self.rx.peek(ahead + parts) else { return 0 };
            parts += 1;
            if part.options & libc::XDP_PKT_CONTD == 0 {
                break;
            }
        }
        counters.multi_buffer += 1;
        self.scratch.clear();
        let mut whole = true;
        for i in 0..parts {
            let Some(part) = self.rx.peek(ahead + i) else { break };
            match self.umem.received(part.addr, part.len) {
                Some(bytes) if self.scratch.len() + bytes.len() <= MAX_FRAME_BYTES => {
                    self.scratch.extend_from_slice(bytes);
                }
                Some(_) => {
                    counters.oversized += u64::from(whole);
                    whole = false;
                }
                None => {
                    counters.bad_descriptors += 1;
                    whole = false;
                }
            }
            self.refill(part.addr, counters);
        }
        if whole {
            sink(&self.scratch);
        }
        parts
    }

    /// Puts the chunk of a received descriptor back into the fill ring (not published yet).
    fn refill(&mut self, address: u64, counters: &mut Counters) {
        let returned = self.umem.rx_chunk(address).is_some_and(|chunk| self.fill.push(chunk));
        if !returned {
            counters.bad_descriptors += 1;
        }
    }

    fn wake_receive(&self, counters: &mut Counters) {
        counters.syscalls += 1;
        // SAFETY: a null buffer of length zero: the kernel moves no data, it only looks at the
        // rings. Failure changes nothing: poll() wakes it too.
        unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }

    /// Takes back the transmit chunks that the kernel has completed; how many.
    fn reclaim(&mut self, counters: &mut Counters) -> u32 {
        let Some(tx) = &mut self.tx else { return 0 };
        let count = self.completion.available();
        for i in 0..count {
            let chunk = self.completion.peek(i).and_then(|a| self.umem.tx_index(a));
            if !chunk.is_some_and(|chunk| tx.pool.complete(chunk)) {
                counters.bad_descriptors += 1;
            }
        }
        self.completion.release(count);
        count
    }

    fn take(&mut self, chunks: u32) -> Option<u32> {
        self.tx.as_mut().and_then(|tx| tx.pool.take(chunks))
    }

    /// Writes one frame of `len` bytes in place and queues it; see `Device::transmit`.
    pub fn transmit(
        &mut self,
        len: usize,
        counters: &mut Counters,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> bool {
        if len == 0 || len > MAX_FRAME_BYTES {
            return false;
        }
        let chunks = len.div_ceil(CHUNK_BYTES) as u32;
        let mut first = self.take(chunks);
        if first.is_none() && self.reclaim(counters) != 0 {
            first = self.take(chunks);
        }
        if first.is_none() {
            // More than the pool holds in one batch: a part of it leaves now.
            self.flush(counters);
            first = self.take(chunks);
        }
        let (Some(first), Some(tx)) = (first, &mut self.tx) else { return false };
        let Some(frame) = self.umem.tx_slice(first, len) else { return false };
        fill(frame);
        let mut left = len;
        for i in 0..chunks {
            let part = left.min(CHUNK_BYTES);
            left -= part;
            // Never full: it has as many places as there are chunks.
            tx.ring.push(libc::xdp_desc {
                addr: self.umem.tx_address(first + i),
                len: part as u32,
                options: if left == 0 { 0 } else { libc::XDP_PKT_CONTD },
            });
        }
        true
    }

    /// Sends what was queued. What the kernel does not take (the interface is down, the driver's
    /// queue is full) is tried again by the next `flush` or `receive`.
    pub fn flush(&mut self, counters: &mut Counters) {
        let Some(tx) = &mut self.tx else { return };
        tx.ring.publish();
        let mut waiting = tx.ring.waiting();
        let mut kicks = 0;
        while waiting != 0 && kicks < MAX_KICKS {
            let asks = self.tx.as_ref().is_some_and(|tx| tx.ring.need_wakeup());
            if self.flags & libc::XDP_USE_NEED_WAKEUP != 0 && !asks {
                break; // a zero-copy driver is at it
            }
            kicks += 1;
            let failed = self.kick(counters);
            let reclaimed = self.reclaim(counters);
            let left = self.tx.as_mut().map_or(0, |tx| tx.ring.waiting());
            let progress = left != waiting || reclaimed != 0;
            waiting = left;
            if failed || !progress {
                break;
            }
        }
        self.reclaim(counters);
        self.write_off_lost(counters);
        self.unsent = waiting != 0;
    }

    /// One `sendto`; true when trying again at once cannot help.
    fn kick(&self, counters: &mut Counters) -> bool {
        counters.syscalls += 1;
        // SAFETY: a null buffer of length zero: the kernel takes the frames from the ring.
        let result = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        if result >= 0 {
            return false;
        }
        match io::Error::last_os_error().raw_os_error() {
            // The budget or the completion ring is used up, or the driver dropped one frame.
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => false,
            _ => {
                counters.tx_errors += 1;
                true
            }
        }
    }

    /// See `LOST_AFTER_FLUSHES`.
    fn write_off_lost(&mut self, counters: &mut Counters) {
        let Some(tx) = &mut self.tx else { return };
        if self.flags & libc::XDP_COPY == 0 {
            return; // the driver may still be reading them
        }
        let exhausted = tx.pool.under_way() as usize * 2 > self.umem.tx_chunks() as usize;
        if !exhausted || tx.ring.waiting() != 0 || self.completion.available() != 0 {
            tx.stalled_flushes = 0;
            return;
        }
        tx.stalled_flushes += 1;
        if tx.stalled_flushes > LOST_AFTER_FLUSHES {
            counters.tx_lost += u64::from(tx.pool.forget());
            tx.stalled_flushes = 0;
        }
    }
}
