// Agents on their way to a build: flags, the protocol's frames, an agent for keys, and the requests that wait at the daemon.
#include "cli/ssh_agents.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "base/environment.hpp"
#include "base/ids.hpp"
#include "base/strings.hpp"
#include "cli/stream.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"

namespace caisson::cli {

namespace {

// Of the protocol, section "Message numbers"; the longest message is OpenSSH's.
constexpr std::uint8_t agent_failure = 5;
constexpr std::uint8_t agent_request_identities = 11;
constexpr std::uint8_t agent_sign_request = 13;
constexpr std::uint8_t agent_extension = 27;
constexpr std::size_t longest_message = 256 << 10;
constexpr std::size_t length_bytes = 4;
constexpr std::size_t most_uses = 32;  // at once
/// Tells the agent which host a connection is with, so that it can keep to keys' constraints: it changes that one connection.
constexpr std::string_view session_bind = "session-bind@openssh.com";

std::uint32_t number_at(std::string_view bytes) {
  std::uint32_t number = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) number = number << 8U | static_cast<unsigned char>(bytes[i]);
  return number;
}

bool is_harmless(std::string_view body) {
  const auto type = static_cast<std::uint8_t>(body[0]);
  if (type == agent_request_identities || type == agent_sign_request) return true;
  const auto rest = body.substr(1);
  return type == agent_extension && rest.size() >= length_bytes && rest.substr(length_bytes, number_at(rest)) == session_bind;
}

/// Exactly so many bytes, those of `early` first; fewer when the stream ended, or `stop` fired.
Result<std::string> read_exactly(int fd, std::string& early, std::size_t size, Cancel stop) {
  std::string out = early.substr(0, size);
  early.erase(0, out.size());
  std::size_t have = out.size();
  out.resize(size);
  while (have < size) {
    std::array<linux::PollEntry, 2> entries{{{fd, POLLIN, 0}, {stop.fd, POLLIN, 0}}};
    TRY_PLAIN(linux::poll(entries, -1));
    if (entries[1].revents != 0) break;
    const auto count = TRY_PLAIN(linux::recv(fd, std::span(out).subspan(have)));
    if (count == 0) break;
    have += count;
  }
  out.resize(have);
  return out;
}

/// A whole message with its length; "" at the end.
Result<std::string> read_message(int fd, std::string& early, Cancel stop) {
  auto head = TRY_PLAIN(read_exactly(fd, early, length_bytes, stop));
  if (head.size() < length_bytes) return std::string();
  const auto length = number_at(head);
  if (length == 0 || length > longest_message) return Error(ErrorKind::corrupt, concat("a message of ", length, " bytes is none of an ssh agent's"));
  auto body = TRY_PLAIN(read_exactly(fd, early, length, stop));
  if (body.size() < length) return std::string();
  return head + body;
}

std::string in_path(const std::string& program, const std::string& path) {
  auto found = linux::find_program(program, path.empty() ? "/usr/bin:/bin" : path);
  return found.ok() ? *found : "";
}

Result<std::string> openssh_program(const std::string& name) {
  auto path = in_path(name, environment_text("PATH"));
  if (path.empty()) return Error(ErrorKind::not_found, concat("there is no ", name, " here")).with_hint("install OpenSSH's client (openssh-client)");
  return path;
}

// Debian's ssh-agent is set-group-id, so that no signal at our death reaches it. It runs beside this script, which ends it when its own standard input
// ends: by us, or because we are gone.
constexpr const char* keeper_script = R"(echo "$SSH_AUTH_SOCK $SSH_AGENT_PID"; read -r never; kill "$SSH_AGENT_PID")";
constexpr int agent_end_ms = 10'000;

Status add_key(const std::string& program, const std::string& socket, const std::string& key) {
  auto problems = TRY_PLAIN(linux::pipe2(O_CLOEXEC));
  // It asks for a passphrase where standard input is a terminal, whatever ours is.
  auto terminal = linux::open("/dev/tty", O_RDWR);
  linux::ProcessRequest request;
  request.path = program;
  request.argv = {"ssh-add", "-q", "--", key};
  request.env = whole_environment();
  std::erase_if(request.env, [](const std::string& entry) { return entry.starts_with("SSH_AUTH_SOCK="); });
  request.env.push_back(concat("SSH_AUTH_SOCK=", socket));
  request.fds = {{problems.write_end.get(), 2}};
  if (terminal.ok()) request.fds.push_back({terminal->get(), 0});
  auto process = TRY_PLAIN(linux::spawn_process(request));
  problems.write_end.reset();
  auto said = linux::read_all(problems.read_end.get());
  auto ended = TRY_PLAIN(linux::wait_pidfd(process.pidfd.get()));
  if (ended.exit_code() == 0) return {};
  std::string why(trim(TRY_PLAIN(std::move(said))));
  // A passphrase that is not given ends ssh-add without a word; where it finds no terminal, its question stands among the errors.
  if (why.empty() || why.starts_with("Enter passphrase for ")) why = terminal.ok() ? "it has a passphrase, and none was given" : "it has a passphrase, and there is no terminal to ask for it";
  return Error(ErrorKind::denied, concat("key ", key, ": ", why)).with_hint("add it to an agent with ssh-add first, and give that one");
}

constexpr std::size_t most_known_hosts_bytes = 24U << 10U;  // it travels in the head of the request, which may have 64 KiB

/// Compose files say "~/.ssh/id", which no shell has seen.
std::string with_home(const std::string& path) { return path.starts_with("~/") ? concat(environment_text("HOME"), path.substr(1)) : path; }

/// The socket's path, or "" when the flag names keys.
Result<std::string> socket_of(const SshFlag& flag) {
  if (flag.paths.empty()) {
    auto own = environment_text("SSH_AUTH_SOCK");
    if (own.empty()) return Error(ErrorKind::not_found, "SSH_AUTH_SOCK is not set").with_hint(concat("start an ssh-agent, or name a key: --ssh ", flag.id, "=KEY"));
    return own;
  }
  for (const auto& path : flag.paths) {
    const bool is_socket = S_ISSOCK(TRY(linux::stat(path), path).st_mode);
    if (is_socket && flag.paths.size() > 1) return Error(ErrorKind::invalid, "one agent's socket, or keys");
    if (is_socket) return path;
  }
  return std::string();
}

}  // namespace

