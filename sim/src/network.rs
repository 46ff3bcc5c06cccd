//! The network: messages that may be lost, doubled, delayed and overtaken (Raft's), and
//! calls whose streams keep their order, as HTTP/2 does, until they break. Links can be
//! cut, each direction on its own. Whatever one end learns of the other, also that it is
//! gone, comes over the link or does not come.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{mpsc, watch};

use crate::{fuse::Fuse, host::HostId, trace::Trace};

/// How long a caller hears nothing before its call breaks, and how long the called.
const NOTICED_AFTER: [Duration; 2] = [Duration::from_millis(1_000), Duration::from_millis(2_500)];

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
    /// Hosts whose process has ended, and whether their system says so: one without
    /// power neither answers nor refuses.
    empty: BTreeMap<HostId, bool>,
    /// Hosts on which nothing runs at the moment.
    still: BTreeSet<HostId>,
    /// What ends the processes that run.
    fuses: BTreeMap<HostId, Fuse>,
    /// How often something was lost or held up by a link that was cut.
    harmed: BTreeMap<(HostId, HostId), u64>,
    /// Messages at the mercy of foul weather.
    foul: u64,
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
    /// Tell an end that it broke; none when it has been told, or its process is gone.
    breaks: [Option<Delivery>; 2],
    /// The process of an end is gone.
    gone: [bool; 2],
    /// The system of that end's host says so, from then on.
    refused: Option<Duration>,
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
            empty: BTreeMap::new(),
            still: BTreeSet::new(),
            fuses: BTreeMap::new(),
            harmed: BTreeMap::new(),
            foul: 0,
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

    /// How often something was lost or held up by one of these links, so far.
    #[must_use]
    pub fn harmed(&self, links: &[(HostId, HostId)]) -> u64 {
        let known = self.lock();
        links.iter().filter_map(|link| known.harmed.get(link)).sum()
    }

    /// Whether there is a call between two hosts.
    #[must_use]
    pub fn talk(&self, one: HostId, other: HostId) -> bool {
        self.lock().calls.values().any(|call| call.ends == [one, other] && call.gone == [false; 2])
    }

    /// How many messages were at the mercy of foul weather, so far.
    #[must_use]
    pub fn foul(&self) -> u64 {
        self.lock().foul
    }

    /// A process has started on a host, which knows of no call. What it sends after its
    /// fuse has blown is not sent.
    pub fn began(&self, host: HostId, fuse: Fuse) {
        self.end_calls(host, true);
        let mut links = self.lock();
        links.empty.remove(&host);
        links.fuses.insert(host, fuse);
    }

    /// The hosts on which nothing runs at the moment.
    pub fn stand_still(&self, hosts: BTreeSet<HostId>) {
        self.lock().still = hosts;
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
        if links.is_mute(from) {
            return;
        }
        if links.cut.contains_key(&(from, to)) {
            links.harm((from, to));
            return;
        }
        if links.random.u32(..1_000) < lost {
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
        let (caller_closed, called_closed) = (Closed::default(), Closed::default());
        let breaks = [
            break_end(to_caller.clone(), caller_closed.clone()),
            break_end(to_called.clone(), called_closed.clone()),
        ];
        let id = {
            let mut links = self.lock();
            let id = links.number();
            links.calls.insert(id, Call::new([from, to], breaks));
            id
        };
        let wire = |to| Wire { network: self.clone(), id, to };
        let end = |to, closed: &Closed| Hearing { wire: wire(to), closed: closed.clone() };
        let called = End {
            sender: Sender { wire: wire(0), into: to_caller, closed: called_closed.clone() },
            receiver: Receiver { from: requests, hearing: Some(end(0, &caller_closed)) },
        };
        wire(1).push(format!("call {label}"), false, Box::new(move || accept(called)));
        End {
            sender: Sender { wire: wire(1), into: to_called, closed: caller_closed },
            receiver: Receiver { from: answers, hearing: Some(end(1, &called_closed)) },
        }
    }

    /// A process has ended, and all its calls with it. The other ends learn it from the
    /// system of its host if there is one that can tell, else when nothing comes any more.
    pub fn ended(&self, host: HostId, told: bool) {
        self.end_calls(host, told);
        self.lock().empty.insert(host, told);
    }

    fn end_calls(&self, host: HostId, told: bool) {
        let mut links = self.lock();
        let refused = told.then(|| links.arrival());
        let mut gone = Vec::new();
        for call in links.calls.values_mut().filter(|call| call.ends.contains(&host)) {
            let own = usize::from(call.ends[0] != host);
            gone.push(call.end(own, refused));
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
                links.harm((message.from, message.to));
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

fn break_end<T: Send + 'static>(
    into: mpsc::UnboundedSender<Arrived<T>>,
    closed: Closed,
) -> Option<Delivery> {
    Some(Box::new(move || {
        // Whoever receives may have gone.
        let _ = into.send(Arrived::Broken);
        closed.close();
    }))
}

impl Call {
    fn new(ends: [HostId; 2], breaks: [Option<Delivery>; 2]) -> Self {
        Self {
            ends,
            frames: Default::default(),
            over: [false; 2],
            breaks,
            gone: [false; 2],
            refused: None,
            silent_since: None,
        }
    }

    /// The process of an end is gone; what was on its way to it.
    fn end(
        &mut self,
        own: usize,
        refused: Option<Duration>,
    ) -> (VecDeque<Frame>, Option<Delivery>) {
        self.gone[own] = true;
        self.refused = self.refused.or(refused);
        (std::mem::take(&mut self.frames[own]), self.breaks[own].take())
    }
}

impl Links {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn arrival(&mut self) -> Duration {
        let (least, most) = self.weather.delay;
        self.foul += u64::from(self.weather != Weather::FAIR);
        self.now + Duration::from_millis(self.random.u64(least..=most))
    }

    fn harm(&mut self, link: (HostId, HostId)) {
        *self.harmed.entry(link).or_default() += 1;
    }

    /// Nothing that a host says is heard: its process has ended, maybe in the middle of
    /// this step.
    fn is_mute(&self, host: HostId) -> bool {
        self.empty.contains_key(&host) || self.fuses.get(&host).is_some_and(Fuse::is_blown)
    }

    fn serve_call(&mut self, id: u64, now: Duration, due: &mut Vec<Delivery>) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        let mut silent = [false; 2];
        for (end, is_silent) in silent.iter_mut().enumerate() {
            let (to, from) = (call.ends[end], call.ends[1 - end]);
            *is_silent = call.gone[1 - end] || self.still.contains(&from) || self.is_mute(from);
            if self.cut.contains_key(&(from, to)) {
                *is_silent = true;
                if call.frames[end].iter().any(|frame| frame.due <= now) {
                    self.harm((from, to));
                }
                continue;
            }
            let arrives = call.frames[end].front().is_some_and(|frame| frame.due <= now);
            if let Some(told) = self.empty.get(&to).copied().filter(|_| arrives && !call.gone[end])
            {
                // Nobody is there to take the call.
                let refused = told.then(|| self.arrival());
                let dropped = call.end(end, refused);
                due.push(Box::new(move || drop(dropped)));
            }
            while call.frames[end].front().is_some_and(|frame| frame.due <= now) {
                let Some(frame) = call.frames[end].pop_front() else { break };
                self.trace.line(now, format_args!("{from} > {to} {}", frame.label));
                call.over[end] |= frame.last;
                due.push(frame.deliver);
            }
            if call.gone[1 - end] && call.refused.is_some_and(|at| at <= now) {
                self.break_end(&mut call, end, due);
            }
        }
        // What is not acknowledged shows at the other end too.
        let is_silent = silent.contains(&true);
        let since = is_silent.then(|| *call.silent_since.get_or_insert(now));
        call.silent_since = since;
        for (end, limit) in NOTICED_AFTER.into_iter().enumerate() {
            if since.is_some_and(|since| now.saturating_sub(since) >= limit) {
                self.break_end(&mut call, end, due);
            }
        }
        if call.over == [true, true] || call.breaks.iter().all(Option::is_none) {
            // What ends with a frame may speak to the network, which is locked here.
            due.push(Box::new(move || drop(call)));
        } else {
            self.calls.insert(id, call);
        }
    }

    fn break_end(&self, call: &mut Call, end: usize, due: &mut Vec<Delivery>) {
        if let Some(tell) = call.breaks[end].take() {
            let (to, from) = (call.ends[end], call.ends[1 - end]);
            self.trace.line(self.now, format_args!("{to} lost {from}"));
            due.push(tell);
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
        let Some(from) = links.calls.get(&self.id).map(|call| call.ends[1 - self.to]) else {
            return;
        };
        if links.is_mute(from) {
            return;
        }
        let Some(call) = links.calls.get_mut(&self.id) else { return };
        // What ends with its process says nothing any more, and nothing comes through
        // once the other end has given up.
        if call.gone[1 - self.to] || call.breaks[self.to].is_none() {
            return;
        }
        let frames = &mut call.frames[self.to];
        let due = frames.back().map_or(arrival, |before| before.due.max(arrival));
        frames.push_back(Frame { due, label, deliver, last });
    }
}

/// Whether what an end sends is still wanted, as far as that end knows.
#[derive(Clone)]
struct Closed(watch::Sender<bool>);

impl Default for Closed {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Closed {
    fn close(&self) {
        self.0.send_replace(true);
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
    closed: Closed,
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

    /// Returns when this end has heard that nobody receives any more.
    pub async fn closed(&self) {
        let mut closed = self.closed.0.subscribe();
        // This end keeps the sender.
        let _ = closed.wait_for(|closed| *closed).await;
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
pub struct Receiver<T> {
    from: mpsc::UnboundedReceiver<Arrived<T>>,
    /// To tell the other end that nobody receives any more; none when it knows.
    hearing: Option<Hearing>,
}

struct Hearing {
    wire: Wire,
    /// The other end's.
    closed: Closed,
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Some(Hearing { wire, closed }) = self.hearing.take() {
            wire.push("enough".to_owned(), false, Box::new(move || closed.close()));
        }
    }
}

impl<T: Send + 'static> Receiver<T> {
    /// The next item; none when the stream is over.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn next(&mut self) -> Result<Option<T>, Broken> {
        match self.from.recv().await {
            Some(Arrived::Item(item)) => Ok(Some(item)),
            Some(Arrived::End) => {
                self.hearing = None;
                Ok(None)
            }
            Some(Arrived::Broken) | None => {
                self.hearing = None;
                Err(Broken)
            }
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
