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
        &["core::Readiness::poll_shared"],
        &["core::Readiness::ready"],
        "the future keeps the place in line between its polls",
    ),
    (
        &["core::Readiness::poll_ready"],
        &["streams::AsyncFd::read_with", "streams::AsyncFd::write_with"],
        "it is the wait of a descriptor's one owner",
    ),
    (
        &["core::Scope::poll", "core::Scope::poll_until"],
        &["core::CancelScope::run", "time::timeout"],
        "it polls what is inside, for a future that keeps both",
    ),
    (
        &["core::Catcher::poll", "core::Catcher::poll_cancelled"],
        &["core::shielded", "executor::gather", "sync::Condition::wait_catching"],
        "it waits for a cancellation beside what its future waits for",
    ),
    (
        &["core::Staggered::poll_winner"],
        &["executor::staggered_race"],
        "the future polls the race, and notes what it waits for",
    ),
    (
        &["core::poll_spend"],
        &[],
        "it wakes itself, and nobody serves it: see `executor_budget::a_queue_that_is_never_empty_starves_nobody`",
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
        &["coroutine::Co::yield_", "coroutine::Start::start"],
        &["coroutine::AsyncGenerator::next"],
        "the body waits to be resumed, by who awaits the next value and by nobody else",
    ),
    (
        &["evenloop::Sequencer::turn"],
        &[],
        "it is not cancel safe, by its contract: a block given up breaks those after it; see `universal::u4_a_turn_of_a_sequencer_stands_hostile_wakers`",
    ),
    (
        &["executor::settled"],
        &[],
        "it waits for the loop to come to rest, and nobody else serves it: see `test_kit::any_number_may_wait_until_nothing_moves`",
    ),
    (
        &["executor::checkpoint", "executor::checkpoint_if_cancelled", "executor::yield_now"],
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
        &["executor::ThreadPool::run", "executor::ThreadPool::try_run"],
        &["executor::to_thread"],
        "it answers a job, on a thread of this pool; see `executor_threads::an_abandoned_job_learns_of_it`",
    ),
    (
        &["executor::Job::cancel"],
        &["executor::Job::join"],
        "it tells the job, then joins it; see `executor_threads::an_abandoned_job_learns_of_it`",
    ),
    (&["time::Interval::poll_tick"], &["time::Interval::tick"], "the one is the other in a `poll_fn`"),
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
            "streams::TcpStream::peek",
            "streams::UdpSocket::peek_from",
            "streams::UdpSocket::recv",
            "streams::UnixDatagram::recv_from",
        ],
        &["streams::AsyncFd::read_with"],
        "it is `read_with` and another system call",
    ),
    (
        &["streams::TcpStream::readable", "streams::UnixStream::readable"],
        &["streams::AsyncFd::readable"],
        "it asks the descriptor inside",
    ),
    (
        &["streams::TcpStream::writable", "streams::UnixStream::writable", "streams::UnixDatagram::send_to"],
        &["streams::AsyncFd::writable"],
        "it asks the descriptor inside",
    ),
    (
        &["streams::AsyncFd::sock_connect"],
        &["streams::AsyncFd::write_with"],
        "it begins to connect, and is done when writing is worth a try; see `streams_sock::connecting_waits_for_the_answer_and_tells_a_refusal`",
    ),
    (
        &["streams::UdpSocket::send", "streams::UdpSocket::send_to"],
        &["streams::AsyncFd::write_with"],
        "it is `write_with` and another system call",
    ),
    (
        &["streams::open_tls_connection"],
        &["streams::open_connection", "streams::TlsConnector::connect"],
        "the one, then the other",
    ),
    (
        &["streams::create_tls_connection"],
        &["streams::TcpStream::connect_host", "streams::TlsConnector::connect"],
        "the one, then the other",
    ),
    (
        &["streams::start_tls"],
        &["streams::StreamWriter::drain", "streams::TlsConnector::connect"],
        "what was written goes first, then the handshake is made",
    ),
    (
        &["streams::start_tls_as_server"],
        &["streams::StreamWriter::drain", "streams::TlsAcceptor::accept"],
        "what was written goes first, then the handshake is made",
    ),
    (
        &["streams::Server::serve_forever"],
        &["streams::Server::wait_closed"],
        "it waits for the end; dropping it closes the server, by its contract, `streams_server::who_serves_for_ever_closes_when_it_is_dropped_and_cancels_the_handlers`",
    ),
    (
        &["streams::Exit::poll_ended"],
        &["streams::ProcessHandle::wait"],
        "the future keeps the place beside others between its polls",
    ),
    (
        &["streams::Process::end"],
        &["streams::ProcessHandle::wait"],
        "it sends the signal, then waits for the end",
    ),
    (
        &[
            "streams::Process::wait_with_output",
            "streams::Process::complete",
            "streams::Command::output",
            "streams::Command::run",
            "streams::Command::status",
        ],
        &["streams::Process::communicate"],
        "the child is started, and then communicated with",
    ),
    (
        &["streams::Command::spawn_off_loop"],
        &["streams::lookup_host"],
        "another job on a thread, which is waited for in the same way",
    ),
];
