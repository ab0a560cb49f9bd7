// The event loop and its elastic pool: the loop watches listeners and idle connections, pool threads do everything else.
#include <pthread.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <unordered_map>

#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/stream_socket.hpp"
#include "wire/connection.hpp"

namespace caisson::wire {

namespace {

constexpr std::uint64_t wake_tag = 0;
constexpr std::uint64_t listener_bit = 1ULL << 63;
constexpr std::uint32_t connection_events = EPOLLIN | EPOLLRDHUP | static_cast<std::uint32_t>(EPOLLONESHOT);
constexpr int accept_pause_ms = 100;  ///< after accept() failed for want of descriptors: the queue is still readable

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAISSON_BIG_STACKS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CAISSON_BIG_STACKS 1
#endif
#endif
#ifdef CAISSON_BIG_STACKS
constexpr std::size_t stack_bytes = 4 << 20;  // sanitizers multiply the size of frames
#else
constexpr std::size_t stack_bytes = 256 << 10;
#endif

/// What loop and pool threads share. Threads hold it by shared_ptr: one that is stuck in a handler may outlive the server.
struct Core : std::enable_shared_from_this<Core> {
  Core(Handler handle, const ServerOptions& given) : handler(std::move(handle)), options(given) {}

  const Handler handler;
  const ServerOptions options;
  UniqueFd epoll;
  UniqueFd wake;

  std::mutex mutex;
  std::condition_variable work;      ///< queue grew, or stopping
  std::condition_variable finished;  ///< a thread ended or a connection left
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> idle;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> active;
  std::deque<Connection*> queue;  ///< of active ones
  std::uint64_t next_id = 1;
  std::size_t threads = 0;
  std::size_t waiting_threads = 0;
  bool stopping = false;

  // -- pool (mutex held where `_locked` says so)

  /// Hands an active connection to a thread. False when all threads are busy and no further one may be made.
  bool submit_locked(Connection* connection) {
    if (waiting_threads > queue.size()) {
      queue.push_back(connection);
      work.notify_one();
      return true;
    }
    if (threads < options.max_threads && start_thread_locked(connection)) return true;
    return false;
  }

  struct ThreadStart {
    std::shared_ptr<Core> core;
    Connection* first;
  };

  bool start_thread_locked(Connection* first) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return false;
    auto start = std::make_unique<ThreadStart>(ThreadStart{shared_from_this(), first});
    pthread_t thread{};
    bool made = pthread_attr_setstacksize(&attributes, stack_bytes) == 0 &&
                pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
                pthread_create(&thread, &attributes, &Core::thread_main, start.get()) == 0;
    pthread_attr_destroy(&attributes);
    if (!made) return false;
    (void)start.release();  // thread_main owns it
    ++threads;
    return true;
  }

  static void* thread_main(void* argument) {
    std::unique_ptr<ThreadStart> start(static_cast<ThreadStart*>(argument));
    std::shared_ptr<Core> core = std::move(start->core);
    Connection* connection = start->first;
    start.reset();
    while (connection != nullptr) {
      core->serve(*connection);
      connection = core->next_job();
    }
    return nullptr;
  }

  /// The next connection to serve, or null when this thread should end.
  Connection* next_job() {
    std::unique_lock lock(mutex);
    ++waiting_threads;
    work.wait_for(lock, std::chrono::milliseconds(options.idle_thread_ms), [&] { return stopping || !queue.empty(); });
    --waiting_threads;
    if (queue.empty()) {
      --threads;
      finished.notify_all();
      return nullptr;
    }
    Connection* connection = queue.front();
    queue.pop_front();
    return connection;
  }

  // -- connections

  void serve(Connection& connection) {
    const Detach detach = [this](Connection& leaving) -> Result<UniqueFd> {
      std::lock_guard lock(mutex);  // wind_down() looks at sockets under it
      TRY_PLAIN(linux::epoll_remove(epoll.get(), leaving.stream.fd()));
      return leaving.stream.release();
    };
    for (;;) {
      const Outcome outcome = serve_one(connection, handler, options, detach);
      if (outcome == Outcome::keep) {
        if (!connection.buffer.empty()) continue;  // pipelined
        if (give_back(connection)) return;
      } else if (outcome == Outcome::linger) {
        connection.stream.linger();
      }
      drop(connection);
      return;
    }
  }

