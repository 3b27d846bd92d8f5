//! How the protocols' types are declared: a table of fields in, a struct that reads and writes itself out.
//!
//! [`object!`] makes a struct of a table of fields, [`union!`] an enum of such structs that a field tells apart, [`names!`]
//! an enum of strings. What `serde_derive` would make differs in three ways that are needed here: unknown fields are kept
//! without buffering the known ones, an error names the fields on the way to it, and [`Json`](super::Json) can stand below
//! a field that tells kinds apart.
//!
//! **Invariants.** W1: an object writes its discriminator, then its fields in the order of the table, then the rest. W2: a
//! key of the table never gets into the rest. W3: a field that is absent is not written, and nothing else is left out.

#![cfg_attr(
    not(feature = "protocols"),
    allow(
        dead_code,
        unused_imports,
        unused_macros,
        reason = "each protocol needs its part of this"
    )
)]

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::json::Object;

/// How a field's value is read and written. [`Plain`] is as its type does; others check what the type does not say.
pub(crate) trait Wire<T> {
    /// Whether it is written at all, and not only read.
    const WRITTEN: bool = true;
    /// Whether the value stands for nothing, and is not written.
    fn is_absent(_: &T) -> bool {
        false
    }
    fn write<S: Serializer>(value: &T, field: &'static str, to: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error>;
}

/// As the type does.
#[derive(Debug)]
pub(crate) struct Plain;

impl<T: Serialize + DeserializeOwned> Wire<T> for Plain {
    fn write<S: Serializer>(value: &T, _: &'static str, to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        T::deserialize(from)
    }
}

/// A value that is being written by its [`Wire`].
#[derive(Debug)]
pub(crate) struct Out<'a, T, W> {
    value: &'a T,
    field: &'static str,
    wire: PhantomData<W>,
}

impl<T, W: Wire<T>> Serialize for Out<'_, T, W> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        W::write(self.value, self.field, to)
    }
}

/// A value that was read by its [`Wire`].
#[derive(Debug)]
pub(crate) struct In<T, W> {
    value: T,
    wire: PhantomData<W>,
}

impl<'de, T, W: Wire<T>> Deserialize<'de> for In<T, W> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        W::read(from).map(|value| Self {
            value,
            wire: PhantomData,
        })
    }
}

/// Writes a field that is always there.
pub(crate) fn put<T, W: Wire<T>, M: SerializeMap>(
    map: &mut M,
    field: &'static str,
    value: &T,
) -> Result<(), M::Error> {
    let wire = PhantomData::<W>;
    map.serialize_entry(field, &Out { value, field, wire })
}

/// Writes a field if it is there.
pub(crate) fn put_some<T, W: Wire<T>, M: SerializeMap>(
    map: &mut M,
    field: &'static str,
    value: Option<&T>,
) -> Result<(), M::Error> {
    match value {
        Some(value) if W::WRITTEN && !W::is_absent(value) => put::<T, W, M>(map, field, value),
        _ => Ok(()),
    }
}

/// Reads the value of a field. It must not have been there before.
pub(crate) fn take<'de, T, W: Wire<T>, A: MapAccess<'de>>(
    into: &mut Option<T>,
    field: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    once(into.is_some(), field)?;
    let read = map.next_value::<In<T, W>>();
    *into = Some(read.map_err(|error| below(field, &error))?.value);
    Ok(())
}

/// Reads the value of a field that may be `null`, which is absent.
pub(crate) fn take_some<'de, T, W: Wire<T>, A: MapAccess<'de>>(
    into: &mut Option<T>,
    field: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    once(into.is_some(), field)?;
    let read = map.next_value::<Option<In<T, W>>>();
    let read = read.map_err(|error| below(field, &error))?;
    *into = read
        .map(|read| read.value)
        .filter(|value| !W::is_absent(value));
    Ok(())
}

fn once<E: serde::de::Error>(seen: bool, field: &'static str) -> Result<(), E> {
    if seen {
        return Err(E::duplicate_field(field));
    }
    Ok(())
}

