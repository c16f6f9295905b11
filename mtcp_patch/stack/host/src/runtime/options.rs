//! Socket options. One table says which of them our stack honours. An option that only the kernel
//! has is never accepted and ignored: set before the connection, it makes the whole socket the
//! kernel's (*pinned*); set on a connection of ours, it is refused with ENOPROTOOPT.

use mtcp_engine::ConnOptions;

use super::desc::{Desc, Kind};
use super::state::Inner;
use super::vfd::Vfd;
use super::Runtime;
use crate::errno::Errno;
use crate::sys;

const SOL: i32 = libc::SOL_SOCKET;
const TCP: i32 = libc::IPPROTO_TCP;
const V6: i32 = libc::IPPROTO_IPV6;

/// What our stack does with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Support {
    /// Honoured: the engine or the runtime acts on it.
    Honoured,
    /// Concerns only the reservation of the port, which is the kernel socket's.
    Port,
    /// Only the kernel has it.
    KernelOnly,
}

/// The table.
const fn support(level: i32, name: i32) -> Support {
    match (level, name) {
        (SOL, libc::SO_KEEPALIVE | libc::SO_LINGER | libc::SO_RCVBUF | libc::SO_SNDBUF)
        | (TCP, libc::TCP_NODELAY | libc::TCP_CORK | libc::TCP_MAXSEG)
        | (TCP, libc::TCP_KEEPIDLE | libc::TCP_KEEPINTVL | libc::TCP_KEEPCNT)
        // Urgent data stays in its place in the stream here in any case (RFC 6093 section 3.4).
        | (SOL, libc::SO_OOBINLINE) => Support::Honoured,
        (SOL, libc::SO_REUSEADDR | libc::SO_REUSEPORT) | (V6, libc::IPV6_V6ONLY) => Support::Port,
        _ => Support::KernelOnly,
    }
}

/// The leading int of an option value, as the kernel reads it.
fn int(value: &[u8]) -> Result<i32, Errno> {
    let bytes: [u8; 4] =
        value.get(..4).and_then(|b| b.try_into().ok()).ok_or(Errno(libc::EINVAL))?;
    Ok(i32::from_ne_bytes(bytes))
}

fn seconds_to_us(value: i32) -> u64 {
    u64::try_from(value).unwrap_or(0).saturating_mul(1_000_000)
}

/// Changes the engine's options; the kernel has checked the value's range already, or `check` did.
fn apply(options: &mut ConnOptions, level: i32, name: i32, value: i32) {
    match (level, name) {
        (SOL, libc::SO_KEEPALIVE) => options.keepalive.on = value != 0,
        (TCP, libc::TCP_NODELAY) => options.nodelay = value != 0,
        (TCP, libc::TCP_CORK) => options.cork = value != 0,
        (TCP, libc::TCP_MAXSEG) => options.maxseg = u16::try_from(value).ok(),
        (TCP, libc::TCP_KEEPIDLE) => options.keepalive.idle_us = seconds_to_us(value),
        (TCP, libc::TCP_KEEPINTVL) => options.keepalive.interval_us = seconds_to_us(value),
        (TCP, libc::TCP_KEEPCNT) => options.keepalive.count = u8::try_from(value).unwrap_or(127),
        // socket(7): the kernel doubles these for its bookkeeping; ours counts payload.
        (SOL, libc::SO_RCVBUF) => options.recv_buffer_bytes = u32::try_from(value).ok(),
        (SOL, libc::SO_SNDBUF) => options.send_buffer_bytes = u32::try_from(value).ok(),
        _ => {}
    }
}

/// The kernel's ranges (tcp(7), net/ipv4/tcp.c), for connections without a kernel socket.
fn check(level: i32, name: i32, value: i32) -> Result<(), Errno> {
    let ok = match (level, name) {
        (TCP, libc::TCP_KEEPIDLE | libc::TCP_KEEPINTVL) => (1..=32767).contains(&value),
        (TCP, libc::TCP_KEEPCNT) => (1..=127).contains(&value),
        (TCP, libc::TCP_MAXSEG) => value == 0 || (88..=32767).contains(&value),
        _ => true,
    };
    if ok {
        Ok(())
    } else {
        Err(Errno(libc::EINVAL))
    }
}

