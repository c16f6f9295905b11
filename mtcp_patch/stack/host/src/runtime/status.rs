//! What `mtcp_patch.ss` and `--info` show, as one JSON document.

use serde_json::{json, Map, Value};

use super::state::Inner;
use super::Runtime;

/// The version of the package.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Inner {
    /// The whole document.
    pub fn status(&self) -> Value {
        json!({
            "pid": std::process::id(),
            "argv": argv(),
            "version": VERSION,
            "devices": self.devices_status(),
            "listeners": self.listeners_status(),
            "connections": self.connections_status(),
            "counters": self.counters(),
            "messages": self.devices.messages,
            "pinned": self.pinned(),
        })
    }

    fn devices_status(&self) -> Vec<Value> {
        let limit = self.devices.peers.limit();
        let mode = if limit > 0 { "in-process and between processes" } else { "in-process" };
        let memory = json!({
            "name": "memory",
            "mode": mode,
            "queues": 1,
            "notes": [],
            "max_peers": limit,
            "peers": self.peers_status(),
        });
        let xdp = self.devices.xdp.iter().map(|slot| {
            json!({
                "name": slot.name,
                "mode": slot.device.mode(),
                "queues": slot.device.queues(),
                "notes": slot.device.notes(),
            })
        });
        std::iter::once(memory).chain(xdp).collect()
    }

    fn peers_status(&self) -> Vec<Value> {
        let peers = self.devices.peers.open.iter();
        peers
            .map(|peer| {
                let c = &peer.link.counters;
                json!({
                    "pid": peer.pid,
                    "name": peer.name,
                    "frames_in": c.frames_in,
                    "frames_out": c.frames_out,
                    "bytes_in": c.bytes_in,
                    "bytes_out": c.bytes_out,
                    "bells_rung": c.bells_rung,
                    "bells_heard": c.bells_heard,
                })
            })
            .collect()
    }

    fn listeners_status(&self) -> Vec<Value> {
        self.shard
            .listeners()
            .map(|l| {
                json!({
                    "local": l.local.to_string(),
                    "recv_q": l.accept_queue,
                    "send_q": l.backlog,
                    "device": "*",
                })
            })
            .collect()
    }

    fn connections_status(&self) -> Vec<Value> {
        self.shard
            .connections()
            .map(|(_, c)| {
                json!({
                    "state": c.state.name(),
                    "local": c.local.to_string(),
                    "remote": c.remote.to_string(),
                    "recv_q": c.unread_bytes,
                    "send_q": c.unacked_bytes,
                    "device": self.devices.name(c.device),
                    "srtt_us": c.srtt_us,
                    "rto_us": c.rto_us,
                    "cwnd": c.cwnd_bytes,
                    "mss": c.mss,
                    "retransmits": c.retransmits,
                    "bytes_in": c.bytes_in,
                    "bytes_out": c.bytes_out,
                })
            })
            .collect()
    }

    fn counters(&self) -> Value {
        let s = self.shard.stats();
        let kernel = self.devices.xdp.iter().flat_map(|slot| slot.device.kernel_drops());
        let drops: Map<String, Value> = s
            .drops()
            .chain(kernel)
            .filter(|&(_, n)| n > 0)
            .map(|(k, n)| (k.to_owned(), n.into()))
            .collect();
        json!({
            "packets_in": s.packets_in,
            "packets_out": s.packets_out,
            "bytes_in": s.bytes_in,
            "bytes_out": s.bytes_out,
            "retransmits": s.retransmits,
            "opened": s.opened,
            "accepted": s.accepted,
            "syncookies_sent": s.syncookies_sent,
            "syncookies_received": s.syncookies_received,
            "syncookies_failed": s.syncookies_failed,
            "pmtu_reductions": s.pmtu_reductions,
            "pmtu_black_holes": s.pmtu_black_holes,
            "resets_in": s.resets_in,
            "resets_out": s.resets_out,
            "corrupt_peers": self.devices.peers.corrupt,
            "memory_bytes": s.memory_bytes,
            "drops": drops,
            "syscalls": self.devices.syscalls(),
        })
    }

    /// Sockets that went to the kernel because of an option that only it has.
    fn pinned(&self) -> Vec<Value> {
        self.descs
            .iter()
            .filter_map(|(_, d)| d.pinned)
            .map(|(level, name)| json!({"level": level, "option": name}))
            .collect()
    }
}

fn argv() -> Vec<String> {
    let raw = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    raw.split(|&b| b == 0)
        .filter(|a| !a.is_empty())
        .map(|a| String::from_utf8_lossy(a).into_owned())
        .collect()
}

impl Runtime {
    /// Devices, listeners, connections and counters, as the control socket gives them out.
    pub fn status_json(&self) -> String {
        let status = self.lock().status();
        status.to_string()
    }
}
