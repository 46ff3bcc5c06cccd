//! The network: messages that may be lost, doubled, delayed and overtaken (Raft's and
//! the clients'), and calls whose streams keep their order, as HTTP/2 does, until they
//! break. Links can be cut, each direction on its own.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::mpsc;

use crate::{host::HostId, trace::Trace};

/// A call over a link that carries nothing ends after this, on both sides.
const KEEPALIVE: Duration = Duration::from_millis(2_000);

type Delivery = Box<dyn FnOnce() + Send>;

/// How messages fare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// Milliseconds that a message takes, at least and at most.
    pub delay: (u64, u64),
    /// How many of a thousand are lost, where they can be.
    pub lost: u32,
    /// How many of a thousand arrive twice, where they can.
    pub doubled: u32,
}

impl Weather {
    /// Quick and safe.
    pub const FAIR: Self = Self { delay: (1, 4), lost: 0, doubled: 0 };
    /// Slow, and one in twenty is lost.
    pub const FOUL: Self = Self { delay: (1, 120), lost: 50, doubled: 20 };
}

/// The other side is gone, or the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection broke")]
pub struct Broken;

/// The network. Clones are the same.
#[derive(Clone)]
pub struct Network(Arc<Mutex<Links>>);

struct Links {
    now: Duration,
    random: fastrand::Rng,
    trace: Trace,
    weather: Weather,
    /// Links that are cut, and by how many faults.
    cut: BTreeMap<(HostId, HostId), u32>,
    /// Messages on their way, by when they arrive.
    messages: BTreeMap<(Duration, u64), Message>,
    calls: BTreeMap<u64, Call>,
    last: u64,
    harmed: u64,
}

struct Message {
    from: HostId,
    to: HostId,
    label: String,
    deliver: Delivery,
}

/// A call: two streams.
struct Call {
    ends: [HostId; 2],
    /// On their way to each end.
    frames: [VecDeque<Frame>; 2],
    /// Each end has had all that it will get.
    over: [bool; 2],
    /// Tell an end that it broke; none when its process is gone.
    breaks: [Option<Delivery>; 2],
    silent_since: Option<Duration>,
}

struct Frame {
    due: Duration,
    label: String,
    deliver: Delivery,
    last: bool,
}

