//! Going on when user code panics, so that one panic hurts nobody but its cause.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The first panic of several steps, to go on with when all of them are done.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    /// Runs one step. Tells what it gives, unless it panics.
    pub(crate) fn run<R>(&mut self, step: impl FnOnce() -> R) -> Option<R> {
        // Whatever a step leaves half done is its own; the callers' state is whole between steps.
        match catch_unwind(AssertUnwindSafe(step)) {
            Ok(value) => Some(value),
            Err(panic) => {
                if self.0.is_none() {
                    self.0 = Some(panic);
                } else {
                    // Even dropping what was panicked with is user code; one panic is enough to report.
                    std::mem::forget(panic);
                }
                None
            }
        }
    }

    /// Goes on with the first panic, if there was one.
    pub(crate) fn resume(self) {
        if let Some(panic) = self.0 {
            resume_unwind(panic);
        }
    }
}
