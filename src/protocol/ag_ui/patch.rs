//! Changes of a JSON document: RFC 6902.

use super::checks::Pointer;
use crate::protocol::wire::{object, union};
use crate::protocol::{Json, Object};

union! {
    /// A change of a JSON document (`JsonPatchOperation`; [RFC 6902](https://www.rfc-editor.org/rfc/rfc6902), section 4).
    ///
    /// Whether it can be applied to the document is for those to see who have it.
    pub enum PatchOperation by "op" {
        /// Puts a value in.
        Add(AddOperation) = "add",
        /// Takes a value out.
        Remove(RemoveOperation) = "remove",
        /// Puts another value in a value's place.
        Replace(ReplaceOperation) = "replace",
        /// Takes a value out and puts it in elsewhere.
        Move(MoveOperation) = "move",
        /// Puts a value in elsewhere too.
        Copy(CopyOperation) = "copy",
        /// Refuses the patch unless a value is there.
        Test(TestOperation) = "test",
    }
}

impl PatchOperation {
    /// Puts `value` in at `path`.
    #[must_use]
    pub fn add(path: impl Into<String>, value: impl Into<Json>) -> Self {
        AddOperation::new(path, value).into()
    }

    /// Takes out what is at `path`.
    #[must_use]
    pub fn remove(path: impl Into<String>) -> Self {
        RemoveOperation::new(path).into()
    }

    /// Puts `value` in the place of what is at `path`.
    #[must_use]
    pub fn replace(path: impl Into<String>, value: impl Into<Json>) -> Self {
        ReplaceOperation::new(path, value).into()
    }
}

macro_rules! operation {
    ($(#[$meta:meta])* $name:ident = $op:literal { $($field:tt)* }) => {
        object! {
            $(#[$meta])*
            pub struct $name { "op": $op }
            required { $($field)* }
            optional {}
            rest
            /// Unknown fields, which who applies it ignores.
            extra: Object
        }
    };
}

operation! {
    /// Puts a value in (section 4.1).
    AddOperation = "add" {
        /// Where, a JSON Pointer.
        path: String as Pointer = "path",
        /// What.
        value: Json = "value",
    }
}

operation! {
    /// Takes a value out (section 4.2).
    RemoveOperation = "remove" {
        /// Where, a JSON Pointer.
        path: String as Pointer = "path",
    }
}

operation! {
    /// Puts another value in a value's place (section 4.3).
    ReplaceOperation = "replace" {
        /// Where, a JSON Pointer.
        path: String as Pointer = "path",
        /// What.
        value: Json = "value",
    }
}

operation! {
    /// Takes a value out and puts it in elsewhere (section 4.4).
    MoveOperation = "move" {
        /// From where, a JSON Pointer.
        from: String as Pointer = "from",
        /// To where, a JSON Pointer.
        path: String as Pointer = "path",
    }
}

operation! {
    /// Puts a value in elsewhere too (section 4.5).
    CopyOperation = "copy" {
        /// From where, a JSON Pointer.
        from: String as Pointer = "from",
        /// To where, a JSON Pointer.
        path: String as Pointer = "path",
    }
}

operation! {
    /// Refuses the patch unless a value is there (section 4.6).
    TestOperation = "test" {
        /// Where, a JSON Pointer.
        path: String as Pointer = "path",
        /// What has to be there.
        value: Json = "value",
    }
}