  /// Back to the loop. False when the server is stopping (or the kernel refuses): the caller drops the connection.
  bool give_back(Connection& connection) {
    connection.buffer.shrink_to_fit();
    std::lock_guard lock(mutex);
    if (stopping) return false;
    const std::uint64_t id = connection.id;
    const int fd = connection.stream.fd();
    auto node = active.extract(id);
    idle.insert(std::move(node));
    finished.notify_all();
    if (linux::epoll_modify(epoll.get(), fd, connection_events, id).ok()) return true;
    active.insert(idle.extract(id));
    return false;
  }

  void drop(Connection& connection) {
    std::unique_ptr<Connection> doomed;  // closed outside the lock
    std::lock_guard lock(mutex);
    auto node = active.extract(connection.id);
    doomed = std::move(node.mapped());
    finished.notify_all();
  }
};

class EpollServer final : public Server {
 public:
  EpollServer(Handler handler, const ServerOptions& options) : core_(std::make_shared<Core>(std::move(handler), options)) {}

  EpollServer(const EpollServer&) = delete;
  EpollServer& operator=(const EpollServer&) = delete;

  /// Waits for every thread: the handler may refer to things that die right after the server.
  ~EpollServer() override {
    std::unique_lock lock(core_->mutex);
    core_->stopping = true;
    core_->work.notify_all();
    cut_locked(Cut::all);
    core_->finished.wait(lock, [&] { return core_->threads == 0; });
  }

  Status add_listener(UniqueFd listener) override {
    std::lock_guard lock(core_->mutex);
    TRY_PLAIN(prepare_locked());
    TRY(linux::set_nonblocking(listener.get(), true), "listener");
    TRY(linux::epoll_add(core_->epoll.get(), listener.get(), EPOLLIN, listener_bit | listeners_.size()), "listener");
    listeners_.push_back(std::move(listener));
    return {};
  }

  Status run() override {
    {
      std::lock_guard lock(core_->mutex);
      TRY_PLAIN(prepare_locked());
    }
    std::array<linux::EpollEvent, 64> events{};
    for (;;) {
      const std::size_t count = TRY(linux::epoll_wait(core_->epoll.get(), events, paused_ ? accept_pause_ms : -1), "event loop");
      if (paused_) TRY_PLAIN(resume_listeners());
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t tag = events[i].tag;
        if (tag == wake_tag) continue;
        if ((tag & listener_bit) != 0)
          accept_all(tag & ~listener_bit);
        else
          dispatch(tag);
      }
      std::unique_lock lock(core_->mutex);
      if (core_->stopping) {
        wind_down(lock);
        return {};
      }
    }
  }

  void stop(int grace_ms) override {
    std::lock_guard lock(core_->mutex);
    if (core_->stopping) return;
    core_->stopping = true;
    stop_deadline_ns_ = monotonic_ns() + std::int64_t{grace_ms} * 1'000'000;
    core_->work.notify_all();
    if (core_->wake) ignore(linux::eventfd_signal(core_->wake.get()));  // fails only for a bad descriptor
  }

 private:
  enum class Cut { streams, all };

  Status prepare_locked() {
    if (core_->epoll) return {};
    UniqueFd epoll = TRY(linux::epoll_create(), "event loop");
    UniqueFd wake = TRY(linux::eventfd(), "event loop");
    TRY(linux::epoll_add(epoll.get(), wake.get(), EPOLLIN, wake_tag), "event loop");
    core_->epoll = std::move(epoll);
    core_->wake = std::move(wake);
    return {};
  }

