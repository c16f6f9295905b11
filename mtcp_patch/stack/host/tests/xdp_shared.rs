//! A port that `XdpDevice` shares with the kernel's own listener, each test in a network namespace of
//! its own.
#![allow(clippy::unwrap_used, clippy::panic)] // that is how a test fails

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use common::*;
use mtcp_host::xdp::XdpDevice;

const LOCALS: [&str; 3] = ["127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080"];

/// A connection of the kernel's, both ends.
fn kernel_connection(listener: &TcpListener, local: SocketAddr) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect_timeout(&local, WAIT).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

fn talks((client, server): &mut (TcpStream, TcpStream)) {
    let mut said = [0; 5];
    client.set_read_timeout(Some(WAIT)).unwrap();
    server.set_read_timeout(Some(WAIT)).unwrap();
    client.write_all(b"hello").unwrap();
    server.read_exact(&mut said).unwrap();
    server.write_all(&said).unwrap();
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello");
}

/// One connection of ours, with the handshake's end.
fn our_connection(device: &mut XdpDevice, local: SocketAddr) -> TcpStream {
    let client = connecting(local);
    answer_syn(device, local);
    let client = client.join().unwrap().unwrap();
    expect(device, |t| t.flags == ACK && t.ack == 1001);
    client
}

#[test]
fn each_connection_stays_where_it_began() {
    if !privileged("each_connection_stays_where_it_began") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        for local in LOCALS.map(address) {
            let listener = TcpListener::bind(local).unwrap();
            let mut before = kernel_connection(&listener, local);
            device.share(local).unwrap();
            talks(&mut before);
            let mut beside = kernel_connection(&listener, local);
            device.take(local, 1).unwrap();
            let mut ours = our_connection(&mut device, local);
            let mut beyond = kernel_connection(&listener, local);
            ours.write_all(b"to us").unwrap();
            expect(&mut device, |t| t.payload == b"to us");
            for connection in [&mut before, &mut beside, &mut beyond] {
                talks(connection);
            }
            device.steer(local, false).unwrap();
            talks(&mut before);
            drop(kernel_connection(&listener, local));
        }
    });
}

#[test]
fn a_shared_wildcard_is_every_address_and_what_was_offered_can_be_taken_back() {
    if !privileged("a_shared_wildcard_is_every_address_and_what_was_offered_can_be_taken_back") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        let wildcard = address("0.0.0.0:8080");
        let listener = TcpListener::bind(wildcard).unwrap();
        device.share(wildcard).unwrap();
        assert_eq!(device.share(wildcard).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
        device.take(wildcard, 2).unwrap();
        drop(our_connection(&mut device, address("127.0.0.1:8080")));
        device.take(wildcard, 0).unwrap();
        talks(&mut kernel_connection(&listener, address("127.0.0.2:8080")));
        device.take(wildcard, 1).unwrap();
        drop(our_connection(&mut device, address("127.0.0.2:8080")));
        device.steer(wildcard, false).unwrap();
        assert_eq!(device.take(wildcard, 1).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    });
}

#[test]
fn what_was_ours_alone_can_be_shared_later() {
    if !privileged("what_was_ours_alone_can_be_shared_later") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        for local in LOCALS.map(address) {
            let listener = TcpListener::bind(local).unwrap();
            device.steer(local, true).unwrap();
            let mut ours = our_connection(&mut device, local);
            device.share_steered(local).unwrap();
            talks(&mut kernel_connection(&listener, local));
            ours.write_all(b"to us").unwrap();
            expect(&mut device, |t| t.payload == b"to us");
            device.steer(local, false).unwrap();
            let not_steered = device.share_steered(local).unwrap_err();
            assert_eq!(not_steered.raw_os_error(), Some(libc::ENOENT));
        }
    });
}

#[test]
fn what_the_kernel_does_not_know_is_ours_to_answer() {
    if !privileged("what_the_kernel_does_not_know_is_ours_to_answer") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        let local = address("127.0.0.1:8080");
        device.share(local).unwrap();
        // The kernel's listener has gone, and our connections live on.
        let listener = TcpListener::bind(local).unwrap();
        device.take(local, 1).unwrap();
        let mut ours = our_connection(&mut device, local);
        drop(listener);
        ours.write_all(b"still ours").unwrap();
        expect(&mut device, |t| t.payload == b"still ours");
        let refused = TcpStream::connect_timeout(&local, WAIT).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}
