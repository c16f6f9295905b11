//! `recv`, `recv_into`, `recvfrom`, `recvfrom_into`, `recvmsg`, `recvmsg_into`.
//!
//! A bytes object is made of what is there, never of what was asked for: `recv(1 << 20)` for 20
//! bytes allocates 20.

use mtcp_host::errno::Errno;
use pyo3::ffi;

use super::args::{self, Buffer};
use super::call::{Answer, Call, Object};
use super::wait::{retry, Wait, Woken, POLLIN};
use crate::errors::Fail;
use crate::object::{self, none, Owned};

/// Flags that are dealt with here; the others go to the runtime, which refuses what it cannot do.
const OURS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL | libc::MSG_CMSG_CLOEXEC;

/// `recv(bufsize[, flags]) -> bytes`
#[inline]
pub(super) fn recv(call: &Call) -> Answer {
    let (count, flags) = count_and_flags(call)?;
    if count == 0 {
        // CPython asks nothing of the kernel here, not even whether the socket is connected.
        return Ok(object::bytes_of(&[], &[]));
    }
    bytes(call, count, flags)
}

/// `recvfrom(bufsize[, flags]) -> (bytes, None)`: TCP has no sender's address, as on the kernel.
pub(super) fn recvfrom(call: &Call) -> Answer {
    let (count, flags) = count_and_flags(call)?;
    with_no_address(bytes(call, count, flags)?)
}

fn count_and_flags(call: &Call) -> Result<(usize, i32), Fail> {
    let [count, flags] = call.positional(1)?;
    // SAFETY: the arguments of a call; the GIL is held.
    let (count, flags) = unsafe { (args::ssize(count)?, args::int_or(flags, 0)?) };
    Ok((usize::try_from(count).map_err(|_| Fail::Arguments)?, flags))
}

/// A bytes object of up to `count` bytes.
#[inline]
fn bytes(call: &Call, count: usize, flags: i32) -> Answer {
    if is_waitall(flags) {
        let mut data = Vec::new();
        receive(call, count, flags, |first, second| {
            data.extend_from_slice(first);
            data.extend_from_slice(second);
        })?;
        return non_null(object::bytes_of(&data, &[]));
    }
    let runtime = call.runtime();
    let dont_wait = flags & (libc::MSG_DONTWAIT | libc::MSG_OOB) != 0;
    let object = retry(call, POLLIN, dont_wait, || {
        runtime.recv_with(call.fd, count, flags & !OURS, object::bytes_of)
    })?;
    non_null(object)
}

/// Null means no memory: the exception is set.
#[inline]
fn non_null(object: Object) -> Answer {
    if object.is_null() {
        Err(Fail::Raised)
    } else {
        Ok(object)
    }
}

/// Whether to wait until all is there. With MSG_PEEK, which takes nothing away, one look is all.
#[inline]
fn is_waitall(flags: i32) -> bool {
    flags & (libc::MSG_WAITALL | libc::MSG_PEEK) == libc::MSG_WAITALL
}

/// Hands up to `max` bytes to `sink`, in one or more pieces, and says how many.
fn receive(
    call: &Call,
    max: usize,
    flags: i32,
    mut sink: impl FnMut(&[u8], &[u8]),
) -> Result<usize, Fail> {
    let runtime = call.runtime();
    let mut take = |limit: usize| {
        runtime.recv_with(call.fd, limit, flags & !OURS, |first, second| {
            sink(first, second);
            first.len() + second.len()
        })
    };
    let dont_wait = flags & (libc::MSG_DONTWAIT | libc::MSG_OOB) != 0;
    let mut total = retry(call, POLLIN, dont_wait, || take(max))?;
    if total == 0 || !is_waitall(flags) {
        return Ok(total);
    }
    // recv(2): MSG_WAITALL gives less at the end of the stream, after an error or a signal, and on
    // a socket that does not block.
    let wait = Wait::new(call, POLLIN, dont_wait)?;
    while total < max && wait.is_blocking() {
        match take(max - total) {
            Ok(0) => break,
            Ok(n) => total += n,
            Err(Errno(libc::EAGAIN)) => match wait.pause(POLLIN) {
                Ok(Woken::Ready) => {}
                Err(Fail::Raised) => return Err(Fail::Raised),
                _ => break,
            },
            Err(_) => break,
        }
    }
    Ok(total)
}

/// `recv_into(buffer[, nbytes[, flags]]) -> int`
#[inline]
pub(super) fn recv_into(call: &Call) -> Answer {
    let (mut buffer, count, flags) = buffer_and_flags(call)?;
    if count == 0 {
        return Ok(object::size(0)?.into_ptr());
    }
    let received = fill(call, &mut buffer, count, flags)?;
    Ok(object::size(received)?.into_ptr())
}

/// `recvfrom_into(buffer[, nbytes[, flags]]) -> (int, None)`
pub(super) fn recvfrom_into(call: &Call) -> Answer {
    let (mut buffer, count, flags) = buffer_and_flags(call)?;
    let received = fill(call, &mut buffer, count, flags)?;
    with_no_address(object::size(received)?.into_ptr())
}

#[inline]
fn buffer_and_flags(call: &Call) -> Result<(Buffer, usize, i32), Fail> {
    let [buffer, count, flags] = call.keywords([c"buffer", c"nbytes", c"flags"], 1)?;
    // SAFETY: the arguments of a call; the GIL is held.
    let (buffer, count, flags) = unsafe {
        let count = if count.is_null() { 0 } else { args::ssize(count)? };
        (Buffer::writable(buffer)?, count, args::int_or(flags, 0)?)
    };
    let count = match usize::try_from(count) {
        Ok(0) => buffer.len(),
        Ok(count) if count <= buffer.len() => count,
        _ => return Err(Fail::Arguments),
    };
    Ok((buffer, count, flags))
}

