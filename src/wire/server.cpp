// An elastic pool of threads that watch listeners and idle connections together: whoever is woken by a request serves it, so that no
// request is handed from one thread to another.
#include <pthread.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <unordered_map>

#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/stream_socket.hpp"
#include "wire/connection.hpp"

namespace caisson::wire {

namespace {

constexpr std::uint64_t wake_tag = 0;
constexpr std::uint64_t listener_bit = 1ULL << 63;
// Edge-triggered: one thread is woken per burst of connections, and it takes them all.
constexpr std::uint32_t listener_events = EPOLLIN | static_cast<std::uint32_t>(EPOLLET);
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

/// What the threads share. They hold it by shared_ptr: one that is stuck in a handler may outlive the server.
struct Core : std::enable_shared_from_this<Core> {
  Core(Handler handle, const ServerOptions& given) : handler(std::move(handle)), options(given) {}

  const Handler handler;
  const ServerOptions options;
  UniqueFd epoll;
  UniqueFd wake;

  std::mutex mutex;
  std::condition_variable changed;  ///< a thread ended, a connection left, or stopping
  struct Listener {
    UniqueFd fd;
    std::optional<TlsContext> tls;
  };
  std::vector<Listener> listeners;
  std::unique_ptr<Pump> pump;  ///< made for the first connection that needs one
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> idle;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> active;
  std::uint64_t next_id = 1;
  std::size_t threads = 0;
  std::size_t watching = 0;  ///< threads that wait for events; at least one does, unless the pool is full or stopping
  bool paused = false;       ///< listeners rest after accept() failed
  bool stopping = false;
  Status failure;  ///< of the event loop itself

  // -- pool (mutex held where `_locked` says so)

  bool start_thread_locked() {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return false;
    auto start = std::make_unique<std::shared_ptr<Core>>(shared_from_this());
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
    std::unique_ptr<std::shared_ptr<Core>> start(static_cast<std::shared_ptr<Core>*>(argument));
    std::shared_ptr<Core> core = std::move(*start);
    start.reset();
    core->watch();
    return nullptr;
  }

  /// A pool thread's life: one event at a time, until it has been idle for long beside another one, or the server stops.
  void watch() {
    std::array<linux::EpollEvent, 1> event{};
    std::unique_lock lock(mutex);
    while (!stopping) {
      const bool was_paused = paused;
      ++watching;
      lock.unlock();
      auto count = linux::epoll_wait(epoll.get(), event, was_paused ? accept_pause_ms : options.idle_thread_ms);
      lock.lock();
      --watching;
      if (stopping) break;
      Status outcome = count.ok() ? resume_listeners_locked() : Status(std::move(count).error());
      if (!outcome.ok()) {
        failure = std::move(outcome).error().in("event loop");
        stop_locked();
        break;
      }
      if (*count == 0) {
        if (watching > 0 && !was_paused) break;
        continue;
      }
      Connection* connection = take_locked(event[0].tag);
      if (connection == nullptr) continue;
      if (!leave_a_watcher_locked()) {
        refuse_locked(*connection, "too many requests at once");
        continue;
      }
      lock.unlock();
      serve(*connection);
      lock.lock();
    }
    --threads;
    changed.notify_all();
  }

  /// Before a thread turns to a request that may last: somebody must go on watching. False when no further thread may be made.
  bool leave_a_watcher_locked() { return watching > 0 || (threads <= options.max_threads && start_thread_locked()); }

  void stop_locked() {
    stopping = true;
    if (wake) ignore(linux::eventfd_signal(wake.get()));  // fails only for a bad descriptor
    changed.notify_all();
  }

  // -- connections

  /// What an event is about: a connection to serve now (active already), or null when there is nothing more to do.
  Connection* take_locked(std::uint64_t tag) {
    if (tag == wake_tag) return nullptr;
    if ((tag & listener_bit) != 0) return accept_all_locked(tag & ~listener_bit);
    auto node = idle.extract(tag);
    if (node.empty()) return nullptr;
    return active.insert(std::move(node)).position->second.get();
  }

