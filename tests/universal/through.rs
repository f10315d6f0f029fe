//! Operations that wait in others of the table and nowhere else, and those of which no row can be made.

/// Some operations; those of the table in which they wait; and how. Where these are none: why no row can be made. A test
/// that stands for it is named by its file and its name.
pub(crate) type Through = (&'static [&'static str], &'static [&'static str], &'static str);

pub(crate) const THROUGH: &[Through] = &[
    (
        &["core::Cancelled::resume"],
        &[],
        "nobody waits in it: it hands the cancellation outwards and never answers",
    ),
    (
        &["coroutine::PinnedAsyncGenerator::next"],
        &["coroutine::AsyncGenerator::next"],
        "the other is this one in a box",
    ),
    (
        &["coroutine::PinnedAsyncGenerator::aclose"],
        &["coroutine::AsyncGenerator::aclose"],
        "the other is this one in a box",
    ),
    (
        &["coroutine::aclosing"],
        &["coroutine::AsyncGenerator::aclose"],
        "it waits in the consumer, then in the closing",
    ),
    (
        &["coroutine::Co::yield_", "coroutine::Start::start"],
        &["coroutine::AsyncGenerator::next"],
        "the body waits to be resumed, by who awaits the next value and by nobody else",
    ),
    (
        &["evenloop::Sequencer::turn"],
        &[],
        "it is not cancel safe, by its contract: a block given up breaks those after it",
    ),
    (
        &[
            "evenloop::settled",
            "executor::checkpoint",
            "executor::checkpoint_if_cancelled",
            "executor::yield_now",
        ],
        &[],
        "it waits for the next pass: it wakes itself, and nobody serves it",
    ),
    (
        &[
            "executor::EventLoop::create_named_task",
            "executor::EventLoop::create_task",
            "executor::create_eager_task",
            "executor::create_named_task",
            "executor::ensure_future",
        ],
        &["executor::create_task"],
        "it answers a task of the loop, which is awaited as any other",
    ),
    (
        &["executor::TaskGroup::create_task", "executor::TaskGroup::try_create_task"],
        &["executor::Child::join"],
        "it answers a child, which is awaited as joined",
    ),
    (&["executor::as_completed"], &["executor::AsCompleted::next"], "its ends are awaited one by one"),
    (
        &["executor::Handle::spawn_with"],
        &["executor::Handle::spawn"],
        "it differs in where the future is made",
    ),
    (
        &["executor::Resource::enter", "executor::Resource::exit"],
        &["executor::with"],
        "the resource is a stranger's; it is entered and left by `with`",
    ),
    (
        &[
            "executor::ThreadPool::run",
            "executor::ThreadPool::try_run",
            "executor::to_thread",
            "executor::try_to_thread",
            "executor::Job::join",
            "executor::Job::waited_for",
            "executor::Job::cancel",
        ],
        &[],
        "a slot of the executor's own, written by the job's thread; models hold its wakes (`thread_pool`); see `executor_threads::an_abandoned_job_learns_of_it`",
    ),
    (&["executor::ctrl_c"], &[], "a signal strikes the whole process, and with it all other tests"),
    (
        &["sync::BoundedSemaphore::acquire_many"],
        &["sync::Semaphore::acquire_many"],
        "it is a semaphore that counts releases",
    ),
    (
        &["sync::BoundedSemaphore::acquire_owned"],
        &["sync::Semaphore::acquire_owned"],
        "it is a semaphore that counts releases",
    ),
    (
        &["time::guest"],
        &["time::sleep"],
        "it drives timers for a host and never ends; its own waiting is the host's",
    ),
    (
        &[
            "redis::Delivery::extend",
            "redis::Delivery::give_back",
            "redis::Delivery::task_done",
            "redis::Options::open",
            "redis::RemoteQueue::destroy",
            "redis::RemoteQueue::get",
            "redis::RemoteQueue::get_nowait",
            "redis::RemoteQueue::join",
            "redis::RemoteQueue::open",
            "redis::RemoteQueue::put",
            "redis::RemoteQueue::put_nowait",
            "redis::RemoteQueue::put_once",
            "redis::RemoteQueue::qsize",
            "redis::RemoteQueue::shutdown",
            "redis::RemoteQueue::statistics",
        ],
        &[],
        "a server has to run: `redis_queue::a_cancelled_get_takes_no_item_along` and its neighbours",
    ),
    (
        &[
            "streams::AsyncFd::sock_accept",
            "streams::AsyncFd::sock_recv_into",
            "streams::AsyncFd::sock_recvfrom",
            "streams::AsyncFd::sock_recvfrom_into",
            "streams::TcpStream::peek",
            "streams::UdpSocket::peek_from",
            "streams::UdpSocket::recv",
            "streams::UnixDatagram::recv_from",
        ],
        &["streams::AsyncFd::read_with"],
        "it tries, and waits until reading is worth a try",
    ),
    (
        &["streams::TcpStream::readable", "streams::UnixStream::readable"],
        &["streams::AsyncFd::readable"],
        "it asks the descriptor inside",
    ),
    (
        &["streams::AsyncFd::writable", "streams::TcpStream::writable", "streams::UnixStream::writable"],
        &["core::Readiness::ready"],
        "it is the readiness to write of its descriptor",
    ),
    (
        &[
            "streams::AsyncFd::write_with",
            "streams::AsyncFd::sock_sendall",
            "streams::AsyncFd::sock_sendto",
            "streams::UdpSocket::send",
            "streams::UdpSocket::send_to",
            "streams::UnixDatagram::send",
            "streams::UnixDatagram::send_to",
        ],
        &["core::Readiness::ready"],
        "it tries, and waits until writing is worth a try",
    ),
    (
        &[
            "streams::AsyncFd::sock_connect",
            "streams::TcpStream::connect",
            "streams::TcpStream::connect_on",
            "streams::UnixStream::connect",
            "streams::UnixStream::connect_on",
            "streams::open_unix_connection",
            "streams::create_unix_connection",
        ],
        &["core::Readiness::ready"],
        "the connection is made when its descriptor is writable",
    ),
    (
        &["streams::lookup_host"],
        &["sync::channel"],
        "a thread asks the resolver, and its answer comes through a slot for one value",
    ),
    (
        &["streams::TcpStream::connect_host", "streams::open_connection", "streams::create_connection"],
        &["core::Readiness::ready", "sync::channel"],
        "it looks the host up, then connects",
    ),
    (
        &["streams::TcpStream::connect_any"],
        &["core::Readiness::ready", "core::After::new"],
        "attempts, one after the other, with a pause between",
    ),
    (
        &[
            "streams::TlsAcceptor::accept",
            "streams::TlsConnector::connect",
            "streams::start_tls",
            "streams::start_tls_as_server",
        ],
        &["streams::AsyncFd::read_with", "core::Readiness::ready", "core::After::new"],
        "the handshake reads and writes, with a limit",
    ),
    (
        &["streams::Transport::start_tls", "streams::Transport::start_tls_as_server"],
        &["sync::channel"],
        "the transport's task makes the handshake and tells how it ended",
    ),
    (
        &["streams::create_tls_connection", "streams::open_tls_connection"],
        &["core::Readiness::ready", "streams::AsyncFd::read_with", "core::After::new"],
        "it connects, then makes the handshake",
    ),
    (
        &["streams::sendfile", "streams::StreamWriter::sendfile"],
        &["core::Readiness::ready"],
        "it sends, and waits until writing is worth a try",
    ),
    (
        &["streams::Server::serve_forever"],
        &["streams::Server::wait_closed"],
        "it waits for the end; dropping it closes the server, by its contract, `streams_server::who_serves_for_ever_closes_when_it_is_dropped_and_cancels_the_handlers`",
    ),
    (
        &["streams::Server::shutdown"],
        &["streams::Server::wait_closed", "core::After::new"],
        "it closes, then waits for the end, with a limit",
    ),
    (
        &["streams::Signal::recv"],
        &[],
        "a signal strikes the whole process: `streams_signals::every_listener_hears_a_signal_and_several_become_one`",
    ),
    (
        &["streams::ProcessHandle::wait", "streams::Process::end"],
        &[],
        "a child has to run: `the_end::a_cancelled_wait_leaves_the_child_alone`",
    ),
    (
        &[
            "streams::Process::communicate",
            "streams::Process::wait_with_output",
            "streams::Process::complete",
            "streams::Command::output",
            "streams::Command::run",
            "streams::Command::status",
        ],
        &["streams::AsyncFd::read_with", "core::Readiness::ready"],
        "its pipes are read and written, and then a child ends",
    ),
    (
        &["streams::Command::spawn_off_loop"],
        &["sync::channel"],
        "a thread starts the child, and hands it over through a slot for one value",
    ),
];