/// The error of a field, with the field's name before it.
pub(crate) fn below<E: serde::de::Error>(field: &str, error: &dyn fmt::Display) -> E {
    E::custom(format_args!("{field}: {error}"))
}

/// Reads a field that has to have one value.
pub(crate) fn take_tag<'de, A: MapAccess<'de>>(
    field: &'static str,
    wanted: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    let tag: Key<'de> = map.next_value().map_err(|error| below(field, &error))?;
    if *tag.0 != *wanted {
        let error = format_args!("unknown value `{}`, expected `{wanted}`", tag.0);
        return Err(below(field, &error));
    }
    Ok(())
}

/// What an object has beside the fields of its table.
pub(crate) trait Rest: Default {
    /// Reads the field `key`, which is not in the table.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: Key<'de>, map: &mut A) -> Result<(), A::Error>;
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

/// Unknown fields.
impl Rest for Object {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: Key<'de>, map: &mut A) -> Result<(), A::Error> {
        let value = map.next_value().map_err(|error| below(&key.0, &error))?;
        self.push(key.0.into_owned(), value);
        Ok(())
    }

    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        self.iter()
            .try_for_each(|(key, value)| map.serialize_entry(key, value))
    }
}

/// A string that is looked at and, if possible, not copied.
#[derive(Debug)]
pub(crate) struct Key<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }

        from.deserialize_str(Text)
    }
}

/// What the field that tells kinds apart holds in `json`.
pub(crate) fn tag<'a, E: serde::de::Error>(
    json: &'a str,
    field: &'static str,
) -> Result<Cow<'a, str>, E> {
    struct Find(&'static str);

    impl<'de> Visitor<'de> for Find {
        type Value = Cow<'de, str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cow<'de, str>, A::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<Key<'_>>()? {
                if key.0 == self.0 {
                    once(found.is_some(), self.0)?;
                    let value = map.next_value::<Key<'de>>();
                    found = Some(value.map_err(|error| below(self.0, &error))?);
                } else {
                    let IgnoredAny = map.next_value()?;
                }
            }
            let found = found.ok_or_else(|| A::Error::missing_field(self.0))?;
            Ok(found.0)
        }
    }

    let mut json = serde_json::Deserializer::from_str(json);
    json.deserialize_map(Find(field))
        .map_err(|error| of_part(&error))
}

/// Reads a part of a larger text.
pub(crate) fn read<T: DeserializeOwned, E: serde::de::Error>(json: &str) -> Result<T, E> {
    serde_json::from_str(json).map_err(|error| of_part(&error))
}

/// An error within a part of the text: its line and column count from the part's begin and would mislead.
fn of_part<E: serde::de::Error>(error: &serde_json::Error) -> E {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    E::custom(&text[..end])
}

/// The [`Wire`] of a field.
macro_rules! via {
    () => {
        $crate::protocol::wire::Plain
    };
    ($wire:ident) => {
        $wire
    };
}

