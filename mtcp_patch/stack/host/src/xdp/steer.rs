//! Which frames come to us: the XDP program and its maps.
//!
//! Owned by `XdpDevice`. The program looks up the *destination* address and port of every TCP
//! segment, and the *source* in the segment that an ICMP error quotes: the port alone first (`ports`),
//! then the exact address, then the wildcard of its family. A hit goes to the AF_XDP socket of the queue it came by, everything
//! else goes on to the kernel untouched. So do fragments (only the first has ports), IPv6 with
//! more than four extension headers or with ones other than hop-by-hop, routing and destination
//! options, and VLAN-tagged frames.
//!
//! A port can be *shared* with the kernel, where other processes accept on the same listener. Then a
//! segment of a connection that the kernel has goes on to the kernel, a SYN comes to us only while we
//! have said that we take one, and all else is ours: each connection stays where it began, whoever
//! takes the new ones. ICMP errors for a shared port go to the kernel.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use super::bpf::{self, Map};
use super::ports::Ports;
use super::program::{program, ProgramMaps, ALONE, FAMILY_V4, FAMILY_V6};
use crate::runtime_fd::RuntimeFd;

/// Most addresses and ports that one device steers at once. The kernel allocates all of them at
/// once, 6 MB: allocating each when it comes made steering cost 5 µs instead of 2.
pub const MAX_STEERED: u32 = 65_536;

/// Most ports that one device shares with the kernel.
const MAX_SHARED: u32 = 256;

/// What the hash map is keyed by: 16 bytes of address (IPv4 mapped), the port in network byte
/// order, and the family, so that a frame of IPv6 with a mapped address cannot pass for IPv4.
pub type Key = [u8; 20];

/// The map key of a local address; an unspecified one gives the wildcard of its family.
pub fn key(local: SocketAddr) -> Key {
    let (address, family) = match local.ip() {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), FAMILY_V4),
        IpAddr::V6(v6) => (v6, FAMILY_V6),
    };
    let mut key = [0; 20];
    let tail = local.port().to_be_bytes().into_iter().chain(family.to_ne_bytes());
    for (to, from) in key.iter_mut().zip(address.octets().into_iter().chain(tail)) {
        *to = from;
    }
    key
}

/// The loaded program with its maps, and who asked for which key.
pub struct Steering {
    ports: Ports,
    owned: Map,
    /// How many new connections we take of each shared port. An array, whose elements the program may
    /// write: those of a hash table serve another key as soon as they are free.
    shares: Map,
    sockets: Map,
    program: RuntimeFd,
    frags: bool,
    /// How many times each key was asked for: several listeners may share one (SO_REUSEPORT).
    users: HashMap<Key, u32>,
    /// The places of shared ports in `shares`, from 1 on.
    places: HashMap<Key, u32>,
    /// What a wildcard became on an interface other than `lo`.
    expanded: HashMap<SocketAddr, Vec<Vec<SocketAddr>>>,
}

