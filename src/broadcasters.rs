//! The broadcasters of an agent server, and the routes among them.

use std::hash::Hash;

use crate::broadcaster::{Broadcaster, GenericBroadcaster};
use crate::error::EventResult;
use crate::protocol::{a2a, ag_ui, analytics, context, system};
use crate::router::{EventRouter, Route, Routed};
use crate::user_id::UserId;

/// AG-UI events, to users.
pub type AgUiBroadcaster = GenericBroadcaster<ag_ui::Event>;
/// A2A responses of v1.0, to users. For v0.3 see [`V0_3`](a2a::V0_3).
pub type A2ABroadcaster = GenericBroadcaster<a2a::StreamResponse>;
/// All of a user's AG-UI, A2A and system events, to users.
pub type ContextBroadcaster = GenericBroadcaster<context::Event>;
/// What happens on a site, to users.
pub type AnalyticsBroadcaster = GenericBroadcaster<analytics::Event>;

/// A broadcaster for each stream of a user: made once and passed down. Tests and tenants make their own.
///
/// # Examples
///
/// ```
/// use fanfare::{AgentRouter, EventBroadcasters, EventRouter, UserId};
/// use fanfare::protocol::ag_ui;
///
/// let streams = EventBroadcasters::new();
/// let router: AgentRouter = EventRouter::over(streams.clone());
///
/// let ann = UserId::from("ann");
/// let mut tab = streams.context.register(&ann, "tab-1")?;
/// let routed = router.route_ag_ui(&ann, &ag_ui::Event::step_started("plan"))?;
/// assert_eq!(routed.subscribers(), 1);
/// let Ok(fanfare::Item::Frame(frame)) = tab.try_recv() else { panic!() };
/// assert_eq!(frame.data(), r#"{"protocol":"agui","event":{"type":"STEP_STARTED","stepName":"plan"}}"#);
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct EventBroadcasters<K = UserId>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
{
    /// AG-UI events as they are.
    pub ag_ui: Broadcaster<ag_ui::Event, K>,
    /// A2A responses as they are.
    pub a2a: Broadcaster<a2a::StreamResponse, K>,
    /// AG-UI, A2A and system events, each wrapped with the name of its protocol.
    pub context: Broadcaster<context::Event, K>,
    /// Analytics.
    pub analytics: Broadcaster<analytics::Event, K>,
}

impl EventBroadcasters {
    /// Broadcasters to users, each with a hub of its own: without ids and history.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> Default for EventBroadcasters<K> {
    fn default() -> Self {
        Self {
            ag_ui: Broadcaster::default(),
            a2a: Broadcaster::default(),
            context: Broadcaster::default(),
            analytics: Broadcaster::default(),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> Clone for EventBroadcasters<K> {
    fn clone(&self) -> Self {
        Self {
            ag_ui: self.ag_ui.clone(),
            a2a: self.a2a.clone(),
            context: self.context.clone(),
            analytics: self.analytics.clone(),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> EventBroadcasters<K> {
    /// Closes the hubs of all: their connections end once they have read what was published before.
    ///
    /// # Panics
    ///
    /// If the waker of a connection panics: after all of its hub's were woken.
    pub fn close(&self) {
        self.ag_ui.hub().close();
        self.a2a.hub().close();
        self.context.hub().close();
        self.analytics.hub().close();
    }
}

/// An [`EventRouter`] over the streams of an agent server.
pub type AgentRouter<K = UserId> = EventRouter<AgentRoutes<K>>;

/// The broadcasters of an [`AgentRouter`], and the ways to them.
#[derive(Debug)]
pub struct AgentRoutes<K: Eq + Hash + Clone + Send + Sync + 'static> {
    broadcasters: EventBroadcasters<K>,
    ag_ui: Route<K>,
    a2a: Route<K>,
    system: Route<K>,
    analytics: Route<K>,
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> AgentRoutes<K> {
    fn new(broadcasters: EventBroadcasters<K>) -> EventResult<Self> {
        let context = |route: Route<K>, protocol: context::Protocol| {
            route.wrapped(&broadcasters.context, protocol.prefix(), context::SUFFIX)
        };
        let ag_ui = Route::new().bare(&broadcasters.ag_ui)?;
        let a2a = Route::new().bare(&broadcasters.a2a)?;
        Ok(Self {
            ag_ui: context(ag_ui, context::Protocol::AgUi)?,
            a2a: context(a2a, context::Protocol::A2a)?,
            system: context(Route::new(), context::Protocol::System)?,
            analytics: Route::new().bare(&broadcasters.analytics)?,
            broadcasters,
        })
    }
}

impl<K: Eq + Hash + Clone + Send + Sync + 'static> AgentRouter<K> {
    /// A router over these broadcasters.
    #[must_use]
    pub fn over(broadcasters: EventBroadcasters<K>) -> Self {
        match AgentRoutes::new(broadcasters) {
            Ok(routes) => Self::with_streams(routes),
            Err(error) => unreachable!("two streams, and short envelopes: {error}"),
        }
    }

    /// Where it routes to.
    #[must_use]
    pub fn broadcasters(&self) -> &EventBroadcasters<K> {
        &self.streams().broadcasters
    }

    /// To the AG-UI stream, and wrapped to the context stream.
    ///
    /// # Errors
    ///
    /// As [`route`](Self::route).
    pub fn route_ag_ui(&self, user: &K, event: &ag_ui::Event) -> EventResult<Routed> {
        self.route(user, event, &self.streams().ag_ui)
    }

    /// To the A2A stream, and wrapped to the context stream.
    ///
    /// # Errors
    ///
    /// As [`route`](Self::route).
    pub fn route_a2a(&self, user: &K, response: &a2a::StreamResponse) -> EventResult<Routed> {
        self.route(user, response, &self.streams().a2a)
    }

    /// Wrapped to the context stream.
    ///
    /// # Errors
    ///
    /// As [`route`](Self::route).
    pub fn route_system(&self, user: &K, event: &system::Event) -> EventResult<Routed> {
        self.route(user, event, &self.streams().system)
    }

    /// To the analytics stream.
    ///
    /// # Errors
    ///
    /// As [`route`](Self::route).
    pub fn route_analytics(&self, user: &K, event: &analytics::Event) -> EventResult<Routed> {
        self.route(user, event, &self.streams().analytics)
    }

    /// The way of [`route_ag_ui`](Self::route_ag_ui), to add streams to: that of one run, such as its response.
    pub fn ag_ui_route(&self) -> Route<K> {
        self.streams().ag_ui.clone()
    }

    /// The way of [`route_a2a`](Self::route_a2a), to add streams to: that of one task, such as its responses.
    pub fn a2a_route(&self) -> Route<K> {
        self.streams().a2a.clone()
    }
}
