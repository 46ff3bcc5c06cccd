//! Everything that a key can ask for. A name in here is what the keys file calls it.

/// Lists the actions: the variant, its name, what it does in a few words, its keys.
macro_rules! actions {
    ($($variant:ident $name:literal $about:literal [$($keys:literal),*];)*) => {
        /// What a key asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each has its description in `about`")]
        pub enum Action {
            $($variant,)*
        }

        impl Action {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What the keys file calls it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it does, in a few words.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }

            /// The keys that it has unless a file says otherwise.
            #[must_use]
            pub fn default_keys(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($keys),*],)* }
            }
        }
    };
}

actions! {
    Up "up" "up" ["up", "k"];
    Down "down" "down" ["down", "j"];
    Left "left" "left, or back" ["left", "h"];
    Right "right" "right, or open" ["right", "l"];
    HalfUp "half-up" "half a page up" ["ctrl-u"];
    HalfDown "half-down" "half a page down" ["ctrl-d"];
    PageUp "page-up" "a page up" ["pageup", "ctrl-b"];
    PageDown "page-down" "a page down" ["pagedown", "ctrl-f"];
    Top "top" "to the top" ["g g", "home"];
    Bottom "bottom" "to the end" ["G", "end"];
    Open "open" "open" ["enter"];
    Back "back" "back" ["-", "backspace"];
    Leave "leave" "close, clear, back" ["esc"];
    NextPane "next-pane" "next pane" ["tab"];
    PreviousPane "previous-pane" "previous pane" ["backtab"];
    Full "full" "full screen" ["f"];
    Search "search" "find" ["/"];
    NextMatch "next-match" "next match" ["n"];
    PreviousMatch "previous-match" "previous match" ["N"];
    Problems "problems" "problems only" ["!"];
    Mark "mark" "mark" ["space"];
    MarkAll "mark-all" "mark all" ["ctrl-a"];
    Copy "copy" "copy" ["y"];
    Command "command" "go to" [":"];
    Help "help" "help" ["?"];
    Mouse "mouse" "mouse on or off" ["m"];
    Quit "quit" "quit" ["q", "ctrl-c"];
    Screen1 "screen-1" "fleet" ["1"];
    Screen2 "screen-2" "queues" ["2"];
    Screen3 "screen-3" "jobs" ["3"];
    Screen4 "screen-4" "job" ["4"];
    Screen5 "screen-5" "runners" ["5"];
    Screen6 "screen-6" "runner" ["6"];
    Screen7 "screen-7" "cluster" ["7"];
    Screen8 "screen-8" "events" ["8"];
    Screen9 "screen-9" "ninth screen" ["9"];
    Follow "follow" "follow" ["s"];
    Wrap "wrap" "wrap lines" ["w"];
    Times "times" "time stamps" ["t"];
    Filter "filter" "only matching lines" ["&"];
    FirstError "first-error" "first error" ["e"];
    Save "save" "save to a file" ["S"];
    PreviousAttempt "previous-attempt" "previous attempt" ["["];
    NextAttempt "next-attempt" "next attempt" ["]"];
    Cancel "cancel" "cancel" ["c"];
    Retry "retry" "retry" ["r"];
    Priority "priority" "priority" ["p"];
    PauseQueue "pause-queue" "pause" ["p"];
    ResumeQueue "resume-queue" "resume" ["R"];
    Cordon "cordon" "cordon" ["C"];
    Drain "drain" "drain" ["D"];
    ResumeRunner "resume-runner" "resume" ["R"];
    Lift "lift" "lift quarantine" ["L"];
    RemoveRunner "remove-runner" "remove" ["X"];
    Transfer "transfer" "make leader" ["T"];
}

impl Action {
    /// The one that the keys file calls `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.name() == name)
    }

    /// Those that every screen knows.
    #[must_use]
    pub fn is_general(self) -> bool {
        self <= Self::Screen9 && !matches!(self, Self::Problems | Self::Mark | Self::MarkAll)
    }

    /// The call that it makes; none where it changes nothing of the fleet.
    pub(crate) fn method(self) -> Option<&'static str> {
        Some(match self {
            Self::Cancel => "baton.v1.Jobs/Cancel",
            Self::Retry => "baton.v1.Jobs/Retry",
            Self::Priority => "baton.v1.Jobs/SetPriority",
            Self::PauseQueue => "baton.v1.Queues/Pause",
            Self::ResumeQueue => "baton.v1.Queues/Resume",
            Self::Cordon => "baton.v1.Runners/Cordon",
            Self::Drain => "baton.v1.Runners/Drain",
            Self::ResumeRunner => "baton.v1.Runners/Resume",
            Self::Lift => "baton.v1.Runners/Lift",
            Self::RemoveRunner => "baton.v1.Runners/Remove",
            Self::Transfer => "baton.v1.Cluster/Transfer",
            _ => return None,
        })
    }

    /// The number of the screen that it opens.
    pub(crate) fn screen(self) -> Option<usize> {
        let number = (self as usize).checked_sub(Self::Screen1 as usize)? + 1;
        (number <= 9).then_some(number)
    }
}
