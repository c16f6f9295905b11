//! Python's socket addresses: `(host, port)` and `(host, port, flowinfo, scope_id)`.
//!
//! What is refused gives `Fail::Arguments`, and CPython's own method words the error; only a host
//! name that does not resolve is raised from here.

use pyo3::ffi;
use std::ffi::{c_char, CStr, CString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use crate::errors::Fail;
use crate::gil;
use crate::object::{self, Owned};
use crate::socket;
use crate::socket::args;

type Object = *mut ffi::PyObject;

const MAX_FLOWINFO: u32 = 0xf_ffff;

/// An address as `bind` and `connect` take it. May wait for the resolver, without the GIL.
pub fn parse(family: i32, address: Object) -> Result<SocketAddr, Fail> {
    // SAFETY: `address` is an argument of the running call; the GIL is held. Items are borrowed
    // from the tuple, which the caller keeps alive.
    unsafe {
        if ffi::PyTuple_Check(address) == 0 {
            return Err(Fail::Arguments);
        }
        let len = ffi::PyTuple_Size(address);
        let fits = if family == libc::AF_INET { len == 2 } else { (2..=4).contains(&len) };
        if !fits {
            return Err(Fail::Arguments);
        }
        let host = host_name(ffi::PyTuple_GetItem(address, 0))?;
        let port = args::int(ffi::PyTuple_GetItem(address, 1))?;
        let mut rest = [0u32; 2];
        for (slot, i) in rest.iter_mut().zip(2..len) {
            *slot = args::uint_mask(ffi::PyTuple_GetItem(address, i))?;
        }
        let [flowinfo, scope_id] = rest;
        if !(0..=0xffff).contains(&port) || flowinfo > MAX_FLOWINFO {
            return Err(Fail::Arguments);
        }
        let port = port as u16;
        Ok(match resolve(family, host.as_c_str())? {
            IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, flowinfo, scope_id).into(),
        })
    }
}

/// Raises the audit event of a method that takes an address: `event(self, address)`.
pub fn audit(event: &CStr, socket: Object, address: Object) -> Result<(), Fail> {
    // SAFETY: both are live objects; the GIL is held.
    let args =
        unsafe { [Owned::new(ffi::Py_NewRef(socket))?, Owned::new(ffi::Py_NewRef(address))?] };
    socket::audit(event.to_str().unwrap_or_default(), args)
}

/// A host as C text: str in ASCII or by IDNA, bytes and bytearray as they are.
unsafe fn host_name(host: Object) -> Result<CString, Fail> {
    // SAFETY: `host` is a live object; the GIL is held.
    unsafe {
        if ffi::PyUnicode_Check(host) == 0 {
            let bytes = if ffi::PyByteArray_Check(host) != 0 {
                let data = ffi::PyByteArray_AsString(host).cast::<u8>();
                std::slice::from_raw_parts(data, ffi::PyByteArray_Size(host).max(0) as usize)
            } else if ffi::PyBytes_Check(host) != 0 {
                bytes_slice(host)
            } else {
                return Err(Fail::Arguments);
            };
            return CString::new(bytes).map_err(|_| Fail::Arguments);
        }
        let mut len = 0;
        let text = ffi::PyUnicode_AsUTF8AndSize(host, &mut len).cast::<u8>();
        if text.is_null() {
            ffi::PyErr_Clear();
            return Err(Fail::Arguments);
        }
        let text = std::slice::from_raw_parts(text, len.max(0) as usize);
        if text.is_ascii() {
            return CString::new(text).map_err(|_| Fail::Arguments);
        }
        let encoded = ffi::PyUnicode_AsEncodedString(host, c"idna".as_ptr(), ptr::null());
        if encoded.is_null() {
            ffi::PyErr_Clear();
            return Err(Fail::Arguments);
        }
        let encoded = Owned::new(encoded)?;
        CString::new(bytes_slice(encoded.as_ptr())).map_err(|_| Fail::Arguments)
    }
}

unsafe fn bytes_slice<'a>(bytes: Object) -> &'a [u8] {
    // SAFETY: `bytes` is a bytes object that the caller keeps alive while it uses the slice.
    unsafe {
        let data = ffi::PyBytes_AsString(bytes).cast::<u8>();
        std::slice::from_raw_parts(data, ffi::PyBytes_Size(bytes).max(0) as usize)
    }
}

