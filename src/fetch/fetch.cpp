// Sandbox, channel, and a thread per request.
#include "fetch/fetch.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "base/strings.hpp"
#include "fetch/registry.hpp"
#include "image/frames.hpp"
#include "linux/file.hpp"
#include "linux/landlock.hpp"
#include "linux/process.hpp"
#include "linux/seccomp.hpp"
#include "linux/seccomp_fetch.hpp"
#include "linux/socket.hpp"

namespace caisson::fetch {

namespace {

constexpr std::size_t most_requests = 64;  // the daemon asks for a handful
constexpr std::size_t receive_bytes = 64 << 10;
constexpr std::size_t most_fds_per_message = 4;

/// Certificates, name service and what libraries read at run time. Nothing can be written anywhere.
Status enter_sandbox() {
  TRY_PLAIN(linux::set_no_new_privileges());
  if (linux::landlock_abi() > 0) {
    linux::LandlockPolicy policy;
    policy.deny_tcp = false;
    for (const char* path : {"/etc", "/usr", "/lib", "/run", "/proc/sys"})
      if (linux::exists(path).value_or(false)) policy.rules.push_back({path, linux::LandlockAccess::read});
    auto ruleset = TRY(linux::create_landlock_ruleset(policy), "Landlock");
    TRY(linux::landlock_restrict_self(ruleset.get()), "Landlock");
  }
  auto filter = TRY(linux::fetch_seccomp(), "seccomp");
  TRY(linux::load_seccomp(filter), "seccomp");
  return {};
}

class Server {
 public:
  Status run();

 private:
  struct Running {
    Ticket ticket;
    UniqueFd fd;
    image::FetchRequest request;
  };
  Status take(image::FetchFrame type, std::string_view payload);
  Status begin(image::FetchRequest request);
  void send(image::FetchFrame type, std::string_view payload);

  /// Each repository has tokens of its own; connections are shared. Shared by the requests that use it: it may be forgotten meanwhile.
  std::shared_ptr<Registry> registry_of(const std::string& repository);

  HttpClient http_;
  std::optional<image::FetchSession> session_;
  std::mutex registries_mutex_;
  std::map<std::string, std::shared_ptr<Registry>> registries_;
  std::deque<UniqueFd> fds_;  // arrived, not yet claimed by their requests
  std::mutex send_mutex_;
  std::mutex running_mutex_;
  std::map<std::uint64_t, std::shared_ptr<Running>> running_;  // shared with the thread that serves it
};

void Server::send(image::FetchFrame type, std::string_view payload) {
  std::lock_guard lock(send_mutex_);
  // A daemon that is gone needs no answer; run() sees the end of the channel.
  ignore(linux::send_all(image::fetch_channel_fd, image::make_frame(static_cast<std::uint8_t>(type), payload)));
}

std::shared_ptr<Registry> Server::registry_of(const std::string& repository) {
  // Whoever asks a pull-through registry chooses the names: what is kept for them must not grow. Tokens are asked for again.
  constexpr std::size_t most_kept = 256;
  std::lock_guard lock(registries_mutex_);
  const std::string& name = repository.empty() ? session_->repository : repository;
  if (auto known = registries_.find(name); known != registries_.end()) return known->second;
  if (registries_.size() >= most_kept) registries_.clear();
  auto session = *session_;
  session.repository = name;
  return registries_[name] = std::make_shared<Registry>(http_, std::move(session));
}

Status Server::begin(image::FetchRequest request) {
  if (!session_) return Error(ErrorKind::corrupt, "a request came before the session");
  auto running = std::make_shared<Running>();
  if (request.has_fd) {
    if (fds_.empty()) return Error(ErrorKind::corrupt, "a request came without its descriptor");
    running->fd = std::move(fds_.front());
    fds_.pop_front();
  }
  running->request = std::move(request);
  const auto number = running->request.number;
  running->ticket.on_progress = [this, number](std::uint64_t bytes) { send(image::FetchFrame::progress, encode(image::FetchProgress{number, bytes})); };
  {
    std::lock_guard lock(running_mutex_);
    if (running_.size() >= most_requests) return Error(ErrorKind::unavailable, "too many requests at once");
    running_[number] = running;
  }
  std::thread([this, running, number] {
    auto reply = registry_of(running->request.repository)->serve(running->request, running->fd.get(), running->ticket);
    running->fd.reset();  // before the reply: whoever has it may be sure that nobody writes any more
    {
      std::lock_guard lock(running_mutex_);
      running_.erase(number);
    }
    send(image::FetchFrame::reply, encode(reply));
  }).detach();  // the process ends by exit, not by joining: a transfer may hang in a lookup
  return {};
}

Status Server::take(image::FetchFrame type, std::string_view payload) {
  switch (type) {
    case image::FetchFrame::session:
      session_ = TRY_PLAIN(decode<image::FetchSession>(payload, "fetch session"));
      return {};
    case image::FetchFrame::request: return begin(TRY_PLAIN(decode<image::FetchRequest>(payload, "fetch request")));
    case image::FetchFrame::cancel: {
      auto number = TRY_PLAIN(decode<std::uint64_t>(payload, "fetch cancel"));
      std::lock_guard lock(running_mutex_);
      if (auto found = running_.find(number); found != running_.end()) found->second->ticket.cancel();
      return {};
    }
    default: return Error(ErrorKind::corrupt, "unknown frame");
  }
}

Status Server::run() {
  image::FrameSplitter frames("the daemon", image::most_fetch_frame_bytes);
  for (;;) {
    auto message = TRY_PLAIN(linux::receive_message(image::fetch_channel_fd, receive_bytes, most_fds_per_message));
    if (message.bytes.empty()) return {};
    for (auto& fd : message.fds) fds_.push_back(std::move(fd));
    TRY_PLAIN(frames.add(message.bytes, [&](std::uint8_t type, std::string_view payload) { return take(static_cast<image::FetchFrame>(type), payload); }));
  }
}

}  // namespace

int fetch_main() {
  // On the heap and never freed: threads of requests may still use it while the process ends.
  auto* server = new Server;
  if (!enter_sandbox().ok()) linux::exit_now(1);
  linux::exit_now(server->run().ok() ? 0 : 1);
}

}  // namespace caisson::fetch
