// Both sides of the launcher's starter. It reads one request, which has no content but a descriptor.
#include "runtime/launcher_starter.hpp"

#include <array>

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "linux/child.hpp"
#include "linux/child_clone.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"
#include "runtime/launcher.hpp"
#include "runtime/protocol.hpp"

namespace caisson::runtime {

namespace {

namespace raw = linux::raw;

constexpr int daemon_fd = 3;
constexpr int answer_limit_ms = 60'000;

class Starter {
 public:
  Status run() {
    // Nobody may look into us: what we fork carries host descriptors until it executes (CVE-2016-9962).
    TRY_PLAIN(linux::set_dumpable(false));
    ignore(linux::set_thread_name("caisson-starter"));
    signals_ = TRY_PLAIN(hear_children());
    while (true) {
      std::array<linux::PollEntry, 2> entries{};
      entries[0].fd = daemon_fd;
      entries[0].events = POLLIN;
      entries[1].fd = signals_.get();
      entries[1].events = POLLIN;
      linux::release_program_text();  // it sleeps for days
      (void)TRY_PLAIN(linux::poll(entries, -1));
      if (entries[1].revents != 0) TRY_PLAIN(reap());
      if (entries[0].revents == 0) continue;
      auto message = receive_body(daemon_fd);
      if (!message || message->closed) return {};
      TRY_PLAIN(answer(std::move(message).value()));
    }
  }

 private:
  Status reap() {
    while (TRY_PLAIN(linux::signalfd_take(signals_.get()))) {}
    while (true) {
      auto ended = linux::try_wait_any();
      if (!ended || !*ended) return {};
    }
  }

  Status answer(ReceivedMessage message) {
    AnswerBody body;
    auto launcher = launch(message);
    if (!launcher) body.error = to_wire(launcher.error());
    else body.pid = launcher->pid;
    const std::array<int, 1> fds{launcher ? launcher->pidfd.get() : -1};
    return send_body(daemon_fd, MessageKind::answer, message.head.request, body, std::span<const int>(fds).first(launcher ? 1 : 0));
  }

  Result<linux::ChildProcess> launch(const ReceivedMessage& message) {
    if (message.head.kind != MessageKind::launch || message.fds.size() != 1)
      return Error(ErrorKind::invalid, "the launcher's starter got something else than one socket");
    auto child = TRY(linux::fork_with_pidfd(0), "launcher");
    if (child.pid != 0) return child;
    // A single-threaded copy: everything is allowed here, unlike in a container's child.
    signals_.reset();
    const int placed = raw::dup3(message.fds.front().get(), daemon_fd, 0);
    (void)raw::close(message.fds.front().get());
    (void)raw::setsid();
    raw::exit(placed < 0 ? 1 : run_launcher());
  }

  UniqueFd signals_;
};

}  // namespace

int run_launcher_starter() { return Starter().run() ? 0 : 1; }

Result<std::shared_ptr<LauncherStarter>> LauncherStarter::start(const std::string& path) {
  auto facts = TRY_PLAIN(read_host_facts());
  auto bytes = TRY(linux::read_file(path, std::size_t{256} << 20U), "launcher");
  // CVE-2019-5736: a container must never reach a writable file that the host runs.
  auto memfd = TRY(linux::sealed_memfd("caisson-runtime", bytes), "launcher");
  // Above every number that the process's own descriptors take: it is executed by its number.
  constexpr int beyond_mapped = 64;
  auto binary = TRY(linux::dup_at_least(memfd.get(), beyond_mapped), "launcher");
  auto pair = TRY(linux::socketpair(linux::UnixType::seqpacket), "launcher");
  linux::ProcessRequest request;
  request.path = concat("/proc/self/fd/", binary.get());
  request.argv = {"caisson-runtime", "starter"};
  // Tests choose how overlays are made; nothing else of our environment is the launcher's business.
  if (const char* way = environment("CAISSON_OVERLAY")) request.env.push_back(concat("CAISSON_OVERLAY=", way));
  // Where the user's systemd is asked for scopes, which an engine without root does.
  for (const char* name : {"XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"})
    if (const char* value = environment(name)) request.env.push_back(concat(name, "=", value));
  request.fds = {{pair.second.get(), daemon_fd}};
  request.new_session = true;
  auto process = TRY(linux::spawn_process(request), "launcher");
  return std::shared_ptr<LauncherStarter>(new LauncherStarter(std::move(process), std::move(pair.first), std::move(facts)));
}

Result<linux::ChildProcess> LauncherStarter::launch(int socket) {
  std::lock_guard turn(mutex_);
  const auto failed = [](Error error) {
    return std::move(error).in("the process that starts launchers").with_kind(ErrorKind::unavailable);
  };
  auto sent = send_body(socket_.get(), MessageKind::launch, 0, AnswerBody{}, std::span<const int>(&socket, 1));
  if (!sent) return failed(std::move(sent).error());
  auto ready = linux::wait_readable(socket_.get(), answer_limit_ms);
  if (!ready) return failed(std::move(ready).error());
  if (!*ready) return failed(Error(ErrorKind::timeout, "no answer within 60 s"));
  auto received = receive_body(socket_.get());
  if (!received) return failed(std::move(received).error());
  if (received->closed) return failed(Error(ErrorKind::unavailable, "has ended"));
  const auto answer = TRY_PLAIN(read_body<AnswerBody>(received->body, "answer"));
  if (answer.error) return failed(from_wire(*answer.error));
  if (received->fds.size() != 1) return failed(Error(ErrorKind::internal, "it sent no pidfd"));
  linux::ChildProcess child;
  child.pid = answer.pid;
  child.pidfd = std::move(received->fds.front());
  return child;
}

}  // namespace caisson::runtime
