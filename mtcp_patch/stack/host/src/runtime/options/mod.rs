//! Socket options. [`table`] says what becomes of each. An option that only the kernel has is never
//! accepted and ignored: set before the socket listens or connects, it makes the whole socket the
//! kernel's (*pinned*); set on a listener or a connection of ours, it is refused.
//!
//! Values are checked and rounded by the kernel: by the socket that reserves the port, or, for a
//! connection that shares its listener's, by one made for the purpose. What it made of the value is
//! then what we obey.

pub(super) mod table;
mod tcp_info;

use mtcp_engine::ConnOptions;
use std::time::Duration;

use super::congestion;
use super::desc::{Desc, Kind};
use super::port::Port;
use super::state::Inner;
use super::vfd::Vfd;
use super::Runtime;
use crate::errno::Errno;
use crate::sys;
use table::{support, SocketOption, Support};

const SOL: i32 = libc::SOL_SOCKET;
const TCP: i32 = libc::IPPROTO_TCP;
const V4: i32 = libc::IPPROTO_IP;
const V6: i32 = libc::IPPROTO_IPV6;

/// IP_MTU and IPV6_MTU, which Python does not name.
const IP_MTU: i32 = 14;
const IPV6_MTU: i32 = 24;

/// linux/tcp.h; libc lacks it.
const TCP_INQ: i32 = 36;

/// Bytes that any value of an honoured option takes at most.
const MAX_VALUE_BYTES: usize = 64;

/// The leading int of an option value, as the kernel reads it.
fn int(value: &[u8]) -> Result<i32, Errno> {
    let bytes: [u8; 4] =
        value.get(..4).and_then(|b| b.try_into().ok()).ok_or(Errno(libc::EINVAL))?;
    Ok(i32::from_ne_bytes(bytes))
}

/// The `struct timeval` of SO_RCVTIMEO; `None`: no end. The kernel has checked it.
fn timeval(value: &[u8]) -> Option<Duration> {
    let part = |at: usize| value.get(at..at + 8).and_then(|b| b.try_into().ok());
    let seconds = i64::from_ne_bytes(part(0)?);
    let micros = i64::from_ne_bytes(part(8)?);
    let time = Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        + Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    (!time.is_zero()).then_some(time)
}

fn seconds_to_us(value: i32) -> u64 {
    u64::try_from(value).unwrap_or(0).saturating_mul(1_000_000)
}

/// Options that are on or off: no kernel is needed to read them.
fn is_flag(level: i32, name: i32) -> bool {
    matches!(
        (level, name),
        (SOL, libc::SO_KEEPALIVE | libc::SO_OOBINLINE) | (TCP, libc::TCP_NODELAY | libc::TCP_CORK)
    )
}

/// What an IP header of a connection says by the application's choice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Header {
    dscp: u8,
    hop_limit: Option<u8>,
}

impl Desc {
    /// The engine's options for a connection of one family: an AF_INET6 socket has both.
    pub fn conn_options(&self, is_ipv4: bool) -> ConnOptions {
        let Header { dscp, hop_limit } = if is_ipv4 { self.header_v4 } else { self.header_v6 };
        ConnOptions { dscp, hop_limit, ..self.options }
    }

