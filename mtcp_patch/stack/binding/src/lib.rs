//! The Python module `mtcp_patch.stack._native`: every export in one place.

mod addr;
mod args;
mod bench;
mod dispatch;
mod epoll;
mod errors;
mod events;
mod fdfuncs;
mod gil;
mod nowait;
mod object;
mod pace;
mod poll;
mod process;
mod select;
mod selector;
mod shared;
mod signals;
mod socket;
mod virtual_host;
mod watcher;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    // whoever measures refuses a debug build
    m.add("DEBUG_BUILD", cfg!(debug_assertions))?;
    m.add_function(wrap_pyfunction!(socket::make_socket_type, m)?)?;
    add_process(m)?;
    add_waiting(m)?;
    m.add_function(wrap_pyfunction!(bench::bench_end, m)?)?;
    // test support: the stack in virtual time
    m.add_class::<virtual_host::VirtualHost>()?;
    Ok(())
}

/// Settings, status and the life of the process (lifecycle.py, info.py, the launcher).
fn add_process(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(process::configure, m)?)?;
    m.add_function(wrap_pyfunction!(process::open_devices, m)?)?;
    m.add_function(wrap_pyfunction!(process::open_descriptors, m)?)?;
    m.add_function(wrap_pyfunction!(process::inheritable_descriptors, m)?)?;
    m.add_function(wrap_pyfunction!(process::status_json, m)?)?;
    m.add_function(wrap_pyfunction!(process::socket_options, m)?)?;
    m.add_function(wrap_pyfunction!(process::shutdown_process, m)?)?;
    m.add_function(wrap_pyfunction!(process::before_fork, m)?)?;
    m.add_function(wrap_pyfunction!(process::after_fork_parent, m)?)?;
    m.add_function(wrap_pyfunction!(process::after_fork_child, m)?)?;
    m.add_function(wrap_pyfunction!(process::restore_sysctls, m)?)?;
    m.add_function(wrap_pyfunction!(signals::wakeup_begin, m)?)?;
    m.add_function(wrap_pyfunction!(signals::wakeup_replaced, m)?)?;
    m.add_function(wrap_pyfunction!(signals::wakeup_end, m)?)?;
    Ok(())
}

/// `select`'s names and the functions on descriptors (selectors_shim, os_shim, gevent_shim).
fn add_waiting(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("VFD_BASE", mtcp_host::runtime::VFD_BASE)?;
    m.add_class::<epoll::Epoll>()?;
    m.add_class::<watcher::Watcher>()?;
    m.add_function(wrap_pyfunction!(poll::poll_object, m)?)?;
    m.add_function(wrap_pyfunction!(select::select, m)?)?;
    m.add_function(wrap_pyfunction!(selector::epoll_select, m)?)?;
    m.add_function(wrap_pyfunction!(dispatch::fd_dispatch, m)?)?;
    m.add_function(wrap_pyfunction!(dispatch::call_before, m)?)?;
    m.add_function(wrap_pyfunction!(nowait::fd_recv_nowait, m)?)?;
    m.add_function(wrap_pyfunction!(nowait::fd_send_nowait, m)?)?;
    m.add_function(wrap_pyfunction!(nowait::fd_send_room, m)?)?;
    m.add_function(wrap_pyfunction!(nowait::fd_wait, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_read, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_write, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_close, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::runtime_fds, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_dup, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_dup2, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_is_open, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_give_to_kernel, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_adopt, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_set_blocking, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_get_blocking, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_set_inheritable, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_get_inheritable, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_ioctl_int, m)?)?;
    m.add_function(wrap_pyfunction!(fdfuncs::fd_sendfile, m)?)?;
    Ok(())
}
