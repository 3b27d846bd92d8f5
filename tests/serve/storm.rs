//! Many clients that come, say a part of it, and go, while others are served.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;

use crate::common::eventually;
use crate::server::Server;

/// Small, and the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

const REQUESTS: [&str; 8] = [
    "GET /events/storm HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /secret/storm HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /slow/storm HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
    "GET /events/storm HTTP/1.1\r\nHo st: h\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /events/storm HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /slow/storm HTTP/1.1\r\nHost: h\r\n\r\n",
];

#[test]
fn nothing_is_left_of_those_who_go() {
    const THREADS: usize = 4;
    const CLIENTS: usize = 150;
    let server = Server::start_with(|server| server.max_heads(16));
    let mut stays = server.connect();
    stays.get("/events/storm");
    stays.until("");
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let server = &server;
            scope.spawn(move || {
                let mut random = Random(seed as u64);
                for _ in 0..CLIENTS {
                    let request = REQUESTS[random.below(REQUESTS.len())];
                    let mut client = TcpStream::connect(server.address).unwrap();
                    // All of it or a part, in up to three pieces. The server may close at any point.
                    let whole = random.below(2) == 0;
                    let end = if whole {
                        request.len()
                    } else {
                        random.below(request.len())
                    };
                    let mut rest = &request[..end];
                    for _ in 0..2 {
                        let (piece, other) = rest.split_at(random.below(rest.len() + 1));
                        drop(client.write_all(piece.as_bytes()));
                        rest = other;
                    }
                    drop(client.write_all(rest.as_bytes()));
                    if whole && !request.contains("slow") {
                        // The answer has begun, and stays unread: the connection is reset.
                        drop(client.peek(&mut [0]));
                    }
                }
            });
        }
        for number in 0..CLIENTS {
            server.publish("storm", &number.to_string());
        }
    });
    for number in 0..CLIENTS {
        stays.until(&format!("data: {number}"));
    }
    eventually("the handlers of those who went", || {
        server.app.waiting() == 0
    });
    eventually("the subscriptions of those who went", || {
        server.app.hub.subscribers() == 1
    });
    server.settle();
}
