//! Against a coordinator that breaks streams, and one that writes faster than anybody reads.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use baton_client::Endpoint;
use baton_proto::v1::{
    self, LogEnd, LogPiece, LogStart, LogStream, LogsRequest, LogsResponse, SearchLogRequest,
    SearchLogResponse,
    cluster_server::ClusterServer,
    jobs_server::{Jobs, JobsServer},
    logs_request::Start,
    logs_response::Item,
};
use futures::{Stream, StreamExt as _, stream};
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, Receiver},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request as Call, Response, Status, Streaming, transport::Server};

use super::*;
use crate::{
    log::messages::{Begin, Source},
    tests::coordinator::Coordinator,
};

const LIMIT: Duration = Duration::from_secs(60);
/// Bytes of each piece.
const PIECE: usize = 1000;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answered<T> = Result<Response<T>, Status>;

/// The output of one attempt that has ended, or goes on.
#[derive(Clone, Default)]
struct Output {
    bytes: Arc<Vec<u8>>,
    /// Streams break after so many pieces; never when 0.
    breaks_after: usize,
    /// It is said to have so many bytes more, all alike, and their end comes only to whoever asks
    /// for it.
    claimed: u64,
    /// All was sent once.
    sent: Arc<AtomicBool>,
}

impl Output {
    fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: Arc::new(bytes.into()), ..Self::default() }
    }

    fn length(&self) -> u64 {
        self.bytes.len() as u64 + self.claimed
    }

    fn end(&self) -> LogEnd {
        LogEnd {
            stdout_length: self.bytes.len() as u64,
            stdout_blake3: blake3::hash(&self.bytes).to_string(),
            stderr_blake3: blake3::hash(b"").to_string(),
            ..LogEnd::default()
        }
    }

    fn stream(&self, request: &LogsRequest) -> Answers<LogsResponse> {
        let begin = match request.start {
            Some(Start::Offset(offset) | Start::Position(offset)) => offset,
            Some(Start::Tail(length)) => self.length().saturating_sub(length),
            None => 0,
        };
        let item = |item| Ok(LogsResponse { item: Some(item) });
        let start =
            LogStart { attempt: 1, offset: begin, length: self.length(), ..LogStart::default() };
        let start = stream::iter([item(Item::Start(start))]);
        if begin > self.bytes.len() as u64 {
            let piece = piece(b"the very end\n", self.length());
            return start
                .chain(stream::iter([item(Item::Piece(piece))]))
                .chain(stream::pending())
                .boxed();
        }
        let this = self.clone();
        let from = usize::try_from(begin).unwrap();
        let pieces = (from..this.bytes.len()).step_by(PIECE).map(move |from| {
            let to = this.bytes.len().min(from + PIECE);
            item(Item::Piece(piece(&this.bytes[from..to], to as u64)))
        });
        if self.breaks_after > 0 && (self.bytes.len() - from) / PIECE > self.breaks_after {
            let broken = Err(Status::unavailable("broken on purpose"));
            let pieces = pieces.take(self.breaks_after).chain([broken]);
            return start.chain(stream::iter(pieces)).boxed();
        }
        let (end, sent) = (self.end(), Arc::clone(&self.sent));
        let last = stream::once(async move {
            sent.store(true, Ordering::SeqCst);
            item(Item::End(end))
        });
        let all = start.chain(stream::iter(pieces));
        if self.claimed > 0 {
            all.chain(stream::pending()).boxed()
        } else {
            all.chain(last).boxed()
        }
    }

    fn search(&self, request: &SearchLogRequest) -> Vec<Result<SearchLogResponse, Status>> {
        let text = std::str::from_utf8(&self.bytes).unwrap();
        let mut lines: Vec<(u64, &str)> = Vec::new();
        for line in text.split_inclusive('\n') {
            let offset = lines.last().map_or(0, |(offset, line)| offset + line.len() as u64);
            lines.push((offset, line));
        }
        if request.backwards {
            lines.reverse();
        }
        let behind = |offset: &u64| {
            if request.backwards { *offset < request.offset } else { *offset >= request.offset }
        };
        let mut answers = Vec::new();
        for (offset, line) in lines.into_iter().filter(|(offset, _)| behind(offset)) {
            let found = line.contains(&request.text);
            answers.push(Ok(SearchLogResponse { offset, found }));
            if found {
                break;
            }
            if self.breaks_after > 0 && answers.len() == self.breaks_after {
                answers.push(Err(Status::unavailable("broken on purpose")));
                break;
            }
        }
        answers
    }
}

fn piece(data: &[u8], next: u64) -> LogPiece {
    let stream = LogStream::Stdout.into();
    LogPiece { stream, data: data.to_vec().into(), next, ..LogPiece::default() }
}

