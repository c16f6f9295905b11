//! A switch between several clients and one server, and the bottleneck that the clients share.
//!
//! ```text
//!     A ───line──┐                 ┌──port, the trunk──> B
//!     C ───line──┤  by destination │
//!     D ───line──┘                 └──ports──> A, C, D  <── what came by B's line
//! ```
//! Every host sends by its own line into the switch and receives from its own port. Two hosts have
//! none: the line of each ends at the other.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::link::Link;
use crate::device::Device;
use crate::time::Instant;

/// The ports, in the order of the hosts.
pub(super) struct Switch {
    ports: Vec<(IpAddr, Link)>,
}

/// Source and destination of an IP packet; `None` for what is neither version.
fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let four = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    let six = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    match frame.first()? >> 4 {
        4 => Some((four(12)?, four(16)?)),
        6 => Some((six(8)?, six(24)?)),
        _ => None,
    }
}

/// Whom a packet says it comes from.
pub(super) fn sender(frame: &[u8]) -> Option<IpAddr> {
    addresses(frame).map(|(from, _)| from)
}

impl Switch {
    pub(super) fn new(ports: Vec<(IpAddr, Link)>) -> Self {
        Self { ports }
    }

    /// Which host a packet is for.
    pub(super) fn destination(&self, frame: &[u8]) -> Option<usize> {
        let (_, to) = addresses(frame)?;
        self.ports.iter().position(|(known, _)| *known == to)
    }

    /// Queues a packet at the port of its destination. One that is for nobody is gone.
    pub(super) fn forward(&mut self, now: Instant, frame: &[u8]) {
        let Some(port) = self.destination(frame).and_then(|index| self.port(index)) else { return };
        port.advance(now);
        port.transmit(frame.len(), &mut |out| out.copy_from_slice(frame));
    }

    /// The link to a host.
    pub(super) fn port(&mut self, index: usize) -> Option<&mut Link> {
        self.ports.get_mut(index).map(|(_, port)| port)
    }

    /// The next ICMP error of any port, for the sender of what did not fit.
    pub(super) fn take_error(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.ports.iter_mut().find_map(|(_, port)| {
            port.advance(now);
            port.take_error()
        })
    }

    /// When the next frame or error of any port is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.ports.iter().filter_map(|(_, port)| port.next_due()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::faults::Faults;
    use crate::sim::{Random, Weather};
    use std::vec;

    #[test]
    fn packets_leave_by_the_port_of_their_destination_and_share_its_queue() {
        let weather = Weather { rate_bps: 8_000_000, queue_bytes: 2_000, ..Weather::default() };
        let ports = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|address| {
            let random = Random::new(1);
            let link =
                Link::new(Faults::default(), weather.clone(), 1500, random, Instant::default());
            (IpAddr::from(address), link)
        });
        let mut switch = Switch::new(Vec::from(ports));
        let to = |last: u8| {
            let mut packet = vec![0; 1000];
            packet[0] = 0x45;
            packet[12..20].copy_from_slice(&[10, 0, 0, 9, 10, 0, 0, last]);
            packet
        };
        for last in [2, 2, 2, 7] {
            switch.forward(Instant::default(), &to(last));
        }
        assert_eq!(sender(&to(2)), Some(IpAddr::from([10, 0, 0, 9])));
        let mut arrivals = vec![];
        while let Some(due) = switch.next_due() {
            for (index, (_, port)) in switch.ports.iter_mut().enumerate() {
                port.advance(due);
                port.receive(9, &mut |_| arrivals.push((index, due.micros)));
            }
        }
        // A millisecond each; the third found the queue full, the fourth nobody.
        assert_eq!(arrivals, [(1, 1000), (1, 2000)]);
    }
}