impl Steering {
    /// Makes the maps and loads the program for an interface of `queues` receive queues.
    /// A kernel that knows no multi-buffer XDP (before 5.18) gets the program without that flag.
    pub fn load(queues: u32) -> io::Result<Self> {
        let owned = Map::create(bpf::MAP_HASH, size_of::<Key>(), 4, MAX_STEERED, 0, "mtcp_owned")?;
        let shares = Map::create(bpf::MAP_ARRAY, 4, 4, MAX_SHARED + 1, 0, "mtcp_shares")?;
        let sockets = Map::create(bpf::MAP_XSK, 4, 4, queues, 0, "mtcp_sockets")?;
        let ports = Ports::new()?;
        let maps = ProgramMaps {
            ports: ports.raw_fd(),
            owned: owned.raw_fd(),
            shares: shares.raw_fd(),
            sockets: sockets.raw_fd(),
        };
        let insns = program(&maps).map_err(io::Error::other)?;
        let (program, frags) = match bpf::load_xdp(&insns, bpf::PROG_XDP_HAS_FRAGS, "mtcp_steer") {
            Ok(fd) => (fd, true),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && e.raw_os_error().is_some() => {
                return Err(e)
            }
            Err(_) => (bpf::load_xdp(&insns, 0, "mtcp_steer")?, false),
        };
        let (users, places, expanded) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { ports, owned, shares, sockets, program, frags, users, places, expanded })
    }

    /// Whether the program may see frames of several buffers.
    pub fn has_frags(&self) -> bool {
        self.frags
    }

    /// Sends what queue `queue` redirects to the socket `fd`.
    pub fn set_socket(&self, queue: u32, fd: i32) -> io::Result<()> {
        self.sockets.set(&queue.to_ne_bytes(), &fd.to_ne_bytes())
    }

    /// Attaches the program; it leaves with the descriptor.
    pub fn attach(&self, ifindex: u32, mode: u32) -> io::Result<RuntimeFd> {
        bpf::attach_xdp(self.program.as_fd(), ifindex, mode)
    }

    /// Starts or stops steering one address and port, counted.
    pub fn steer(&mut self, local: SocketAddr, on: bool) -> io::Result<()> {
        let key = key(local);
        let users = self.users.get(&key).copied().unwrap_or(0);
        match (on, users) {
            (true, 0) => {
                self.ports.add(local.port());
                if let Err(e) = self.owned.set(&key, &ALONE.to_ne_bytes()) {
                    self.ports.remove(local.port());
                    return Err(e);
                }
                self.users.insert(key, 1);
            }
            (true, n) => {
                self.users.insert(key, n.saturating_add(1));
            }
            (false, 0) => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
            (false, 1) => {
                self.owned.remove(&key)?;
                self.ports.remove(local.port());
                self.users.remove(&key);
                self.places.remove(&key);
            }
            (false, n) => {
                self.users.insert(key, n - 1);
            }
        }
        Ok(())
    }

    /// Starts steering an address and port that the kernel has too, taking no new connection yet. To
    /// be stopped by [`Steering::steer`]. EADDRINUSE for what is steered already, E2BIG when
    /// [`MAX_SHARED`] are shared.
    pub fn share(&mut self, local: SocketAddr) -> io::Result<()> {
        let key = key(local);
        if self.users.contains_key(&key) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        self.ports.add(local.port());
        if let Err(e) = self.place(key) {
            self.ports.remove(local.port());
            return Err(e);
        }
        self.users.insert(key, 1);
        Ok(())
    }

    /// Makes a shared port of a key, at once.
    fn place(&mut self, key: Key) -> io::Result<()> {
        let free = (1..=MAX_SHARED).find(|place| !self.places.values().any(|p| p == place));
        let place = free.ok_or_else(|| io::Error::from_raw_os_error(libc::E2BIG))?;
        self.shares.set(&place.to_ne_bytes(), &0u32.to_ne_bytes())?;
        self.owned.set(&key, &place.to_ne_bytes())?;
        self.places.insert(key, place);
        Ok(())
    }

    /// From now on the kernel serves new connections to what was steered to us alone; those that we
    /// have stay ours. ENOENT for what is not steered.
    pub fn share_steered(&mut self, local: SocketAddr) -> io::Result<()> {
        self.standing_for(local).into_iter().try_for_each(|local| {
            let key = key(local);
            if !self.users.contains_key(&key) {
                return Err(io::Error::from_raw_os_error(libc::ENOENT));
            }
            if self.places.contains_key(&key) {
                return Ok(());
            }
            self.place(key)
        })
    }

    /// What a wildcard became on an interface other than `lo`; others themselves.
    fn standing_for(&self, local: SocketAddr) -> Vec<SocketAddr> {
        let listed = self.expanded.get(&local).and_then(|lists| lists.last()).cloned();
        listed.unwrap_or_else(|| vec![local])
    }

    /// How many new connections come to us from now on. ENOENT for what is not shared.
    fn take_one(&mut self, local: SocketAddr, connections: u32) -> io::Result<()> {
        let place = self.places.get(&key(local));
        let place = place.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        self.shares.set(&place.to_ne_bytes(), &connections.to_ne_bytes())
    }

    /// The same as [`Steering::share`], as [`Steering::steer_expanded`] does it.
    pub fn share_expanded(
        &mut self,
        wildcard: SocketAddr,
        addresses: impl Iterator<Item = IpAddr>,
    ) -> io::Result<()> {
        self.start_all(wildcard, expand(wildcard, addresses), Self::share)
    }

    /// How many new connections come to us from now on of a shared address and port, or by each of
    /// those that a wildcard became.
    pub fn take(&mut self, local: SocketAddr, connections: u32) -> io::Result<()> {
        self.standing_for(local).into_iter().try_for_each(|local| self.take_one(local, connections))
    }

    /// The same as [`Steering::steer`] for a wildcard that must not catch forwarded traffic: each of
    /// `addresses` of its family is steered, and stopping stops what starting had started.
    pub fn steer_expanded(
        &mut self,
        wildcard: SocketAddr,
        on: bool,
        addresses: impl Iterator<Item = IpAddr>,
    ) -> io::Result<()> {
        if !on {
            let list = self.expanded.get_mut(&wildcard).and_then(Vec::pop);
            let list = list.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
            return list.into_iter().try_for_each(|local| self.steer(local, false));
        }
        let locals = expand(wildcard, addresses);
        self.start_all(wildcard, locals, |steering, local| steering.steer(local, true))
    }

    /// Starts steering each of `locals`, or none of them, and remembers them as what `wildcard` became.
    fn start_all(
        &mut self,
        wildcard: SocketAddr,
        locals: Vec<SocketAddr>,
        start: impl Fn(&mut Self, SocketAddr) -> io::Result<()>,
    ) -> io::Result<()> {
        for (done, local) in locals.iter().enumerate() {
            if let Err(e) = start(self, *local) {
                // The first error is the one to report; undoing can only fail for the same reason.
                let undone: io::Result<()> =
                    locals.iter().take(done).try_for_each(|l| self.steer(*l, false));
                return undone.and(Err(e));
            }
        }
        self.expanded.entry(wildcard).or_default().push(locals);
        Ok(())
    }
}

/// What a wildcard stands for, of the host's `addresses`.
fn expand(wildcard: SocketAddr, addresses: impl Iterator<Item = IpAddr>) -> Vec<SocketAddr> {
    let same_family = addresses.filter(|a| a.is_ipv4() == wildcard.is_ipv4());
    same_family.map(|address| SocketAddr::new(address, wildcard.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_families_and_wildcards_apart() {
        let v4 = key("127.0.0.1:80".parse().unwrap());
        assert_eq!(&v4[..18], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1, 0, 80]);
        let mapped = key("[::ffff:127.0.0.1]:80".parse().unwrap());
        assert_eq!(v4[..18], mapped[..18]);
        assert_ne!(v4, mapped);
        let any4 = key("0.0.0.0:80".parse().unwrap());
        let any6 = key("[::]:80".parse().unwrap());
        assert_eq!(any4[..18], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0, 0, 80]);
        assert_eq!(any6[..18], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 80]);
    }
}
