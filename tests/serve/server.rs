//! A server to test: one router with a route for each thing that can happen.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fanfare::{Event, EventId, Hub, PeerAddr, Serve, ServeError, Sse};
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};

use crate::client::Client;

/// What handlers share with the tests.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) hub: Hub,
    /// Each permit lets one waiting handler go on.
    pub(crate) gate: Arc<Semaphore>,
    /// Handlers that wait now.
    pub(crate) waiting: Arc<AtomicUsize>,
}

impl App {
    fn new() -> Self {
        Self {
            hub: Hub::builder().history(true).build().unwrap(),
            gate: Arc::new(Semaphore::new(0)),
            waiting: Arc::default(),
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    async fn pass_gate(&self) {
        /// Counts a handler out, also when it is dropped while it waits.
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        self.gate.acquire().await.unwrap().forget();
    }
}

async fn events(
    State(app): State<App>,
    Path(topic): Path<String>,
    headers: HeaderMap,
) -> Result<Sse, StatusCode> {
    let last = headers.get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()?.parse::<EventId>().ok());
    let subscription = match last {
        Some(id) => app.hub.subscribe_from(topic.as_str(), id),
        None => app.hub.subscribe(topic.as_str()),
    };
    Ok(subscription
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?
        .into_sse())
}

/// Only of what begins with a `w`.
async fn chosen(State(app): State<App>, Path(topic): Path<String>) -> Result<Sse, StatusCode> {
    let subscription = app.hub.subscribe(topic.as_str());
    let subscription = subscription.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let chosen = subscription.filter(|frame| frame.data().starts_with('w'));
    Ok(chosen.into_sse())
}

async fn secret(state: State<App>, path: Path<String>, headers: HeaderMap) -> Response {
    if headers.contains_key("authorization") {
        events(state, path, headers).await.into_response()
    } else {
        (StatusCode::UNAUTHORIZED, "who are you?").into_response()
    }
}

async fn slow(state: State<App>, path: Path<String>, headers: HeaderMap) -> Response {
    state.pass_gate().await;
    secret(state, path, headers).await
}

async fn zipped(state: State<App>, path: Path<String>, headers: HeaderMap) -> Response {
    let mut response = events(state, path, headers).await.into_response();
    let identity = HeaderValue::from_static("identity");
    response
        .headers_mut()
        .insert(header::CONTENT_ENCODING, identity);
    response
}

async fn panics(Path(when): Path<String>) -> StatusCode {
    if when == "later" {
        tokio::task::yield_now().await;
    }
    panic!("as asked");
}

/// More than the buffers of two sockets hold, and every line another one.
pub(crate) fn big_page() -> String {
    use std::fmt::Write as _;

    let mut page = String::new();
    for number in 0..1_000_000 {
        writeln!(page, "line {number}").unwrap();
    }
    page
}

/// Answers before it has the request's body, and takes the body afterwards.
async fn early(body: Body) -> StatusCode {
    tokio::spawn(axum::body::to_bytes(body, usize::MAX));
    StatusCode::NO_CONTENT
}

/// Switches to a protocol that says everything back.
async fn echo_upgrade(mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let (mut read, mut write) = tokio::io::split(&mut io);
        drop(tokio::io::copy(&mut read, &mut write).await);
    });
    let headers = [(header::UPGRADE, "echo"), (header::CONNECTION, "upgrade")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Another body in the place of a stream, everything else as it was.
async fn replaced(response: Response) -> Response {
    response.map(|_| Body::from("replaced"))
}

fn router(app: App) -> Router {
    let replacing = Router::new()
        .route("/replaced/{topic}", get(events))
        .layer(map_response(replaced));
    let cors = from_fn(
        |request: Request, next: axum::middleware::Next| async move {
            let mut response = next.run(request).await;
            let any = HeaderValue::from_static("*");
            response
                .headers_mut()
                .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
            Ok::<_, Infallible>(response)
        },
    );
    Router::new()
        .route("/", get(|| async { "the page" }))
        .route("/big", get(|| async { big_page() }))
        .route("/early", post(early))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route(
            "/peer/{any}",
            get(|PeerAddr(peer): PeerAddr| async move { peer.to_string() }),
        )
        .route("/upgrade", get(echo_upgrade))
        .route("/events/{topic}", get(events))
        .route("/task/{topic}", get(events))
        .route("/chosen/{topic}", get(chosen))
        .route("/secret/{topic}", get(secret))
        .route("/slow/{topic}", get(slow))
        .route("/zipped/{topic}", get(zipped))
        .route("/panics/{when}", get(panics))
        .merge(replacing)
        .layer(cors)
        .with_state(app)
}

/// A running server, ended when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) app: App,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<Result<(), ServeError>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(|server| server)
    }

    pub(crate) fn start_with(
        set_up: impl FnOnce(Serve<Router>) -> Serve<Router> + Send + 'static,
    ) -> Self {
        let app = App::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ended_in, ended) = oneshot::channel();
        let router = router(app.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let mut server = fanfare::serve(listener, router);
            for route in [
                "events", "secret", "slow", "zipped", "panics", "replaced", "peer", "chosen",
            ] {
                server = server.stream(format!("/{route}/{{topic}}"));
            }
            let server = set_up(server).with_graceful_shutdown(async {
                drop(stopped.await);
            });
            drop(ended_in.send(server.await));
        });
        Self {
            address,
            app,
            runtime: Some(runtime),
            stop: Some(stop),
            ended,
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    pub(crate) fn publish(&self, topic: &str, data: &str) {
        let event = Event::text(data);
        assert!(self.app.hub.publish(topic, event).is_ok());
    }

    /// Returns when the acceptor has seen everything that was sent to it before: it is one thread, and what came first
    /// is looked at first.
    pub(crate) fn settle(&self) {
        let mut client = self.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }

    /// Asks the server to end.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// What the server's future gave.
    pub(crate) fn ended(&mut self) -> Result<(), ServeError> {
        crate::common::block_on(&mut self.ended).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.app.hub.close();
        if let Some(runtime) = self.runtime.take() {
            if thread::panicking() {
                runtime.shutdown_background();
            } else {
                drop(runtime);
            }
        }
    }
}