/// A struct that is an object on the wire.
///
/// `{ "field": "value" }` behind the name are fields that have one value each: the discriminator. `preset` fields get a value in
/// `new`, `required` ones are its arguments. `optional` ones are
/// left out when absent, `nullable` ones are written as `null` then, `ignored` ones read over. `as` names the [`Wire`] of a field. The `rest` is what
/// the table does not have, a [`Rest`].
macro_rules! object {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $({ $($tag:literal: $value:literal),+ })?
        $(preset { $( $(#[$pmeta:meta])* $pf:ident: $pt:ty = $pk:literal by $preset:expr, )* })?
        required { $( $(#[$rmeta:meta])* $rf:ident: $rt:ty $(as $rw:ident)? = $rk:literal, )* }
        $(nullable { $( $(#[$nmeta:meta])* $nf:ident: $nt:ty = $nk:literal, )* })?
        optional { $( $(#[$ometa:meta])* $of:ident: $ot:ty $(as $ow:ident)? = $ok:literal, )* }
        $(ignored { $($ignored:literal)|+ })?
        rest $(#[$xmeta:meta])* $xf:ident: $xt:ty
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        #[allow(
            clippy::struct_field_names,
            reason = "the names are those of the wire"
        )]
        pub struct $name {
            $($( $(#[$pmeta])* pub $pf: $pt, )*)?
            $( $(#[$rmeta])* pub $rf: $rt, )*
            $($( $(#[$nmeta])* pub $nf: Option<$nt>, )*)?
            $( $(#[$ometa])* pub $of: Option<$ot>, )*
            $(#[$xmeta])*
            pub $xf: $xt,
        }

        #[allow(
            clippy::new_without_default,
            reason = "some have nothing that must be there, and are rarely left empty"
        )]
        impl $name {
            /// Makes one of what must be there.
            #[must_use]
            pub fn new($( $rf: impl Into<$rt> ),*) -> Self {
                Self {
                    $($( $pf: $preset, )*)?
                    $( $rf: $rf.into(), )*
                    $($( $nf: None, )*)?
                    $( $of: None, )*
                    $xf: Default::default(),
                }
            }
            $($(
                #[doc = concat!("Sets `", $pk, "`.")]
                #[must_use]
                pub fn $pf(mut self, $pf: impl Into<$pt>) -> Self {
                    self.$pf = $pf.into();
                    self
                }
            )*)?
            $($(
                #[doc = concat!("Sets `", $nk, "`.")]
                #[must_use]
                pub fn $nf(mut self, $nf: impl Into<$nt>) -> Self {
                    self.$nf = Some($nf.into());
                    self
                }
            )*)?
            $(
                #[doc = concat!("Sets `", $ok, "`.")]
                #[must_use]
                pub fn $of(mut self, $of: impl Into<$ot>) -> Self {
                    self.$of = Some($of.into());
                    self
                }
            )*
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                use $crate::protocol::wire::Rest as _;
                let mut map = to.serialize_map(None)?;
                $($( ::serde::ser::SerializeMap::serialize_entry(&mut map, $tag, $value)?; )+)?
                $($(
                    $crate::protocol::wire::put::<_, $crate::protocol::wire::Plain, _>(&mut map, $pk, &self.$pf)?;
                )*)?
                $( $crate::protocol::wire::put::<_, $crate::protocol::wire::via!($($rw)?), _>(&mut map, $rk, &self.$rf)?; )*
                $($(
                    $crate::protocol::wire::put::<_, $crate::protocol::wire::Plain, _>(&mut map, $nk, &self.$nf)?;
                )*)?
                $( $crate::protocol::wire::put_some::<_, $crate::protocol::wire::via!($($ow)?), _>(&mut map, $ok, self.$of.as_ref())?; )*
                self.$xf.write(&mut map)?;
                ::serde::ser::SerializeMap::end(map)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                use $crate::protocol::wire::Rest as _;

                struct Fields;

                impl<'de> ::serde::de::Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str(concat!("an object, ", stringify!($name)))
                    }

                    fn visit_map<A: ::serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$name, A::Error> {
                        $($( let mut $pf: Option<$pt> = None; )*)?
                        $( let mut $rf: Option<$rt> = None; )*
                        $($( let mut $nf: Option<$nt> = None; )*)?
                        $( let mut $of: Option<$ot> = None; )*
                        let mut rest = <$xt>::default();
                        while let Some(key) = map.next_key::<$crate::protocol::wire::Key<'de>>()? {
                            match &*key.0 {
                                $($( $tag => $crate::protocol::wire::take_tag($tag, $value, &mut map)?, )+)?
                                $($( $pk => $crate::protocol::wire::take::<_, $crate::protocol::wire::Plain, _>(&mut $pf, $pk, &mut map)?, )*)?
                                $( $rk => $crate::protocol::wire::take::<_, $crate::protocol::wire::via!($($rw)?), _>(&mut $rf, $rk, &mut map)?, )*
                                $($( $nk => $crate::protocol::wire::take_some::<_, $crate::protocol::wire::Plain, _>(&mut $nf, $nk, &mut map)?, )*)?
                                $( $ok => $crate::protocol::wire::take_some::<_, $crate::protocol::wire::via!($($ow)?), _>(&mut $of, $ok, &mut map)?, )*
                                $( $($ignored)|+ => {
                                    let ::serde::de::IgnoredAny = map.next_value()?;
                                })?
                                _ => rest.take(key, &mut map)?,
                            }
                        }
                        Ok($name {
                            $($( $pf: $pf.ok_or_else(|| <A::Error as ::serde::de::Error>::missing_field($pk))?, )*)?
                            $( $rf: $rf.ok_or_else(|| <A::Error as ::serde::de::Error>::missing_field($rk))?, )*
                            $($( $nf, )*)?
                            $( $of, )*
                            $xf: rest,
                        })
                    }
                }

                from.deserialize_map(Fields)
            }
        }
    };
}

/// An object with a type and the time when it was made: an [`object!`].
macro_rules! timed {
    (
        $(#[$meta:meta])*
        $name:ident = $type:literal
        required { $( $(#[$rmeta:meta])* $rf:ident: $rt:ty = $rk:literal, )* }
        nullable { $( $(#[$nmeta:meta])* $nf:ident: $nt:ty = $nk:literal, )* }
        $(optional { $($optional:tt)* })?
    ) => {
        $crate::protocol::wire::object! {
            $(#[$meta])*
            pub struct $name { "type": $type }
            preset {
                /// When it happened. `new` sets it to now.
                timestamp: $crate::protocol::Timestamp = "timestamp" by $crate::protocol::Timestamp::now(),
            }
            required { $( $(#[$rmeta])* $rf: $rt = $rk, )* }
            nullable { $( $(#[$nmeta])* $nf: $nt = $nk, )* }
            optional { $($($optional)*)? }
            rest
            /// Unknown fields.
            extra: $crate::protocol::Object
        }
    };
}

/// An enum of objects that a field tells apart. One whose kind is unknown is kept as it is,
/// unless what comes `after` makes a known one of it.
macro_rules! union {
    (
        $(#[$meta:meta])*
        pub enum $name:ident by $tag:literal $(after $older:path)? {
            $( $(#[$vmeta:meta])* $variant:ident($inner:ty) = $value:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$vmeta])* $variant($inner), )*
            /// One of a kind that is not known here, written as it was read.
            Other($crate::protocol::Json),
        }

        $(
            impl From<$inner> for $name {
                fn from(inner: $inner) -> Self {
                    Self::$variant(inner)
                }
            }
        )*

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                match self {
                    $( Self::$variant(inner) => ::serde::Serialize::serialize(inner, to), )*
                    Self::Other(json) => ::serde::Serialize::serialize(json, to),
                }
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                use $crate::protocol::wire;
                let json: $crate::protocol::Json = ::serde::Deserialize::deserialize(from)?;
                let tag = wire::tag(json.get(), $tag)?;
                match &*tag {
                    $(
                        $value => wire::read(json.get())
                            .map(Self::$variant)
                            .map_err(|error: D::Error| wire::below(&tag, &error)),
                    )*
                    _ => {
                        $( if let Some(newer) = $older(&tag, &json)? {
                            return wire::read(newer.get());
                        } )?
                        Ok(Self::Other(json))
                    }
                }
            }
        }
    };
}

/// An enum of strings. Others are refused.
macro_rules! names {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident = $value:literal $(| $also:literal)*, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$vmeta])* $variant, )*
        }

        impl $name {
            /// What it is called on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $value, )*
                }
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let name: $crate::protocol::wire::Key<'de> = ::serde::Deserialize::deserialize(from)?;
                match &*name.0 {
                    $( $value $(| $also)* => Ok(Self::$variant), )*
                    other => Err(::serde::de::Error::unknown_variant(other, &[$($value),*])),
                }
            }
        }
    };
}

pub(crate) use {names, object, timed, union, via};
