//! Why something was cancelled.

use crate::shim::StdArc;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// Why something was cancelled, in the words of whoever asked. Cheap to clone.
///
/// # Examples
///
/// ```
/// use evenloop_core::cancel::Reason;
///
/// assert_eq!(Reason::from("the client left").to_string(), "cancelled: the client left");
/// assert_eq!(Reason::default().to_string(), "cancelled");
/// ```
#[derive(Clone, Default)]
pub struct Reason(Text);

#[derive(Clone, Default)]
enum Text {
    #[default]
    None,
    Static(&'static str),
    Shared(StdArc<str>),
}

impl Reason {
    /// A reason that costs nothing.
    pub const fn new(text: &'static str) -> Self {
        Self(Text::Static(text))
    }

    /// The words, if there were any.
    pub fn text(&self) -> Option<&str> {
        match &self.0 {
            Text::None => None,
            Text::Static(text) => Some(text),
            Text::Shared(text) => Some(text),
        }
    }
}

/// The same words, wherever they are kept.
impl PartialEq for Reason {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Reason {}

impl From<&'static str> for Reason {
    fn from(text: &'static str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self(Text::Shared(text.into()))
    }
}

impl From<Cow<'static, str>> for Reason {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

/// No words.
impl From<()> for Reason {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            None => f.write_str("cancelled"),
            Some(text) => write!(f, "cancelled: {text}"),
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            None => f.write_str("Reason"),
            Some(text) => write!(f, "Reason({text:?})"),
        }
    }
}

impl Error for Reason {}
