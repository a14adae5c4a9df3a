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

const NETWORK: usize = 0;
const LOCAL: usize = 1;
const WAKER: usize = 2;
const FIRST_LINK: usize = 3;

impl From<Source> for Token {
    fn from(source: Source) -> Self {
        Self(match source {
            Source::Ingress(Ingress::Network) => NETWORK,
            Source::Ingress(Ingress::Local) => LOCAL,
            Source::Waker => WAKER,
            Source::Link(worker) => worker + FIRST_LINK,
        })
    }
}

impl From<Token> for Source {
    fn from(token: Token) -> Self {
        match token.0 {
            NETWORK => Self::Ingress(Ingress::Network),
            LOCAL => Self::Ingress(Ingress::Local),
            WAKER => Self::Waker,
            number => Self::Link(number - FIRST_LINK),
        }
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

    pub(super) fn remove(&mut self, source: Source) {
        let Token(number) = source.into();
        if self.listed.get_mut(number).is_some_and(std::mem::take) {
            self.sources.retain(|other| *other != source);
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
        ready.remove(link);
        assert_eq!(ready.take(), [network]);
    }
}
