//! The runtime over the in-process device: no privileges, no Python.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mtcp_host::errno::Errno;
use mtcp_host::runtime::{Accepted, Connect, Patience, PollFd, Runtime, Settings, Vfd};
use mtcp_host::sys::IntRequest;

const IN: u32 = libc::POLLIN as u32;
const OUT: u32 = libc::POLLOUT as u32;
const HUP: u32 = libc::POLLHUP as u32;

fn runtime() -> Arc<Runtime> {
    let dir = std::env::temp_dir().join(format!(
        "mtcp-rt-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let settings = Settings {
        devices: Vec::new(),
        control_dir: Some(dir.to_string_lossy().into_owned()),
        exit_linger_ms: 2000,
        ..Settings::default()
    };
    Arc::new(Runtime::new(settings).unwrap())
}

fn in_ten_seconds() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(10))
}

fn wait(rt: &Runtime, fd: Vfd, events: u32) -> u32 {
    let mut fds = [PollFd { fd, events, revents: 0 }];
    if rt.poll_ready(&mut fds) == 0 {
        assert!(rt.poll_wait(&mut fds, in_ten_seconds()).unwrap() > 0, "nothing within 10 s");
    }
    fds[0].revents
}

fn listener(rt: &Runtime, addr: &str, family: i32) -> (Vfd, SocketAddr) {
    let l = rt.socket(family, 0).unwrap();
    rt.bind(l, &addr.parse().unwrap()).unwrap();
    rt.listen(l, 16).unwrap();
    (l, rt.getsockname(l).unwrap())
}

fn accept(rt: &Runtime, l: Vfd) -> Vfd {
    wait(rt, l, IN);
    match rt.accept(l).unwrap() {
        Accepted::Virtual(vfd, _) => vfd,
        Accepted::Kernel(..) => panic!("came by the kernel"),
    }
}

fn pair(rt: &Runtime) -> (Vfd, Vfd, Vfd) {
    let (l, addr) = listener(rt, "127.0.0.1:0", libc::AF_INET);
    let c = rt.socket(libc::AF_INET, 0).unwrap();
    assert_eq!(rt.connect(c, &addr, Patience::Never), Err(Errno(libc::EINPROGRESS)));
    let s = accept(rt, l);
    assert_eq!(wait(rt, c, OUT), OUT);
    assert_eq!(rt.connect(c, &addr, Patience::Never), Ok(Connect::Done));
    assert_eq!(rt.connect(c, &addr, Patience::Never), Err(Errno(libc::EISCONN)));
    (l, c, s)
}

fn recv_some(rt: &Runtime, fd: Vfd) -> Vec<u8> {
    wait(rt, fd, IN);
    rt.recv_with(fd, 1 << 20, 0, |a, b| [a, b].concat()).unwrap()
}

#[test]
fn names_data_and_the_end_go_both_ways() {
    let rt = runtime();
    let (l, c, s) = pair(&rt);
    assert_eq!(rt.getpeername(c).unwrap(), rt.getsockname(s).unwrap());
    assert_eq!(rt.getpeername(s).unwrap(), rt.getsockname(c).unwrap());
    assert_eq!(rt.recv_with(c, 10, 0, |_, _| ()), Err(Errno(libc::EAGAIN)));
    assert_eq!(rt.send(c, b"hello", 0), Ok(5));
    assert_eq!(recv_some(&rt, s), b"hello");
    assert_eq!(rt.send(s, b"there", 0), Ok(5));
    rt.shutdown(s, libc::SHUT_WR).unwrap();
    assert_eq!(recv_some(&rt, c), b"there");
    assert_eq!(recv_some(&rt, c), b"");
    assert_eq!(rt.send(s, b"x", 0), Err(Errno(libc::EPIPE)));
    for fd in [c, s, l] {
        rt.close(fd).unwrap();
        assert_eq!(rt.close(fd).map(|_| ()), Err(Errno(libc::EBADF)));
    }
    rt.shutdown_process();
}

#[test]
fn peek_leaves_the_bytes_and_max_is_kept() {
    let rt = runtime();
    let (_l, c, s) = pair(&rt);
    rt.send(c, b"abcdef", 0).unwrap();
    wait(&rt, s, IN);
    let peek = rt.recv_with(s, 4, libc::MSG_PEEK, |a, b| [a, b].concat()).unwrap();
    assert_eq!(peek, b"abcd");
    assert_eq!(rt.ioctl_int(s, IntRequest::FionRead), Ok(6));
    assert_eq!(rt.recv_with(s, 4, 0, |a, b| [a, b].concat()).unwrap(), b"abcd");
    assert_eq!(rt.ioctl_int(s, IntRequest::FionRead), Ok(2));
    assert_eq!(rt.recv_with(s, 4, libc::MSG_OOB, |_, _| ()), Err(Errno(libc::EINVAL)));
    rt.shutdown_process();
}