    /// Obeys an option. `asked` is the program's value, `kept` what the kernel made of it.
    fn obey(&mut self, level: i32, name: i32, asked: &[u8], kept: &[u8]) -> Result<(), Errno> {
        // The options of IPv4 are also taken as one byte (ip(7)); the kernel has read that already.
        let value = int(kept).or_else(|_| int(asked))?;
        let number = int(asked).unwrap_or(value);
        let positive = u32::try_from(value).ok().filter(|v| *v > 0);
        let options = &mut self.options;
        match (level, name) {
            (SOL, libc::SO_KEEPALIVE) => options.keepalive.on = value != 0,
            (SOL, libc::SO_OOBINLINE) => options.oob_inline = value != 0,
            // socket(7): the kernel doubles these for its bookkeeping; ours counts payload.
            (SOL, libc::SO_RCVBUF) => options.recv_buffer_bytes = positive.map(|v| v / 2),
            (SOL, libc::SO_SNDBUF) => options.send_buffer_bytes = positive.map(|v| v / 2),
            (SOL, libc::SO_RCVLOWAT) => options.recv_lowat = positive.unwrap_or(1),
            (SOL, libc::SO_LINGER) => {
                let seconds = int(kept.get(4..).unwrap_or(&[]))?;
                self.linger = (value != 0).then(|| u32::try_from(seconds).unwrap_or(u32::MAX));
            }
            (SOL, libc::SO_RCVTIMEO) => self.recv_timeout = timeval(kept),
            (SOL, libc::SO_SNDTIMEO) => self.send_timeout = timeval(kept),
            (TCP, libc::TCP_NODELAY) => options.nodelay = value != 0,
            (TCP, libc::TCP_CORK) => options.cork = value != 0,
            // The kernel shows another value than the one set while it has no connection.
            (TCP, libc::TCP_MAXSEG) => {
                options.maxseg = u16::try_from(number).ok().filter(|mss| *mss > 0);
            }
            (TCP, libc::TCP_KEEPIDLE) => options.keepalive.idle_us = seconds_to_us(value),
            (TCP, libc::TCP_KEEPINTVL) => options.keepalive.interval_us = seconds_to_us(value),
            (TCP, libc::TCP_KEEPCNT) => {
                options.keepalive.count = u8::try_from(value).unwrap_or(127)
            }
            (TCP, libc::TCP_SYNCNT) => options.syn_retries = u8::try_from(value).ok(),
            // tcp(7): 0 is the system's default, less is not at all.
            (TCP, libc::TCP_LINGER2) => {
                options.fin_wait_2_us = (number != 0).then(|| seconds_to_us(value));
            }
            (TCP, libc::TCP_WINDOW_CLAMP) => options.window_clamp = positive,
            (TCP, libc::TCP_QUICKACK) => options.quickack = Some(number & 1 != 0),
            (TCP, libc::TCP_USER_TIMEOUT) => {
                options.user_timeout_us = u64::from(positive.unwrap_or(0)) * 1000;
            }
            (TCP, TCP_INQ) => self.inq = value != 0,
            (TCP, libc::TCP_NOTSENT_LOWAT) => {
                // An unsigned number; 0 is the system's default: no bound.
                options.notsent_lowat = Some(value as u32).filter(|v| *v > 0);
            }
            (V4, libc::IP_TOS) => self.header_v4.dscp = value as u8 & !3,
            (V4, libc::IP_TTL) => self.header_v4.hop_limit = u8::try_from(value).ok(),
            (V6, libc::IPV6_TCLASS) => self.header_v6.dscp = value as u8 & !3,
            (V6, libc::IPV6_UNICAST_HOPS) => self.header_v6.hop_limit = u8::try_from(value).ok(),
            _ => debug_assert!(false, "{level} {name} is said to be honoured"),
        }
        Ok(())
    }

    /// Takes over what the kernel socket `fd` was told elsewhere: what differs from a new one's,
    /// `scratch`. An option that only the kernel has pins it.
    pub fn learn_options(&mut self, fd: i32, scratch: i32) {
        for &SocketOption { level, name, support, .. } in table::TABLE {
            let setting = matches!(support, Support::Honoured | Support::KernelOnly);
            if !setting || STATES.contains(&(level, name)) {
                continue;
            }
            let kept = kept_by(fd, level, name);
            if kept == kept_by(scratch, level, name) {
                continue;
            }
            let by_name = (level, name) == (TCP, libc::TCP_CONGESTION);
            if support == Support::KernelOnly
                || by_name
                || self.obey(level, name, &kept, &kept).is_err()
            {
                self.pinned = Some((level, name));
            }
        }
    }

