//! What must hold of a shard between any two calls. For tests and the simulation: it looks at
//! every connection.

use alloc::format;
use alloc::string::String;

use super::{Shard, Slot};
use crate::tcp::state::State;
use crate::tcp::tcb::{Owner, Tcb};
use crate::tcp::timer::Timer;

impl Shard {
    /// Looks for a broken invariant.
    ///
    /// # Errors
    /// What is broken, in words.
    pub fn check(&self) -> Result<(), String> {
        let mut memory = 0;
        let mut attached = 0;
        let mut half_open = 0;
        for (_, slot) in self.conns.iter() {
            match slot {
                Slot::Conn(tcb) => {
                    check_tcb(tcb).map_err(|e| format!("{} {:?}: {e}", tcb.remote, tcb.state))?;
                    memory += tcb.rx.capacity() + tcb.tx.capacity();
                    attached += usize::from(!tcb.detached);
                }
                Slot::Request(_) => half_open += 1,
                Slot::TimeWait(_) => attached += 1,
            }
        }
        if memory != self.env.memory.used_bytes() {
            return Err(format!("{memory} bytes held, {} counted", self.env.memory.used_bytes()));
        }
        let queued: usize = self.listeners.iter().map(|(_, l)| l.syn_queue).sum();
        if half_open != self.half_open || queued > half_open {
            return Err(format!(
                "{half_open} half-open, {} counted, {queued} queued",
                self.half_open
            ));
        }
        attached += half_open;
        if attached != self.flows.len() {
            return Err(format!("{attached} connections, {} flows", self.flows.len()));
        }
        Ok(())
    }
}

fn check_tcb(tcb: &Tcb) -> Result<(), String> {
    let require = |holds: bool, what: &str| if holds { Ok(()) } else { Err(String::from(what)) };
    let (una, nxt) = (tcb.snd_una, tcb.snd_nxt);
    let listed = tcb.state.is_synchronized() && tcb.state != State::TimeWait;
    require(!listed || tcb.sent.check(una, nxt, tcb.sack_ok), "the list of sent segments")?;
    require(!listed || tcb.sent.is_empty() == (una == nxt), "segments out, or none")?;
    require(una.le(nxt), "SND.UNA beyond SND.NXT")?;
    require(tcb.rcv_nxt.le(tcb.rcv_adv) || tcb.rcv_fin.is_some(), "RCV.NXT beyond the window")?;
    require(tcb.rcv_wup.le(tcb.rcv_nxt), "acknowledged more than received")?;
    let over = tcb.state == State::Closed;
    require(over || !tcb.state.is_synchronized() || tcb.mss > 0, "no MSS")?;
    require(!over || tcb.tx.capacity() == 0, "a closed connection holds a send buffer")?;
    require(
        !(over && tcb.owner == Owner::Nobody),
        "a closed connection that nobody holds is still here",
    )?;
    if over || tcb.state == State::TimeWait {
        return Ok(());
    }
    let limit = tcb.rcv_limit as usize + 65_536;
    require(tcb.rx.len() <= limit, "more received than the window allows")?;
    let in_flight = tcb.in_flight() > 0;
    require(
        !in_flight || tcb.timers.is_running(Timer::Retransmit),
        "in flight without retransmission timer",
    )?;
    let unsent = !tcb.tx.is_empty() || tcb.state.fin_outstanding();
    let waits = tcb.state.is_synchronized() && unsent && !in_flight;
    require(
        !waits
            || tcb.queued != 0
            || tcb.timers.is_running(Timer::Retransmit)
            || tcb.timers.is_running(Timer::Cork),
        "data waits and nothing will move it",
    )
}
