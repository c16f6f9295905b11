//! `VirtualHost`: the stack in virtual time for tests. See `mtcp_host::runtime::virtual_host`, which
//! says what is real there and what is not. `tests/packetdrill` is the caller; no program has a use
//! for it.

use std::net::IpAddr;

use mtcp_engine::{Config, EcnMode};
use mtcp_host::runtime::{Runtime, Settings, Vfd, VirtualLink};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::args;

/// Two functions on the engine's `Config` from one list of its fields: setting one by name (false
/// when there is no such field) and reading all.
macro_rules! fields {
    ($($field:ident),+ $(,)?) => {
        fn set(config: &mut Config, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
            if key == "ecn" {
                config.ecn = ecn(value.extract()?)?;
                return Ok(true);
            }
            match key {
                $(stringify!($field) => config.$field = value.extract()?,)+
                _ => return Ok(false),
            }
            Ok(true)
        }

        fn read(config: &Config, into: &Bound<'_, PyDict>) -> PyResult<()> {
            into.set_item("ecn", config.ecn as u8)?;
            $(into.set_item(stringify!($field), config.$field)?;)+
            Ok(())
        }
    };
}

fields!(
    recv_buffer_bytes,
    recv_buffer_initial_bytes,
    send_buffer_initial_bytes,
    send_buffer_bytes,
    max_connections,
    max_memory_bytes,
    syn_queue,
    max_half_open,
    syn_cookies,
    msl_us,
    rto_initial_us,
    rto_min_us,
    rto_slop_us,
    rto_max_us,
    window_rounds_up,
    time_wait_keeps_window,
    timestamps,
    sack,
    dsack,
    rack,
    frto,
    initial_cwnd,
    initial_rwnd,
    adv_mss,
    delayed_fin_ack,
    stray_ack_interval_us,
    slow_start_after_idle,
    mtu_probing,
    window_scaling,
    recv_buffer_whole_segments,
    window_steps,
    delayed_ack_segments,
    time_wait_answers_all,
    acks_repeat_fin,
    linux_errors,
    icmp_may_reset,
    exact_reset,
    challenge_syn,
    drop_syn_fin,
    challenge_unsent_ack,
    tail_loss_probe,
    notsent_lowat,
    listen_takes_syn_fin,
    send_buffer_by_packets,
    quick_acks,
    delayed_ack_us,
    cork_us,
    fin_wait_2_us,
    buffer_idle_us,
    syn_retries,
    connect_timeout_us,
    ecn_syn_retries,
    syn_option_retries,
    keepalive_idle_us,
    keepalive_interval_us,
    keepalive_count,
    syn_ack_retries,
    data_retries,
    orphan_retries,
);

/// The mode by the number that Linux's `tcp_ecn` has for it.
fn ecn(number: u8) -> PyResult<EcnMode> {
    match number {
        0 => Ok(EcnMode::Off),
        1 => Ok(EcnMode::On),
        2 => Ok(EcnMode::Answer),
        _ => Err(PyValueError::new_err(format!("no mode {number} of ECN"))),
    }
}

fn settings(engine: &Bound<'_, PyDict>) -> PyResult<Settings> {
    let mut settings = Settings::default();
    for (key, value) in engine {
        let key: String = key.extract()?;
        if !set(&mut settings.engine, &key, &value)? {
            return Err(PyValueError::new_err(format!("the engine has no setting {key:?}")));
        }
    }
    Ok(settings)
}

/// VirtualHost(settings, addresses, mtu=1500)
/// --
///
/// Make the process's stack a host in virtual time, at time 0, whose wire is this object; an earlier
/// one is gone thereby. `settings`: fields of the engine's Config by name. `addresses`: the host's
/// own; an unbound connection leaves from the first of its family. `mtu` in bytes.
/// OSError EBUSY when the stack already runs in real time; ValueError for an unknown setting.
#[pyclass(module = "mtcp_patch.stack._native")]
pub struct VirtualHost {
    runtime: &'static Runtime,
}

