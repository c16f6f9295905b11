//! Every method of the native type, in one table: its name in CPython, and its body here.

use pyo3::ffi;
use std::ffi::CStr;

use super::call::{enter, Object};
use super::{connect, lifetime, options, receive, send};

/// A row of the table.
pub(super) struct Entry {
    pub name: &'static CStr,
    pub function: ffi::PyCFunctionFastWithKeywords,
}

macro_rules! methods {
    ($($variant:ident $name:literal $body:path;)*) => {
        /// The methods, as indices into the table.
        #[derive(Clone, Copy)]
        #[repr(usize)]
        pub(super) enum Method { $($variant),* }

        /// The table. What is not in it (`fileno`, `detach`, `gettimeout`, `getblocking`, `family`,
        /// `type`, `proto`, `timeout`, `__repr__`) only reads the C struct and is inherited.
        pub(super) const METHODS: [Entry; [$(stringify!($variant)),*].len()] = [
            $(Entry {
                name: $name,
                function: {
                    unsafe extern "C" fn function(
                        socket: Object,
                        args: *const Object,
                        nargs: ffi::Py_ssize_t,
                        kwnames: Object,
                    ) -> Object {
                        // SAFETY: CPython calls a method descriptor with an instance of its type.
                        unsafe { enter(Method::$variant, socket, args, nargs, kwnames, $body) }
                    }
                    function
                },
            }),*
        ];
    };
}

methods! {
    Recv c"recv" receive::recv;
    RecvInto c"recv_into" receive::recv_into;
    RecvFrom c"recvfrom" receive::recvfrom;
    RecvFromInto c"recvfrom_into" receive::recvfrom_into;
    RecvMsg c"recvmsg" receive::recvmsg;
    RecvMsgInto c"recvmsg_into" receive::recvmsg_into;
    Send c"send" send::send;
    SendAll c"sendall" send::sendall;
    SendTo c"sendto" send::sendto;
    SendMsg c"sendmsg" send::sendmsg;
    Accept c"_accept" connect::accept;
    Bind c"bind" connect::bind;
    Listen c"listen" connect::listen;
    Connect c"connect" connect::connect;
    ConnectEx c"connect_ex" connect::connect_ex;
    Shutdown c"shutdown" connect::shutdown;
    GetSockName c"getsockname" connect::getsockname;
    GetPeerName c"getpeername" connect::getpeername;
    Close c"close" lifetime::close;
    SetTimeout c"settimeout" lifetime::settimeout;
    SetBlocking c"setblocking" lifetime::setblocking;
    GetSockOpt c"getsockopt" options::getsockopt;
    SetSockOpt c"setsockopt" options::setsockopt;
}

/// The row of a method.
pub(super) fn entry(method: Method) -> &'static Entry {
    static TABLE: [Entry; METHODS.len()] = METHODS;
    &TABLE[method as usize]
}