Result<std::vector<SshFlag>> parse_ssh_flags(const std::vector<std::string>& flags) {
  std::vector<SshFlag> out;
  std::set<std::string> ids;
  for (const auto& text : flags) {
    auto halves = split_once(text, '=');
    SshFlag flag;
    flag.id = halves.before.empty() ? "default" : std::string(halves.before);
    if (!ids.insert(flag.id).second) return Error(ErrorKind::invalid, concat("--ssh ", text, ": the id ", flag.id, " is given twice"));
    for (auto path : split(halves.after, ','))
      if (!path.empty()) flag.paths.push_back(with_home(std::string(path)));
    out.push_back(std::move(flag));
  }
  return out;
}

Status serve_agent(int asker, std::string early, int agent, Cancel stop) {
  std::string none;
  while (true) {
    auto request = TRY_PLAIN(read_message(asker, early, stop));
    if (request.empty()) return {};
    std::string answer{0, 0, 0, 1, agent_failure};
    if (is_harmless(std::string_view(request).substr(length_bytes))) {
      TRY_PLAIN(linux::send_all(agent, request));
      answer = TRY_PLAIN(read_message(agent, none, stop));
      if (answer.empty()) return {};
    }
    TRY_PLAIN(linux::send_all(asker, answer));
  }
}

Result<KeyAgent> KeyAgent::start(const std::string& id, const std::vector<std::string>& keys) {
  const auto step = concat("--ssh ", id);
  auto program = TRY(openssh_program("ssh-agent"), step);
  auto adder = TRY(openssh_program("ssh-add"), step);
  auto says = TRY(linux::pipe2(O_CLOEXEC), step);
  auto life = TRY(linux::pipe2(O_CLOEXEC), step);
  linux::ProcessRequest request;
  request.path = std::move(program);
  request.argv = {"ssh-agent", "/bin/sh", "-c", keeper_script};
  request.env = whole_environment();
  request.fds = {{life.read_end.get(), 0}, {says.write_end.get(), 1}, {2, 2}};
  request.new_session = true;  // keys on the terminal are for the command line alone
  KeyAgent agent(TRY(linux::spawn_process(request), step), std::move(life.write_end));
  says.write_end.reset();
  std::string said;
  std::string buffer(4096, '\0');
  while (!said.ends_with('\n')) {
    const auto count = TRY(linux::read(says.read_end.get(), buffer), step);
    if (count == 0) break;
    said.append(buffer, 0, count);
  }
  const auto words = split_once(trim(said), ' ');
  const auto pid = parse_integer<int>(words.after);
  if (!pid.ok()) return Error(ErrorKind::unavailable, concat(step, ": ssh-agent did not start"));
  agent.agent_ = TRY(linux::pidfd_open(*pid), concat(step, ": ssh-agent"));
  agent.socket_ = words.before;
  for (const auto& key : keys) TRY(add_key(adder, agent.socket_, key), step);
  return agent;
}

KeyAgent::~KeyAgent() {
  if (!keeper_.pidfd) return;
  life_.reset();
  ignore(linux::wait_pidfd(keeper_.pidfd.get()));  // a child of ours: nobody else reaps it
  if (agent_) ignore(linux::wait_readable(agent_.get(), agent_end_ms));  // it was told to end; its folder goes with it
}

namespace {

void read_known_hosts(AgentSources& out) {
  const auto home = environment_text("HOME");
  auto text = home.empty() ? Result<std::string>(Error(ErrorKind::not_found, "HOME is not set")) : linux::read_file(home + "/.ssh/known_hosts", 16U << 20U);
  if (!text.ok()) {
    if (text.error().kind() != ErrorKind::not_found) out.problem = concat("known hosts are not handed on: ", text.error().text());
    return;
  }
  if (text->size() <= most_known_hosts_bytes) out.known_hosts = std::move(*text);
  else out.problem = concat(home, "/.ssh/known_hosts is too large to be handed on: repositories by ssh take the lines of their hosts as --secret id=GIT_KNOWN_HOSTS,src=FILE");
}

}  // namespace

