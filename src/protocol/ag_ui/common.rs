//! What every event may carry.

use serde::de::MapAccess;
use serde::ser::SerializeMap;

use super::checks::{NonNull, SafeInteger};
use crate::protocol::wire::{self, Key, Plain, Rest};
use crate::protocol::{Json, Object};

/// What every event may carry, whatever its type (`BaseEvent`), and the fields that this version does not know.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Common {
    /// When it happened: an integer of at most 2^53 - 1 in magnitude, by convention in milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// About the event. A `null` below a key is data; the key `ag-ui` is the protocol's own.
    pub metadata: Option<Object>,
    /// The event of the framework that this one was made of: any JSON but `null`.
    pub raw_event: Option<Json>,
    /// Unknown fields of the event. The official client takes them and warns.
    pub extra: Object,
}

impl Rest for Common {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: Key<'de>, map: &mut A) -> Result<(), A::Error> {
        match &*key.0 {
            "timestamp" => {
                wire::take_some::<_, SafeInteger, _>(&mut self.timestamp, "timestamp", map)
            }
            "metadata" => wire::take_some::<_, Plain, _>(&mut self.metadata, "metadata", map),
            "rawEvent" => wire::take_some::<_, NonNull, _>(&mut self.raw_event, "rawEvent", map),
            _ => self.extra.take(key, map),
        }
    }

    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        wire::put_some::<_, SafeInteger, _>(map, "timestamp", self.timestamp.as_ref())?;
        wire::put_some::<_, Plain, _>(map, "metadata", self.metadata.as_ref())?;
        wire::put_some::<_, NonNull, _>(map, "rawEvent", self.raw_event.as_ref())?;
        self.extra.write(map)
    }
}
