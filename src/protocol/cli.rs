//! The output of a program that runs elsewhere, line by line or piece by piece.
//!
//! On the wire of Server-Sent Events every event is named `cli`.
//!
//! # Examples
//!
//! ```
//! use fanfare::protocol::cli::Event;
//!
//! let json = serde_json::to_string(&Event::stdout("done\n"))?;
//! assert_eq!(json, r#"{"type":"stdout","data":"done\n"}"#);
//! # Ok::<(), serde_json::Error>(())
//! ```

use super::Object;
use super::wire::{object, union};

/// The name of the events on the wire of Server-Sent Events.
pub const EVENT_NAME: &str = "cli";

union! {
    /// Any event of a program.
    pub enum Event by "type" {
        /// The program runs.
        Started(Started) = "started",
        /// It wrote to its standard output.
        Stdout(Stdout) = "stdout",
        /// It wrote to its standard error.
        Stderr(Stderr) = "stderr",
        /// It has ended.
        ExitCode(ExitCode) = "exit_code",
        /// It could not be started, or was lost.
        Error(Error) = "error",
    }
}

impl Event {
    /// The program runs under a process id.
    #[must_use]
    pub fn started(pid: u32) -> Self {
        Started::new(pid).into()
    }

    /// It wrote to its standard output.
    #[must_use]
    pub fn stdout(data: impl Into<String>) -> Self {
        Stdout::new(data).into()
    }

    /// It wrote to its standard error.
    #[must_use]
    pub fn stderr(data: impl Into<String>) -> Self {
        Stderr::new(data).into()
    }

    /// It has ended with a code.
    #[must_use]
    pub fn exit_code(code: i32) -> Self {
        ExitCode::new(code).into()
    }

    /// It could not be started, or was lost.
    #[must_use]
    pub fn error(message: impl Into<String>) -> Self {
        Error::new(message).into()
    }

    /// What goes to a hub, with the name [`EVENT_NAME`].
    pub fn to_event(&self) -> crate::Event<'_, crate::Json<'_, Self>> {
        crate::Event::json(self).name(EVENT_NAME)
    }
}

impl crate::ToSse for Event {
    fn to_sse(&self) -> crate::Event<'_, impl crate::Payload> {
        crate::Event::json(self).name(EVENT_NAME)
    }
}

macro_rules! output {
    ($(#[$meta:meta])* $name:ident = $type:literal { $($field:tt)* }) => {
        object! {
            $(#[$meta])*
            pub struct $name { "type": $type }
            required { $($field)* }
            optional {}
            rest
            /// Unknown fields.
            extra: Object
        }
    };
}

output! {
    /// The program runs.
    Started = "started" {
        /// Its process id.
        pid: u32 = "pid",
    }
}

output! {
    /// It wrote to its standard output.
    Stdout = "stdout" {
        /// What it wrote.
        data: String = "data",
    }
}

output! {
    /// It wrote to its standard error.
    Stderr = "stderr" {
        /// What it wrote.
        data: String = "data",
    }
}

output! {
    /// It has ended.
    ExitCode = "exit_code" {
        /// With this code.
        code: i32 = "code",
    }
}

output! {
    /// It could not be started, or was lost.
    Error = "error" {
        /// Why, for people.
        message: String = "message",
    }
}