/// The first address of a host in `family`, in the order of CPython's `setipaddr`.
fn resolve(family: i32, host: &CStr) -> Result<IpAddr, Fail> {
    let text = host.to_str().unwrap_or_default();
    let broadcast = matches!(text, "255.255.255.255" | "<broadcast>");
    if family == libc::AF_INET {
        if host.is_empty() {
            return Ok(Ipv4Addr::UNSPECIFIED.into());
        }
        if broadcast {
            return Ok(Ipv4Addr::BROADCAST.into());
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(ip.into());
        }
    } else {
        if host.is_empty() {
            return Ok(Ipv6Addr::UNSPECIFIED.into());
        }
        if broadcast {
            return Err(Fail::Arguments);
        }
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Ok(ip.into());
        }
    }
    look_up(family, host)
}

/// getaddrinfo(3), without the GIL.
fn look_up(family: i32, host: &CStr) -> Result<IpAddr, Fail> {
    // SAFETY: all-zero is a valid addrinfo.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_family = family;
    let mut list: *mut libc::addrinfo = ptr::null_mut();
    // SAFETY: the GIL is held; the closure uses `host`, `hints` and `list` only, none of Python's.
    let (code, errno) = unsafe {
        gil::released(|| {
            let code = libc::getaddrinfo(host.as_ptr(), ptr::null(), &hints, &mut list);
            (code, *libc::__errno_location())
        })
    };
    if code == libc::EAI_SYSTEM {
        return Err(Fail::errno(errno));
    }
    if code != 0 {
        return Err(socket::raise_gaierror(code));
    }
    // SAFETY: on success the list has an entry, whose address has the asked family's type.
    unsafe {
        let first = &*list;
        let ip: IpAddr = if first.ai_family == libc::AF_INET {
            let address = &*first.ai_addr.cast::<libc::sockaddr_in>();
            Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes()).into()
        } else {
            let address = &*first.ai_addr.cast::<libc::sockaddr_in6>();
            Ipv6Addr::from(address.sin6_addr.s6_addr).into()
        };
        libc::freeaddrinfo(list);
        Ok(ip)
    }
}

mod raw {
    use std::ffi::{c_char, c_int, c_void};
    extern "C" {
        // Not in the libc crate. libc's spelling of an IPv6 address, which is what Python shows.
        pub fn inet_ntop(
            family: c_int,
            address: *const c_void,
            out: *mut c_char,
            size: libc::socklen_t,
        ) -> *const c_char;
    }
}

/// `(host, port)` for IPv4, `(host, port, flowinfo, scope_id)` for IPv6.
pub fn to_python(address: &SocketAddr) -> Result<Owned, Fail> {
    let port = object::int(i64::from(address.port()))?;
    match address {
        SocketAddr::V4(v4) => object::tuple([spelling_v4(*v4.ip())?, port]),
        SocketAddr::V6(v6) => object::tuple([
            spelling_v6(v6.ip())?,
            port,
            object::int(i64::from(v6.flowinfo()))?,
            object::int(i64::from(v6.scope_id()))?,
        ]),
    }
}

fn spelling_v4(ip: Ipv4Addr) -> Result<Owned, Fail> {
    use std::io::Write;
    let mut room = [0u8; 16];
    let mut rest = &mut room[..];
    let [a, b, c, d] = ip.octets();
    // Cannot fail: the longest spelling has 15 bytes.
    let _ = write!(rest, "{a}.{b}.{c}.{d}");
    let used = 16 - rest.len();
    object::text(std::str::from_utf8(room.get(..used).unwrap_or_default()).unwrap_or_default())
}

fn spelling_v6(ip: &Ipv6Addr) -> Result<Owned, Fail> {
    let mut room: [c_char; 46] = [0; 46];
    let octets = ip.octets();
    // SAFETY: 16 bytes in, at most 46 out with the NUL (INET6_ADDRSTRLEN).
    unsafe {
        let spelled = raw::inet_ntop(libc::AF_INET6, octets.as_ptr().cast(), room.as_mut_ptr(), 46);
        if spelled.is_null() {
            return Err(Fail::errno(libc::EINVAL));
        }
        object::text(CStr::from_ptr(spelled).to_str().unwrap_or_default())
    }
}
