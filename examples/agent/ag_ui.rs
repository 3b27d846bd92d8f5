//! `POST /agent`: a run over AG-UI.
//!
//! A run has the id that its client gives it. Whoever posts an id that is known gets that run, from its beginning: a second
//! tab, or a client that has lost its connection and asks again.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use fanfare::UserId;
use fanfare::protocol::ag_ui::{Interrupt, RunAgentInput};

use crate::app::App;
use crate::contexts::Added;
use crate::error::ApiError;
use crate::request::{Asked, JsonBody, name};
use crate::run::Run;
use crate::script;

pub(crate) async fn run(
    State(app): State<App>,
    asked: Asked,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let input: RunAgentInput = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad_request(
            "invalid_input",
            format!("the body is no RunAgentInput: {error}"),
        )
    })?;
    name("threadId", &input.thread_id)?;
    name("runId", &input.run_id)?;
    match enter(&app, &asked.user, &input)? {
        Entered::Known(run) => run.attach(&app).await,
        Entered::New(run, interrupts) => {
            let prompt = script::prompt(&input);
            app.prompted(&asked.user, &input.thread_id, &prompt, Added::Message)?;
            // Attached before the run begins, so that there is somebody who listens.
            let response = run.attach(&app).await?;
            let script = script::run(&input, &interrupts);
            let pace = asked.pace.unwrap_or(app.pace());
            tokio::spawn(run.perform(app, script, pace));
            Ok(response)
        }
    }
}

enum Entered {
    New(Arc<Run>, Vec<Interrupt>),
    Known(Arc<Run>),
}

/// The run of the input's id. A new one must answer what its thread waits for, and takes the interrupts with it.
fn enter(app: &App, user: &UserId, input: &RunAgentInput) -> Result<Entered, ApiError> {
    let mut runs = app.runs();
    if let Some(known) = runs.get(&input.run_id) {
        if !known.is_of(user, &input.thread_id) {
            let message = format!(
                "run {} is another thread's, or another user's",
                input.run_id
            );
            return Err(ApiError::conflict("run_taken", message));
        }
        return Ok(Entered::Known(known));
    }
    let waiting =
        runs.find(|run| run.is_of(user, &input.thread_id) && !run.interrupts().is_empty());
    let interrupts = waiting
        .as_ref()
        .map(|run| run.interrupts())
        .unwrap_or_default();
    check_answers(input, &interrupts)?;
    let run = Run::new(app, user, &input.thread_id, &input.run_id)?;
    runs.add(Arc::clone(&run)).map_err(|full| {
        let message = format!("{} runs are under way, which is the limit", full.limit);
        ApiError::too_many("too_many_runs", message)
    })?;
    if let Some(waiting) = waiting {
        waiting.settle();
    }
    Ok(Entered::New(run, interrupts))
}

/// Every open interrupt has to be answered, and nothing else.
fn check_answers(input: &RunAgentInput, interrupts: &[Interrupt]) -> Result<(), ApiError> {
    let answers = input.resume.as_deref().unwrap_or_default();
    let answered = |it: &&Interrupt| answers.iter().any(|answer| answer.interrupt_id == it.id);
    if let Some(open) = interrupts.iter().find(|it| !answered(it)) {
        let message = format!("the thread waits for an answer to interrupt {}", open.id);
        return Err(ApiError::conflict("interrupted", message));
    }
    let asked = |id: &String| interrupts.iter().any(|interrupt| interrupt.id == *id);
    if let Some(answer) = answers.iter().find(|answer| !asked(&answer.interrupt_id)) {
        let message = format!(
            "interrupt {} is not open in this thread",
            answer.interrupt_id
        );
        return Err(ApiError::conflict("no_such_interrupt", message));
    }
    Ok(())
}