Result<AgentSources> open_agents(const std::vector<std::string>& flags) {
  AgentSources out;
  for (const auto& flag : TRY_PLAIN(parse_ssh_flags(flags))) {
    const auto step = concat("--ssh ", flag.id);
    auto socket = TRY(socket_of(flag), step);
    if (socket.empty()) {
      out.own.push_back(TRY_PLAIN(KeyAgent::start(flag.id, flag.paths)));
      socket = out.own.back().socket();
    } else {
      auto reached = linux::unix_connect(socket, linux::UnixType::stream);
      if (!reached.ok()) return std::move(reached).error().in(concat(step, ": reach the agent"));
    }
    out.sources.push_back({flag.id, std::move(socket)});
  }
  if (!out.sources.empty()) read_known_hosts(out);
  return out;
}

Result<std::unique_ptr<LentAgents>> LentAgents::start(Session& session, const AgentSources& agents) {
  std::unique_ptr<LentAgents> lent(new LentAgents(session.global(), agents, random_id(), TRY(linux::eventfd(), "--ssh")));
  for (const auto& source : agents.sources) lent->lenders_.emplace_back([&lent = *lent, &source] { lent.lend(source); });
  return lent;
}

LentAgents::~LentAgents() {
  ignore(linux::eventfd_signal(stop_.get()));  // an eventfd of ours takes a count
  {
    std::lock_guard lock(mutex_);
    is_stopped_ = true;
    use_ended_.notify_all();
  }
  for (auto& lender : lenders_) lender.join();
  for (auto& use : uses_) use.thread.join();
}

json::object LentAgents::extension() const {
  if (sources_.empty()) return {};
  json::array ids;
  for (const auto& source : sources_) ids.push_back(json::value(source.id));
  json::object out{{"session", session_}, {"ids", std::move(ids)}};
  if (!known_hosts_.empty()) out["known_hosts"] = known_hosts_;
  return out;
}

std::vector<std::string> LentAgents::take_problems() {
  std::lock_guard lock(mutex_);
  return std::exchange(problems_, {});
}

void LentAgents::note(const Source& source, const Error& error) {
  std::lock_guard lock(mutex_);
  problems_.push_back(concat("ssh agent ", source.id, ": ", error.text()));
}

void LentAgents::lend(const Source& source) {
  if (auto left = leave_signals_to_the_main_thread(); !left.ok()) note(source, left.error());
  // A session of its own: connections and targets of the build's are the build's.
  Session session(global_);
  bool is_over = false;
  while (!is_over) {
    auto lent = lend_once(session, source, is_over);
    if (lent.ok()) continue;
    if (!is_over) note(source, lent.error());
    return;
  }
}

/// Below what the daemon takes, so that many uses at once wait and none is refused. False: the build has ended.
bool LentAgents::has_room() {
  std::unique_lock lock(mutex_);
  use_ended_.wait(lock, [&] {
    for (auto use = uses_.begin(); use != uses_.end();) {
      if (use->has_ended) use->thread.join();
      use = use->has_ended ? uses_.erase(use) : std::next(use);
    }
    return is_stopped_ || uses_.size() < most_uses;
  });
  return !is_stopped_;
}

Status LentAgents::lend_once(Session& session, const Source& source, bool& is_over) {
  is_over = !has_room();
  if (is_over) return {};
  const json::value body = json::object{{"session", session_}, {"id", source.id}};
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.begin_hijack(*client, "/caisson/v1/builds/agents", &body));
  std::array<linux::PollEntry, 2> entries{{{client->fd(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  TRY_PLAIN(linux::poll(entries, -1));
  is_over = entries[1].revents != 0;
  if (is_over) return {};
  auto stream = session.finish_hijack(std::move(client));
  // 503: the build has ended, which the build's own answer tells.
  if (!stream.ok() && stream.error().kind() == ErrorKind::unavailable) is_over = true;
  auto connection = TRY_PLAIN(std::move(stream)).connection;
  std::lock_guard lock(mutex_);
  auto& use = uses_.emplace_back();
  use.thread = std::thread([this, &source, &use, connection = std::move(connection)]() mutable { serve(source, std::move(connection), use); });
  return {};
}

void LentAgents::serve(const Source& source, wire::Hijacked taken, Use& use) {
  {
    const auto connection = std::move(taken);  // closed before the use counts as ended
    auto agent = linux::unix_connect(source.socket, linux::UnixType::stream);
    auto served = agent.ok() ? serve_agent(connection.socket.get(), connection.pending, agent->get(), Cancel{stop_.get()}) : Status(std::move(agent).error());
    // A program of a step that leaves in the middle of an answer is its own business.
    if (!served.ok() && served.error().kind() != ErrorKind::io) note(source, served.error());
  }
  std::lock_guard lock(mutex_);
  use.has_ended = true;
  use_ended_.notify_all();
}

}  // namespace caisson::cli
