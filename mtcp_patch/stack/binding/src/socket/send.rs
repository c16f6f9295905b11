//! `send`, `sendall`, `sendto`, `sendmsg`.
//!
//! The data is copied into the connection's send buffer with the GIL held; it leaves at the end of
//! the turn. SIGPIPE is never raised: CPython ignores it, and the runtime makes no signal.

use mtcp_host::errno::Errno;
use pyo3::ffi;

use super::args::{self, Buffer};
use super::call::{Answer, Call, Object};
use super::kernel;
use super::table::Method;
use super::wait::{Wait, Woken, POLLOUT};
use crate::addr;
use crate::errors::Fail;
use crate::object::{self, none, Owned};

/// Flags that are dealt with here.
const OURS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

const ANCILLARY: &str =
    "mtcp_patch: ancillary data cannot be sent over a user-level TCP connection";

/// `send(bytes[, flags]) -> int`
#[inline]
pub(super) fn send(call: &Call) -> Answer {
    let [data, flags] = call.positional(1)?;
    // SAFETY: the arguments of a call, which outlive it; the GIL is held.
    let (data, flags) = unsafe { (Buffer::readable(data)?, args::int_or(flags, 0)?) };
    let sent = send_pieces(call, &[data.as_slice()], flags)?;
    Ok(object::size(sent)?.into_ptr())
}

/// A `sendmsg` of several buffers up to this many bytes is sent as one; larger ones come in parts on
/// the kernel as well.
const JOINED_BYTES: usize = 64 << 10;

/// One send(2) or sendmsg(2). A blocking socket takes everything, as on the kernel, unless a
/// signal or an error comes after the first byte; one with a timeout takes what there is room for.
#[inline]
fn send_pieces(call: &Call, pieces: &[&[u8]], flags: i32) -> Result<usize, Fail> {
    let runtime = call.runtime();
    if let [piece] = pieces {
        match runtime.send(call.fd, piece, flags & !OURS) {
            Ok(n) if n == piece.len() => return Ok(n),
            Ok(n) => return send_rest(call, pieces, flags, n),
            Err(Errno(libc::EAGAIN)) => {}
            Err(e) => return Err(Fail::Errno(e)),
        }
    }
    send_rest(call, pieces, flags, 0)
}

#[cold]
fn send_rest(call: &Call, pieces: &[&[u8]], flags: i32, done: usize) -> Result<usize, Fail> {
    let runtime = call.runtime();
    let wait = Wait::new(call, POLLOUT, flags & libc::MSG_DONTWAIT != 0)?;
    let mut total = done;
    let mut skip = done;
    for (index, piece) in pieces.iter().enumerate() {
        // One message has one end.
        let more = index + 1 < pieces.len();
        let flags = if more { flags & !libc::MSG_EOR | libc::MSG_MORE } else { flags };
        let (skipped, mut rest) = piece.split_at(skip.min(piece.len()));
        skip -= skipped.len();
        // An empty send still reports a broken connection, so an only piece is tried when empty.
        while !rest.is_empty() || (pieces.len() == 1 && total == 0) {
            match runtime.send(call.fd, rest, flags & !OURS) {
                Ok(n) => {
                    total += n;
                    rest = rest.get(n..).unwrap_or_default();
                    if rest.is_empty() {
                        break;
                    }
                    continue;
                }
                Err(Errno(libc::EAGAIN)) => {}
                Err(_) if total > 0 => return Ok(total),
                Err(e) => return Err(Fail::Errno(e)),
            }
            if total == 0 {
                wait.pause_or_fail(POLLOUT)?;
            } else if !wait.is_blocking() || wait.pause(POLLOUT)? != Woken::Ready {
                return Ok(total);
            }
        }
    }
    Ok(total)
}

/// `sendall(bytes[, flags])`: everything, or an exception. The timeout is for the whole.
pub(super) fn sendall(call: &Call) -> Answer {
    let [data, flags] = call.positional(1)?;
    // SAFETY: the arguments of a call, which outlive it; the GIL is held.
    let (data, flags) = unsafe { (Buffer::readable(data)?, args::int_or(flags, 0)?) };
    let runtime = call.runtime();
    let rest = data.as_slice();
    match runtime.send(call.fd, rest, flags & !OURS) {
        Ok(n) if n == rest.len() => Ok(none()),
        Ok(n) => sendall_rest(call, rest.get(n..).unwrap_or_default(), flags),
        Err(Errno(libc::EAGAIN)) => sendall_rest(call, rest, flags),
        Err(e) => Err(Fail::Errno(e)),
    }
}