  /// Takes every connection that waits. The first that has sent something already is returned; the others are watched.
  Connection* accept_all_locked(std::size_t index) {
    Connection* ready = nullptr;
    for (;;) {
      auto accepted = linux::accept_connection(listeners[index].fd.get());
      if (!accepted.ok()) {
        pause_listeners_locked();
        return ready;
      }
      if (!*accepted) return ready;
      Connection* connection = admit_locked(std::move(**accepted), listeners[index].tls);
      if (connection == nullptr) continue;
      if (ready == nullptr && linux::wait_readable(connection->stream.fd(), 0).value_or(false)) ready = connection;
      else if (!watch_locked(*connection)) active.erase(connection->id);
    }
  }

  Connection* admit_locked(UniqueFd socket, const std::optional<TlsContext>& tls) {
    if (idle.size() + active.size() >= options.max_connections) {
      if (tls) return nullptr;  // a refusal would need a handshake
      Stream(std::move(socket)).write_or_drop(refusal(503, "too many connections"));
      return nullptr;
    }
    Peer peer = describe(socket.get());
    if (tls) {
      peer.is_verified = tls->verifies();
      auto name = std::make_shared<PeerName>();
      peer.certificate = name;
      auto plain = add_to_pump_locked(std::move(socket), tls->create_codec(std::move(name)), "");
      if (!plain.ok()) return nullptr;  // out of descriptors: the client sees the connection end
      socket = std::move(*plain);
    }
    const std::uint64_t id = next_id++;
    return active.emplace(id, std::make_unique<Connection>(id, std::move(socket), std::move(peer))).first->second.get();
  }

  Result<UniqueFd> add_to_pump_locked(UniqueFd socket, std::unique_ptr<Codec> codec, std::string_view early) {
    if (!codec) return Error(ErrorKind::unavailable, "TLS: out of memory");
    if (!pump) pump = TRY_PLAIN(Pump::create());
    return pump->add(std::move(socket), std::move(codec), early);
  }

  /// From active to idle. False when the kernel refuses: the connection stays active then, and is the caller's to drop.
  bool watch_locked(Connection& connection) {
    const std::uint64_t id = connection.id;
    const int fd = connection.stream.fd();
    const bool is_new = !std::exchange(connection.is_watched, true);
    idle.insert(active.extract(id));
    auto watched = is_new ? linux::epoll_add(epoll.get(), fd, connection_events, id)
                          : linux::epoll_modify(epoll.get(), fd, connection_events, id);
    if (watched.ok()) return true;
    active.insert(idle.extract(id));
    return false;
  }

  void refuse_locked(Connection& connection, std::string_view why) {
    connection.stream.write_or_drop(refusal(503, why));
    active.erase(connection.id);
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
      peer.groups = linux::peer_groups(fd).value_or({});
      auto process = linux::peer_pidfd(fd);
      // Before 6.5 only the number is there, which may mean another process by now; whoever judges it looks at the user too.
      if (!process.ok() && process.error().kind() == ErrorKind::unsupported && who.pid > 0) process = linux::pidfd_open(who.pid);
      if (process.ok()) peer.pidfd = std::move(*process);
    } else {
      peer.uid = 65534;
      peer.gid = 65534;
      if (auto endpoint = linux::peer_endpoint(fd); endpoint.ok()) peer.address = linux::to_string(*endpoint);
    }
    return peer;
  }

  /// Descriptors or memory ran out: the connections that wait would wake nobody again, so the listeners are added anew after a moment.
  void pause_listeners_locked() {
    for (const auto& listener : listeners) ignore(linux::epoll_remove(epoll.get(), listener.fd.get()));  // absent is as good
    paused = true;
  }

  Status resume_listeners_locked() {
    if (!std::exchange(paused, false)) return {};
    for (std::size_t i = 0; i < listeners.size(); ++i)
      TRY(linux::epoll_add(epoll.get(), listeners[i].fd.get(), listener_events, listener_bit | i), "listener");
    return {};
  }

