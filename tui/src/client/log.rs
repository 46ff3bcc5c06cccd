//! Fetches output: follows it, reads pages of it, searches in it on the server, and writes it into
//! files. What comes faster than it can be shown is left out here, so that neither the console nor
//! its memory falls behind.

mod follow;
mod read;
mod save;
mod search;

use tokio::{
    sync::mpsc::Sender,
    task::{AbortHandle, JoinSet},
};

use super::link::Link;
use crate::{
    event::Event,
    log::messages::{Answer, Numbered, Request},
};

/// What is being fetched for the log that is shown.
#[derive(Default)]
pub(super) struct Fetching {
    following: Option<AbortHandle>,
    reading: Option<AbortHandle>,
    searching: Option<AbortHandle>,
}

/// Where answers go to.
#[derive(Clone)]
struct Asker {
    log: u64,
    number: u64,
    events: Sender<Event>,
}

/// The console does not listen any more.
struct Gone;

impl Asker {
    async fn tell(&self, answer: Answer) -> Result<(), Gone> {
        self.events.send(Event::Log(self.log, self.number, answer)).await.map_err(|_| Gone)
    }

    /// Tells it unless much else is to be told already: for what comes again soon, or more of it.
    fn tell_now(&self, answer: Answer) {
        if self.has_room() {
            // When it is full after all, the next one will tell more.
            let _full = self.events.try_send(Event::Log(self.log, self.number, answer));
        }
    }

    /// The console keeps up with what it is told.
    fn has_room(&self) -> bool {
        const FEW: usize = 4;
        self.events.max_capacity() - self.events.capacity() < FEW
    }
}

impl Fetching {
    /// Does what is asked for, in a task of its own.
    pub(super) fn take(
        &mut self,
        tasks: &mut JoinSet<()>,
        link: Link,
        log: u64,
        asked: Numbered,
        events: Sender<Event>,
    ) {
        let Numbered { number, source, request } = asked;
        let asker = Asker { log, number, events: events.clone() };
        let (place, handle) = match request {
            Request::Follow(begin) => {
                let task = follow::follow(link, source, begin, asker);
                (&mut self.following, tasks.spawn(async { drop(task.await) }))
            }
            Request::Unfollow => return end(&mut self.following),
            Request::Read { offset, length } => {
                let task = read::read(link, source, offset, length, asker);
                (&mut self.reading, tasks.spawn(async { drop(task.await) }))
            }
            Request::Search { texts, offset, backwards } => {
                let search = search::Search { texts, offset, backwards };
                let task = search::search(link, source, search, asker);
                (&mut self.searching, tasks.spawn(async { drop(task.await) }))
            }
            Request::StopSearch => return end(&mut self.searching),
            // What was begun is written, also when another log is shown meanwhile.
            Request::SaveAll(path) => {
                drop(tasks.spawn(save::all(link, source, path, asker, events)));
                return;
            }
            Request::SaveText(path, text) => {
                drop(tasks.spawn(save::text(path, text, asker, events)));
                return;
            }
        };
        end(place);
        *place = Some(handle);
    }

    /// Fetches nothing any more.
    pub(super) fn stop(&mut self) {
        end(&mut self.following);
        end(&mut self.reading);
        end(&mut self.searching);
    }
}

fn end(task: &mut Option<AbortHandle>) {
    if let Some(task) = task.take() {
        task.abort();
    }
}

#[cfg(test)]
mod tests;
