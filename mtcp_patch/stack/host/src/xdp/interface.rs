//! What the kernel says of a network interface, as far as opening a device on it depends on it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Facts of one interface, read once when a device is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, as given.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Whether it is a loopback interface.
    pub loopback: bool,
    /// Whether it is administratively up.
    pub up: bool,
    /// Largest IP packet, in bytes.
    pub mtu: usize,
    /// Hardware address; zero on loopback.
    pub hw_addr: [u8; 6],
    /// Name of its driver; empty where there is none.
    pub driver: String,
    /// Receive queues.
    pub queues: u32,
}

const ETHTOOL_GDRVINFO: u32 = 0x3;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// An `ifreq` for `name`, and the socket to ask with.
struct Query {
    socket: OwnedFd,
    request: libc::ifreq,
}

impl Query {
    fn new(name: &str) -> io::Result<Self> {
        let absent = || io::Error::from_raw_os_error(libc::ENODEV);
        // SAFETY: `ifreq` is plain data for which all zeroes is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
            return Err(absent());
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that we have just made and nobody else has.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, request })
    }

    /// One interface ioctl of a kind that reads and writes the `ifreq` itself.
    fn ask(&mut self, what: libc::c_ulong) -> io::Result<()> {
        let request = std::ptr::from_mut(&mut self.request);
        // SAFETY: `request` is a live `ifreq`, which is what every SIOCGIF* command takes.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), what as _, request) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// One ethtool command; `block` begins with its number.
    fn ethtool<T>(&mut self, block: &mut T) -> io::Result<()> {
        self.request.ifr_ifru.ifru_data = std::ptr::from_mut(block).cast();
        // `block` outlives the call, is of the type that its command takes, and the kernel keeps
        // no pointer to it.
        self.ask(libc::SIOCETHTOOL as libc::c_ulong)
    }
}

impl Interface {
    /// Reads the facts; ENODEV when there is no such interface in this network namespace.
    pub fn read(name: &str) -> io::Result<Self> {
        let mut query = Query::new(name)?;
        query.ask(libc::SIOCGIFINDEX as libc::c_ulong)?;
        // SAFETY: the command that succeeded filled this member.
        let ifindex = unsafe { query.request.ifr_ifru.ifru_ifindex }.unsigned_abs();
        query.ask(libc::SIOCGIFFLAGS as libc::c_ulong)?;
        // SAFETY: as above.
        let flags = i32::from(unsafe { query.request.ifr_ifru.ifru_flags });
        query.ask(libc::SIOCGIFMTU as libc::c_ulong)?;
        // SAFETY: as above.
        let mtu = unsafe { query.request.ifr_ifru.ifru_mtu };
        query.ask(libc::SIOCGIFHWADDR as libc::c_ulong)?;
        // SAFETY: as above.
        let address = unsafe { query.request.ifr_ifru.ifru_hwaddr }.sa_data;
        let mut hw_addr = [0; 6];
        for (to, from) in hw_addr.iter_mut().zip(address) {
            *to = from as u8;
        }
        let mut info = DriverInfo { cmd: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
        let driver = match query.ethtool(&mut info) {
            Ok(()) => String::from_utf8_lossy(&info.driver).trim_end_matches('\0').to_owned(),
            Err(_) => String::new(), // `lo` has none
        };
        let mut channels = Channels { cmd: ETHTOOL_GCHANNELS, ..Channels::default() };
        let queues = match query.ethtool(&mut channels) {
            Ok(()) => channels.rx.saturating_add(channels.combined).max(1),
            Err(_) => 1, // drivers of one queue do not answer
        };
        Ok(Self {
            name: name.to_owned(),
            ifindex,
            loopback: flags & libc::IFF_LOOPBACK != 0,
            up: flags & libc::IFF_UP != 0,
            mtu: usize::try_from(mtu).unwrap_or(0),
            hw_addr,
            driver,
            queues,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_and_nonsense_is_not() {
        let lo = Interface::read("lo").unwrap();
        assert!(lo.loopback);
        assert_eq!((lo.hw_addr, lo.queues, lo.driver.as_str()), ([0; 6], 1, ""));
        for name in ["", "no-such-if0", "far-too-long-for-an-interface", "a\0b"] {
            assert_eq!(Interface::read(name).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        }
    }
}
