//! Why a device could not be opened, in words that say what to do.

use std::fmt;
use std::io;

/// Why `XdpDevice::open` failed.
#[derive(Debug)]
pub enum OpenError {
    /// There is no such interface in this network namespace.
    NoInterface {
        /// The name that was asked for.
        ifname: String,
    },
    /// The kernel wants a privilege.
    NotPermitted {
        /// The interface.
        ifname: String,
        /// What was refused.
        step: &'static str,
    },
    /// Another process steers this interface or owns its queue.
    Busy {
        /// The interface.
        ifname: String,
        /// Who holds it, where `/proc` tells.
        owner: Option<String>,
    },
    /// The kernel or the driver cannot do it.
    Unsupported {
        /// The interface.
        ifname: String,
        /// What was refused.
        step: &'static str,
        /// How.
        error: io::Error,
    },
}

impl OpenError {
    /// Sorts a failed system call; `step` completes "could not …".
    pub fn from_step(ifname: &str, step: &'static str, error: io::Error) -> Self {
        let ifname = ifname.to_owned();
        match error.raw_os_error() {
            Some(libc::ENODEV) => Self::NoInterface { ifname },
            Some(libc::EPERM) => Self::NotPermitted { ifname, step },
            _ => Self::Unsupported { ifname, step, error },
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterface { ifname } => {
                write!(f, "xdp:{ifname}: there is no interface {ifname:?}; `ip link` lists them")
            }
            Self::NotPermitted { ifname, step } => write!(
                f,
                "xdp:{ifname}: not permitted to {step}; run as root, or with CAP_NET_ADMIN, \
                 CAP_NET_RAW and CAP_BPF"
            ),
            Self::Busy { ifname, owner: Some(owner) } => {
                write!(f, "xdp:{ifname}: {owner} has it already; one process at a time can")
            }
            Self::Busy { ifname, owner: None } => write!(
                f,
                "xdp:{ifname}: another process, or an XDP program that is loaded, has it already; \
                 `ip link show {ifname}` and `bpftool net` show it"
            ),
            Self::Unsupported { ifname, step, error } => {
                write!(f, "xdp:{ifname}: could not {step}: {error}")?;
                match error.raw_os_error() {
                    // xdp_umem_account_pages() answers so.
                    Some(libc::ENOBUFS) => write!(f, " (raise `ulimit -l`)"),
                    Some(libc::EAFNOSUPPORT | libc::ENOSYS) => {
                        write!(f, " (the kernel is built without AF_XDP or BPF)")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for OpenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_says_what_to_do() {
        let e = |n| OpenError::from_step("lo", "register memory", io::Error::from_raw_os_error(n));
        assert!(e(libc::EPERM).to_string().contains("run as root"));
        assert!(e(libc::ENODEV).to_string().contains("ip link"));
        assert!(e(libc::ENOBUFS).to_string().contains("ulimit -l"));
        assert!(matches!(e(libc::EOPNOTSUPP), OpenError::Unsupported { .. }));
    }
}
