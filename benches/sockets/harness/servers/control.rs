//! The control connection of servers that run on tasks or threads.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

use crate::harness::failure::{During as _, Failure};
use crate::harness::wire::{self, Command};

/// What a server does when it is told to.
pub(crate) trait Publish {
    fn publish(&self, topic: u32, payload: &str);

    /// How many connections each shard has, if there are shards.
    fn shards(&self) -> Vec<usize> {
        Vec::new()
    }
}

/// The answer to `line`, if it needs one.
fn obey(publish: &impl Publish, line: &str) -> Result<Option<String>, Failure> {
    match Command::parse(line.as_bytes()) {
        Some(Command::Publish {
            topic,
            number,
            bytes,
        }) => {
            publish.publish(topic, &wire::payload(number, bytes));
            Ok(None)
        }
        Some(Command::Shards) => {
            let counts: Vec<String> = publish.shards().iter().map(usize::to_string).collect();
            Ok(Some(format!("{}\n", counts.join(" "))))
        }
        None => Err(Failure::Protocol {
            line: line.to_owned(),
        }),
    }
}

/// Obeys one connection on a task, until it ends.
pub(crate) async fn on_task(listener: TcpListener, publish: impl Publish) -> Result<(), Failure> {
    listener
        .set_nonblocking(true)
        .during("accepting the control connection")?;
    let listener =
        tokio::net::TcpListener::from_std(listener).during("accepting the control connection")?;
    let (socket, _) = listener
        .accept()
        .await
        .during("accepting the control connection")?;
    let mut socket = tokio::io::BufReader::new(socket);
    let mut line = String::new();
    while socket
        .read_line(&mut line)
        .await
        .during("reading a command")?
        > 0
    {
        if let Some(answer) = obey(&publish, &line)? {
            socket
                .write_all(answer.as_bytes())
                .await
                .during("answering a command")?;
        }
        line.clear();
    }
    Ok(())
}

/// Obeys one connection on this thread, until it ends.
#[cfg_attr(
    not(feature = "reactor"),
    expect(dead_code, reason = "only the reactor's engine has no runtime")
)]
pub(crate) fn on_thread(listener: &TcpListener, publish: &impl Publish) -> Result<(), Failure> {
    let (socket, _) = listener
        .accept()
        .during("accepting the control connection")?;
    let mut answers = socket
        .try_clone()
        .during("accepting the control connection")?;
    let mut commands = BufReader::new(socket);
    let mut line = String::new();
    while commands.read_line(&mut line).during("reading a command")? > 0 {
        if let Some(answer) = obey(publish, &line)? {
            answers
                .write_all(answer.as_bytes())
                .during("answering a command")?;
        }
        line.clear();
    }
    Ok(())
}