    /// Keeps an option of a connection that shares its listener's kernel socket.
    pub fn remember(&mut self, level: i32, name: i32, value: Vec<u8>) {
        let key = (level, name);
        match self.overrides.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = value,
            None => self.overrides.push((key, value)),
        }
    }

    fn recall(&self, level: i32, name: i32) -> Option<&[u8]> {
        self.overrides.iter().find(|(k, _)| *k == (level, name)).map(|(_, v)| v.as_slice())
    }
}

/// The kernel's errno for options that it takes from a socket before it listens or connects only.
fn not_closed(kind: Kind, level: i32, name: i32) -> Option<Errno> {
    // linux/tcp.h; libc lacks them.
    const FASTOPEN_CONNECT: i32 = 30;
    const FASTOPEN_NO_COOKIE: i32 = 34;
    let listens = matches!(kind, Kind::Listener(_));
    match (level, name) {
        (TCP, libc::TCP_QUEUE_SEQ) => Some(Errno(libc::EPERM)),
        (TCP, libc::TCP_REPAIR) if listens => Some(Errno(libc::EPERM)),
        (TCP, libc::TCP_FASTOPEN | FASTOPEN_NO_COOKIE) if !listens => Some(Errno(libc::EINVAL)),
        (TCP, FASTOPEN_CONNECT) => Some(Errno(libc::EINVAL)),
        _ => None,
    }
}

/// Options that show a state: what they say differs from socket to socket though nobody set them.
const STATES: [(i32, i32); 4] = [
    (SOL, libc::SO_INCOMING_CPU),
    (TCP, libc::TCP_TIMESTAMP),
    (TCP, libc::TCP_CC_INFO),
    (TCP, libc::TCP_ZEROCOPY_RECEIVE),
];

/// What a kernel socket has for an option.
fn kept_by(fd: i32, level: i32, name: i32) -> Vec<u8> {
    let mut kept = vec![0; MAX_VALUE_BYTES];
    let len = sys::getsockopt(fd, level, name, &mut kept).unwrap_or(0);
    kept.truncate(len);
    kept
}

impl Inner {
    fn setsockopt(&mut self, vfd: Vfd, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        if (level, name) == (TCP, libc::TCP_CONGESTION) {
            return self.set_congestion(vfd, value);
        }
        let desc = self.desc(vfd)?;
        let (kind, family) = (desc.kind, desc.family);
        let ours = matches!(kind, Kind::Conn { .. } | Kind::Listener(_));
        let support = support(level, name);
        let kernels = matches!(support, Support::KernelOnly | Support::Refused | Support::Answered);
        if ours && kernels {
            // What the kernel would refuse in any case it refuses in its own words.
            if not_closed(kind, level, name) != Some(Errno(libc::EPERM)) {
                sys::setsockopt(Port::new(family, 0)?.fd(), level, name, value)?;
            }
            int(value)?;
            return Err(not_closed(kind, level, name).unwrap_or(Errno(libc::ENOPROTOOPT)));
        }
        if matches!(kind, Kind::Conn { .. }) {
            let unclamped = (level, name) == (TCP, libc::TCP_WINDOW_CLAMP) && int(value)? == 0;
            // ipv6(7): only before bind(2).
            if unclamped || (level, name) == (V6, libc::IPV6_V6ONLY) {
                return Err(Errno(libc::EINVAL));
            }
        }
        let kept = if desc.owns_port {
            let fd = self.port(desc)?.fd();
            sys::setsockopt(fd, level, name, value)?;
            if support == Support::Honoured {
                kept_by(fd, level, name)
            } else {
                Vec::new()
            }
        } else if is_flag(level, name) {
            i32::from(int(value)? != 0).to_ne_bytes().to_vec()
        } else {
            let scratch = Port::new(family, 0)?;
            sys::setsockopt(scratch.fd(), level, name, value)?;
            kept_by(scratch.fd(), level, name)
        };
        let desc = self.desc_mut(vfd)?;
        if kernels {
            if kind == Kind::Fresh {
                desc.pinned = Some((level, name));
            }
            return Ok(());
        }
        if support == Support::Honoured {
            desc.obey(level, name, value, &kept)?;
        }
        if !desc.owns_port {
            desc.remember(level, name, kept);
        }
        self.apply_options(vfd)?;
        match kind {
            Kind::Conn { id, .. } if (level, name) == (TCP, libc::TCP_QUICKACK) => {
                self.shard.set_quickack(id, int(value)? & 1 != 0);
            }
            // Each such call pushes, also what `MSG_MORE` holds back.
            Kind::Conn { id, .. }
                if (level, name) == (TCP, libc::TCP_NODELAY) && int(value)? != 0 =>
            {
                self.shard.push(id);
            }
            _ => {}
        }
        Ok(())
    }

