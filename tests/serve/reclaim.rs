//! The socket of an upgraded connection, from every server that may have had it, to the reactor.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fanfare::{Event, Hub, Reactor, ReclaimError, reclaim};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_service::Service as _;

use crate::client::Client;
use crate::common::{self, eventually};

#[derive(Clone)]
struct App {
    hub: Hub,
    reactor: Reactor,
}

/// Hands the connection to the reactor, which says first what the client has said early.
async fn events(State(app): State<App>, mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (socket, early) = reclaim(upgrade.await.unwrap()).unwrap();
        let sse = app.hub.subscribe("t").unwrap().into_sse();
        let first = Bytes::from([b"<", &*early, b">\n"].concat());
        app.reactor.adopt(socket, first, sse).unwrap();
    });
    let headers = [(header::UPGRADE, "events"), (header::CONNECTION, "upgrade")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

const SERVERS: [&str; 5] = ["fanfare, stream", "fanfare", "axum", "hyper-util", "hyper"];

async fn start(server: &str, router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    match server {
        // Also as a streaming route: an upgrade is hyper's in any case.
        "fanfare, stream" => {
            tokio::spawn(
                fanfare::serve(listener, router)
                    .stream("/events")
                    .into_future(),
            );
        }
        "fanfare" => {
            tokio::spawn(fanfare::serve(listener, router).into_future());
        }
        "axum" => {
            tokio::spawn(axum::serve(listener, router).into_future());
        }
        other => {
            let by_util = other == "hyper-util";
            tokio::spawn(async move {
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    let router = router.clone();
                    let service = service_fn(move |request: hyper::Request<Incoming>| {
                        router.clone().call(request.map(Body::new))
                    });
                    let io = TokioIo::new(socket);
                    tokio::spawn(async move {
                        if by_util {
                            let builder = auto::Builder::new(TokioExecutor::new());
                            drop(builder.serve_connection_with_upgrades(io, service).await);
                        } else {
                            let builder = hyper::server::conn::http1::Builder::new();
                            let connection = builder.serve_connection(io, service);
                            drop(connection.with_upgrades().await);
                        }
                    });
                }
            });
        }
    }
    address
}

#[test]
fn the_socket_of_an_upgrade_goes_to_the_reactor() {
    let runtime = Runtime::new().unwrap();
    for server in SERVERS {
        let app = {
            let _inside = runtime.enter();
            App {
                hub: Hub::new(),
                reactor: Reactor::builder().shards(1).build().unwrap(),
            }
        };
        let router = Router::new()
            .route("/", get(|| async { "the page" }))
            .route("/events", get(events))
            .with_state(app.clone());
        let address = runtime.block_on(start(server, router));
        for (pages, early) in [(0, ""), (1, ""), (0, "early"), (2, "early")] {
            let mut client = Client::connect(address);
            let upgrade = format!(
                "GET /events HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: events\r\n\r\n{early}"
            );
            // In one packet, and in the order in which it was asked for.
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(pages) + &upgrade);
            for _ in 0..pages {
                assert_eq!(client.answer().body, "the page", "{server}");
            }
            assert_eq!(client.head().status, 101, "{server}");
            assert_eq!(client.line(), format!("<{early}>"), "{server}");
            client.until("");
            eventually("its place", || app.reactor.connections() == 1);
            let event = Event::text("one");
            assert!(app.hub.publish("t", event).is_ok());
            client.until("data: one");
            // Nobody else reads from it, or holds it open.
            drop(client);
            eventually("its end", || app.reactor.connections() == 0);
            assert_eq!(app.hub.subscribers(), 0);
        }
        app.reactor.shutdown();
    }
}

/// A large piece of what the client has sent early is not in hyper's buffer: it comes from the socket.
#[test]
fn no_early_byte_is_lost() {
    let runtime = Runtime::new().unwrap();
    let take = |mut request: Request| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (socket, early) = reclaim(upgrade.await.unwrap()).unwrap();
            let mut socket = tokio::net::TcpStream::from_std(socket).unwrap();
            let mut all = early.to_vec();
            socket.read_to_end(&mut all).await.unwrap();
            socket.write_all(&all).await.unwrap();
        });
        let headers = [(header::UPGRADE, "echo"), (header::CONNECTION, "upgrade")];
        (StatusCode::SWITCHING_PROTOCOLS, headers)
    };
    for server in SERVERS {
        let router = Router::new().route("/events", get(take));
        let address = runtime.block_on(start(server, router));
        for length in [1, 5_000, 20_000, 300_000] {
            let early: String = ('a'..='w').cycle().take(length).collect();
            let mut client = Client::connect(address);
            client.send(format!(
                "GET /events HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n{early}"
            ));
            client.shut_down(std::net::Shutdown::Write);
            assert_eq!(client.head().status, 101, "{server}");
            assert!(client.rest() == early, "{server}, {length} bytes");
        }
    }
}

#[test]
fn what_is_no_socket_comes_back() {
    let runtime = Runtime::new().unwrap();
    let (client, io) = tokio::io::duplex(1024);
    let (upgraded_in, mut upgraded) = tokio::sync::mpsc::channel(1);
    runtime.spawn(async move {
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let upgrade = hyper::upgrade::on(&mut request);
            let upgraded_in = upgraded_in.clone();
            tokio::spawn(async move { upgraded_in.send(upgrade.await.unwrap()).await });
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            async { Ok::<_, Infallible>(answer) }
        });
        let builder = hyper::server::conn::http1::Builder::new();
        let connection = builder.serve_connection(TokioIo::new(io), service);
        connection.with_upgrades().await.unwrap();
    });
    let talk = async move {
        let mut client = client;
        let request = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly ";
        client.write_all(request).await.unwrap();
        let Err(ReclaimError::NotTcp(upgraded)) = reclaim(upgraded.recv().await.unwrap()) else {
            panic!("a pipe is no socket");
        };
        client.write_all(b"late").await.unwrap();
        let mut all = [0; 10];
        let mut upgraded = TokioIo::new(upgraded);
        upgraded.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"early late");
    };
    runtime.block_on(async { tokio::time::timeout(common::BOUND, talk).await.unwrap() });
}