#[pymethods]
impl VirtualHost {
    #[new]
    #[pyo3(signature = (settings, addresses, mtu = 1500))]
    fn new(
        py: Python<'_>,
        settings: &Bound<'_, PyDict>,
        addresses: Vec<String>,
        mtu: usize,
    ) -> PyResult<Self> {
        let parse = |text: &String| {
            text.parse::<IpAddr>().map_err(|e| PyValueError::new_err(format!("{text:?}: {e}")))
        };
        let local = addresses.iter().map(parse).collect::<PyResult<Vec<IpAddr>>>()?;
        let settings = self::settings(settings)?;
        let link = VirtualLink::new(local, mtu);
        let runtime = Runtime::start_virtual(settings, link).map_err(|e| args::os_error(py, e))?;
        Ok(Self { runtime })
    }

    /// defaults()
    /// --
    ///
    /// The engine's settings by name, as they are when nothing is set.
    #[staticmethod]
    fn defaults(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let dict = PyDict::new(py);
        read(&Config::default(), &dict)?;
        Ok(dict)
    }

    /// configure(settings)
    /// --
    ///
    /// Other settings from now on, as when a kernel's sysctls change: connections keep what they were
    /// given when they were made.
    fn configure(&self, py: Python<'_>, settings: &Bound<'_, PyDict>) -> PyResult<()> {
        let config = self::settings(settings)?.engine;
        self.runtime.virtual_configure(config).map_err(|e| args::os_error(py, e))
    }

    /// inject(frame, *more)
    /// --
    ///
    /// Let IP packets arrive now, in one batch.
    #[pyo3(signature = (frame, *more))]
    fn inject(&self, py: Python<'_>, frame: Vec<u8>, more: Vec<Vec<u8>>) -> PyResult<()> {
        let frames = core::iter::once(frame).chain(more).collect();
        self.runtime.virtual_inject(frames).map_err(|e| args::os_error(py, e))
    }

    /// refuse(on)
    /// --
    ///
    /// Whether the wire takes no packet from now on, as a device whose queue is full.
    fn refuse(&self, py: Python<'_>, on: bool) -> PyResult<()> {
        self.runtime.virtual_refuse(on).map_err(|e| args::os_error(py, e))
    }

    /// take()
    /// --
    ///
    /// What left since the last call: (virtual time in microseconds, IP packet).
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Vec<(u64, Bound<'py, PyBytes>)>> {
        let frames = self.runtime.virtual_take().map_err(|e| args::os_error(py, e))?;
        Ok(frames.into_iter().map(|(at, frame)| (at, PyBytes::new(py, &frame))).collect())
    }

    /// now()
    /// --
    ///
    /// The virtual time in microseconds.
    fn now(&self) -> u64 {
        self.runtime.virtual_now()
    }

    /// next_timer()
    /// --
    ///
    /// When the next timer is due, in microseconds of virtual time; None when there is none.
    fn next_timer(&self) -> Option<u64> {
        self.runtime.virtual_next_timer()
    }

    /// advance(until_us)
    /// --
    ///
    /// Move the time to `until_us`, running each timer at its own time.
    fn advance(&self, py: Python<'_>, until_us: u64) -> PyResult<()> {
        self.runtime.virtual_advance(until_us).map_err(|e| args::os_error(py, e))
    }

    /// is_pinned(vfd)
    /// --
    ///
    /// Whether an option that only the kernel has keeps the descriptor with the kernel's stack.
    fn is_pinned(&self, py: Python<'_>, vfd: Vfd) -> PyResult<bool> {
        self.runtime.is_pinned(vfd).map_err(|e| args::os_error(py, e))
    }

    /// connection(vfd)
    /// --
    ///
    /// What the engine knows of a descriptor's connection, by name; None when it has none.
    fn connection<'py>(&self, py: Python<'py>, vfd: Vfd) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(info) = self.runtime.conn_info(vfd).map_err(|e| args::os_error(py, e))? else {
            return Ok(None);
        };
        let dict = PyDict::new(py);
        dict.set_item("state", format!("{:?}", info.state))?;
        dict.set_item("unread_bytes", info.unread_bytes)?;
        dict.set_item("unacked_bytes", info.unacked_bytes)?;
        dict.set_item("srtt_us", info.srtt_us)?;
        dict.set_item("rto_us", info.rto_us)?;
        dict.set_item("cwnd_bytes", info.cwnd_bytes)?;
        dict.set_item("mss", info.mss)?;
        dict.set_item("retransmits", info.retransmits)?;
        Ok(Some(dict))
    }
}