    /// What the description has been told since holds for its connection, or for those to come.
    pub(super) fn apply_options(&mut self, vfd: Vfd) -> Result<(), Errno> {
        let desc = self.desc(vfd)?;
        match desc.kind {
            Kind::Listener(id) => {
                let inherit = desc.conn_options(desc.family == libc::AF_INET);
                self.shard.set_listener_options(id, inherit);
            }
            Kind::Conn { id, .. } => {
                let is_ipv4 = self.shard.info(id).is_ok_and(|info| info.local.is_ipv4());
                let (options, now) = (desc.conn_options(is_ipv4), self.now());
                self.shard.set_options(now, id, options);
            }
            _ => {}
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
        if (level, name) == (SOL, libc::SO_ACCEPTCONN) && kind != Kind::Kernel {
            return Ok(put(buf, i32::from(matches!(kind, Kind::Listener(_)))));
        }
        if let Kind::Conn { .. } = kind {
            if let Some(answer) = self.answer(desc, level, name, buf) {
                return answer;
            }
            if let Some(value) = desc.recall(level, name) {
                return Ok(cut(buf, value));
            }
        }
        let n = sys::getsockopt(self.port(desc)?.fd(), level, name, buf)?;
        if let (Kind::Listener(id), TCP, libc::TCP_INFO) = (kind, level, name) {
            let info = self.shard.listeners().find(|l| l.id == id);
            if let (Some(l), Some(part)) = (info, buf.get_mut(..n)) {
                tcp_info::of_listener(l.accept_queue, l.backlog, part);
            }
        }
        Ok(n)
    }

    /// The answers that only our connection knows; `None`: the kernel socket knows as well.
    fn answer(
        &self,
        desc: &Desc,
        level: i32,
        name: i32,
        buf: &mut [u8],
    ) -> Option<Result<usize, Errno>> {
        let id = desc.conn()?;
        let info = || self.shard.tcp_info(self.now(), id).map_err(Errno::from);
        let number = |buf: &mut [u8], value: Result<u32, Errno>| {
            Some(value.map(|v| put(buf, i32::try_from(v).unwrap_or(i32::MAX))))
        };
        match (level, name) {
            (TCP, libc::TCP_INFO) => {
                let kernel = self.port(desc).map(Port::fd);
                Some(kernel.and_then(|fd| tcp_info::of_connection(&info()?, fd, buf)))
            }
            // What the kernel would answer is about a socket that carries nothing.
            (TCP, libc::TCP_CC_INFO | libc::TCP_TIMESTAMP)
            | (TCP, libc::TCP_ZEROCOPY_RECEIVE)
            | (SOL, libc::SO_INCOMING_CPU) => Some(Err(Errno(libc::ENOPROTOOPT))),
            (TCP, libc::TCP_CONGESTION) => {
                Some(Ok(congestion::answer(desc.options.congestion, buf)))
            }
            (TCP, libc::TCP_MAXSEG) => number(buf, info().map(|i| i.snd_mss)),
            (TCP, libc::TCP_QUICKACK) => Some(Ok(put(buf, i32::from(self.shard.is_quickack(id))))),
            (TCP, libc::TCP_WINDOW_CLAMP) => number(buf, info().map(|i| i.rcv_ssthresh)),
            // Where the buffers tune themselves, what they are now; doubled as the kernel has it.
            (SOL, libc::SO_RCVBUF) if desc.options.recv_buffer_bytes.is_none() => {
                number(buf, info().map(|i| i.recv_buffer_bytes.saturating_mul(2)))
            }
            (SOL, libc::SO_SNDBUF) if desc.options.send_buffer_bytes.is_none() => {
                number(buf, info().map(|i| i.send_buffer_bytes.saturating_mul(2)))
            }
            (V4, IP_MTU) | (V6, IPV6_MTU) => number(buf, info().map(|i| i.pmtu)),
            (V6, libc::IPV6_PATHMTU) => Some(info().map(|i| path_mtu(i.pmtu, buf))),
            _ => None,
        }
    }
}

/// `struct ip6_mtuinfo`: an address that the kernel leaves empty, and the MTU.
fn path_mtu(mtu: u32, buf: &mut [u8]) -> usize {
    let mut bytes = [0u8; 32];
    bytes[28..].copy_from_slice(&mtu.to_ne_bytes());
    cut(buf, &bytes)
}

/// Writes an int as the kernel does.
fn put(buf: &mut [u8], value: i32) -> usize {
    cut(buf, &value.to_ne_bytes())
}

/// Writes a value cut to the caller's buffer, as the kernel does; how much that was.
pub(super) fn cut(buf: &mut [u8], value: &[u8]) -> usize {
    for (to, from) in buf.iter_mut().zip(value) {
        *to = *from;
    }
    value.len().min(buf.len())
}

impl Runtime {
    /// Sets an option, as setsockopt(2).
    ///
    /// # Errors
    /// Those of setsockopt(2); ENOPROTOOPT on a listener or a connection of ours for what only the
    /// kernel has.
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

