//! Which listeners others may find, and the way to theirs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mtcp_engine::wire::Link as Addresses;
use mtcp_engine::{ListenerId, Path};

use super::super::devices::Way;
use super::super::state::Inner;
use super::super::stream::Patience;
use super::{say_goodbye_on_signals, Coming, REFUSED_FOR};
use crate::peers::link;
use crate::peers::registry::{Id, Served};

impl Inner {
    /// Lets other processes find a listener of ours.
    pub fn publish(&mut self, id: ListenerId, local: SocketAddr, v6only: bool) {
        let peers = &mut self.devices.peers;
        let before = peers.fd();
        if let Err(e) = peers.publish(id, Served::by(local, v6only)) {
            let path = peers.base.display();
            self.devices.messages.push(format!(
                "{local}: {path}: {e}; other patched processes reach it by lo or by the kernel"
            ));
        }
        self.sleep_on_links_too(before);
    }

    /// Whether another process serves an address of this host.
    pub fn is_served_by_peer(&mut self, dst: SocketAddr) -> bool {
        let peers = &mut self.devices.peers;
        let own = peers.own;
        let found =
            peers.registry().is_some_and(|r| r.find(&dst).iter().any(|id| Some(*id) != own));
        found && self.devices.is_local(dst.ip())
    }

    /// The way to an address that another process serves; `None`: there is none by memory.
    pub fn peer_way(
        &mut self,
        dst: SocketAddr,
        src: Option<IpAddr>,
        patience: Patience,
    ) -> Option<Way> {
        let peers = &mut self.devices.peers;
        let own = peers.own;
        let mut ids = peers.registry()?.find(&dst);
        ids.retain(|id| Some(*id) != own);
        if ids.is_empty() || !self.devices.is_local(dst.ip()) {
            return None;
        }
        // One that has died meanwhile is not to be chosen.
        self.service_peers();
        let peers = &mut self.devices.peers;
        peers.turn = peers.turn.wrapping_add(1);
        let first = peers.turn % ids.len();
        ids.rotate_left(first);
        for id in ids {
            match self.way_to(id, patience) {
                Some(Way::Ours(path, _)) => {
                    let src = src.unwrap_or_else(|| self.devices.source_on_host(dst.ip()));
                    return Some(Way::Ours(path, src));
                }
                Some(way) => return Some(way),
                None => {}
            }
        }
        None
    }

    fn way_to(&mut self, id: Id, patience: Patience) -> Option<Way> {
        let peers = &mut self.devices.peers;
        if let Some(peer) = peers.open.iter().find(|peer| peer.id == Some(id)) {
            let path = Path { device: peer.device, caps: link::CAPS, link: Addresses::default() };
            return Some(Way::Ours(path, IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        }
        let dialled =
            |coming: &&mut Coming| matches!(coming, Coming::Dialled { id: its, .. } if *its == id);
        if let Some(Coming::Dialled { slow, .. }) = peers.coming.iter_mut().find(dialled) {
            *slow |= patience == Patience::Never;
            return (!*slow).then_some(Way::Unresolved);
        }
        let refused = peers.refused.get(&id).is_some_and(|at| at.elapsed() < REFUSED_FOR);
        if refused || peers.is_full() {
            return None;
        }
        let before = peers.fd();
        if !peers.dial(id) {
            if let Some(registry) = peers.registry() {
                registry.forget(id);
            }
            return None;
        }
        self.sleep_on_links_too(before);
        if let Err(e) = say_goodbye_on_signals() {
            self.devices.messages.push(format!("SIGTERM will end this process at once: {e}"));
        }
        (patience == Patience::MayWait).then_some(Way::Unresolved)
    }
}