#[inline]
fn fill(call: &Call, buffer: &mut Buffer, count: usize, flags: i32) -> Result<usize, Fail> {
    let mut room = buffer.as_mut_slice();
    if room.len() > count {
        room = &mut room[..count];
    }
    receive(call, count, flags, |first, second| {
        let rest = std::mem::take(&mut room);
        room = put(put(rest, first), second);
    })
}

/// Copies `data` to the front of `room` and gives the rest. `data` never exceeds `room`.
#[inline]
fn put<'a>(room: &'a mut [u8], data: &[u8]) -> &'a mut [u8] {
    let n = data.len().min(room.len());
    let (front, rest) = room.split_at_mut(n);
    front.copy_from_slice(&data[..n]);
    rest
}

fn with_no_address(first: Object) -> Answer {
    // SAFETY: `first` is a new reference; the GIL is held.
    let items = unsafe { [Owned::new(first)?, Owned::new(none())?] };
    Ok(object::tuple(items)?.into_ptr())
}

/// `recvmsg(bufsize[, ancbufsize[, flags]]) -> (bytes, ancdata, flags, None)`
///
/// The only ancillary data is that of TCP_INQ; other socket options that ask for some are refused.
pub(super) fn recvmsg(call: &Call) -> Answer {
    let [count, ancillary, flags] = call.positional(1)?;
    // SAFETY: the arguments of a call; the GIL is held.
    let (count, flags) = unsafe { (args::ssize(count)?, args::int_or(flags, 0)?) };
    let room = ancillary_room(ancillary)?;
    let count = usize::try_from(count).map_err(|_| Fail::Arguments)?;
    message(call, bytes(call, count, flags)?, room)
}

/// `recvmsg_into(buffers[, ancbufsize[, flags]]) -> (int, ancdata, flags, None)`
pub(super) fn recvmsg_into(call: &Call) -> Answer {
    let [buffers, ancillary, flags] = call.positional(1)?;
    // SAFETY: the arguments of a call; the GIL is held.
    let (sequence, flags) = unsafe { (args::sequence(buffers)?, args::int_or(flags, 0)?) };
    let mut buffers = Vec::new();
    for item in args::items(&sequence) {
        // SAFETY: the items live as long as the sequence.
        buffers.push(unsafe { Buffer::writable(item)? });
    }
    let room = ancillary_room(ancillary)?;
    let total = buffers.iter().map(Buffer::len).sum();
    let mut rooms: Vec<&mut [u8]> = buffers.iter_mut().map(Buffer::as_mut_slice).collect();
    let received = receive(call, total, flags, |first, second| {
        scatter(&mut rooms, first);
        scatter(&mut rooms, second);
    })?;
    message(call, object::size(received)?.into_ptr(), room)
}

/// Copies `data` into the rooms in turn, each shrinking from the front.
fn scatter(rooms: &mut [&mut [u8]], mut data: &[u8]) {
    for room in rooms.iter_mut() {
        if data.is_empty() {
            return;
        }
        let n = data.len().min(room.len());
        let rest = std::mem::take(room);
        *room = put(rest, &data[..n]);
        data = &data[n..];
    }
}

fn ancillary_room(size: Object) -> Result<usize, Fail> {
    if size.is_null() {
        return Ok(0);
    }
    // SAFETY: the argument of a call; the GIL is held.
    match unsafe { args::ssize(size)? } {
        size @ 0..=0x7fff_ffff => Ok(size as usize),
        _ => Err(Fail::Arguments),
    }
}

/// linux/tcp.h: the type of TCP_INQ's control message, which libc lacks.
const TCP_CM_INQ: i64 = 36;

/// What `recvmsg` gives, with the control message of TCP_INQ when that is on and there is `room` for
/// it, in bytes.
fn message(call: &Call, first: Object, room: usize) -> Answer {
    // SAFETY: `first` is a new reference, as the list is; the GIL is held.
    let (first, list) = unsafe { (Owned::new(first)?, Owned::new(ffi::PyList_New(0))?) };
    let mut flags = 0;
    if let Some(inq) = call.runtime().inq(call.fd).map_err(Fail::Errno)? {
        // cmsg(3): the header is cut off from what has no room for all, and without room for the header
        // there is nothing.
        let header = std::mem::size_of::<libc::cmsghdr>();
        let data = inq.to_ne_bytes();
        let fits = room.saturating_sub(header).min(data.len());
        if fits < data.len() {
            flags = libc::MSG_CTRUNC;
        }
        if room >= header {
            let (level, kind) = (object::int(libc::IPPROTO_TCP.into())?, object::int(TCP_CM_INQ)?);
            // SAFETY: the bytes are a new reference; the list takes one of its own to the item.
            unsafe {
                let data = Owned::new(object::bytes_of(&data[..fits], &[]))?;
                let item = object::tuple([level, kind, data])?;
                if ffi::PyList_Append(list.as_ptr(), item.as_ptr()) != 0 {
                    return Err(Fail::Raised);
                }
            }
        }
    }
    // SAFETY: a new reference to None; the GIL is held.
    let nobody = unsafe { Owned::new(none())? };
    Ok(object::tuple([first, list, object::int(flags.into())?, nobody])?.into_ptr())
}