    /// SO_RCVTIMEO and SO_SNDTIMEO; `None`: a blocking call waits for ever.
    ///
    /// # Errors
    /// EBADF.
    pub fn timeouts(&self, vfd: Vfd) -> Result<(Option<Duration>, Option<Duration>), Errno> {
        self.lock().desc(vfd).map(|d| (d.recv_timeout, d.send_timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_the_kernel_does() {
        assert_eq!(int(&[1, 0, 0]), Err(Errno(libc::EINVAL)));
        assert_eq!(int(&7i32.to_ne_bytes()), Ok(7));
        let time = |s: i64, us: i64| timeval(&[s.to_ne_bytes(), us.to_ne_bytes()].concat());
        assert_eq!(time(1, 500_000), Some(Duration::from_millis(1500)));
        assert_eq!(time(0, 0), None);
    }

    #[test]
    fn a_short_buffer_cuts_the_value() {
        let mut two = [9u8; 2];
        assert_eq!(put(&mut two, 0x0102_0304), 2);
        assert_eq!(two, [4, 3]);
        let mut mtu = [9u8; 33];
        assert_eq!((path_mtu(1280, &mut mtu), &mtu[28..32]), (32, &1280u32.to_ne_bytes()[..]));
    }

    #[test]
    fn every_honoured_option_is_obeyed() {
        let mut desc = Desc::new(libc::AF_INET6, Kind::Fresh, None, true);
        // Its value is a name, which `congestion` reads.
        let named = |row: &&table::SocketOption| row.label == "TCP_CONGESTION";
        let honoured = table::TABLE.iter().filter(|row| row.support == Support::Honoured);
        for row in honoured.filter(|row| !named(row)) {
            // `obey` stops a debug build at one that it does not know.
            desc.obey(row.level, row.name, &[1; 16], &[1; 16]).unwrap();
        }
    }
}