impl Inner {
    fn setsockopt(&mut self, vfd: Vfd, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        let desc = self.desc(vfd)?;
        let support = support(level, name);
        let ours = matches!(desc.kind, Kind::Conn { .. });
        if ours && support == Support::KernelOnly {
            return Err(Errno(libc::ENOPROTOOPT));
        }
        if desc.owns_port {
            // The kernel checks the value and remembers it for getsockopt.
            sys::setsockopt(self.port(desc)?.fd(), level, name, value)?;
        } else {
            int(value)?;
        }
        let now = self.now();
        let desc = self.desc_mut(vfd)?;
        match support {
            Support::KernelOnly => {
                if desc.kind == Kind::Fresh {
                    desc.pinned = Some((level, name));
                }
                return Ok(());
            }
            Support::Port => return Ok(()),
            Support::Honoured => {}
        }
        let number = int(value)?;
        if !desc.owns_port {
            check(level, name, number)?;
            desc.remember(level, name, value);
        }
        if (level, name) == (SOL, libc::SO_LINGER) {
            let seconds = int(value.get(4..).unwrap_or(&[]))?;
            desc.linger = (number != 0).then(|| u32::try_from(seconds).unwrap_or(0));
            return Ok(());
        }
        apply(&mut desc.options, level, name, number);
        let options = desc.options;
        if let Kind::Conn { id, .. } = desc.kind {
            self.shard.set_options(now, id, options);
        }
        Ok(())
    }

    fn getsockopt(
        &mut self,
        vfd: Vfd,
        level: i32,
        name: i32,
        buf: &mut [u8],
    ) -> Result<usize, Errno> {
        let kind = self.desc(vfd)?.kind;
        if (level, name) == (SOL, libc::SO_ERROR) && kind != Kind::Kernel {
            let error = match kind {
                Kind::Conn { id, .. } => self.shard.take_error(id).map_or(0, |e| Errno::from(e).0),
                _ => 0,
            };
            return Ok(put(buf, error));
        }
        let desc = self.desc(vfd)?;
        if let Kind::Conn { id, .. } = kind {
            match (level, name) {
                (SOL, libc::SO_ACCEPTCONN) => return Ok(put(buf, 0)),
                (TCP, libc::TCP_MAXSEG) => {
                    let mss = self.shard.info(id).map_or(0, |i| i.mss);
                    return Ok(put(buf, i32::try_from(mss).unwrap_or(i32::MAX)));
                }
                // The kernel's struct would describe a socket that carries nothing.
                (TCP, libc::TCP_INFO | libc::TCP_CONGESTION) => {
                    return Err(Errno(libc::ENOPROTOOPT));
                }
                _ => {}
            }
            if let Some(value) = desc.recall(level, name) {
                let n = value.len().min(buf.len());
                for (to, from) in buf.iter_mut().zip(value) {
                    *to = *from;
                }
                return Ok(n);
            }
        }
        let accepting = matches!(kind, Kind::Listener(_));
        if (level, name) == (SOL, libc::SO_ACCEPTCONN) && kind != Kind::Kernel {
            return Ok(put(buf, i32::from(accepting)));
        }
        sys::getsockopt(self.port(desc)?.fd(), level, name, buf)
    }
}

impl Desc {
    /// Keeps an option of a connection that shares its listener's kernel socket.
    fn remember(&mut self, level: i32, name: i32, value: &[u8]) {
        let key = (level, name);
        match self.overrides.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = value.to_vec(),
            None => self.overrides.push((key, value.to_vec())),
        }
    }

    fn recall(&self, level: i32, name: i32) -> Option<&[u8]> {
        self.overrides.iter().find(|(k, _)| *k == (level, name)).map(|(_, v)| v.as_slice())
    }
}

/// Writes an int as the kernel does: cut to the caller's buffer.
fn put(buf: &mut [u8], value: i32) -> usize {
    let bytes = value.to_ne_bytes();
    let n = bytes.len().min(buf.len());
    for (to, from) in buf.iter_mut().zip(bytes) {
        *to = from;
    }
    n
}

impl Runtime {
    /// Sets an option, as setsockopt(2).
    ///
    /// # Errors
    /// Those of setsockopt(2); ENOPROTOOPT on a connection of ours for what only the kernel has.
    pub fn setsockopt(&self, vfd: Vfd, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        let mut inner = self.lock();
        inner.setsockopt(vfd, level, name, value)?;
        if inner.has_output() {
            self.ensure_driver(inner);
        }
        Ok(())
    }

    /// Reads an option into `buf`; the number of bytes that it has.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn getsockopt(
        &self,
        vfd: Vfd,
        level: i32,
        name: i32,
        buf: &mut [u8],
    ) -> Result<usize, Errno> {
        self.lock().getsockopt(vfd, level, name, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_as_the_kernel_does() {
        assert!(check(TCP, libc::TCP_KEEPCNT, 0).is_err());
        assert!(check(TCP, libc::TCP_KEEPCNT, 127).is_ok());
        assert!(check(TCP, libc::TCP_KEEPIDLE, 32768).is_err());
        assert_eq!(int(&[1, 0, 0]), Err(Errno(libc::EINVAL)));
        assert_eq!(int(&7i32.to_ne_bytes()), Ok(7));
    }

    #[test]
    fn a_short_buffer_cuts_the_value() {
        let mut two = [9u8; 2];
        assert_eq!(put(&mut two, 0x0102_0304), 2);
        assert_eq!(two, [4, 3]);
    }
}
