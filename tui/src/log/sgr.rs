//! How a job wants its text to look: "select graphic rendition", the one control
//! sequence of its output that means something here. Knows nothing of a screen.

use vte::Params;

/// A colour as the job gave it; what a terminal makes of it is the theme's concern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Colour {
    /// The terminal's own.
    #[default]
    Default,
    /// One of 256; the first 16 are those of the terminal's palette.
    Indexed(u8),
    /// Red, green, blue.
    Rgb(u8, u8, u8),
}

/// What a piece of text looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sgr {
    /// Of the letters.
    pub(crate) foreground: Colour,
    /// Behind them.
    pub(crate) background: Colour,
    /// Bits of this type.
    pub(crate) flags: u8,
}

impl Sgr {
    /// Bit of [`Sgr::flags`].
    pub(crate) const BOLD: u8 = 1;
    /// Bit of [`Sgr::flags`].
    pub(crate) const DIM: u8 = 1 << 1;
    /// Bit of [`Sgr::flags`].
    pub(crate) const ITALIC: u8 = 1 << 2;
    /// Bit of [`Sgr::flags`].
    pub(crate) const UNDERLINE: u8 = 1 << 3;
    /// Bit of [`Sgr::flags`].
    pub(crate) const REVERSE: u8 = 1 << 4;
    /// Bit of [`Sgr::flags`].
    pub(crate) const STRIKE: u8 = 1 << 5;

    /// Changes it as `params` of a sequence that ends in `m` say. What is not known is left
    /// out, blinking and concealed text among it: nothing may hide.
    pub(crate) fn apply(&mut self, params: &Params) {
        let mut params = params.iter();
        while let Some(param) = params.next() {
            let (code, rest) = param.split_first().map_or((0, param), |(code, rest)| (*code, rest));
            match code {
                0 => *self = Self::default(),
                1 => self.flags |= Self::BOLD,
                2 => self.flags |= Self::DIM,
                3 => self.flags |= Self::ITALIC,
                4 if rest.first() == Some(&0) => self.flags &= !Self::UNDERLINE,
                4 | 21 => self.flags |= Self::UNDERLINE,
                7 => self.flags |= Self::REVERSE,
                9 => self.flags |= Self::STRIKE,
                22 => self.flags &= !(Self::BOLD | Self::DIM),
                23 => self.flags &= !Self::ITALIC,
                24 => self.flags &= !Self::UNDERLINE,
                27 => self.flags &= !Self::REVERSE,
                29 => self.flags &= !Self::STRIKE,
                30..=37 => self.foreground = indexed(code - 30),
                39 => self.foreground = Colour::Default,
                40..=47 => self.background = indexed(code - 40),
                49 => self.background = Colour::Default,
                90..=97 => self.foreground = indexed(code - 90 + 8),
                100..=107 => self.background = indexed(code - 100 + 8),
                38 | 48 | 58 => {
                    let mut next = || params.next().and_then(|param| param.first().copied());
                    let colour = match rest {
                        [] => extended(&mut next),
                        rest => extended_in_one(rest),
                    };
                    match (code, colour) {
                        (38, Some(colour)) => self.foreground = colour,
                        (48, Some(colour)) => self.background = colour,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }
}

fn indexed(index: u16) -> Colour {
    u8::try_from(index).map_or(Colour::Default, Colour::Indexed)
}

/// What follows `38;` or `48;`.
fn extended(next: &mut impl FnMut() -> Option<u16>) -> Option<Colour> {
    match next()? {
        5 => u8::try_from(next()?).ok().map(Colour::Indexed),
        2 => {
            let (red, green, blue) = (next()?, next()?, next()?);
            rgb(red, green, blue)
        }
        _ => None,
    }
}

/// What follows `38:` or `48:`; there a colour space may stand before the three.
fn extended_in_one(rest: &[u16]) -> Option<Colour> {
    match *rest {
        [5, index, ..] => u8::try_from(index).ok().map(Colour::Indexed),
        [2, red, green, blue] | [2, _, red, green, blue, ..] => rgb(red, green, blue),
        _ => None,
    }
}

fn rgb(red: u16, green: u16, blue: u16) -> Option<Colour> {
    let byte = |value| u8::try_from(value).ok();
    Some(Colour::Rgb(byte(red)?, byte(green)?, byte(blue)?))
}