/// Calls that nobody makes here, as `async_trait` writes them.
macro_rules! refused {
    ($($name:ident $request:ty, $answer:ty;)*) => {
        $(fn $name<'a, 'b>(
            &'a self,
            _: Call<$request>,
        ) -> Pin<Box<dyn Future<Output = Answered<$answer>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(Status::unimplemented("")) })
        })*
    };
}

#[tonic::async_trait]
impl Jobs for Output {
    type ArtifactsStream = Answers<v1::ArtifactsResponse>;
    type FetchArtifactsStream = Answers<v1::FileChunk>;
    type LogsStream = Answers<LogsResponse>;
    type SearchLogStream = Answers<SearchLogResponse>;
    type UploadStream = Answers<v1::UploadResponse>;
    type WatchStream = Answers<v1::WatchJobResponse>;

    async fn logs(&self, request: Call<LogsRequest>) -> Answered<Self::LogsStream> {
        Ok(Response::new(self.stream(request.get_ref())))
    }

    async fn search_log(&self, request: Call<SearchLogRequest>) -> Answered<Self::SearchLogStream> {
        Ok(Response::new(stream::iter(self.search(request.get_ref())).boxed()))
    }

    async fn get(&self, _: Call<v1::GetJobRequest>) -> Answered<v1::GetJobResponse> {
        let attempts = vec![v1::Attempt { number: 1, ..v1::Attempt::default() }];
        let job = Some(v1::Job { attempts, ..v1::Job::default() });
        Ok(Response::new(v1::GetJobResponse { job }))
    }

    refused! {
        artifacts v1::ArtifactsRequest, Self::ArtifactsStream;
        fetch_artifacts v1::FetchArtifactsRequest, Self::FetchArtifactsStream;
        upload Streaming<v1::UploadRequest>, Self::UploadStream;
        watch v1::WatchJobRequest, Self::WatchStream;
        submit v1::SubmitRequest, v1::SubmitResponse;
        list v1::ListJobsRequest, v1::ListJobsResponse;
        cancel v1::CancelJobRequest, v1::CancelJobResponse;
        retry v1::RetryJobRequest, v1::RetryJobResponse;
        set_priority v1::SetPriorityRequest, v1::SetPriorityResponse;
        find_missing v1::FindMissingRequest, v1::FindMissingResponse;
        why v1::WhyRequest, v1::WhyResponse;
    }
}

/// A client of a coordinator that has the output.
struct Running {
    link: Link,
    fetching: Fetching,
    tasks: JoinSet<()>,
    events: Receiver<Event>,
    teller: Sender<Event>,
    number: u64,
    /// It ends with the test.
    _server: JoinSet<()>,
}