impl Network {
    /// A network in fair weather.
    #[must_use]
    pub fn new(random: fastrand::Rng, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Links {
            now: Duration::ZERO,
            random,
            trace,
            weather: Weather::FAIR,
            cut: BTreeMap::new(),
            messages: BTreeMap::new(),
            calls: BTreeMap::new(),
            last: 0,
            harmed: 0,
        })))
    }

    /// From now on messages fare like this.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Nothing comes from one host to another until as many [`Network::mend`]s.
    pub fn cut(&self, from: HostId, to: HostId) {
        *self.lock().cut.entry((from, to)).or_default() += 1;
    }

    /// Undoes one [`Network::cut`].
    pub fn mend(&self, from: HostId, to: HostId) {
        let mut links = self.lock();
        if let Some(times) = links.cut.get_mut(&(from, to)) {
            *times -= 1;
            if *times == 0 {
                links.cut.remove(&(from, to));
            }
        }
    }

    /// How often a message was lost, held up by a cut link, or at the mercy of foul
    /// weather, so far.
    #[must_use]
    pub fn harmed(&self) -> u64 {
        self.lock().harmed
    }

    /// Sends one message, which may get lost. `label` says what it is.
    pub fn send(
        &self,
        from: HostId,
        to: HostId,
        label: &str,
        deliver: impl Fn() + Send + Sync + 'static,
    ) {
        let mut links = self.lock();
        let (lost, doubled) = (links.weather.lost, links.weather.doubled);
        if links.random.u32(..1_000) < lost || links.cut.contains_key(&(from, to)) {
            links.harmed += 1;
            return;
        }
        let deliver = Arc::new(deliver);
        let copies = if links.random.u32(..1_000) < doubled { 2 } else { 1 };
        for _ in 0..copies {
            let (at, number) = (links.arrival(), links.number());
            let deliver = Arc::clone(&deliver);
            let message =
                Message { from, to, label: label.to_owned(), deliver: Box::new(move || deliver()) };
            links.messages.insert((at, number), message);
        }
    }

    /// Opens a call of `from` to `to`, and gives the caller's end. The other end is given
    /// to `accept` when the call arrives.
    pub fn call<Q: Send + 'static, A: Send + 'static>(
        &self,
        from: HostId,
        to: HostId,
        label: &str,
        accept: impl FnOnce(End<A, Q>) + Send + 'static,
    ) -> End<Q, A> {
        let (to_called, requests) = mpsc::unbounded_channel();
        let (to_caller, answers) = mpsc::unbounded_channel();
        let (break_called, break_caller) = (to_called.clone(), to_caller.clone());
        let id = {
            let mut links = self.lock();
            let id = links.number();
            let breaks: [Option<Delivery>; 2] = [
                Some(Box::new(move || drop(break_caller.send(Arrived::Broken)))),
                Some(Box::new(move || drop(break_called.send(Arrived::Broken)))),
            ];
            links.calls.insert(id, Call { ends: [from, to], breaks, ..Call::default() });
            id
        };
        let wire = |to| Wire { network: self.clone(), id, to };
        let called =
            End { sender: Sender { wire: wire(0), into: to_caller }, receiver: Receiver(requests) };
        wire(1).push(format!("call {label}"), false, Box::new(move || accept(called)));
        End { sender: Sender { wire: wire(1), into: to_called }, receiver: Receiver(answers) }
    }

    /// A process has ended: all its calls break. The other ends learn it now if the
    /// system of its host tells them, else when nothing comes any more.
    pub fn ended(&self, host: HostId, told: bool) {
        let mut links = self.lock();
        let ids: Vec<u64> = links
            .calls
            .iter()
            .filter(|(_, call)| call.ends.contains(&host))
            .map(|(id, _)| *id)
            .collect();
        let mut gone = Vec::new();
        for id in ids {
            let now = links.now;
            let Some(call) = links.calls.get_mut(&id) else { continue };
            let own = usize::from(call.ends[0] != host);
            call.breaks[own] = None;
            gone.push(std::mem::take(&mut call.frames[own]));
            // Seen as cut from here on.
            call.silent_since = Some(if told { now.saturating_sub(KEEPALIVE) } else { now });
        }
        drop(links);
        // What ends with a frame may speak to the network.
        drop(gone);
    }

    /// What arrives up to `now`, in order.
    pub fn arrivals(&self, now: Duration) -> Vec<Delivery> {
        let mut links = self.lock();
        links.now = now;
        let mut due: Vec<Delivery> = Vec::new();
        while let Some(entry) = links.messages.first_entry()
            && entry.key().0 <= now
        {
            let message = entry.remove();
            if links.cut.contains_key(&(message.from, message.to)) {
                links.harmed += 1;
                due.push(Box::new(move || drop(message)));
                continue;
            }
            let Message { from, to, label, deliver } = message;
            links.trace.line(now, format_args!("{from} > {to} {label}"));
            due.push(deliver);
        }
        let ids: Vec<u64> = links.calls.keys().copied().collect();
        for id in ids {
            links.serve_call(id, now, &mut due);
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Call {
    fn default() -> Self {
        Self {
            ends: [HostId::Clients; 2],
            frames: Default::default(),
            over: [false; 2],
            breaks: Default::default(),
            silent_since: None,
        }
    }
}

impl Links {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn arrival(&mut self) -> Duration {
        let (least, most) = self.weather.delay;
        self.harmed += u64::from(self.weather != Weather::FAIR);
        self.now + Duration::from_millis(self.random.u64(least..=most))
    }

    fn serve_call(&mut self, id: u64, now: Duration, due: &mut Vec<Delivery>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let half_dead = call.breaks.iter().any(Option::is_none);
        let mut silent = half_dead;
        for end in [0, 1] {
            let (to, from) = (call.ends[end], call.ends[1 - end]);
            if self.cut.contains_key(&(from, to)) {
                silent = true;
                self.harmed += u64::from(call.frames[end].iter().any(|frame| frame.due <= now));
                continue;
            }
            while call.frames[end].front().is_some_and(|frame| frame.due <= now) {
                let Some(frame) = call.frames[end].pop_front() else { break };
                self.trace.line(now, format_args!("{from} > {to} {}", frame.label));
                call.over[end] |= frame.last;
                due.push(frame.deliver);
            }
        }
        if call.over == [true, true] {
            let over = self.calls.remove(&id);
            due.push(Box::new(move || drop(over)));
            return;
        }
        if !silent {
            call.silent_since = None;
            return;
        }
        let since = *call.silent_since.get_or_insert(now);
        if now.saturating_sub(since) >= KEEPALIVE {
            let [caller, called] = call.ends;
            self.trace.line(now, format_args!("{caller} = {called} broken"));
            if let Some(Call { breaks, frames, .. }) = self.calls.remove(&id) {
                due.extend(breaks.into_iter().flatten());
                // What ends with a frame may speak to the network, which is locked here.
                due.push(Box::new(move || drop(frames)));
            }
        }
    }
}

/// The way to one end of a call.
struct Wire {
    network: Network,
    id: u64,
    to: usize,
}

impl Wire {
    fn push(&self, label: String, last: bool, deliver: Delivery) {
        let mut links = self.network.lock();
        let arrival = links.arrival();
        let Some(call) = links.calls.get_mut(&self.id) else { return };
        let frames = &mut call.frames[self.to];
        let due = frames.back().map_or(arrival, |before| before.due.max(arrival));
        frames.push_back(Frame { due, label, deliver, last });
    }
}

/// One end of a call.
pub struct End<S: Send + 'static, R> {
    /// What goes to the other end.
    pub sender: Sender<S>,
    /// What comes from there.
    pub receiver: Receiver<R>,
}

/// To send with. The stream ends when it is dropped.
pub struct Sender<T: Send + 'static> {
    wire: Wire,
    into: mpsc::UnboundedSender<Arrived<T>>,
}

