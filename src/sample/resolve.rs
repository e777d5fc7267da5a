//! Names of hosts and services, for `--resolve` only: asked on threads of their own, never by who waits for a tick.

use crate::model::Address;
use dns_lookup::getnameinfo;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Name servers that don't answer take seconds each; four at a time keep one of them from holding up the rest.
const WORKERS: usize = 4;
/// Questions that wait; further ones are shown as numbers, and may be asked again later.
const QUEUE_MAX: usize = 4_096;
/// Names that are remembered: more than a screen or a list shows, and some megabytes at most however long we watch. When
/// they are full all are forgotten, for what is still shown is asked for again at once.
const NAMES_MAX: usize = 4 * QUEUE_MAX;

/// What was asked, and its name where it has one.
type Answer = (SocketAddr, Option<String>);

/// Turns addresses into `host:service`.
#[derive(Debug)]
pub struct Resolver {
    ask: SyncSender<SocketAddr>,
    answers: Receiver<Answer>,
    names: HashMap<SocketAddr, Option<String>>,
    waiting: usize,
}

impl Resolver {
    /// Starts the threads. They end with the resolver, or when the program does.
    pub fn start() -> Self {
        let (ask, questions) = sync_channel::<SocketAddr>(QUEUE_MAX);
        let (reply, answers): (Sender<Answer>, _) = channel();
        let questions = Arc::new(Mutex::new(questions));
        for _ in 0..WORKERS {
            let (questions, reply) = (questions.clone(), reply.clone());
            thread::spawn(move || {
                loop {
                    let next = questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(address) = next else { break };
                    let name = getnameinfo(&address, 0).ok().map(|(host, service)| format!("{host}:{service}"));
                    if reply.send((address, name)).is_err() {
                        break;
                    }
                }
            });
        }
        Resolver { ask, answers, names: HashMap::new(), waiting: 0 }
    }

    /// Asks for an address' name, once for as long as it is remembered; does not wait.
    pub fn request(&mut self, address: &Address) {
        let Address::Inet(address) = address else { return };
        if self.names.contains_key(address) {
            return;
        }
        if self.ask.try_send(*address).is_ok() {
            self.waiting += 1;
            self.remember(*address, None);
        }
    }

    fn remember(&mut self, address: SocketAddr, name: Option<String>) {
        if self.names.len() >= NAMES_MAX && !self.names.contains_key(&address) {
            self.names.clear();
        }
        self.names.insert(address, name);
    }

    /// Takes the answers in that come until `limit` is over; returns how many are still out.
    pub fn wait(&mut self, limit: Duration) -> usize {
        let deadline = Instant::now() + limit;
        while self.waiting > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((address, name)) = self.answers.recv_timeout(left) else { break };
            self.remember(address, name);
            self.waiting -= 1;
        }
        self.waiting
    }

    /// The name, or the numbers where there is none (yet).
    pub fn name(&self, address: &Address) -> String {
        match address {
            Address::Inet(inet) => self.names.get(inet).cloned().flatten().unwrap_or_else(|| address.to_string()),
            Address::Unix(name) => name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that has room for so many questions and whose answers come from the test.
    fn unanswered(room: usize) -> (Resolver, Receiver<SocketAddr>, Sender<Answer>) {
        let ((ask, questions), (reply, answers)) = (sync_channel(room), channel());
        (Resolver { ask, answers, names: HashMap::new(), waiting: 0 }, questions, reply)
    }

    #[test]
    fn what_found_no_room_in_the_queue_is_asked_later() {
        let (mut resolver, questions, _reply) = unanswered(1);
        let (first, second) = (Address::parse("10.0.0.1:1"), Address::parse("10.0.0.2:1"));
        resolver.request(&first);
        resolver.request(&second);
        assert_eq!((resolver.waiting, questions.try_iter().count()), (1, 1));
        resolver.request(&first);
        resolver.request(&second);
        assert_eq!(questions.try_iter().map(Address::Inet).collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn no_more_names_are_remembered_than_there_is_room_for() {
        let (mut resolver, questions, reply) = unanswered(1);
        for number in 0..NAMES_MAX as u32 + 10 {
            let address = SocketAddr::from((std::net::Ipv4Addr::from(number), 1));
            resolver.request(&Address::Inet(address));
            reply.send((questions.recv().expect("asked"), Some("name".into()))).expect("sent");
            assert_eq!(resolver.wait(Duration::ZERO), 0);
            assert_eq!(resolver.name(&Address::Inet(address)), "name");
            assert!(resolver.names.len() <= NAMES_MAX);
        }
        assert_eq!(resolver.names.len(), 10);
    }

    #[test]
    fn loopback_has_a_name_and_an_unknown_one_stays_a_number() {
        let mut resolver = Resolver::start();
        let known = Address::parse("127.0.0.1:22");
        let unix = Address::Unix("/run/x".into());
        resolver.request(&known);
        resolver.request(&unix);
        resolver.wait(Duration::from_secs(5));
        assert!(resolver.name(&known).starts_with("localhost:"), "{}", resolver.name(&known));
        assert_eq!(resolver.name(&unix), "/run/x");
        assert_eq!(resolver.name(&Address::parse("127.0.0.9:1")), "127.0.0.9:1");
    }
}