impl Running {
    async fn start(output: &Output) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = Server::builder()
            .add_service(JobsServer::new(output.clone()))
            .add_service(ClusterServer::new(Coordinator::default()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let mut server = JoinSet::new();
        server.spawn(async { serving.await.unwrap() });
        let (teller, events) = mpsc::channel(64);
        Self {
            link: Link::new(Endpoint::new(&address, "token").unwrap()),
            fetching: Fetching::default(),
            tasks: JoinSet::new(),
            events,
            teller,
            number: 0,
            _server: server,
        }
    }

    fn ask(&mut self, request: Request) {
        self.number += 1;
        let source = Source { job_id: "J".to_owned(), attempt: 1, ..Source::default() };
        let asked = Numbered { number: self.number, source, request };
        let (link, teller) = (self.link.clone(), self.teller.clone());
        self.fetching.take(&mut self.tasks, link, 7, asked, teller);
    }

    async fn event(&mut self) -> Event {
        timeout(LIMIT, self.events.recv()).await.unwrap().unwrap()
    }

    async fn answer(&mut self) -> Answer {
        match self.event().await {
            Event::Log(7, number, answer) if number == self.number => answer,
            event => panic!("{event:?}"),
        }
    }

    /// What is followed, to its end: the offsets and the text, and how often the stream broke.
    async fn followed(&mut self) -> (Vec<(u64, Vec<u8>)>, usize) {
        let (mut told, mut breaks) = (Vec::new(), 0);
        loop {
            match self.answer().await {
                Answer::Output { offset, pieces } => {
                    let data = pieces.iter().flat_map(|piece| piece.data.to_vec()).collect();
                    told.push((offset, data));
                }
                Answer::Broken(_) => breaks += 1,
                Answer::Ended(_) => return (told, breaks),
                Answer::Began { .. } | Answer::Restored => {}
                answer => panic!("{answer:?}"),
            }
        }
    }
}

fn numbered(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

#[tokio::test]
async fn the_end_is_followed_without_a_gap_or_a_repeat_over_broken_streams() {
    let bytes = numbered(2000);
    let output = Output { breaks_after: 3, ..Output::new(bytes.clone()) };
    let mut running = Running::start(&output).await;
    running.ask(Request::Follow(Begin::Tail(10_000)));
    let length = bytes.len() as u64;
    assert_eq!(running.answer().await, Answer::Began { offset: length - 10_000, length });
    let (told, breaks) = running.followed().await;
    let mut at = length - 10_000;
    let mut whole = Vec::new();
    for (offset, data) in told {
        assert_eq!(offset, at, "a gap or a repeat");
        at += data.len() as u64;
        whole.extend(data);
    }
    assert_eq!(whole, bytes[bytes.len() - 10_000..]);
    assert!(breaks >= 2, "{breaks}");
}

#[tokio::test]
async fn what_nobody_has_time_to_look_at_is_left_out_and_the_end_is_not() {
    let bytes = numbered(4_000_000);
    let output = Output::new(bytes.clone());
    let mut running = Running::start(&output).await;
    running.ask(Request::Follow(Begin::Offset(0)));
    // Nobody takes what is told until all is there.
    let all_sent = async {
        while !output.sent.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, all_sent).await.unwrap();
    let (told, _) = running.followed().await;
    let came: usize = told.iter().map(|(_, data)| data.len()).sum();
    assert!(came < 8 * 1024 * 1024, "{came} of {} bytes waited", bytes.len());
    let (offset, data) = told.last().unwrap();
    assert_eq!(*offset + data.len() as u64, bytes.len() as u64);
    assert_eq!(*data, bytes[bytes.len() - data.len()..]);
}

#[tokio::test]
async fn when_the_network_falls_behind_it_goes_on_at_the_end() {
    let output = Output { claimed: 1 << 30, ..Output::new(numbered(300_000)) };
    let mut running = Running::start(&output).await;
    running.ask(Request::Follow(Begin::Offset(0)));
    let (offset, data) = loop {
        match running.answer().await {
            Answer::Output { offset, pieces } if offset > output.bytes.len() as u64 => {
                break (offset, pieces[0].data.clone());
            }
            Answer::Output { .. } | Answer::Began { .. } => {}
            answer => panic!("{answer:?}"),
        }
    };
    assert_eq!((offset, data.as_ref()), (output.length() - 64 * 1024, &b"the very end\n"[..]));
}

#[tokio::test]
async fn a_page_has_just_what_was_asked_for() {
    let bytes = numbered(2000);
    let mut running = Running::start(&Output::new(bytes.clone())).await;
    for (offset, length, last) in [(0, 2500, false), (777, 1, false), (10_000, 1 << 20, true)] {
        running.ask(Request::Read { offset, length });
        let Answer::Page { offset: told, pieces, last: is_last } = running.answer().await else {
            panic!("no page");
        };
        let data: Vec<u8> = pieces.iter().flat_map(|piece| piece.data.to_vec()).collect();
        let (from, to) = (offset as usize, bytes.len().min((offset + length) as usize));
        assert_eq!((told, data.as_slice(), is_last), (offset, &bytes[from..to], last));
    }
}

#[tokio::test]
async fn the_nearest_of_several_texts_is_found_over_broken_streams() {
    let output = Output { breaks_after: 700, ..Output::new(numbered(2000)) };
    let mut running = Running::start(&output).await;
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let place = |line: usize| Answer::Found(numbered(line).len() as u64);
    for (looked_for, offset, backwards, expected) in [
        (texts(&["line 333\n", "line 222\n", "nothing"]), 0, false, place(222)),
        (texts(&["line 222\n", "line 333\n"]), 1 << 30, true, place(333)),
        (texts(&["nothing"]), 0, false, Answer::NotFound),
    ] {
        running.ask(Request::Search { texts: looked_for, offset, backwards });
        let answer = loop {
            match running.answer().await {
                Answer::Searched(_) => {}
                answer => break answer,
            }
        };
        assert_eq!(answer, expected);
    }
}

#[tokio::test]
async fn a_log_is_saved_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = numbered(2000);
    let output = Output { breaks_after: 3, ..Output::new(bytes.clone()) };
    let mut running = Running::start(&output).await;
    let path = folder.path().join("job.log");
    let mut told = Vec::new();
    for request in [
        Request::SaveAll(path.clone()),
        Request::SaveText(path.clone(), "other".to_owned()),
        Request::SaveText(folder.path().join("none/job.log"), "other".to_owned()),
    ] {
        running.ask(request);
        told.push(loop {
            if let Event::Told(result) = running.event().await {
                break result;
            }
        });
    }
    assert_eq!(told[0], Ok(format!("saved 18.4 KiB to {}", path.display())));
    assert!(told[1].as_ref().unwrap_err().contains("exists"), "{:?}", told[1]);
    assert!(told[2].is_err());
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