#[test]
fn ten_megabytes_arrive_intact_between_two_threads() {
    let rt = runtime();
    let (_l, c, s) = pair(&rt);
    let data: Vec<u8> =
        (0..10_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sender = {
        let (rt, data) = (Arc::clone(&rt), data.clone());
        std::thread::spawn(move || {
            let mut rest = &data[..];
            while !rest.is_empty() {
                match rt.send(c, rest, 0) {
                    Ok(n) => rest = &rest[n..],
                    Err(Errno(libc::EAGAIN)) => drop(wait(&rt, c, OUT)),
                    Err(e) => panic!("{e}"),
                }
            }
            rt.close(c).unwrap();
        })
    };
    let mut got = Vec::new();
    loop {
        let part = recv_some(&rt, s);
        if part.is_empty() {
            break;
        }
        got.extend(part);
    }
    sender.join().unwrap();
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
    rt.shutdown_process();
}

#[test]
fn a_blocked_thread_wakes_for_data_and_for_close() {
    let rt = runtime();
    let (_l, c, s) = pair(&rt);
    let reader = {
        let rt = Arc::clone(&rt);
        std::thread::spawn(move || recv_some(&rt, s))
    };
    std::thread::sleep(Duration::from_millis(30));
    rt.send(c, b"x", 0).unwrap();
    assert_eq!(reader.join().unwrap(), b"x");
    let closed = {
        let rt = Arc::clone(&rt);
        std::thread::spawn(move || wait(&rt, s, IN))
    };
    std::thread::sleep(Duration::from_millis(30));
    rt.close(s).unwrap();
    assert_eq!(closed.join().unwrap(), libc::POLLNVAL as u32);
    rt.shutdown_process();
}

#[test]
fn watchers_are_level_edge_and_one_shot() {
    let rt = runtime();
    let (_l, c, s) = pair(&rt);
    let add = libc::EPOLL_CTL_ADD;
    let level = rt.watcher(None).unwrap();
    let edge = rt.watcher(None).unwrap();
    let once = rt.watcher(None).unwrap();
    rt.watch(level, add, s, IN, 1).unwrap();
    rt.watch(edge, add, s, IN | libc::EPOLLET as u32, 2).unwrap();
    rt.watch(once, add, s, IN | libc::EPOLLONESHOT as u32, 3).unwrap();
    assert_eq!(rt.watch(once, add, s, IN, 3), Err(Errno(libc::EEXIST)));
    let ready = |w| {
        let mut out = Vec::new();
        rt.watcher_ready(w, 16, &mut out);
        out
    };
    assert_eq!(ready(level), vec![]);
    rt.send(c, b"ab", 0).unwrap();
    for w in [level, edge, once] {
        let mut out = Vec::new();
        let mut got = rt.watcher_ready(w, 16, &mut out);
        if got == 0 {
            got = rt.watcher_wait(w, 16, &mut out, in_ten_seconds()).unwrap().events;
        }
        assert_eq!(got, 1);
        assert_eq!((out[0].0, out[0].1), (s, IN));
    }
    assert_eq!(ready(level).len(), 1);
    assert_eq!(ready(edge).len(), 0);
    assert_eq!(ready(once).len(), 0);
    rt.send(c, b"c", 0).unwrap();
    wait(&rt, s, IN);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(ready(edge).len(), 1);
    assert_eq!(ready(once).len(), 0);
    rt.watch(once, libc::EPOLL_CTL_MOD, s, IN | libc::EPOLLONESHOT as u32, 3).unwrap();
    assert_eq!(ready(once).len(), 1);
    rt.close(s).unwrap();
    assert_eq!(ready(level).len(), 0);
    rt.shutdown_process();
}

#[test]
fn refused_when_nobody_listens_and_fresh_sockets_answer_as_linux() {
    let rt = runtime();
    let (l, addr) = listener(&rt, "127.0.0.1:0", libc::AF_INET);
    rt.close(l).unwrap();
    let c = rt.socket(libc::AF_INET, 0).unwrap();
    assert_eq!(wait(&rt, c, IN | OUT), OUT | HUP);
    assert_eq!(rt.recv_with(c, 1, 0, |_, _| ()), Err(Errno(libc::ENOTCONN)));
    assert_eq!(rt.send(c, b"x", 0), Err(Errno(libc::EPIPE)));
    assert_eq!(rt.shutdown(c, libc::SHUT_WR), Err(Errno(libc::ENOTCONN)));
    // Nobody of ours: the kernel's stack carries it, and refuses.
    assert_eq!(
        rt.connect(c, &addr, Patience::Never),
        Err(Errno(libc::ECONNREFUSED)).or(Err(Errno(libc::EINPROGRESS)))
    );
    rt.shutdown_process();
}

#[test]
fn a_dual_stack_listener_shows_mapped_addresses() {
    let rt = runtime();
    let (l, addr) = listener(&rt, "[::]:0", libc::AF_INET6);
    let c = rt.socket(libc::AF_INET, 0).unwrap();
    let to: SocketAddr = format!("127.0.0.1:{}", addr.port()).parse().unwrap();
    assert_eq!(rt.connect(c, &to, Patience::Never), Err(Errno(libc::EINPROGRESS)));
    let s = accept(&rt, l);
    assert!(rt.getpeername(s).unwrap().to_string().starts_with("[::ffff:127.0.0.1]:"));
    rt.shutdown_process();
}

#[test]
fn a_kernel_client_is_accepted_by_the_same_listener() {
    let rt = runtime();
    let (l, addr) = listener(&rt, "127.0.0.1:0", libc::AF_INET);
    let client = std::net::TcpStream::connect(addr).unwrap();
    assert_eq!(wait(&rt, l, IN), IN);
    match rt.accept(l).unwrap() {
        Accepted::Kernel(_, peer) => assert_eq!(peer, client.local_addr().unwrap()),
        Accepted::Virtual(..) => panic!("no device, so the kernel's"),
    }
    rt.shutdown_process();
}

#[test]
fn ports_are_the_kernels_and_come_back() {
    let rt = runtime();
    let (l, addr) = listener(&rt, "127.0.0.1:0", libc::AF_INET);
    let other = rt.socket(libc::AF_INET, 0).unwrap();
    assert_eq!(rt.bind(other, &addr), Err(Errno(libc::EADDRINUSE)));
    assert!(std::net::TcpListener::bind(addr).is_err());
    rt.close(l).unwrap();
    assert!(std::net::TcpListener::bind(addr).is_ok());
    rt.shutdown_process();
}

#[test]
fn options_are_honoured_answered_or_refused() {
    let rt = runtime();
    let (_l, c, s) = pair(&rt);
    let one = 1i32.to_ne_bytes();
    for fd in [c, s] {
        rt.setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &one).unwrap();
        let mut buf = [0u8; 4];
        assert_eq!(rt.getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &mut buf), Ok(4));
        assert_ne!(i32::from_ne_bytes(buf), 0);
        let priority = rt.setsockopt(fd, libc::SOL_SOCKET, libc::SO_PRIORITY, &one);
        assert_eq!(priority, Err(Errno(libc::ENOPROTOOPT)));
        let tos = 0x10i32.to_ne_bytes();
        rt.setsockopt(fd, libc::IPPROTO_IP, libc::IP_TOS, &tos).unwrap();
        assert_eq!(rt.getsockopt(fd, libc::IPPROTO_IP, libc::IP_TOS, &mut buf), Ok(4));
        assert_eq!(buf, tos);
    }
    rt.shutdown_process();
}

