//! What the runtime can be told before its first use. Python's `config.py` is the source.

use mtcp_engine::Config;

use crate::layout::Layout;

/// Settings of a process's runtime.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Devices besides `memory`, as `xdp:IFACE`.
    pub devices: Vec<String>,
    /// 0: warnings only; more: what is opened and why.
    pub verbose: u8,
    /// Links to other patched processes at once; 0: none, `memory` stays within the process.
    pub memory_peers: usize,
    /// How long the end of the process waits for data that the peers have not acknowledged.
    /// Milliseconds.
    pub exit_linger_ms: u64,
    /// Where the control socket's directory is; `None` for the default.
    pub control_dir: Option<String>,
    /// Who drives.
    pub layout: Layout,
    /// The engine's limits.
    pub engine: Config,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            devices: vec!["xdp:lo".to_owned()],
            verbose: 0,
            memory_peers: 64,
            exit_linger_ms: 5000,
            control_dir: None,
            layout: Layout::default(),
            engine: Config::default(),
        }
    }
}
