//! The little of rtnetlink that `route` needs: one request, its answer, attributes.
//!
//! A socket a question: questions are rare (once a connect to a new address) and a kept socket
//! would have to survive forks and changes of the network namespace.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Longest answer that we read; a route or a neighbour takes some hundred bytes.
const ANSWER_BYTES: usize = 8192;
/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Set in an attribute's type by the kernel: nested, or in network byte order.
const ATTRIBUTE_FLAGS: u16 = 0xc000;

/// A message under construction: header, fixed part, attributes.
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A message of `kind` (RTM_…) with `flags` (NLM_F_…) and its fixed part.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]); // length, filled in by `finish`
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes()); // sequence
        bytes.extend([0; 4]); // port: the kernel's choice
        bytes.extend(fixed);
        let mut request = Self { bytes };
        request.pad();
        request
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }

    /// Appends an attribute.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (4 + value.len()) as u16;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.bytes.len() as u32).to_ne_bytes();
        for (to, from) in self.bytes.iter_mut().zip(length) {
            *to = from;
        }
        self.bytes
    }

    /// Asks the kernel: the first message of the answer, or what the kernel refuses it with. An
    /// acknowledgement counts as an empty answer.
    pub fn ask(self) -> io::Result<Answer> {
        let message = self.finish();
        // SAFETY: no memory is passed.
        let fd = unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that we have just made and nobody else has.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: `message` is live for the call.
        let sent =
            unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = vec![0u8; ANSWER_BYTES];
        // The kernel has answered before `send` returned: this never waits.
        // SAFETY: `answer` is live and of the length passed.
        let got = unsafe {
            let flags = libc::MSG_DONTWAIT;
            libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), flags)
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        answer.truncate(got);
        Answer::parse(&answer)
    }
}

/// A message's kind and what follows its header.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// RTM_…, or NLMSG_ERROR for an acknowledgement.
    pub kind: u16,
    /// Fixed part and attributes.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first message of a datagram; its errno when it is an error.
    fn parse(datagram: &[u8]) -> io::Result<Self> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let length = read_u32(datagram, 0).ok_or_else(malformed)? as usize;
        let kind = read_u16(datagram, 4).ok_or_else(malformed)?;
        let body = datagram.get(HEADER_BYTES..length).ok_or_else(malformed)?;
        if kind == libc::NLMSG_ERROR as u16 {
            let error = read_u32(body, 0).ok_or_else(malformed)? as i32;
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error.wrapping_neg()));
            }
        }
        Ok(Self { kind, body: body.to_vec() })
    }
}

/// The attributes after a fixed part of `skip` bytes; stops at the first that overruns.
pub fn attributes(body: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(skip.next_multiple_of(4)..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(rest, 0)?);
        let kind = read_u16(rest, 2)? & !ATTRIBUTE_FLAGS;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A native-endian 16-bit number at `at`.
pub fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// A native-endian 32-bit number at `at`.
pub fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_padded_and_knows_its_length() {
        let bytes = Request::new(26, 0, &[2, 32, 0])
            .attribute(1, &[127, 0, 0, 1])
            .attribute(3, b"x")
            .finish();
        assert_eq!(bytes.len(), 16 + 4 + 8 + 8);
        assert_eq!(read_u32(&bytes, 0), Some(36));
        assert_eq!(read_u16(&bytes, 4), Some(26));
        let all: Vec<_> = attributes(&bytes[16..], 3).collect();
        assert_eq!(all, [(1, &[127, 0, 0, 1][..]), (3, b"x"),]);
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        Request::new(kind, 0, body).finish()
    }

    #[test]
    fn errors_become_errnos_and_zero_an_acknowledgement() {
        let error = libc::NLMSG_ERROR as u16;
        let refused = Answer::parse(&message(error, &(-libc::ENETUNREACH).to_ne_bytes()));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENETUNREACH));
        assert_eq!(Answer::parse(&message(error, &[0; 4])).unwrap().kind, error);
    }

    #[test]
    fn lying_lengths_are_refused_or_end_the_list() {
        let mut long = message(24, &[0; 4]);
        long[0] = 200;
        assert!(Answer::parse(&long).is_err());
        assert!(Answer::parse(&long[..3]).is_err());
        let mut short = message(24, &[0; 4]);
        short[0] = 8;
        assert!(Answer::parse(&short).is_err());
        for lie in [[0u8, 0], [3, 0], [255, 255]] {
            let body = [&lie[..], &[1, 0, 9, 9]].concat();
            assert_eq!(attributes(&body, 0).count(), 0);
        }
        assert_eq!(attributes(&[1, 2], 40).count(), 0);
    }
}
