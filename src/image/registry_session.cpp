// Starting a fetch process, asking it, and ending it.
#include "image/registry_session.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"

namespace caisson::image {

namespace {

constexpr std::uint32_t nobody = 65534;
/// A cancelled transfer is told so at its next piece, or after at most one second of silence (libcurl's rhythm).
constexpr int cancel_patience_ms = 3000;

/// What libcurl takes its proxies from.
std::vector<std::string> proxy_environment() {
  std::vector<std::string> out;
  for (const char* name : {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"})
    if (const char* value = environment(name); value != nullptr) out.push_back(concat(name, "=", value));
  return out;
}

/// `program`: by descriptor, for it may lie in a folder that its own id cannot enter, as a checkout below /root does.
linux::SpawnRequest fetch_spawn(const FetchOptions& options, int program, int channel) {
  const bool is_root = linux::geteuid() == 0;
  linux::SpawnRequest spawn;
  spawn.process.path = options.path;
  spawn.process.exe_fd = program;
  spawn.process.argv = {"caisson-fetch"};
  spawn.process.env = proxy_environment();
  spawn.process.fds = {{channel, fetch_channel_fd}};
  spawn.process.cwd = "/";
  spawn.process.new_session = true;
  spawn.process.parent_death_signal = options.ends_with_parent ? SIGKILL : 0;
  spawn.namespaces.network = false;  // the one thing it is for
  spawn.id_map = options.id_map;
  if (!is_root && options.id_map.empty()) spawn.namespaces = {false, false, false, false, false, false};
  spawn.uid = spawn.gid = options.host_id != 0 ? options.host_id : nobody;
  spawn.limits = {{RLIMIT_CORE, 0}, {RLIMIT_NOFILE, 1024}};
  return spawn;
}

}  // namespace

Error error_of(const FetchReply& reply) { return {reply.kind, reply.text}; }

void FetchChild::end() {
  if (!pidfd_) return;
  if (!kill_) linux::kill_and_reap(pidfd_.get());
  else if (kill_().ok()) ignore(linux::wait_readable(pidfd_.get(), -1));  // its parent reaps it; one that could not be killed is gone, or takes us along
  pidfd_.reset();
}

std::optional<linux::ExitStatus> FetchChild::take_end() {
  std::optional<linux::ExitStatus> out;
  if (!kill_)
    if (auto status = linux::wait_pidfd(pidfd_.get()); status.ok()) out = *status;
  pidfd_.reset();
  return out;
}

RegistrySession::RegistrySession(FetchProcess process) : channel_(std::move(process.channel)), child_(std::move(process.child)) {}

Result<linux::ChildProcess> spawn_fetch_process(const FetchOptions& options, int channel) {
  if (!TRY_PLAIN(linux::exists(options.path)))
    return Error(ErrorKind::unavailable, concat("registries cannot be reached: ", options.path, " is not installed"))
        .with_hint("it is built when the headers of libcurl are there: apt-get install libcurl4-openssl-dev");
  const UniqueFd program = TRY_PLAIN(linux::open(options.path, O_PATH));
  auto spawned = linux::spawn_sandboxed(fetch_spawn(options, program.get(), channel));
  // In a user namespace that lacks that id (rootless), nobody's does as well.
  if (!spawned.ok() && spawned.error().error_number() == EINVAL && options.host_id != 0 && options.id_map.empty())
    spawned = linux::spawn_sandboxed(fetch_spawn({options.path}, program.get(), channel));
  return TRY(std::move(spawned), concat("start ", options.path));
}

namespace {
Result<FetchProcess> start_here(const FetchOptions& options) {
  auto ends = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
  auto child = TRY_PLAIN(spawn_fetch_process(options, ends.second.get()));
  FetchProcess out;
  out.channel = std::move(ends.first);
  out.child = FetchChild(std::move(child.pidfd));
  return out;
}
}  // namespace

Result<FetchProcess> start_fetch_process(const FetchOptions& options, const FetchSession& session) {
  auto process = options.start_elsewhere ? options.start_elsewhere() : start_here(options);
  if (!process.ok()) return process;
  TRY(linux::send_message(process->channel.get(), make_frame(static_cast<std::uint8_t>(FetchFrame::session), encode(session))), "tell the fetch process what it is for");
  return process;
}

Result<std::unique_ptr<RegistrySession>> RegistrySession::open(const FetchOptions& options, const FetchSession& session) {
  return std::unique_ptr<RegistrySession>(new RegistrySession(TRY_PLAIN(start_fetch_process(options, session))));
}

std::unique_ptr<RegistrySession> RegistrySession::adopt(UniqueFd channel) {
  FetchProcess process;
  process.channel = std::move(channel);
  return std::unique_ptr<RegistrySession>(new RegistrySession(std::move(process)));
}

RegistrySession::~RegistrySession() {
  end_process();
  ignore(linux::shutdown(channel_.get(), SHUT_RDWR));  // wakes the listener when the process was stopped rather than ended
  if (listener_.joinable()) listener_.join();
}

void RegistrySession::end_process() {
  std::lock_guard lock(process_mutex_);
  child_.end();
}

Status RegistrySession::send(FetchFrame type, std::string_view payload, int fd) {
  const auto frame = make_frame(static_cast<std::uint8_t>(type), payload);
  std::lock_guard lock(send_mutex_);
  std::array<int, 1> fds{fd};
  return linux::send_message(channel_.get(), frame, fd < 0 ? std::span<const int>() : std::span<const int>(fds));
}

void RegistrySession::listen() {
  FrameSplitter frames("the fetch process", most_fetch_frame_bytes);
  std::string buffer(64 << 10, '\0');
  for (;;) {
    auto got = linux::read(channel_.get(), buffer);
    if (!got.ok() || *got == 0) break;
    auto status = frames.add(std::string_view(buffer).substr(0, *got),
                             [&](std::uint8_t type, std::string_view payload) { return dispatch(static_cast<FetchFrame>(type), payload); });
    if (!status.ok()) break;  // it is out of its mind: fail_all() says that it ended
  }
  fail_all();
}

Status RegistrySession::dispatch(FetchFrame type, std::string_view payload) {
  std::uint64_t number = 0;
  std::optional<FetchReply> reply;
  std::uint64_t bytes = 0;
  if (type == FetchFrame::progress) {
    auto progress = TRY_PLAIN(decode<FetchProgress>(payload, "fetch progress"));
    number = progress.number;
    bytes = progress.bytes;
  } else if (type == FetchFrame::reply) {
    reply = TRY_PLAIN(decode<FetchReply>(payload, "fetch reply"));
    number = reply->number;
  } else {
    return Error(ErrorKind::corrupt, "the fetch process sent an unknown message");
  }
  std::lock_guard lock(pending_mutex_);
  auto found = pending_.find(number);
  if (found == pending_.end()) return {};
  auto& pending = *found->second;
  if (reply) {
    std::lock_guard reply_lock(pending.mutex);
    pending.reply = std::move(reply);
  } else {
    pending.bytes = bytes;
  }
  return linux::eventfd_signal(pending.wake.get());
}

void RegistrySession::fail_all() {
  std::lock_guard lock(pending_mutex_);
  has_ended_ = true;
  for (auto& [number, pending] : pending_) {
    {
      std::lock_guard reply_lock(pending->mutex);
      if (pending->reply) continue;
      FetchReply reply;
      reply.kind = ErrorKind::io;
      reply.text = "the fetch process ended before it was done";
      pending->reply = std::move(reply);
    }
    ignore(linux::eventfd_signal(pending->wake.get()));  // an eventfd of ours cannot be full
  }
}

Result<FetchReply> RegistrySession::call(FetchRequest request, int fd, const OnProgress& on_progress, std::span<const int> cancel_fds) {
  auto pending = std::make_shared<Pending>();
  pending->wake = TRY_PLAIN(linux::eventfd());
  {
    std::lock_guard lock(pending_mutex_);
    if (has_ended_) return Error(ErrorKind::io, "the fetch process has ended");
    // Not before the first call: a thread would keep the rights that the registry server gives up after opening its sessions.
    if (!listener_.joinable()) listener_ = std::thread([this] { listen(); });
    request.number = next_number_++;
    pending_[request.number] = pending;
  }
  request.has_fd = fd >= 0;
  Status sent = send(FetchFrame::request, encode(request), fd);
  const bool is_sent = sent.ok();
  auto reply = is_sent ? await(*pending, request.number, on_progress, cancel_fds) : Result<FetchReply>(std::move(sent).error());
  std::lock_guard lock(pending_mutex_);
  pending_.erase(request.number);
  if (!is_sent) has_ended_ = true;  // the listener is about to hear it too
  return reply;
}

bool RegistrySession::has_ended() {
  std::lock_guard lock(pending_mutex_);
  return has_ended_;
}

Result<FetchReply> RegistrySession::await(Pending& pending, std::uint64_t number, const OnProgress& on_progress, std::span<const int> cancel_fds) {
  bool is_cancelled = false;
  std::uint64_t reported = 0;
  for (;;) {
    std::vector<linux::PollEntry> entries;
    entries.push_back({pending.wake.get(), POLLIN, 0});
    if (!is_cancelled)
      for (int fd : cancel_fds) entries.push_back({fd, POLLIN | POLLRDHUP, 0});  // -1 is ignored by poll
    const int ready = TRY_PLAIN(linux::poll(entries, is_cancelled ? cancel_patience_ms : -1));
    if (ready == 0) end_process();  // it did not listen; its end closes the descriptor it writes to
    if (std::any_of(entries.begin() + 1, entries.end(), [](const auto& entry) { return entry.revents != 0; })) {
      is_cancelled = true;
      ignore(send(FetchFrame::cancel, encode(number)));  // if that fails the process is gone, and the reply says so
    }
    TRY_PLAIN(linux::eventfd_take(pending.wake.get()));
    std::optional<FetchReply> reply;
    {
      std::lock_guard lock(pending.mutex);
      reply = std::move(pending.reply);
      pending.reply.reset();
    }
    const std::uint64_t bytes = pending.bytes;
    if (bytes > reported && on_progress && !is_cancelled) {
      reported = bytes;
      on_progress(bytes);
    }
    if (!reply) continue;
    if (is_cancelled) return Error(ErrorKind::unavailable, "cancelled", ECANCELED);
    return std::move(*reply);
  }
}

Result<FetchReply> RegistrySession::ask(FetchRequest request, const Cancel& cancel) {
  auto reply = TRY_PLAIN(call(std::move(request), -1, {}, std::array{cancel.fd}));
  if (!reply.ok) return error_of(reply);
  return reply;
}

}  // namespace caisson::image
