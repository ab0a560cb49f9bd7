// Sessions of lent agents, and the sockets that RUN steps see.
#include "build/ssh_agents.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"

namespace caisson::build {

namespace {

constexpr std::size_t least_name_digits = 32;  // 128 bits: nobody guesses a session
constexpr std::size_t most_name_digits = 128;
constexpr std::size_t most_id_bytes = 256;
constexpr std::int64_t ns_per_ms = 1'000'000;

Status check_session_name(const std::string& name) {
  const bool fits = name.size() >= least_name_digits && name.size() <= most_name_digits && name.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (fits) return {};
  return Error(ErrorKind::invalid, "ssh agents: a session's name is 32 to 128 hexadecimal digits");
}

/// Of TCP callers the port is another one with each connection.
std::string_view way_of(const engine::Caller& caller) { return std::string_view(caller.source).substr(0, caller.source.find(':')); }
bool is_same(const engine::Caller& one, const engine::Caller& other) { return one.uid == other.uid && one.role == other.role && way_of(one) == way_of(other); }

Error build_is_over() { return {ErrorKind::unavailable, "ssh agents: the build has ended"}; }

}  // namespace

class AgentSessions::Seat {
 public:
  Seat(AgentSessions& sessions, std::string name, std::shared_ptr<Session> session) : sessions_(sessions), name_(std::move(name)), session_(std::move(session)) { ++session_->seats; }
  Seat(const Seat&) = delete;
  Seat& operator=(const Seat&) = delete;
  ~Seat() {
    std::lock_guard lock(sessions_.mutex_);
    --session_->seats;
    sessions_.leave(name_, session_);
  }

