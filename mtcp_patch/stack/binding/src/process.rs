//! Settings, status and the life of the process: the functions that `lifecycle.py`, `info.py` and
//! the launcher call. None of them is hot.

use mtcp_host::layout::Layout;
use mtcp_host::runtime::{Runtime, Settings, Vfd, SOCKET_OPTIONS};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::{args, signals};

/// configure(settings)
/// --
///
/// Hand the stack its settings, a dictionary by field name, before its first use. Without effect
/// on a stack that runs already. ValueError names a setting that it does not know.
#[pyfunction]
pub fn configure(settings: &Bound<'_, PyDict>) -> PyResult<()> {
    let mut s = Settings::default();
    for (key, value) in settings {
        let key: String = key.extract()?;
        match key.as_str() {
            "devices" => {
                let names: Vec<String> = value.extract()?;
                s.devices = names.into_iter().filter(|n| n != "memory").collect();
            }
            "memory_peers" => s.memory_peers = value.extract()?,
            "verbose" => s.verbose = value.extract()?,
            "exit_linger_ms" => s.exit_linger_ms = value.extract()?,
            "layout" => {
                let name: String = value.extract()?;
                s.layout = Layout::from_name(&name)
                    .ok_or_else(|| PyValueError::new_err(format!("unknown layout {name:?}")))?;
            }
            // The launcher's to enforce; one core is all so far: config.py refuses more.
            "require" | "cores" => {}
            other => return Err(PyValueError::new_err(format!("unknown setting {other:?}"))),
        }
    }
    Runtime::configure(s);
    Ok(())
}

fn runtime(py: Python<'_>) -> PyResult<&'static Runtime> {
    Runtime::try_global().map_err(|e| args::os_error(py, e))
}

/// open_devices()
/// --
///
/// Open the devices now instead of at the first need. OSError says which could not be opened,
/// and why.
#[pyfunction]
pub fn open_devices(py: Python<'_>) -> PyResult<()> {
    let runtime = runtime(py)?;
    py.detach(|| runtime.open_devices()).map_err(PyOSError::new_err)
}

/// open_descriptors()
/// --
///
/// The numbers of the open virtual descriptors, ascending.
#[pyfunction]
pub fn open_descriptors() -> Vec<Vfd> {
    if Runtime::is_started() {
        Runtime::global().open_vfds()
    } else {
        Vec::new()
    }
}

/// inheritable_descriptors()
/// --
///
/// The numbers of the virtual descriptors that the next program is to have, ascending.
#[pyfunction]
pub fn inheritable_descriptors() -> Vec<Vfd> {
    Runtime::inheritables()
}

/// status_json()
/// --
///
/// The document that the control socket serves: devices, listeners, connections, counters.
#[pyfunction]
pub fn status_json(py: Python<'_>) -> PyResult<String> {
    Ok(runtime(py)?.status_json())
}

/// socket_options()
/// --
///
/// The table of socket options: (level, number, name, what becomes of it, note).
#[pyfunction]
pub fn socket_options() -> Vec<(i32, i32, &'static str, &'static str, &'static str)> {
    SOCKET_OPTIONS.iter().map(|o| (o.level, o.name, o.label, o.support.word(), o.note)).collect()
}

/// shutdown_process()
/// --
///
/// Close every connection as the kernel does for a process that ends, wait a bounded time until
/// the peers have what was sent, and give devices, ports and sysctls back.
#[pyfunction]
pub fn shutdown_process(py: Python<'_>) {
    if Runtime::is_started() {
        let runtime = Runtime::global();
        py.detach(|| runtime.shutdown_process());
    }
}

/// before_fork()
/// --
///
/// The process is about to fork: listeners that have served nobody yet go to the kernel, where a
/// pre-forking server's children can accept, and the stack's own threads stay out of its state until
/// after_fork_parent().
#[pyfunction]
pub fn before_fork() {
    if Runtime::is_started() {
        Runtime::global().before_fork();
    }
}

/// after_fork_parent()
/// --
///
/// In the parent after before_fork(), also when the fork failed.
#[pyfunction]
pub fn after_fork_parent() {
    if Runtime::is_started() {
        Runtime::global().after_fork_parent();
    }
}

/// after_fork_child()
/// --
///
/// In a forked child: start with an empty stack. Inherited connections stay the parent's, and
/// inherited listeners go on as the kernel's under their old numbers.
#[pyfunction]
pub fn after_fork_child(py: Python<'_>) -> PyResult<()> {
    signals::after_fork_child(py);
    if Runtime::is_started() {
        Runtime::global().after_fork_child().map_err(|e| args::os_error(py, e))?;
    }
    Ok(())
}

/// restore_sysctls()
/// --
///
/// Restore the sysctls that processes which were killed left changed. One text for each.
#[pyfunction]
pub fn restore_sysctls(py: Python<'_>) -> PyResult<Vec<String>> {
    py.detach(mtcp_host::sysctl::restore_all).map_err(PyErr::from)
}
