//! The client's `Last-Event-ID` in a request.

use http::HeaderMap;

use crate::resume::LastEventId;

const HEADER: &str = "last-event-id";
const PARAMETER: &str = "lastEventId";

impl LastEventId {
    /// The id of a request: its header, or where there is none the parameter `lastEventId` of its query. The header says what came
    /// last; the query is as old as the page.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::LastEventId;
    ///
    /// let mut headers = http::HeaderMap::new();
    /// let query = Some("room=1&lastEventId=00c0ffee00c0ffee-42");
    /// assert_eq!(LastEventId::of_request(&headers, query).id().map(|id| id.offset()), Some(42));
    /// headers.insert("last-event-id", "00c0ffee00c0ffee-43".parse()?);
    /// assert_eq!(LastEventId::of_request(&headers, query).id().map(|id| id.offset()), Some(43));
    /// # Ok::<(), http::header::InvalidHeaderValue>(())
    /// ```
    #[must_use]
    pub fn of_request(headers: &HeaderMap, query: Option<&str>) -> Self {
        if let Some(header) = headers.get(HEADER) {
            return Self::parse(header.as_bytes());
        }
        let parameters = query.unwrap_or_default().split('&');
        let mut named = parameters.filter_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            (name == PARAMETER).then_some(value)
        });
        // An id has no letter that is written otherwise in a query.
        Self::parse(named.next().unwrap_or_default().as_bytes())
    }
}

#[cfg(feature = "axum")]
impl<S: Sync> axum_core::extract::FromRequestParts<S> for LastEventId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        _: &S,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self::of_request(&parts.headers, parts.uri.query()))
    }
}