#[test]
fn a_listener_that_has_served_nobody_can_be_given_to_the_kernel() {
    let rt = runtime();
    let (l, addr) = listener(&rt, "127.0.0.1:0", libc::AF_INET);
    let fd = rt.give_to_kernel(l).unwrap();
    assert_eq!(rt.give_to_kernel(l), Ok(fd), "once more is no harm");

    let client = std::net::TcpStream::connect(addr).unwrap();
    wait(&rt, l, IN);
    let Accepted::Kernel(_, peer) = rt.accept(l).unwrap() else { panic!("came by our stack") };
    assert_eq!(peer, client.local_addr().unwrap());
    // A client of this process goes there as well.
    let c = rt.socket(libc::AF_INET, 0).unwrap();
    assert_eq!(rt.connect(c, &addr, Patience::Never), Err(Errno(libc::EINPROGRESS)));
    wait(&rt, l, IN);
    assert!(matches!(rt.accept(l), Ok(Accepted::Kernel(..))));
}

#[test]
fn what_lives_in_this_process_is_not_given_away() {
    let rt = runtime();
    let (l, c, s) = pair(&rt);
    assert_eq!(rt.give_to_kernel(c), Err(Errno(libc::EOPNOTSUPP)));
    assert_eq!(rt.give_to_kernel(s), Err(Errno(libc::EOPNOTSUPP)));
    assert_eq!(rt.give_to_kernel(l), Err(Errno(libc::EBUSY)), "it has served somebody");
    assert_eq!(rt.send(c, b"x", 0), Ok(1));
    assert_eq!(rt.give_to_kernel(l + 100), Err(Errno(libc::EBADF)));
}

#[test]
fn a_kernel_listener_is_adopted_under_the_number_asked_for() {
    let rt = runtime();
    let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = outside.local_addr().unwrap();
    let wanted = mtcp_host::runtime::VFD_BASE + 7;
    assert_eq!(rt.adopt(outside.try_clone().unwrap().into(), Some(wanted)), Ok(wanted));
    assert_eq!(rt.getsockname(wanted), Ok(addr));
    let again = outside.try_clone().unwrap();
    assert_eq!(rt.adopt(again.into(), Some(wanted)), Err(Errno(libc::EEXIST)));
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(rt.adopt(datagrams.into(), None), Err(Errno(libc::EINVAL)));

    let _client = std::net::TcpStream::connect(addr).unwrap();
    wait(&rt, wanted, IN);
    assert!(matches!(rt.accept(wanted), Ok(Accepted::Kernel(..))));
    assert_eq!(rt.accept(wanted).err(), Some(Errno(libc::EAGAIN)), "it does not block");
}
