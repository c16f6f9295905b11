//! `memory` between processes: runtimes that share a registry, here in one process or forked.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mtcp_host::errno::Errno;
use mtcp_host::runtime::{Accepted, Connect, Patience, PollFd, Runtime, Settings, Vfd};

const IN: u32 = libc::POLLIN as u32;
const OUT: u32 = libc::POLLOUT as u32;

/// A directory for a registry, removed at the end.
struct Dir(std::path::PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mtcp-peers-{}-{name}", std::process::id()));
        Self(path)
    }

    fn runtime(&self) -> Arc<Runtime> {
        self.runtime_with(8)
    }

    fn runtime_with(&self, memory_peers: usize) -> Arc<Runtime> {
        let settings = Settings {
            devices: Vec::new(),
            control_dir: Some(self.0.to_string_lossy().into_owned()),
            memory_peers,
            exit_linger_ms: 2000,
            ..Settings::default()
        };
        Arc::new(Runtime::new(settings).unwrap())
    }

    /// The names of what is published, without the processes'.
    fn published(&self) -> Vec<String> {
        let nets = std::fs::read_dir(&self.0).unwrap().flatten().filter(|e| e.path().is_dir());
        let names = nets.flat_map(|net| std::fs::read_dir(net.path()).unwrap()).flatten();
        let names = names.map(|e| e.file_name().into_string().unwrap());
        names.filter_map(|n| Some(n.split_once('@')?.0.to_owned())).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn in_ten_seconds() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(10))
}

fn wait(rt: &Runtime, fd: Vfd, events: u32) -> u32 {
    let mut fds = [PollFd { fd, events, revents: 0 }];
    if rt.poll_ready(&mut fds) == 0 {
        let found = rt.poll_wait(&mut fds, in_ten_seconds()).unwrap();
        assert!(found > 0, "nothing within 10 s: {}", rt.status_json());
    }
    fds[0].revents
}

fn listener(rt: &Runtime, addr: &str) -> (Vfd, SocketAddr) {
    let addr: SocketAddr = addr.parse().unwrap();
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let l = rt.socket(family, 0).unwrap();
    rt.bind(l, &addr).unwrap();
    rt.listen(l, 16).unwrap();
    (l, rt.getsockname(l).unwrap())
}

/// Which stack accepted, and the connection where it was ours.
fn accept(rt: &Runtime, l: Vfd) -> Option<(Vfd, SocketAddr)> {
    wait(rt, l, IN);
    match rt.accept(l).unwrap() {
        Accepted::Virtual(vfd, peer) => Some((vfd, peer)),
        Accepted::Kernel(..) => None,
    }
}

/// Begins a connection as the binding does.
fn begin(rt: &Runtime, addr: &SocketAddr) -> Vfd {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let c = rt.socket(family, 0).unwrap();
    let patience_ends = Instant::now() + Duration::from_secs(5);
    loop {
        let late = Instant::now() > patience_ends;
        let patience = if late { Patience::Never } else { Patience::MayWait };
        match rt.connect(c, addr, patience) {
            Ok(Connect::MustWait) => std::thread::sleep(Duration::from_micros(100)),
            Ok(Connect::Done) | Err(Errno(libc::EINPROGRESS)) => return c,
            Err(e) => panic!("{e}"),
        }
    }
}

fn connect(rt: &Runtime, addr: &SocketAddr) -> Vfd {
    let c = begin(rt, addr);
    assert_eq!(wait(rt, c, OUT), OUT);
    c
}

fn recv_some(rt: &Runtime, fd: Vfd) -> Vec<u8> {
    wait(rt, fd, IN);
    rt.recv_with(fd, 1 << 20, 0, |a, b| [a, b].concat()).unwrap()
}

fn peers(rt: &Runtime) -> Vec<serde_json::Value> {
    let status: serde_json::Value = serde_json::from_str(&rt.status_json()).unwrap();
    status["devices"][0]["peers"].as_array().unwrap().clone()
}

/// A connection between two runtimes: listener, its address, both ends.
fn pair(client: &Runtime, server: &Runtime) -> (Vfd, SocketAddr, Vfd, Vfd) {
    let (l, addr) = listener(server, "127.0.0.1:0");
    let c = connect(client, &addr);
    let (s, _) = accept(server, l).expect("came by the kernel");
    (l, addr, c, s)
}

#[test]
fn names_data_and_the_end_go_both_ways_and_no_kernel_connection_is_made() {
    let dir = Dir::new("names");
    let (client, server) = (dir.runtime(), dir.runtime());
    let (l, addr, c, s) = pair(&client, &server);
    assert_eq!(client.getpeername(c).unwrap(), addr);
    assert_eq!(server.getsockname(s).unwrap(), addr);
    assert_eq!(server.getpeername(s).unwrap(), client.getsockname(c).unwrap());
    assert_eq!(client.getsockname(c).unwrap().ip(), addr.ip());
    client.send(c, b"hello", 0).unwrap();
    assert_eq!(recv_some(&server, s), b"hello");
    server.send(s, b"there", 0).unwrap();
    server.shutdown(s, libc::SHUT_WR).unwrap();
    assert_eq!(recv_some(&client, c), b"there");
    assert_eq!(recv_some(&client, c), b"");
    assert_eq!((peers(&client).len(), peers(&server).len()), (1, 1));
    assert!(peers(&server)[0]["frames_in"].as_u64().unwrap() >= 3);
    for fd in [s, l] {
        server.close(fd).unwrap();
    }
    client.close(c).unwrap();
    client.shutdown_process();
    server.shutdown_process();
}

