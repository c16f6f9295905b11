//! `TCP_CONGESTION`: an algorithm by its name.
//!
//! The kernel socket that reserves the port is asked first and refuses what Linux refuses. A name
//! that only the kernel knows pins a fresh socket to the kernel, as every option does that only the
//! kernel has; for a listener or a connection of ours there is no such algorithm: ENOENT.

use mtcp_engine::CongestionControl;

use super::desc::Kind;
use super::options::cut;
use super::state::Inner;
use super::vfd::Vfd;
use crate::errno::Errno;
use crate::sys;

/// Linux: `TCP_CA_NAME_MAX`, the NUL at the end included.
const NAME_BYTES: usize = 16;

const OPTION: (i32, i32) = (libc::IPPROTO_TCP, libc::TCP_CONGESTION);

/// The name in an option value: up to a NUL, and cut as the kernel does.
fn name(value: &[u8]) -> &[u8] {
    let value = value.get(..NAME_BYTES - 1).unwrap_or(value);
    value.split(|byte| *byte == 0).next().unwrap_or(&[])
}

impl Inner {
    /// Sets the algorithm of a description.
    ///
    /// # Errors
    /// EINVAL for an empty value, ENOENT for an unknown algorithm, the kernel's EPERM.
    pub(super) fn set_congestion(&mut self, vfd: Vfd, value: &[u8]) -> Result<(), Errno> {
        let desc = self.desc(vfd)?;
        if value.is_empty() {
            return Err(Errno(libc::EINVAL));
        }
        let choice = CongestionControl::from_name(name(value));
        let kernels = matches!(desc.kind, Kind::Fresh | Kind::Kernel);
        if choice.is_none() && !kernels {
            return Err(Errno(libc::ENOENT));
        }
        // Behind a connection of ours it only holds the port.
        if desc.owns_port && !matches!(desc.kind, Kind::Conn { .. }) {
            let (level, name) = OPTION;
            sys::setsockopt(self.port(desc)?.fd(), level, name, value)?;
        }
        let desc = self.desc_mut(vfd)?;
        let Some(choice) = choice else {
            if desc.kind == Kind::Fresh {
                desc.pinned = Some(OPTION);
            }
            return Ok(());
        };
        desc.pinned = desc.pinned.filter(|pinned| *pinned != OPTION);
        desc.options.congestion = choice;
        self.apply_options(vfd)
    }
}

/// What getsockopt(2) answers: the name in 16 bytes, cut to the caller's buffer.
pub(super) fn answer(choice: CongestionControl, buf: &mut [u8]) -> usize {
    let mut value = [0; NAME_BYTES];
    cut(&mut value, choice.name().as_bytes());
    cut(buf, &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_a_nul_or_after_15_bytes() {
        assert_eq!(name(b"reno\0x"), b"reno");
        assert_eq!(name(b"cubic"), b"cubic");
        assert_eq!(name(b"0123456789abcdefg"), b"0123456789abcde");
        assert_eq!(name(b"\0"), b"");
    }

    #[test]
    fn the_answer_has_16_bytes_or_what_fits() {
        let mut buf = [9u8; 20];
        assert_eq!(answer(CongestionControl::Reno, &mut buf), 16);
        assert_eq!(buf, *b"reno\0\0\0\0\0\0\0\0\0\0\0\0\x09\x09\x09\x09");
        let mut short = [9u8; 3];
        assert_eq!(answer(CongestionControl::Cubic, &mut short), 3);
        assert_eq!(&short, b"cub");
    }
}
