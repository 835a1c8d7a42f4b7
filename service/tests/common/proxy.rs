//! A TCP proxy on loopback that does to connections what networks and busy services do.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What becomes of one connection.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It is passed on.
    None,
    /// It is passed on, and cut after so many bytes of answers.
    Cut(usize),
    /// It is passed on, each piece of an answer so much later.
    Slow(Duration),
    /// The proxy itself answers the first request with this status, and closes.
    Status(u16),
    /// Nobody ever answers.
    Hang,
}

/// A running proxy.
pub struct Proxy {
    pub addr: SocketAddr,
    /// Connections so far.
    pub count: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Proxy {
    /// In front of `server`; `plan` says what becomes of connection number N, from 0.
    pub fn start(server: SocketAddr, plan: impl Fn(usize) -> Fault + Send + 'static) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port on loopback");
        let addr = listener.local_addr().expect("its number");
        let (count, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, end) = (Arc::clone(&count), Arc::clone(&ended));
        std::thread::spawn(move || {
            // Those that hang are kept here.
            let mut hanging = Vec::new();
            for client in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(client) = client else { continue };
                let number = counted.fetch_add(1, Ordering::Relaxed);
                match plan(number) {
                    Fault::Hang => hanging.push(client),
                    fault => {
                        std::thread::spawn(move || serve(client, server, fault));
                    }
                }
            }
        });
        Proxy { addr, count, ended }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.addr);
    }
}

fn serve(mut client: TcpStream, server: SocketAddr, fault: Fault) {
    if let Fault::Status(status) = fault {
        let mut head = [0; 16 << 10];
        let _ = client.read(&mut head);
        let body = "<Error><Code>InternalError</Code><Message>try again</Message></Error>";
        let answer = format!(
            "HTTP/1.1 {status} Trouble\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let _ = client.write_all(answer.as_bytes());
        let _ = client.shutdown(Shutdown::Write);
        // What the client still sends is read, or closing would reset the answer away.
        let _ = std::io::copy(&mut client, &mut std::io::sink());
        return;
    }
    let Ok(mut upstream) = TcpStream::connect(server) else { return };
    let (Ok(mut from), Ok(mut to)) = (client.try_clone(), upstream.try_clone()) else { return };
    let asking = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut left, wait) = match fault {
        Fault::Cut(after) => (after, None),
        Fault::Slow(wait) => (usize::MAX, Some(wait)),
        _ => (usize::MAX, None),
    };
    let mut buffer = [0; 8 << 10];
    while left > 0 {
        let Ok(filled) = upstream.read(&mut buffer) else { break };
        if filled == 0 {
            break;
        }
        if let Some(wait) = wait {
            std::thread::sleep(wait);
        }
        let passed = filled.min(left);
        if client.write_all(&buffer[..passed]).is_err() {
            break;
        }
        left -= passed;
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = upstream.shutdown(Shutdown::Both);
    let _ = asking.join();
}
