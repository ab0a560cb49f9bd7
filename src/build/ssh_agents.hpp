// The agents that clients lend to their builds: requests of clients that wait on one side, connections of RUN steps on the other.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "build/builder.hpp"
#include "engine/types.hpp"

namespace caisson::build {

struct AgentLimits {
  std::size_t sessions = 256;
  std::size_t per_session = 64;  ///< waiting requests and connections in use; as many connections that nobody has taken
  int patience_ms = 20'000;      ///< how long a connection of a RUN waits for a request of the client
};

class BuildAgents;

/// Brings both sides together, by the session's random name and the agent's id. Thread-safe.
class AgentSessions {
 public:
  explicit AgentSessions(AgentLimits limits = {}) : limits_(limits) {}
  AgentSessions(const AgentSessions&) = delete;
  AgentSessions& operator=(const AgentSessions&) = delete;

  /// The client's side: waits for a connection to the agent `id`. The session may be of a build that has yet to come.
  /// Errors: invalid (names), denied (another user's session), conflict (too many), unavailable (the build ended, the client left).
  Result<AgentUse> wait_for_use(const engine::Caller& caller, const std::string& session, const std::string& id, Cancel client);
  /// The build's side. Errors: invalid, denied, conflict (another build has the session).
  Result<std::unique_ptr<BuildAgents>> begin(const engine::Caller& caller, const std::string& session);

 private:
  friend class BuildAgents;
  struct Waiter {
    std::string id;
    UniqueFd wake;
    UniqueFd connection;
  };
  struct Call {
    std::string id;
    UniqueFd connection;
    std::int64_t deadline_ns = 0;
    const void* from = nullptr;
  };
  struct Session {
    engine::Caller owner;
    bool has_build = false;
    bool is_over = false;
    UniqueFd over;  ///< readable for good once the build has ended
    std::size_t seats = 0;
    std::list<Waiter*> waiters;
    std::deque<Call> calls;
  };
  /// What keeps a session known: a waiting request or a connection in use.
  class Seat;

  /// Precondition: the mutex is held.
  Result<std::shared_ptr<Session>> find(const engine::Caller& caller, const std::string& name);
  void leave(const std::string& name, const std::shared_ptr<Session>& session);

  const AgentLimits limits_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Session>> sessions_;
};

/// The session of a build that is going on; with it everything that was lent ends.
class BuildAgents {
 public:
  BuildAgents(AgentSessions& sessions, std::string name, std::shared_ptr<AgentSessions::Session> session) : sessions_(sessions), name_(std::move(name)), session_(std::move(session)) {}
  BuildAgents(const BuildAgents&) = delete;
  BuildAgents& operator=(const BuildAgents&) = delete;
  ~BuildAgents();

  /// Somebody has connected to the agent `id`. `from` tells whose call it is. Errors: conflict (too many wait).
  Status call(const std::string& id, UniqueFd connection, const void* from);
  /// Forgets the calls of `from` that have waited too long, or all of them. Returns how many.
  std::size_t drop(const void* from, bool only_late);
  /// When the first of those is late; 0: none waits.
  std::int64_t next_deadline(const void* from);

 private:
  AgentSessions& sessions_;
  std::string name_;
  std::shared_ptr<AgentSessions::Session> session_;
};

/// The socket that a RUN finds in place of an agent's; takes connections for as long as it lives.
class AgentSocket {
 public:
  struct Place {
    std::string path;  ///< in a private folder
    std::uint32_t mode = 0600;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
  };
  /// `warn` is called from a thread of its own. `agents` outlives it.
  static Result<std::unique_ptr<AgentSocket>> open(const Place& place, std::string id, BuildAgents& agents, std::function<void(std::string)> warn);
  AgentSocket(const AgentSocket&) = delete;
  AgentSocket& operator=(const AgentSocket&) = delete;
  ~AgentSocket();

 private:
  AgentSocket(UniqueFd listener, UniqueFd stop, std::string id, BuildAgents& agents, std::function<void(std::string)> warn);
  void run();

  UniqueFd listener_;
  UniqueFd stop_;
  std::string id_;
  BuildAgents& agents_;
  std::function<void(std::string)> warn_;
  std::thread thread_;
};

}  // namespace caisson::build
