//! Looking at connections without touching them.

use core::net::SocketAddr;

use super::{Shard, Slot};
use crate::device::DeviceId;
use crate::event::{ConnId, Error};
use crate::tcp::state::State;
use crate::tcp::tcb::{ConnOptions, Tcb};

/// What there is to see of a connection. Sizes in bytes, times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnInfo {
    /// Its state.
    pub state: State,
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// The device that it uses.
    pub device: DeviceId,
    /// What the application chose.
    pub options: ConnOptions,
    /// Received and not read (`Recv-Q`).
    pub unread_bytes: usize,
    /// Written and not acknowledged (`Send-Q`).
    pub unacked_bytes: usize,
    /// Room in the send buffer.
    pub send_room_bytes: usize,
    /// Smoothed round-trip time; zero before the first measurement.
    pub srtt_us: u64,
    /// Retransmission timeout now.
    pub rto_us: u64,
    /// Congestion window.
    pub cwnd_bytes: u32,
    /// Largest payload of a segment that we send.
    pub mss: u32,
    /// Segments sent again.
    pub retransmits: u64,
    /// Payload received in order.
    pub bytes_in: u64,
    /// Payload sent, repetitions not counted.
    pub bytes_out: u64,
}

impl Shard {
    /// What there is to see of one connection.
    ///
    /// # Errors
    /// `BadId`.
    pub fn info(&self, id: ConnId) -> Result<ConnInfo, Error> {
        let slot = self.conns.get(id.index, id.generation).ok_or(Error::BadId)?;
        Ok(self.describe(slot))
    }

    /// All connections, in every state.
    pub fn connections(&self) -> impl Iterator<Item = (ConnId, ConnInfo)> + '_ {
        self.conns
            .iter()
            .map(|((index, generation), slot)| (ConnId { index, generation }, self.describe(slot)))
    }

    fn describe(&self, slot: &Slot) -> ConnInfo {
        match slot {
            Slot::Conn(tcb) => self.describe_tcb(tcb),
            Slot::Request(request) => {
                let (syn, device) = (&request.syn, request.place.device);
                describe_without_tcb(State::SynReceived, syn.dst, syn.src, device)
            }
            Slot::TimeWait(wait) => {
                describe_without_tcb(State::TimeWait, wait.local, wait.remote, wait.device)
            }
        }
    }

    fn describe_tcb(&self, tcb: &Tcb) -> ConnInfo {
        ConnInfo {
            state: tcb.state,
            local: tcb.local,
            remote: tcb.remote,
            device: tcb.device,
            options: tcb.options,
            unread_bytes: crate::tcp::urgent::inq(tcb),
            unacked_bytes: tcb.tx.len(),
            send_room_bytes: tcb.send_limit(&self.env.config).saturating_sub(tcb.tx.len()),
            srtt_us: tcb.rtt.srtt_us(),
            rto_us: tcb.rtt.rto_us(self.env.config.rto_max_us),
            cwnd_bytes: tcb.cwnd_bytes(),
            mss: tcb.mss,
            retransmits: tcb.retransmits,
            bytes_in: tcb.bytes_in,
            bytes_out: tcb.bytes_out,
        }
    }
}

fn describe_without_tcb(
    state: State,
    local: SocketAddr,
    remote: SocketAddr,
    device: DeviceId,
) -> ConnInfo {
    ConnInfo {
        state,
        local,
        remote,
        device,
        options: ConnOptions::default(),
        unread_bytes: 0,
        unacked_bytes: 0,
        send_room_bytes: 0,
        srtt_us: 0,
        rto_us: 0,
        cwnd_bytes: 0,
        mss: 0,
        retransmits: 0,
        bytes_in: 0,
        bytes_out: 0,
    }
}