 private:
  AgentSessions& sessions_;
  std::string name_;
  std::shared_ptr<Session> session_;
};

Result<std::shared_ptr<AgentSessions::Session>> AgentSessions::find(const engine::Caller& caller, const std::string& name) {
  TRY_PLAIN(check_session_name(name));
  if (auto known = sessions_.find(name); known != sessions_.end()) {
    if (!is_same(known->second->owner, caller)) return Error(ErrorKind::denied, "ssh agents: the session is another user's");
    return known->second;
  }
  if (sessions_.size() >= limits_.sessions) return Error(ErrorKind::conflict, concat("ssh agents: ", limits_.sessions, " sessions are as many as there may be"));
  auto session = std::make_shared<Session>();
  session->owner = caller;
  session->over = TRY(linux::eventfd(), "ssh agents");
  sessions_[name] = session;
  return session;
}

void AgentSessions::leave(const std::string& name, const std::shared_ptr<Session>& session) {
  if (session->has_build || session->seats != 0) return;
  auto known = sessions_.find(name);  // once the build is over, the name may be somebody else's
  if (known != sessions_.end() && known->second == session) sessions_.erase(known);
}

Result<AgentUse> AgentSessions::wait_for_use(const engine::Caller& caller, const std::string& name, const std::string& id, Cancel client) {
  if (id.empty() || id.size() > most_id_bytes) return Error(ErrorKind::invalid, "ssh agents: an agent's id is 1 to 256 bytes");
  AgentUse use;
  Waiter waiter;
  waiter.id = id;
  waiter.wake = TRY(linux::eventfd(), "ssh agents");
  std::shared_ptr<Session> session;
  {
    std::lock_guard lock(mutex_);
    session = TRY_PLAIN(find(caller, name));
    if (session->seats >= limits_.per_session) return Error(ErrorKind::conflict, concat("ssh agents: ", limits_.per_session, " connections are as many as a build may have"));
    use.seat = std::make_shared<Seat>(*this, name, session);
    auto& calls = session->calls;
    auto call = std::find_if(calls.begin(), calls.end(), [&](const Call& waiting) { return waiting.id == id; });
    if (call != calls.end()) {
      waiter.connection = std::move(call->connection);
      calls.erase(call);
    } else {
      session->waiters.push_back(&waiter);
    }
  }
  if (!waiter.connection) {
    std::array<linux::PollEntry, 3> entries{{{waiter.wake.get(), POLLIN, 0}, {session->over.get(), POLLIN, 0}, {client.fd, POLLIN, 0}}};
    auto waited = linux::poll(entries, -1);
    std::lock_guard lock(mutex_);
    session->waiters.remove(&waiter);
    TRY(std::move(waited), "ssh agents");
    if (session->is_over) return build_is_over();
    if (!waiter.connection) return Error(ErrorKind::unavailable, "ssh agents: the client left", ECANCELED);
  }
  use.connection = std::move(waiter.connection);
  use.over = Cancel{session->over.get()};  // the seat keeps it
  return use;
}

Result<std::unique_ptr<BuildAgents>> AgentSessions::begin(const engine::Caller& caller, const std::string& name) {
  std::lock_guard lock(mutex_);
  auto session = TRY_PLAIN(find(caller, name));
  if (session->has_build) return Error(ErrorKind::conflict, "ssh agents: another build has this session");
  session->has_build = true;
  return std::make_unique<BuildAgents>(*this, name, std::move(session));
}

BuildAgents::~BuildAgents() {
  std::lock_guard lock(sessions_.mutex_);
  session_->has_build = false;
  session_->is_over = true;
  session_->calls.clear();
  ignore(linux::eventfd_signal(session_->over.get()));  // an eventfd of ours takes a count
  sessions_.sessions_.erase(name_);
}

Status BuildAgents::call(const std::string& id, UniqueFd connection, const void* from) {
  std::lock_guard lock(sessions_.mutex_);
  auto& waiters = session_->waiters;
  auto waiter = std::find_if(waiters.begin(), waiters.end(), [&](const AgentSessions::Waiter* waiting) { return waiting->id == id; });
  if (waiter != waiters.end()) {
    (*waiter)->connection = std::move(connection);
    ignore(linux::eventfd_signal((*waiter)->wake.get()));  // an eventfd of ours takes a count
    waiters.erase(waiter);
    return {};
  }
  if (session_->calls.size() >= sessions_.limits_.per_session) return Error(ErrorKind::conflict, concat("ssh agent ", id, ": too many connections wait for it"));
  session_->calls.push_back({id, std::move(connection), monotonic_ns() + sessions_.limits_.patience_ms * ns_per_ms, from});
  return {};
}

std::size_t BuildAgents::drop(const void* from, bool only_late) {
  std::lock_guard lock(sessions_.mutex_);
  const auto now = monotonic_ns();
  return std::erase_if(session_->calls, [&](const AgentSessions::Call& call) { return call.from == from && (!only_late || call.deadline_ns <= now); });
}

std::int64_t BuildAgents::next_deadline(const void* from) {
  std::lock_guard lock(sessions_.mutex_);
  for (const auto& call : session_->calls)
    if (call.from == from) return call.deadline_ns;  // they wait in the order they came
  return 0;
}

Result<std::unique_ptr<AgentSocket>> AgentSocket::open(const Place& place, std::string id, BuildAgents& agents, std::function<void(std::string)> warn) {
  auto listener = TRY_PLAIN(linux::unix_listen(place.path, linux::UnixType::stream, place.mode & 0777));
  TRY_PLAIN(linux::fchownat(AT_FDCWD, place.path, place.uid, place.gid, AT_SYMLINK_NOFOLLOW));
  auto stop = TRY_PLAIN(linux::eventfd());
  return std::unique_ptr<AgentSocket>(new AgentSocket(std::move(listener), std::move(stop), std::move(id), agents, std::move(warn)));
}

AgentSocket::AgentSocket(UniqueFd listener, UniqueFd stop, std::string id, BuildAgents& agents, std::function<void(std::string)> warn)
    : listener_(std::move(listener)), stop_(std::move(stop)), id_(std::move(id)), agents_(agents), warn_(std::move(warn)), thread_([this] { run(); }) {}

AgentSocket::~AgentSocket() {
  ignore(linux::eventfd_signal(stop_.get()));  // an eventfd of ours takes a count
  thread_.join();
  agents_.drop(this, false);
}

void AgentSocket::run() {
  while (true) {
    const auto deadline = agents_.next_deadline(this);
    const auto left_ms = deadline == 0 ? -1 : std::max<std::int64_t>(deadline - monotonic_ns(), 0) / ns_per_ms + 1;
    std::array<linux::PollEntry, 2> entries{{{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
    auto ready = linux::poll(entries, static_cast<int>(left_ms));
    if (!ready.ok() || entries[1].revents != 0) return;
    if (agents_.drop(this, true) != 0) warn_(concat("ssh agent ", id_, ": the client that lends it did not take a connection in time"));
    if (entries[0].revents == 0) continue;
    auto connection = linux::accept4(listener_.get());
    if (!connection.ok()) return warn_(concat("ssh agent ", id_, " is not served any more: ", connection.error().text()));
    auto called = agents_.call(id_, std::move(*connection), this);
    if (!called.ok()) warn_(called.error().text());
  }
}

}  // namespace caisson::build
