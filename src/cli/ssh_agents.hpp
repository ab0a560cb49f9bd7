// --ssh of builds: agents of this side, lent to the RUN steps of one build and to nobody else.
#pragma once

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/cancel.hpp"
#include "base/json.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "cli/session.hpp"
#include "linux/process.hpp"

namespace caisson::cli {

/// "ID", or "ID=SOCKET" or "ID=KEY,KEY": docker's --ssh.
struct SshFlag {
  std::string id;
  std::vector<std::string> paths;  ///< none: the agent of SSH_AUTH_SOCK
};
/// Errors: invalid, naming the flag.
Result<std::vector<SshFlag>> parse_ssh_flags(const std::vector<std::string>& flags);

/// Answers what comes by `asker` (`early`: what came already) in the protocol of ssh agents (draft-ietf-sshm-ssh-agent) from `agent`, one request after the other, until one of
/// them ends or `stop` fires. Keys are listed and signed with; whatever would change the agent is refused here, as BuildKit does it.
/// Errors: corrupt (no such protocol), io.
Status serve_agent(int asker, std::string early, int agent, Cancel stop);

/// An `ssh-agent` of our own with these keys, for as long as the object and this process live; in a folder that only its user may enter.
class KeyAgent {
 public:
  /// Errors: not_found (no OpenSSH, no such file), denied (a key that it does not take: a passphrase that nobody gave, a mode too open).
  static Result<KeyAgent> start(const std::string& id, const std::vector<std::string>& keys);
  KeyAgent(KeyAgent&&) noexcept = default;
  KeyAgent& operator=(KeyAgent&&) = delete;
  KeyAgent(const KeyAgent&) = delete;
  KeyAgent& operator=(const KeyAgent&) = delete;
  ~KeyAgent();
  [[nodiscard]] const std::string& socket() const { return socket_; }

 private:
  KeyAgent(linux::ChildProcess keeper, UniqueFd life) : keeper_(std::move(keeper)), life_(std::move(life)) {}
  linux::ChildProcess keeper_;  ///< ends the agent when `life_` is closed
  UniqueFd life_;
  UniqueFd agent_;              ///< pidfd
  std::string socket_;
};

/// What the flags mean here. Agents of our own that were started for it live as long.
struct AgentSources {
  struct Source {
    std::string id;
    std::string socket;
  };
  std::vector<Source> sources;
  std::vector<KeyAgent> own;
  std::string known_hosts;  ///< keys of hosts that the user here believes: git by ssh believes them too
  std::string problem;      ///< why those are not all
};
/// `$HOME/.ssh/known_hosts` goes along, as far as it fits. Errors: invalid, not_found, unavailable, denied: a flag whose agent cannot be had.
Result<AgentSources> open_agents(const std::vector<std::string>& flags);

/// Lends agents to the build that gets extension() along: one request per agent waits at the daemon, and another one as soon as it is used.
class LentAgents {
 public:
  /// `agents` outlive it.
  static Result<std::unique_ptr<LentAgents>> start(Session& session, const AgentSources& agents);
  LentAgents(const LentAgents&) = delete;
  LentAgents& operator=(const LentAgents&) = delete;
  ~LentAgents();

  /// For X-Caisson-Build; empty when nothing is lent.
  [[nodiscard]] json::object extension() const;
  /// What went wrong so far, a line each; they are forgotten then.
  std::vector<std::string> take_problems();

 private:
  using Source = AgentSources::Source;
  struct Use {
    std::thread thread;
    bool has_ended = false;  ///< it does nothing but return any more
  };
  LentAgents(const Invocation& global, const AgentSources& agents, std::string session, UniqueFd stop)
      : global_(global), sources_(agents.sources), known_hosts_(agents.known_hosts), session_(std::move(session)), stop_(std::move(stop)) {}
  void lend(const Source& source);
  Status lend_once(Session& session, const Source& source, bool& is_over);
  void serve(const Source& source, wire::Hijacked taken, Use& use);
  bool has_room();
  void note(const Source& source, const Error& error);

  const Invocation& global_;
  const std::vector<Source>& sources_;
  const std::string& known_hosts_;
  std::string session_;  ///< random: who knows it may use the agents during the build
  UniqueFd stop_;
  std::vector<std::thread> lenders_;
  std::mutex mutex_;
  std::condition_variable use_ended_;
  bool is_stopped_ = false;
  std::list<Use> uses_;
  std::vector<std::string> problems_;
};

}  // namespace caisson::cli
