//! The event loop: one thread for all connections, and one for each request that takes its time.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::{
    connection::Connection,
    routes::{self, Answer, Guest},
};

/// Stack of a request's thread.
const STACK: usize = 128 * 1024;
/// What an event is about: the listener, the threads' answers, or else a connection by its number.
const LISTENER: u64 = 0;
const ANSWERS: u64 = 1;

/// All that the loop has.
struct Server {
    guest: Arc<Guest>,
    epoll: Epoll,
    connections: HashMap<u64, Connection>,
    next: u64,
    finished: Sender<(u64, Answer)>,
    /// A byte in here says that a thread has finished.
    wake: Arc<UnixStream>,
}

/// Serves until the system refuses to.
pub(crate) fn run(listener: &TcpListener, guest: Guest) -> io::Result<()> {
    let (wake, mut woken) = UnixStream::pair()?;
    woken.set_nonblocking(true)?;
    listener.set_nonblocking(true)?;
    let (finished, answers) = mpsc::channel();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    epoll.add(&woken, EpollEvent::new(EpollFlags::EPOLLIN, ANSWERS))?;
    let wake = Arc::new(wake);
    let mut server =
        Server { guest: Arc::new(guest), epoll, connections: HashMap::new(), next: 2, finished, wake };
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let count = match server.epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other?,
        };
        for event in events.iter().take(count) {
            match event.data() {
                LISTENER => server.accept(listener),
                ANSWERS => {
                    // Emptied first: what is finished afterwards wakes again.
                    let _ = woken.read(&mut [0; 512]);
                    server.answer(&answers);
                }
                number => server.hear(number),
            }
        }
    }
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) {
        let Ok((stream, _)) = listener.accept() else {
            // The client has left, or files or memory are short: that passes, and trying again at once would burn the CPU.
            thread::sleep(Duration::from_millis(5));
            return;
        };
        let Ok(connection) = Connection::new(stream) else { return };
        let number = self.next;
        self.next += 1;
        if self.epoll.add(connection.stream(), EpollEvent::new(EpollFlags::EPOLLIN, number)).is_ok() {
            self.connections.insert(number, connection);
        }
    }

    /// Bytes of a client, or its end.
    fn hear(&mut self, number: u64) {
        let received = self.connections.get_mut(&number).map(Connection::receive);
        if received.is_some_and(|result| result.is_err()) || self.proceed(number).is_err() {
            self.connections.remove(&number);
        }
    }

    /// What the threads have finished.
    fn answer(&mut self, answers: &Receiver<(u64, Answer)>) {
        for (number, answer) in answers.try_iter() {
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            let answered = connection.answer(&answer, &self.guest.hostname);
            if answered.is_err() || self.proceed(number).is_err() {
                self.connections.remove(&number);
            }
        }
    }

    /// Answers the requests that a client has sent in full, up to the first that takes its time.
    fn proceed(&mut self, number: u64) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        while let Some(request) = connection.next_request()? {
            if !routes::takes_time(&request) {
                let answer = routes::answer(&self.guest, &request);
                connection.answer(&answer, &self.guest.hostname)?;
                continue;
            }
            let (guest, finished, wake) =
                (Arc::clone(&self.guest), self.finished.clone(), Arc::clone(&self.wake));
            thread::Builder::new().stack_size(STACK).spawn(move || {
                let answer = routes::answer(&guest, &request);
                // The loop outlives all threads.
                let _ = finished.send((number, answer));
                let _ = (&*wake).write(&[0]);
            })?;
        }
        Ok(())
    }
}