  void serve(Connection& connection) {
    const Detach detach = [this](Connection& leaving) -> Result<UniqueFd> {
      std::lock_guard lock(mutex);  // wind_down() looks at sockets under it
      if (leaving.is_watched) TRY_PLAIN(linux::epoll_remove(epoll.get(), leaving.stream.fd()));
      return leaving.stream.release();
    };
    const DetachThrough detach_through = [&](Connection& leaving, std::unique_ptr<Codec> codec) -> Result<UniqueFd> {
      UniqueFd socket = TRY_PLAIN(detach(leaving));
      std::lock_guard lock(mutex);
      return add_to_pump_locked(std::move(socket), std::move(codec), leaving.buffer);
    };
    for (;;) {
      const Outcome outcome = serve_one(connection, handler, options, detach, detach_through);
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

  /// Back to those that are watched. False when the server is stopping (or the kernel refuses): the caller drops the connection.
  bool give_back(Connection& connection) {
    connection.buffer.shrink_to_fit();
    std::lock_guard lock(mutex);
    if (stopping) return false;
    changed.notify_all();
    return watch_locked(connection);
  }

  void drop(Connection& connection) {
    std::unique_ptr<Connection> doomed;  // closed outside the lock
    std::lock_guard lock(mutex);
    auto node = active.extract(connection.id);
    doomed = std::move(node.mapped());
    changed.notify_all();
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
    core_->stop_locked();
    cut_locked(Cut::all);
    core_->changed.wait(lock, [&] { return core_->threads == 0; });
  }

  Status add_listener(UniqueFd listener) override { return add({std::move(listener), std::nullopt}); }
  Status add_tls_listener(UniqueFd listener, TlsContext context) override { return add({std::move(listener), std::move(context)}); }

  Status run() override {
    std::unique_lock lock(core_->mutex);
    TRY_PLAIN(prepare_locked());
    if (!core_->stopping && !core_->start_thread_locked()) return Error(ErrorKind::unavailable, "event loop: no thread can be made");
    core_->changed.wait(lock, [&] { return core_->stopping; });
    wind_down(lock);
    return core_->failure;
  }

  void stop(int grace_ms) override {
    std::lock_guard lock(core_->mutex);
    if (core_->stopping) return;
    stop_deadline_ns_ = monotonic_ns() + std::int64_t{grace_ms} * 1'000'000;
    core_->stop_locked();
  }

 private:
  enum class Cut { streams, all };

  Status add(Core::Listener listener) {
    std::lock_guard lock(core_->mutex);
    TRY_PLAIN(prepare_locked());
    TRY(linux::set_nonblocking(listener.fd.get(), true), "listener");
    TRY(linux::epoll_add(core_->epoll.get(), listener.fd.get(), listener_events, listener_bit | core_->listeners.size()), "listener");
    core_->listeners.push_back(std::move(listener));
    return {};
  }

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
    core_->listeners.clear();
    core_->idle.clear();
    auto quiet = [&] { return core_->active.empty(); };
    cut_locked(Cut::streams);
    while (!quiet()) {
      const std::int64_t left = stop_deadline_ns_ - monotonic_ns();
      if (left <= 0) break;
      // Handlers that begin a stream after stop() are found by the next round.
      core_->changed.wait_for(lock, std::chrono::nanoseconds(std::min<std::int64_t>(left, 50'000'000)), quiet);
      cut_locked(Cut::streams);
    }
    cut_locked(Cut::all);
  }

  /// Precondition: the mutex is held, so that no socket is closed (and its number reused) meanwhile.
  void cut_locked(Cut cut) {
    for (auto& [id, connection] : core_->active) {
      if (connection->stream.fd() < 0) continue;                                         // hijacked
      if (cut == Cut::all) ignore(linux::shutdown(connection->stream.fd(), SHUT_RDWR));  // it may be gone already
      else if (connection->streaming) ignore(linux::shutdown(connection->stream.fd(), SHUT_RD));
    }
  }

  std::shared_ptr<Core> core_;
  std::int64_t stop_deadline_ns_ = 0;
};

}  // namespace

std::unique_ptr<Server> create_server(Handler handler, const ServerOptions& options) {
  return std::make_unique<EpollServer>(std::move(handler), options);
}

}  // namespace caisson::wire