enum Arrived<T> {
    Item(T),
    End,
    Broken,
}

impl<T: Send + 'static> Sender<T> {
    /// Sends one item; `label` says what it is.
    pub fn send(&self, label: String, item: T) {
        let into = self.into.clone();
        // Whoever receives may have gone.
        self.wire.push(label, false, Box::new(move || drop(into.send(Arrived::Item(item)))));
    }

    /// Returns when nobody receives any more.
    pub async fn closed(&self) {
        self.into.closed().await;
    }
}

impl<T: Send + 'static> Drop for Sender<T> {
    fn drop(&mut self) {
        let into = self.into.clone();
        let end = Box::new(move || drop(into.send(Arrived::End)));
        self.wire.push("end".to_owned(), true, end);
    }
}

/// To receive with.
pub struct Receiver<T>(mpsc::UnboundedReceiver<Arrived<T>>);

impl<T: Send + 'static> Receiver<T> {
    /// The next item; none when the stream is over.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn next(&mut self) -> Result<Option<T>, Broken> {
        match self.0.recv().await {
            Some(Arrived::Item(item)) => Ok(Some(item)),
            Some(Arrived::End) => Ok(None),
            Some(Arrived::Broken) | None => Err(Broken),
        }
    }

    /// What comes, up to the first error.
    #[must_use]
    pub fn into_stream(self) -> BoxStream<'static, Result<T, Broken>> {
        stream::unfold(Some(self), |receiver| async {
            let mut receiver = receiver?;
            match receiver.next().await {
                Ok(Some(item)) => Some((Ok(item), Some(receiver))),
                Ok(None) => None,
                Err(Broken) => Some((Err(Broken), None)),
            }
        })
        .boxed()
    }
}