#[cold]
fn sendall_rest(call: &Call, mut rest: &[u8], flags: i32) -> Answer {
    let runtime = call.runtime();
    let wait = Wait::new(call, POLLOUT, flags & libc::MSG_DONTWAIT != 0)?;
    while !rest.is_empty() {
        match runtime.send(call.fd, rest, flags & !OURS) {
            Ok(n) => {
                rest = rest.get(n..).unwrap_or_default();
                call.run_handlers()?;
                if !rest.is_empty() && wait.is_over() {
                    return Err(Fail::TimedOut);
                }
            }
            Err(Errno(libc::EAGAIN)) => wait.pause_or_fail(POLLOUT)?,
            Err(e) => return Err(Fail::Errno(e)),
        }
    }
    Ok(none())
}

/// `sendto(bytes[, flags], address) -> int`: a connected TCP socket ignores the address, as the
/// kernel does.
pub(super) fn sendto(call: &Call) -> Answer {
    let [data, second, third] = call.positional(2)?;
    let (flags, address) = if third.is_null() { (third, second) } else { (second, third) };
    // SAFETY: the arguments of a call, which outlive it; the GIL is held.
    let (data, flags) = unsafe { (Buffer::readable(data)?, args::int_or(flags, 0)?) };
    check_destination(call, c"socket.sendto", address)?;
    let sent = send_pieces(call, &[data.as_slice()], flags)?;
    Ok(object::size(sent)?.into_ptr())
}

/// Checks an address that will not be used.
fn check_destination(call: &Call, event: &std::ffi::CStr, address: Object) -> Result<(), Fail> {
    addr::parse(call.runtime().family(call.fd)?, address)?;
    addr::audit(event, call.socket, address)
}

/// `sendmsg(buffers[, ancdata[, flags[, address]]]) -> int`
pub(super) fn sendmsg(call: &Call) -> Answer {
    let [buffers, ancillary, flags, address] = call.positional(1)?;
    // SAFETY: the argument of a call; the GIL is held.
    let sequence = unsafe { args::sequence(buffers)? };
    match sendmsg_parts(call, &sequence, ancillary, flags, address) {
        // The iterable may be used up: CPython words the error from the items that it gave.
        Err(Fail::Arguments) => {
            let given = [sequence.as_ptr(), ancillary, flags, address];
            let count = given.iter().position(|arg| arg.is_null()).unwrap_or(given.len());
            let none = std::ptr::null_mut();
            // SAFETY: the first `count` items are live objects; the GIL is held.
            unsafe { kernel::explain(Method::SendMsg, call.socket, given.as_ptr(), count, none) };
            Err(Fail::Raised)
        }
        other => other,
    }
}

fn sendmsg_parts(
    call: &Call,
    sequence: &Owned,
    ancillary: Object,
    flags: Object,
    address: Object,
) -> Answer {
    let mut buffers = Vec::new();
    for item in args::items(sequence) {
        // SAFETY: the items live as long as the sequence; the GIL is held.
        buffers.push(unsafe { Buffer::readable(item)? });
    }
    // SAFETY: the arguments of a call; the GIL is held.
    let flags = unsafe {
        if !ancillary.is_null() {
            refuse_ancillary(call, sequence, ancillary)?;
        }
        let flags = args::int_or(flags, 0)?;
        if !address.is_null() && address != ffi::Py_None() {
            check_destination(call, c"socket.sendmsg", address)?;
        } else {
            addr::audit(c"socket.sendmsg", call.socket, ffi::Py_None())?;
        }
        flags
    };
    let pieces: Vec<&[u8]> =
        buffers.iter().map(Buffer::as_slice).filter(|piece| !piece.is_empty()).collect();
    let sent = match pieces.as_slice() {
        [] => send_pieces(call, &[&[]], flags)?,
        // One message arrives as one where it fits: a reader must not find its first piece alone.
        [_, _, ..] if pieces.iter().map(|piece| piece.len()).sum::<usize>() <= JOINED_BYTES => {
            send_pieces(call, &[&pieces.concat()], flags)?
        }
        pieces => send_pieces(call, pieces, flags)?,
    };
    Ok(object::size(sent)?.into_ptr())
}

/// Ancillary data must be empty. Data that CPython would not take either is its TypeError.
unsafe fn refuse_ancillary(call: &Call, buffers: &Owned, ancillary: Object) -> Result<(), Fail> {
    // SAFETY: the arguments of a call; the GIL is held.
    unsafe {
        let items = args::sequence(ancillary)?;
        if ffi::PyTuple_Size(items.as_ptr()) == 0 {
            return Ok(());
        }
        let given = [buffers.as_ptr(), items.as_ptr()];
        let no_names = std::ptr::null_mut();
        if kernel::accepts(Method::SendMsg, call.socket, given.as_ptr(), 2, no_names) {
            return Err(Fail::Unsupported(ANCILLARY));
        }
        Err(Fail::Raised)
    }
}
