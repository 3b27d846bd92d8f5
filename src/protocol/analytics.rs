//! What happens on a site: sessions, page views, live figures.
//!
//! Every event has a `type` and a `timestamp`, and its fields beside them, in snake case. What is not known is written as
//! `null`. On the wire of Server-Sent Events they are unnamed.
//!
//! # Examples
//!
//! ```
//! use fanfare::protocol::Timestamp;
//! use fanfare::protocol::analytics::{Event, PageView};
//!
//! let at: Timestamp = "2026-01-01T00:00:00Z".parse()?;
//! let view = PageView::new("s1", "/pricing").referrer("https://example.com").timestamp(at);
//! assert_eq!(
//!     serde_json::to_string(&Event::from(view))?,
//!     r#"{"type":"PAGE_VIEW","timestamp":"2026-01-01T00:00:00Z","session_id":"s1","page_url":"/pricing","user_id":null,"content_id":null,"referrer":"https://example.com"}"#,
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::wire::{timed, union};

union! {
    /// Any event of a site.
    pub enum Event by "type" {
        /// A session begins.
        SessionStarted(SessionStarted) = "SESSION_STARTED",
        /// A session ends.
        SessionEnded(SessionEnded) = "SESSION_ENDED",
        /// A page was opened.
        PageView(PageView) = "PAGE_VIEW",
        /// How a reader gets on with a page.
        EngagementUpdate(EngagementUpdate) = "ENGAGEMENT_UPDATE",
        /// Figures of now.
        RealTimeStats(RealTimeStats) = "REAL_TIME_STATS",
        /// A sign of life.
        Heartbeat(Heartbeat) = "HEARTBEAT",
    }
}

impl Event {
    /// What goes to a hub.
    pub fn to_event(&self) -> crate::Event<'_, crate::Json<'_, Self>> {
        crate::Event::json(self)
    }
}

impl crate::ToSse for Event {
    /// Figures go on without the ones that were missed.
    const LAG_POLICY: crate::LagPolicy = crate::LagPolicy::Notify;

    fn to_sse(&self) -> crate::Event<'_, impl crate::Payload> {
        crate::Event::json(self)
    }
}

timed! {
    /// A session begins.
    SessionStarted = "SESSION_STARTED"
    required {
        /// The session.
        session_id: String = "session_id",
        /// Whether a program browses.
        is_bot: bool = "is_bot",
    }
    nullable {
        /// The kind of device.
        device_type: String = "device_type",
        /// The browser.
        browser: String = "browser",
        /// The operating system.
        os: String = "os",
        /// The country.
        country: String = "country",
        /// Where the visitor comes from.
        referrer_source: String = "referrer_source",
    }
}

timed! {
    /// A session ends.
    SessionEnded = "SESSION_ENDED"
    required {
        /// The session.
        session_id: String = "session_id",
        /// How long it was, in milliseconds.
        duration_ms: i64 = "duration_ms",
        /// Pages that were opened.
        page_count: i64 = "page_count",
        /// Requests that were made.
        request_count: i64 = "request_count",
    }
    nullable {}
}

timed! {
    /// A page was opened.
    PageView = "PAGE_VIEW"
    required {
        /// The session.
        session_id: String = "session_id",
        /// The page.
        page_url: String = "page_url",
    }
    nullable {
        /// The user, if known.
        user_id: String = "user_id",
        /// What the page shows.
        content_id: String = "content_id",
        /// The page before.
        referrer: String = "referrer",
    }
}

timed! {
    /// How a reader gets on with a page.
    EngagementUpdate = "ENGAGEMENT_UPDATE"
    required {
        /// The session.
        session_id: String = "session_id",
        /// The page.
        page_url: String = "page_url",
        /// How far it was scrolled.
        scroll_depth: i32 = "scroll_depth",
        /// How long it was open, in milliseconds.
        time_on_page_ms: i64 = "time_on_page_ms",
        /// Clicks on it.
        click_count: i32 = "click_count",
    }
    nullable {}
}

timed! {
    /// Figures of now.
    RealTimeStats = "REAL_TIME_STATS"
    required {
        /// Sessions that are active.
        active_sessions: i64 = "active_sessions",
        /// Users that are active.
        active_users: i64 = "active_users",
        /// Requests within the last minute.
        requests_per_minute: i64 = "requests_per_minute",
        /// Pages that were opened within the last five minutes.
        page_views_last_5m: i64 = "page_views_last_5m",
        /// Requests that programs made within the last five minutes.
        bot_requests_last_5m: i64 = "bot_requests_last_5m",
    }
    nullable {}
}

timed! {
    /// A sign of life. A stream of Server-Sent Events needs none: its heartbeats are comments.
    Heartbeat = "HEARTBEAT"
    required {}
    nullable {}
}