#[test]
fn ten_megabytes_arrive_intact_between_two_runtimes() {
    let dir = Dir::new("bulk");
    let (client, server) = (dir.runtime(), dir.runtime());
    let (_, _, c, s) = pair(&client, &server);
    let data: Vec<u8> =
        (0..10_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sender = {
        let (client, data) = (Arc::clone(&client), data.clone());
        std::thread::spawn(move || {
            let mut rest = &data[..];
            while !rest.is_empty() {
                match client.send(c, rest, 0) {
                    Ok(n) => rest = &rest[n..],
                    Err(Errno(libc::EAGAIN)) => drop(wait(&client, c, OUT)),
                    Err(e) => panic!("{e}"),
                }
            }
            client.close(c).unwrap();
        })
    };
    let mut got = Vec::new();
    loop {
        let part = recv_some(&server, s);
        if part.is_empty() {
            break;
        }
        got.extend(part);
    }
    sender.join().unwrap();
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
    client.shutdown_process();
    server.shutdown_process();
}

#[test]
fn what_is_served_is_published_while_it_is_served() {
    let dir = Dir::new("published");
    let server = dir.runtime();
    let (l, addr) = listener(&server, "127.0.0.1:0");
    let (l6, addr6) = listener(&server, "[::]:0");
    let mut names = dir.published();
    names.sort();
    let mut expected = [addr.to_string(), format!("*:{}", addr6.port())];
    expected.sort();
    assert_eq!(names, expected);
    server.close(l).unwrap();
    assert_eq!(dir.published(), [format!("*:{}", addr6.port())]);
    server.shutdown(l6, libc::SHUT_RD).unwrap();
    assert!(dir.published().is_empty());
    let _ = listener(&server, "127.0.0.1:0");
    server.shutdown_process();
    assert!(dir.published().is_empty());
}

#[test]
fn the_source_address_is_the_kernels_choice() {
    let dir = Dir::new("source");
    let (client, server) = (dir.runtime(), dir.runtime());
    for (listens, dials, source) in [
        ("127.0.0.2:0", "127.0.0.2", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.3", "127.0.0.1"),
        ("[::]:0", "::1", "::1"),
        ("[::]:0", "127.0.0.1", "127.0.0.1"),
    ] {
        let (l, addr) = listener(&server, listens);
        let dst = SocketAddr::new(dials.parse().unwrap(), addr.port());
        let c = connect(&client, &dst);
        let (_, peer) = accept(&server, l).expect("came by the kernel");
        let kernel = std::net::TcpStream::connect(dst).unwrap().local_addr().unwrap().ip();
        let own = client.getsockname(c).unwrap().ip();
        assert_eq!((own, own.to_string().as_str()), (kernel, source), "{dials}");
        let shown = peer.ip().to_canonical();
        assert_eq!(shown, own);
    }
    client.shutdown_process();
    server.shutdown_process();
}

#[test]
fn nobody_serves_and_a_full_house_go_by_the_kernel() {
    let dir = Dir::new("kernel");
    let (alone, server, client) = (dir.runtime_with(0), dir.runtime_with(1), dir.runtime());
    // A process that keeps to itself neither publishes nor looks.
    let (l, addr) = listener(&alone, "127.0.0.1:0");
    let _c = connect(&client, &addr);
    assert!(accept(&alone, l).is_none());
    let (l, addr) = listener(&server, "127.0.0.1:0");
    let _c = connect(&alone, &addr);
    assert!(accept(&server, l).is_none());
    // The first has the only link.
    let _c = connect(&client, &addr);
    assert!(accept(&server, l).is_some());
    let _c = connect(&client, &addr);
    assert!(accept(&server, l).is_some());
    let third = dir.runtime();
    let _c = connect(&third, &addr);
    assert!(accept(&server, l).is_none());
    for rt in [alone, server, client, third] {
        rt.shutdown_process();
    }
}

#[test]
fn a_sleeping_side_is_woken_for_data_and_for_connections() {
    let dir = Dir::new("sleep");
    let (client, server) = (dir.runtime(), dir.runtime());
    let (l, addr) = listener(&server, "127.0.0.1:0");
    let echo = {
        let server = Arc::clone(&server);
        std::thread::spawn(move || {
            let (s, _) = accept(&server, l).expect("came by the kernel");
            for _ in 0..5 {
                let data = recv_some(&server, s);
                server.send(s, &data, 0).unwrap();
            }
        })
    };
    // Long enough that both sides and their TCP threads sleep.
    let pause = || std::thread::sleep(Duration::from_millis(60));
    pause();
    let c = connect(&client, &addr);
    for n in 0..5u8 {
        pause();
        client.send(c, &[n], 0).unwrap();
        assert_eq!(recv_some(&client, c), [n]);
    }
    echo.join().unwrap();
    let heard = peers(&server)[0]["bells_heard"].as_u64().unwrap();
    assert!(heard >= 4, "{heard}");
    client.shutdown_process();
    server.shutdown_process();
}

#[test]
fn a_runtime_that_ends_says_goodbye() {
    let dir = Dir::new("goodbye");
    let (client, server) = (dir.runtime(), dir.runtime());
    let (l, addr, _, s) = pair(&client, &server);
    client.shutdown_process();
    assert_eq!(recv_some(&server, s), b"");
    // And the next one meets the server anew.
    let next = dir.runtime();
    let c = connect(&next, &addr);
    let (s, _) = accept(&server, l).expect("came by the kernel");
    next.send(c, b"again", 0).unwrap();
    assert_eq!(recv_some(&server, s), b"again");
    next.shutdown_process();
    server.shutdown_process();
}
