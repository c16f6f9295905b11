//! `bind`, `listen`, `_accept`, `connect`, `connect_ex`, `shutdown`, `getsockname`, `getpeername`.

use mtcp_host::errno::Errno;
use mtcp_host::runtime::{Accepted, Connect, Patience, NEIGHBOUR_WAIT};
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::time::{Duration, Instant};

use super::args;
use super::call::{Answer, Call, Object};
use super::wait::{retry, Wait, Woken, POLLIN, POLLOUT};
use crate::addr;
use crate::errors::Fail;
use crate::gil;
use crate::object::{self, none};

/// CPython's default: the smaller of SOMAXCONN and 128.
const DEFAULT_BACKLOG: i32 = 128;

/// How often `connect()` looks whether the kernel has resolved the next hop.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// `bind(address)`
pub(super) fn bind(call: &Call) -> Answer {
    let [address] = call.positional(1)?;
    let parsed = addr::parse(call.runtime().family(call.fd)?, address)?;
    addr::audit(c"socket.bind", call.socket, address)?;
    call.runtime().bind(call.fd, &parsed)?;
    Ok(none())
}

/// `listen([backlog])`
pub(super) fn listen(call: &Call) -> Answer {
    let [backlog] = call.positional(0)?;
    // SAFETY: the argument of a call; the GIL is held.
    let backlog = unsafe { args::int_or(backlog, DEFAULT_BACKLOG)? };
    call.runtime().listen(call.fd, backlog.max(0))?;
    Ok(none())
}

/// `_accept() -> (descriptor, address)`. The descriptor is the kernel's for a connection that came
/// by an interface which the stack does not serve.
pub(super) fn accept(call: &Call) -> Answer {
    let [] = call.positional(0)?;
    let runtime = call.runtime();
    let (fd, address) = match retry(call, POLLIN, false, || runtime.accept(call.fd))? {
        Accepted::Virtual(fd, address) => (fd, address),
        Accepted::Kernel(fd, address) => (fd.into_raw_fd(), address),
    };
    let fd = object::int(i64::from(fd))?;
    Ok(object::tuple([fd, addr::to_python(&address)?])?.into_ptr())
}

/// `connect(address)`
pub(super) fn connect(call: &Call) -> Answer {
    let [address] = call.positional(1)?;
    let parsed = destination(call, address)?;
    establish(call, &parsed)?;
    Ok(none())
}

/// `connect_ex(address) -> errno`: errors of connect(2) are returned, those of the arguments and
/// of the host name are raised.
pub(super) fn connect_ex(call: &Call) -> Answer {
    let [address] = call.positional(1)?;
    let parsed = destination(call, address)?;
    let number = match establish(call, &parsed) {
        Ok(()) => 0,
        Err(Fail::Errno(Errno(number))) => number,
        // CPython returns EWOULDBLOCK for a timeout.
        Err(Fail::TimedOut) => libc::EWOULDBLOCK,
        Err(fail) => return Err(fail),
    };
    Ok(object::int(i64::from(number))?.into_ptr())
}

fn destination(call: &Call, address: Object) -> Result<SocketAddr, Fail> {
    let parsed = addr::parse(call.runtime().family(call.fd)?, address)?;
    addr::audit(c"socket.connect", call.socket, address)?;
    Ok(parsed)
}

/// Starts the connection and, unless the socket is non-blocking, waits for its end.
fn establish(call: &Call, to: &SocketAddr) -> Result<(), Fail> {
    let runtime = call.runtime();
    match begin(call, to)? {
        Ok(()) => return Ok(()),
        Err(Errno(libc::EINPROGRESS)) => {}
        // The kernel's connect(2) waits for the running attempt on a blocking socket only.
        Err(e @ Errno(libc::EALREADY)) => {
            if !Wait::new(call, POLLOUT, false)?.is_blocking() {
                return Err(Fail::Errno(e));
            }
        }
        Err(e) => return Err(Fail::Errno(e)),
    }
    let wait = Wait::new(call, POLLOUT, false)?;
    loop {
        match wait.pause(POLLOUT)? {
            Woken::Interrupted => call.run_handlers()?,
            Woken::TimedOut => return Err(Fail::TimedOut),
            Woken::MayNot => return Err(Fail::errno(libc::EINPROGRESS)),
            // Asked by another connect(), which also leaves a socket that may try again.
            Woken::Ready => match runtime.connect(call.fd, to, Patience::Never) {
                Ok(_) | Err(Errno(libc::EISCONN)) => return Ok(()),
                Err(Errno(libc::EALREADY | libc::EINPROGRESS)) => {}
                Err(e) => return Err(Fail::Errno(e)),
            },
        }
    }
}

/// One connect() of the stack. While the kernel resolves the next hop it waits without the GIL,
/// for a bounded time, also on a non-blocking socket.
fn begin(call: &Call, to: &SocketAddr) -> Result<Result<(), Errno>, Fail> {
    let runtime = call.runtime();
    let began = Instant::now();
    let mut patience = Patience::MayWait;
    loop {
        match runtime.connect(call.fd, to, patience) {
            Ok(Connect::Done) => return Ok(Ok(())),
            Ok(Connect::MustWait) => {}
            Err(e) => return Ok(Err(e)),
        }
        // SAFETY: the GIL is held, and the closure touches no Python object.
        unsafe { gil::released(|| std::thread::sleep(LOOK_EVERY)) };
        call.run_handlers()?;
        if began.elapsed() >= NEIGHBOUR_WAIT {
            patience = Patience::Never;
        }
    }
}

/// `shutdown(how)`
pub(super) fn shutdown(call: &Call) -> Answer {
    let [how] = call.positional(1)?;
    // SAFETY: the argument of a call; the GIL is held.
    let how = unsafe { args::int(how)? };
    call.runtime().shutdown(call.fd, how)?;
    Ok(none())
}

/// `getsockname() -> address`
pub(super) fn getsockname(call: &Call) -> Answer {
    let [] = call.positional(0)?;
    Ok(addr::to_python(&call.runtime().getsockname(call.fd)?)?.into_ptr())
}

/// `getpeername() -> address`
pub(super) fn getpeername(call: &Call) -> Answer {
    let [] = call.positional(0)?;
    Ok(addr::to_python(&call.runtime().getpeername(call.fd)?)?.into_ptr())
}
