//! Processes of this program that can be killed.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{self, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::common::BOUND;

const ROLE: &str = "FANFARE_STORM_ROLE";

#[derive(Debug)]
pub(crate) struct ServerOptions {
    pub(crate) reactor: bool,
    /// Whether its memory is limited.
    pub(crate) limited: bool,
    pub(crate) address: SocketAddr,
    /// Events that are there before the first client.
    pub(crate) ahead: u64,
}

#[derive(Debug)]
pub(crate) enum Role {
    Server(ServerOptions),
    Crowd { address: SocketAddr, count: usize },
}

impl Role {
    pub(crate) fn of_this_process() -> Option<Self> {
        let role = env::var(ROLE).ok()?;
        let words: Vec<_> = role.split(' ').collect();
        Some(match words[..] {
            ["crowd", address, count] => Self::Crowd {
                address: address.parse().unwrap(),
                count: count.parse().unwrap(),
            },
            [mode, address, ahead] => Self::Server(ServerOptions {
                reactor: mode.starts_with("reactor"),
                limited: mode.ends_with("-limited"),
                address: address.parse().unwrap(),
                ahead: ahead.parse().unwrap(),
            }),
            _ => panic!("{role:?} is no role"),
        })
    }
}

/// A child, killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    lines: Mutex<Receiver<String>>,
    address: Option<SocketAddr>,
}

impl Child {
    fn start(role: &str) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_process", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().unwrap();
        let (told, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            process,
            lines: Mutex::new(lines),
            address: None,
        }
    }

    /// A server without a past.
    pub(crate) fn server(mode: &str) -> Self {
        Self::server_at("127.0.0.1:0".parse().unwrap(), mode, 0)
    }

    /// A server that has published so many events before anybody comes.
    pub(crate) fn server_at(address: SocketAddr, mode: &str, ahead: u64) -> Self {
        let mut this = Self::start(&format!("{mode} {address} {ahead}"));
        let line = this.line("listening");
        this.address = Some(line.parse().unwrap());
        this
    }

    /// Connections that ask for the topic `crowd`.
    pub(crate) fn crowd(address: SocketAddr, count: usize) -> Self {
        Self::start(&format!("crowd {address} {count}"))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.unwrap()
    }

    /// What follows `word` on the next line that begins with it.
    pub(crate) fn line(&self, word: &str) -> String {
        let lines = self.lines.lock().unwrap();
        loop {
            let line = lines.recv_timeout(BOUND).unwrap();
            // The test harness does not end its line before the test does.
            if let Some((_, rest)) = line.split_once(&format!("{word}: ")) {
                return rest.to_owned();
            }
        }
    }

    pub(crate) fn command(&self, command: &str) {
        let mut stdin = self.process.stdin.as_ref().unwrap();
        writeln!(stdin, "{command}").unwrap();
    }

    /// As `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.begin_to_kill();
        self.process.wait().unwrap();
    }

    /// Its sockets close while it goes.
    pub(crate) fn begin_to_kill(&mut self) {
        self.process.kill().unwrap();
    }

    /// Subscriptions that the server has.
    pub(crate) fn subscribers(&self) -> usize {
        let mut socket = TcpStream::connect(self.address()).unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        socket
            .write_all(b"GET /subscribers HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer.rsplit("\r\n").next().unwrap().parse().unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