  /// Ends streams at once (their natural end may never come), gives the rest the grace time, then cuts everything.
  void wind_down(std::unique_lock<std::mutex>& lock) {
    listeners_.clear();
    core_->idle.clear();
    auto quiet = [&] { return core_->active.empty(); };
    cut_locked(Cut::streams);
    while (!quiet()) {
      const std::int64_t left = stop_deadline_ns_ - monotonic_ns();
      if (left <= 0) break;
      // Handlers that begin a stream after stop() are found by the next round.
      core_->finished.wait_for(lock, std::chrono::nanoseconds(std::min<std::int64_t>(left, 50'000'000)), quiet);
      cut_locked(Cut::streams);
    }
    cut_locked(Cut::all);
  }

  /// Precondition: the mutex is held, so that no socket is closed (and its number reused) meanwhile.
  void cut_locked(Cut cut) {
    for (auto& [id, connection] : core_->active) {
      if (connection->stream.fd() < 0) continue;  // hijacked
      if (cut == Cut::all)
        ignore(linux::shutdown(connection->stream.fd(), SHUT_RDWR));  // it may be gone already
      else if (connection->streaming)
        ignore(linux::shutdown(connection->stream.fd(), SHUT_RD));
    }
  }

  void accept_all(std::size_t index) {
    for (;;) {
      UniqueFd& listener = listeners_[index];
      auto accepted = linux::accept_connection(listener.get());
      if (!accepted.ok()) return pause_listeners();
      if (!*accepted) return;
      admit(std::move(**accepted));
    }
  }

  void admit(UniqueFd socket) {
    Peer peer = describe(socket.get());
    std::lock_guard lock(core_->mutex);
    if (core_->idle.size() + core_->active.size() >= core_->options.max_connections) {
      Stream(std::move(socket)).write_or_drop(refusal(503, "too many connections"));
      return;
    }
    const std::uint64_t id = core_->next_id++;
    const int fd = socket.get();
    core_->idle.emplace(id, std::make_unique<Connection>(id, std::move(socket), std::move(peer)));
    if (!linux::epoll_add(core_->epoll.get(), fd, connection_events, id).ok()) core_->idle.erase(id);
  }

  static Peer describe(int fd) {
    Peer peer;
    peer.is_unix = linux::is_unix_socket(fd);
    if (peer.is_unix) {
      // Without credentials the peer is nobody: the overflow id has no rights anywhere.
      auto who = linux::peer_credentials(fd).value_or({0, 65534, 65534});
      peer.uid = who.uid;
      peer.gid = who.gid;
      peer.pid = who.pid;
    } else {
      peer.uid = 65534;
      peer.gid = 65534;
      if (auto endpoint = linux::peer_endpoint(fd); endpoint.ok()) peer.address = linux::to_string(*endpoint);
    }
    return peer;
  }

  void dispatch(std::uint64_t id) {
    std::lock_guard lock(core_->mutex);
    auto node = core_->idle.extract(id);
    if (node.empty()) return;
    Connection* connection = node.mapped().get();
    core_->active.insert(std::move(node));
    if (core_->submit_locked(connection)) return;
    connection->stream.write_or_drop(refusal(503, "too many requests at once"));
    core_->active.erase(id);
  }

  /// Descriptors or memory ran out: level-triggered listeners would spin, so they rest for a moment.
  void pause_listeners() {
    for (const auto& listener : listeners_) ignore(linux::epoll_remove(core_->epoll.get(), listener.get()));  // absent is as good
    paused_ = true;
  }

  Status resume_listeners() {
    paused_ = false;
    std::lock_guard lock(core_->mutex);
    for (std::size_t i = 0; i < listeners_.size(); ++i)
      TRY(linux::epoll_add(core_->epoll.get(), listeners_[i].get(), EPOLLIN, listener_bit | i), "listener");
    return {};
  }

  std::shared_ptr<Core> core_;
  std::vector<UniqueFd> listeners_;
  bool paused_ = false;
  std::int64_t stop_deadline_ns_ = 0;
};

}  // namespace

std::unique_ptr<Server> create_server(Handler handler, const ServerOptions& options) {
  return std::make_unique<EpollServer>(std::move(handler), options);
}

}  // namespace caisson::wire
