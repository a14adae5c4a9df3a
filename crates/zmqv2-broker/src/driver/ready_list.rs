//! The sockets to read before the next sleep.

use mio::Token;

use crate::engine::WorkerId;
use crate::message::origin::Ingress;

/// A socket, or the waker, as the loop and epoll know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Ingress(Ingress),
    Waker,
    Link(WorkerId),
}

/// The sources that always exist. Their tokens are their places here; those of the links follow.
const FIXED: [Source; 3] = [Source::Ingress(Ingress::Network), Source::Ingress(Ingress::Local), Source::Waker];

impl From<Source> for Token {
    fn from(source: Source) -> Self {
        Self(match source {
            Source::Ingress(Ingress::Network) => 0,
            Source::Ingress(Ingress::Local) => 1,
            Source::Waker => 2,
            Source::Link(worker) => worker + FIXED.len(),
        })
    }
}

impl From<Token> for Source {
    fn from(Token(number): Token) -> Self {
        FIXED.get(number).copied().unwrap_or_else(|| Self::Link(number - FIXED.len()))
    }
}

/// Sources to visit before the next sleep, each once.
#[derive(Debug, Default)]
pub(super) struct ReadyList {
    sources: Vec<Source>,
    listed: Vec<bool>,
}

impl ReadyList {
    pub(super) fn add(&mut self, source: Source) {
        let Token(number) = source.into();
        if self.listed.len() <= number {
            self.listed.resize(number + 1, false);
        }
        if !std::mem::replace(&mut self.listed[number], true) {
            self.sources.push(source);
        }
    }

    pub(super) fn take(&mut self) -> Vec<Source> {
        self.listed.fill(false);
        std::mem::take(&mut self.sources)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_listed_once_until_it_is_taken() {
        let (network, link) = (Source::Ingress(Ingress::Network), Source::Link(7));
        let mut ready = ReadyList::default();
        [link, network, link].into_iter().for_each(|source| ready.add(source));
        assert_eq!((ready.take(), ready.is_empty()), (vec![link, network], true));
        [link, network].into_iter().for_each(|source| ready.add(source));
        assert_eq!(ready.take(), [link, network]);
        assert!(FIXED.into_iter().chain([link]).all(|source| Source::from(Token::from(source)) == source));
    }
}
