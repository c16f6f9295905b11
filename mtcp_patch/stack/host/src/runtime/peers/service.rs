//! Births and deaths of links, and who is woken for what comes by them.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant as Clock;

use mtcp_engine::device::Device;

use super::super::state::{Inner, TcpThread};
use super::{Coming, Peer, BELLS, EVENTS, REFUSED_FOR};
use crate::peers::link::{self, Driven, Link};
use crate::peers::registry::Id;
use crate::peers::rendezvous::{self, Message, Nothing};
use crate::peers::shared;
use crate::sys;

impl Inner {
    /// Looks after births and deaths of links. True: something has changed.
    pub fn service_peers(&mut self) -> bool {
        let Some(epoll) = self.devices.peers.fd() else { return false };
        let mut changed = self.drop_corrupt();
        // Its only error would be EBADF, after a careless close by the program.
        for (_, token) in sys::epoll_now(epoll, EVENTS).unwrap_or_default() {
            let fd = token as RawFd;
            let peers = &mut self.devices.peers;
            if peers.listener.as_ref().is_some_and(|l| l.as_raw_fd() == fd) {
                peers.accept();
            } else if let Some(i) = peers.coming.iter().position(|c| c.socket().as_raw_fd() == fd) {
                changed |= self.greet(i);
            } else if let Some(i) =
                peers.open.iter().position(|p| p.link.socket().as_raw_fd() == fd)
            {
                changed |= self.listen_to(i);
            }
        }
        if changed {
            self.flush_events();
        }
        changed
    }

    /// Something has come by a link that is not open yet. True: now it is.
    fn greet(&mut self, index: usize) -> bool {
        let peers = &mut self.devices.peers;
        let Some(coming) = peers.coming.get(index) else { return false };
        let message = match rendezvous::receive(coming.socket()) {
            Err(Nothing::Yet) => return false,
            message => message,
        };
        let coming = peers.coming.swap_remove(index);
        match (coming, message) {
            (Coming::Guest(socket), Ok(Message::Hello(memory, bytes))) => {
                let rings = shared::open(&memory, bytes);
                match rings {
                    Ok(rings) if rendezvous::welcome(&socket) => {
                        self.open_link(Link::new(socket, rings), None)
                    }
                    _ => {
                        self.devices.peers.end(&socket);
                        false
                    }
                }
            }
            (Coming::Dialled { link, id, .. }, Ok(Message::Welcome)) => {
                self.open_link(link, Some(id))
            }
            (coming, _) => {
                let peers = &mut self.devices.peers;
                peers.end(coming.socket());
                if let Coming::Dialled { id, .. } = coming {
                    peers.refused.retain(|_, at| at.elapsed() < REFUSED_FOR);
                    peers.refused.insert(id, Clock::now());
                }
                false
            }
        }
    }

    fn open_link(&mut self, link: Link, id: Option<Id>) -> bool {
        let peers = &mut self.devices.peers;
        let Some(device) = peers.free_device() else {
            peers.end(link.socket());
            return false;
        };
        let pid = rendezvous::peer_pid(link.socket());
        self.shard.add_device(device, link::CAPS);
        peers.open.push(Peer { device, link, pid, name: format!("memory:{pid}"), id });
        if peers.armed {
            self.wake_who_sleeps_on_devices();
        }
        true
    }

    /// Whoever sleeps on the devices since there were no links does not sleep on theirs.
    pub(super) fn sleep_on_links_too(&mut self, before: Option<RawFd>) {
        if self.devices.peers.fd() != before {
            self.wake_who_sleeps_on_devices();
        }
    }

    /// Whoever sleeps on the devices has not asked a new link to wake it: it is to look again.
    fn wake_who_sleeps_on_devices(&mut self) {
        if let Some(watcher) = self.sleeper.and_then(|s| self.watchers.get_mut(s.watcher)) {
            watcher.signal();
        }
        if self.tcp_thread == TcpThread::Driving {
            self.wake_tcp_thread();
        }
    }

    /// Something has come by an open link's socket. True: the link is gone.
    fn listen_to(&mut self, index: usize) -> bool {
        for _ in 0..BELLS {
            let Some(peer) = self.devices.peers.open.get_mut(index) else { return false };
            match rendezvous::receive(peer.link.socket()) {
                Ok(Message::Bell) => {
                    peer.link.counters.bells_heard += 1;
                    // It was for a sleeper, who finds its descriptor unreadable now and sleeps on.
                    if self.devices.peers.armed {
                        self.wake_who_sleeps_on_devices();
                    }
                }
                Err(Nothing::Yet) => return false,
                Ok(_) | Err(Nothing::Ever) => {
                    self.drop_peer(index);
                    return true;
                }
            }
        }
        false
    }

    /// Gives up the links whose other side has written what it cannot have.
    fn drop_corrupt(&mut self) -> bool {
        let mut dropped = false;
        while let Some(i) = self.devices.peers.open.iter().position(|p| p.link.is_corrupt()) {
            self.devices.peers.corrupt += 1;
            if let Some(peer) = self.devices.peers.open.get(i) {
                let text = format!("{}: dropped, because its rings make no sense", peer.name);
                self.devices.messages.push(text);
            }
            self.drop_peer(i);
            dropped = true;
        }
        dropped
    }

    /// The other side is gone: what it had sent is taken, then its connections are reset.
    fn drop_peer(&mut self, index: usize) {
        let now = self.now();
        let Self { shard, devices, .. } = self;
        let peers = &mut devices.peers;
        let mut peer = peers.open.swap_remove(index);
        peers.end(peer.link.socket());
        let id = peer.device;
        let mut driven = Driven { link: &mut peer.link, scratch: &mut peers.scratch };
        driven.receive(usize::MAX, &mut |frame| shard.handle_frame(now, id, frame));
        shard.remove_device(now, id);
    }

    /// Whoever sleeps on the devices is about to. True: there is something to do first.
    pub fn peers_before_sleep(&mut self) -> bool {
        if self.devices.peers.epoll.is_none() {
            return false;
        }
        if self.service_peers() {
            return true;
        }
        let quiet = self.devices.peers.arm();
        if !quiet {
            self.devices.peers.disarm();
        }
        !quiet
    }

    /// Whoever slept on the devices has woken, and nobody else sleeps on them.
    pub fn peers_after_sleep(&mut self) {
        self.devices.peers.disarm();
    }
}
