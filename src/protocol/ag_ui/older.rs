//! The events of thinking, which AG-UI had before 1.0, as those of reasoning.

use super::Event;
use crate::protocol::wire;
use crate::protocol::{Json, Object};

/// The id that an event of thinking is read with, for it has none.
const ID: &str = "thinking";

/// Makes the event of reasoning of an event of thinking. The `title` of `THINKING_START` stays as an unknown field.
pub(super) fn upgrade<E: serde::de::Error>(older: &str, json: &Json) -> Result<Option<Json>, E> {
    let newer = match older {
        "THINKING_START" => "REASONING_START",
        "THINKING_TEXT_MESSAGE_START" => "REASONING_MESSAGE_START",
        "THINKING_TEXT_MESSAGE_CONTENT" => "REASONING_MESSAGE_CONTENT",
        "THINKING_TEXT_MESSAGE_END" => "REASONING_MESSAGE_END",
        "THINKING_END" => "REASONING_END",
        _ => return Ok(None),
    };
    let mut event: Object = wire::read(json.get())?;
    event.insert("type", newer);
    if event.get("messageId").is_none() {
        event.insert("messageId", ID);
    }
    Ok(Some(event.into()))
}

/// Tells the spans of thinking of one stream apart.
///
/// The `THINKING_*` events from before 1.0 have no ids, so each is read with the id `thinking`. This gives every span, and
/// every message, a number: `thinking-1` and so on. Other events stay as they are.
///
/// # Examples
///
/// ```
/// use fanfare::protocol::ag_ui::{Event, NumberThinking};
///
/// let mut number = NumberThinking::default();
/// let mut read = |json| -> Result<String, serde_json::Error> {
///     let mut event: Event = serde_json::from_str(json)?;
///     number.apply(&mut event);
///     serde_json::to_string(&event)
/// };
/// let start = read(r#"{"type":"THINKING_START"}"#)?;
/// assert_eq!(start, r#"{"type":"REASONING_START","messageId":"thinking-1"}"#);
/// let start = read(r#"{"type":"THINKING_TEXT_MESSAGE_START"}"#)?;
/// assert_eq!(start, r#"{"type":"REASONING_MESSAGE_START","role":"reasoning","messageId":"thinking-2"}"#);
/// let end = read(r#"{"type":"THINKING_END"}"#)?;
/// assert_eq!(end, r#"{"type":"REASONING_END","messageId":"thinking-1"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct NumberThinking {
    last: u64,
    span: u64,
    message: u64,
}

impl NumberThinking {
    /// Gives the event its id if it is one of thinking. The events of a stream come here in their order.
    pub fn apply(&mut self, event: &mut Event) {
        let (id, number) = match event {
            Event::ReasoningStart(start) => (&mut start.message_id, &mut self.span),
            Event::ReasoningMessageStart(start) => (&mut start.message_id, &mut self.message),
            Event::ReasoningMessageContent(content) => {
                return name(&mut content.message_id, self.message);
            }
            Event::ReasoningMessageEnd(end) => return name(&mut end.message_id, self.message),
            Event::ReasoningEnd(end) => return name(&mut end.message_id, self.span),
            _ => return,
        };
        if id == ID {
            self.last += 1;
            *number = self.last;
            name(id, self.last);
        }
    }
}

fn name(id: &mut String, number: u64) {
    if id == ID {
        *id = format!("{ID}-{number}");
    }
}
