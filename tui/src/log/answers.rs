//! What comes for the view of a log.

use baton_proto::v1::{LogPiece, LogStream};

use super::{
    buffer::Buffer,
    messages::{Answer, Begin, Effect},
    panel::{Live, Panel, Purpose},
    rows::Place,
};
use crate::text::clean;

impl Panel {
    /// Takes the answer to the request of this number; one that is not wanted any more changes
    /// nothing.
    pub(crate) fn answer(&mut self, number: u64, answer: Answer) -> Vec<Effect> {
        if number == self.following {
            self.followed(answer)
        } else if let Some((_, purpose)) = self.reading.filter(|(read, _)| *read == number) {
            self.has_read(purpose, answer)
        } else if self.searching.is_some_and(|searching| searching.number == number) {
            self.searched(answer)
        } else if self.saving.is_some_and(|(saving, _)| saving == number) {
            self.saved(&answer);
            Vec::new()
        } else {
            Vec::new()
        }
    }

    fn followed(&mut self, answer: Answer) -> Vec<Effect> {
        match answer {
            Answer::Began { offset, length } => {
                self.length = self.length.max(length);
                self.live = Live::Attached;
                if offset != self.buffer.end() {
                    self.replace(Buffer::at(offset));
                }
            }
            Answer::Output { offset, pieces } => return self.add(offset, &pieces),
            Answer::Ended(_) => self.live = Live::Ended,
            Answer::Broken(cause) => self.broken = Some(cause),
            Answer::Restored => {
                self.broken = None;
                self.buffer.mark("reconnected");
            }
            Answer::Failed(cause) => self.live = Live::Failed(cause),
            _ => {}
        }
        self.changed();
        self.fetch()
    }

    /// Output that is followed. Where one looks at something else and there is no room for it, it
    /// is left out, and fetched when one comes there.
    fn add(&mut self, offset: u64, pieces: &[LogPiece]) -> Vec<Effect> {
        let gap = offset != self.buffer.end();
        if self.follow && gap {
            self.replace(Buffer::at(offset));
        } else if !self.follow && (gap || !self.buffer.has_room(pieces)) {
            return self.detach();
        }
        self.buffer.append(pieces);
        self.changed();
        self.fetch()
    }

    fn has_read(&mut self, purpose: Purpose, answer: Answer) -> Vec<Effect> {
        let (offset, pieces, last) = match answer {
            Answer::Page { offset, pieces, last } => (offset, pieces, last),
            Answer::Failed(cause) => {
                self.reading = None;
                self.message = Some(format!("cannot be read: {}", clean(&cause)));
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        self.reading = None;
        let top = self.screen_top();
        let mut effects = Vec::new();
        match purpose {
            Purpose::Before => {
                if offset + length(&pieces) != self.buffer.start() {
                    return Vec::new();
                }
                if self.buffer.prepend(offset, &pieces) {
                    self.follow = false;
                    effects.extend(self.detach());
                }
                self.top = top;
            }
            Purpose::After => {
                if offset != self.buffer.end() {
                    return Vec::new();
                }
                self.top = top;
                self.buffer.append(&pieces);
            }
            Purpose::Show { offset: wanted, found } => {
                effects.extend(self.detach());
                self.follow = false;
                let mut buffer = Buffer::at(offset);
                buffer.append(&pieces);
                self.replace(buffer);
                if found {
                    self.go_to_match(wanted);
                } else {
                    self.top = Place { line: self.buffer.number_at(wanted), row: 0 };
                }
            }
        }
        if last && purpose != Purpose::Before {
            self.buffer.drop_last_remarks();
            effects.push(self.follow_from(Begin::Offset(self.buffer.end())));
        }
        self.changed();
        effects.extend(self.fetch());
        effects
    }

    fn searched(&mut self, answer: Answer) -> Vec<Effect> {
        match answer {
            Answer::Searched(offset) => {
                if let Some(searching) = &mut self.searching {
                    searching.offset = offset;
                }
                return Vec::new();
            }
            Answer::Found(offset) => {
                self.searching = None;
                let there = self.buffer.start()..self.buffer.end();
                if !there.contains(&offset) {
                    return vec![self.show(offset, true)];
                }
                self.go_to_match(offset);
                return self.fetch();
            }
            Answer::NotFound => {
                let backwards = self.searching.take().is_some_and(|search| search.backwards);
                self.say_not_found(backwards);
            }
            Answer::Failed(cause) => {
                self.searching = None;
                self.message = Some(format!("the search failed: {}", clean(&cause)));
            }
            _ => {}
        }
        Vec::new()
    }

    fn saved(&mut self, answer: &Answer) {
        match answer {
            Answer::Saving(written) => {
                self.saving = self.saving.map(|(number, _)| (number, *written));
            }
            Answer::SaveOver => self.saving = None,
            _ => {}
        }
    }
}

/// Bytes of the output.
fn length(pieces: &[LogPiece]) -> u64 {
    let output = pieces.iter().filter(|piece| piece.stream() != LogStream::Note);
    output.map(|piece| piece.data.len() as u64).sum()
}
