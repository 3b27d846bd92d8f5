//! What fields of AG-UI demand of their values and their types do not say. It is checked when they are read and when
//! they are written.

use std::fmt;

use serde::de::{Error as _, Unexpected, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

use super::run::Interrupt;
use crate::protocol::Json;
use crate::protocol::wire::Wire;

/// Any JSON but `null`, which is as good as absent.
#[derive(Debug)]
pub(super) struct NonNull;

impl Wire<Json> for NonNull {
    fn is_absent(value: &Json) -> bool {
        value.is_null()
    }

    fn write<S: Serializer>(value: &Json, _: &'static str, to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Json, D::Error> {
        Json::deserialize(from)
    }
}

/// An integer that JavaScript holds exactly: at most 2^53 - 1 in magnitude. Also read where it is written with a
/// fraction of zero or an exponent.
#[derive(Debug)]
pub(super) struct SafeInteger;

/// As [`SafeInteger`], and not below zero.
#[derive(Debug)]
pub(super) struct SafeCount;

const MAX_SAFE: i64 = (1 << 53) - 1;

macro_rules! integer {
    ($wire:ident, $min:expr, $limits:literal) => {
        impl Wire<i64> for $wire {
            fn write<S: Serializer>(
                value: &i64,
                field: &'static str,
                to: S,
            ) -> Result<S::Ok, S::Error> {
                if !($min..=MAX_SAFE).contains(value) {
                    let text = format_args!("{field}: {value} is not {}", $limits);
                    return Err(S::Error::custom(text));
                }
                to.serialize_i64(*value)
            }

            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
                let value = from.deserialize_i64(Integer)?;
                if !($min..=MAX_SAFE).contains(&value) {
                    let text = format_args!("{value} is not {}", $limits);
                    return Err(D::Error::custom(text));
                }
                Ok(value)
            }
        }
    };
}

integer!(
    SafeInteger,
    -MAX_SAFE,
    "an integer between -(2^53 - 1) and 2^53 - 1"
);
integer!(SafeCount, 0, "an integer between 0 and 2^53 - 1");

struct Integer;

impl Visitor<'_> for Integer {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer")
    }

    fn visit_i64<E>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<i64, E> {
        let refuse = |_| E::invalid_value(Unexpected::Unsigned(value), &self);
        i64::try_from(value).map_err(refuse)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "within the limits that are checked here both are exact"
    )]
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<i64, E> {
        if value.fract() == 0.0 && value.abs() <= MAX_SAFE as f64 {
            return Ok(value as i64);
        }
        Err(E::invalid_value(Unexpected::Float(value), &self))
    }
}

/// A JSON Pointer ([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)): empty, or tokens each after a slash, in which `~`
/// stands before `0` or `1` only.
#[derive(Debug)]
pub(super) struct Pointer;

impl Pointer {
    fn check(text: &str) -> bool {
        let mut after_tildes = text.split('~').skip(1);
        (text.is_empty() || text.starts_with('/'))
            && after_tildes.all(|rest| rest.starts_with(['0', '1']))
    }
}

impl Wire<String> for Pointer {
    fn write<S: Serializer>(text: &String, field: &'static str, to: S) -> Result<S::Ok, S::Error> {
        if !Self::check(text) {
            let error = format_args!("{field}: `{text}` is no JSON Pointer");
            return Err(S::Error::custom(error));
        }
        text.serialize(to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        let text = String::deserialize(from)?;
        if !Self::check(&text) {
            let error = format_args!("`{text}` is no JSON Pointer");
            return Err(D::Error::custom(error));
        }
        Ok(text)
    }
}

/// A list that may not be empty.
#[derive(Debug)]
pub(super) struct AtLeastOne;

impl Wire<Vec<Interrupt>> for AtLeastOne {
    fn write<S: Serializer>(
        list: &Vec<Interrupt>,
        field: &'static str,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        if list.is_empty() {
            let error = format_args!("{field}: is empty, expected at least one");
            return Err(S::Error::custom(error));
        }
        list.serialize(to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Interrupt>, D::Error> {
        let list = Vec::deserialize(from)?;
        if list.is_empty() {
            return Err(D::Error::custom("is empty, expected at least one"));
        }
        Ok(list)
    }
}
