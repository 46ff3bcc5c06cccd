//! The only part that knows the API's calls. It carries out intents, each in a task of its own, and
//! tells what came of them as events; nothing in here waits for the terminal, and the terminal waits
//! for nothing in here.

mod actions;
mod link;
mod log;
mod pages;
mod watch;

use std::{panic, time::Duration};

use baton_client::{ClientError, Endpoint, Patience, retry};
use baton_proto::v1::WhoAmIRequest;
use tokio::{
    sync::mpsc::{Sender, UnboundedReceiver},
    task::{JoinError, JoinSet},
};

use self::{link::Link, log::Fetching};
use crate::event::{Event, Intent};

/// How long a console goes on trying to reach a cluster: for as long as it is open.
const FOR_EVER: Patience = Patience(Duration::from_secs(365 * 24 * 3600));

/// Carries out `orders` until there can be no more of them.
pub(crate) async fn serve(
    endpoint: Endpoint,
    mut orders: UnboundedReceiver<Intent>,
    events: Sender<Event>,
) {
    let link = Link::new(endpoint);
    let mut tasks = JoinSet::new();
    let mut watching = JoinSet::new();
    let mut fetching = Fetching::default();
    tasks.spawn(who_am_i(link.clone(), events.clone()));
    loop {
        let intent = tokio::select! {
            intent = orders.recv() => intent,
            Some(ended) = tasks.join_next() => {
                pass_on_panic(ended);
                continue;
            }
            Some(ended) = watching.join_next() => {
                pass_on_panic(ended);
                continue;
            }
        };
        let (link, events) = (link.clone(), events.clone());
        match intent {
            None => return,
            Some(Intent::Watch(number, wants)) => {
                // What was watched before ends with its tasks.
                watching = JoinSet::new();
                watch::start(&mut watching, &link, number, *wants, &events);
            }
            Some(Intent::OlderJobs(number, request)) => {
                tasks.spawn(pages::jobs(link, number, *request, events));
            }
            Some(Intent::OlderEvents(number, request)) => {
                tasks.spawn(pages::events(link, number, *request, events));
            }
            Some(Intent::Log(log, asked)) => fetching.take(&mut tasks, link, log, asked, events),
            Some(Intent::StopLog) => fetching.stop(),
            Some(Intent::Act(list)) => {
                tasks.spawn(actions::carry_out(link, list, events));
            }
            Some(Intent::Copy(_) | Intent::Mouse(_) | Intent::Quit) => {}
        }
    }
}

/// A fault in a task is one of the console.
fn pass_on_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(cause) = error.try_into_panic()
    {
        panic::resume_unwind(cause);
    }
}

/// Finds out what is allowed.
async fn who_am_i(link: Link, events: Sender<Event>) {
    let asked = retry(
        FOR_EVER,
        |_| (),
        || async {
            Ok(link.connection().await?.fleet().who_am_i(WhoAmIRequest {}).await?.into_inner())
        },
    );
    let event = match asked.await {
        Ok(answer) => Event::WhoAmI(answer),
        Err(error) => Event::Told(Err(told(&error))),
    };
    // The console is gone when nobody hears it.
    let _heard = events.send(event).await;
}

/// An error in one line.
fn told(error: &ClientError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
