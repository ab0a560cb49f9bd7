// ssh as a transport, and the other end of it.
#include "cli/dial.hpp"

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/stream.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"

namespace caisson::cli {

namespace {

Error bad(std::string_view endpoint, std::string_view why) { return {ErrorKind::invalid, concat("invalid ssh endpoint \"", endpoint, "\": ", why)}; }

// Words that the other side's shell must take as they are.
std::string quoted(std::string_view word) { return concat("'", replace_all(word, "'", R"('\'')"), "'"); }

// A host with only one of the two answers; which shell is the user's there is not known, so /bin/sh is asked by name.
std::string remote_command(std::string_view socket) {
  const std::string host = socket.empty() ? "" : concat(" -H ", quoted(concat("unix://", socket)));
  const std::string script = concat("command -v caisson >/dev/null 2>&1 && exec caisson", host, " system dial-stdio; exec docker", host, " system dial-stdio");
  return concat("exec /bin/sh -c ", quoted(script));
}

}  // namespace

Result<std::vector<std::string>> ssh_command(std::string_view endpoint) {
  std::string_view rest = endpoint;
  rest.remove_prefix(std::string_view("ssh://").size());
  if (rest.find_first_of("?#") != std::string_view::npos) return bad(endpoint, "it has a query or a fragment");
  const auto slash = rest.find('/');
  std::string_view authority = rest.substr(0, slash);
  std::string_view socket = slash == std::string_view::npos ? std::string_view() : rest.substr(slash);
  if (socket == "/") socket = {};
  const auto at = split_last(authority, '@');
  std::string_view user = at.found ? at.before : std::string_view();
  std::string_view host = at.found ? at.after : authority;
  if (user.find(':') != std::string_view::npos) return bad(endpoint, "plain-text passwords are not supported");
  std::string_view port;
  if (const auto colon = split_last(host, ':'); colon.found && !host.ends_with(']')) {
    host = colon.before;
    port = colon.after;
    if (!parse_integer<std::uint16_t>(port).ok()) return bad(endpoint, concat("\"", port, "\" is no port"));
  }
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  // "--" would do for OpenSSH's host, but not for its user (CVE-2017-1000117 and its kin).
  if (host.empty() || host.front() == '-' || user.starts_with('-')) return bad(endpoint, "it names no host");
  std::vector<std::string> command = {"ssh", "-o", "ConnectTimeout=30", "-T"};
  if (!user.empty()) command.insert(command.end(), {"-l", std::string(user)});
  if (!port.empty()) command.insert(command.end(), {"-p", std::string(port)});
  command.insert(command.end(), {"--", std::string(host), remote_command(socket)});
  return command;
}

Result<std::unique_ptr<wire::Client>> connect_by_ssh(const std::string& endpoint) {
  auto command = TRY_PLAIN(ssh_command(endpoint));
  const char* path = environment("PATH");
  linux::ProcessRequest request;
  request.path = TRY(linux::find_program(command[0], path == nullptr ? "/usr/bin:/bin" : path), concat("reach ", endpoint));
  request.argv = std::move(command);
  request.env = whole_environment();  // ssh needs HOME and SSH_AUTH_SOCK
  auto ends = TRY(linux::socketpair(linux::UnixType::stream), "make a socket for ssh");
  request.fds = {{ends.second.get(), 0}, {ends.second.get(), 1}, {2, 2}};
  request.parent_death_signal = 0;  // it ends by itself when our end of the socket is closed
  TRY(linux::spawn_process(request), "start ssh");
  return wire::client_over(std::move(ends.first), "localhost");
}

Result<int> dial_stdio(Session& session, const Invocation& /*invocation*/) {
  auto signals = TRY_PLAIN(SignalGuard::create());
  auto client = TRY_PLAIN(session.connect());
  PumpOptions options;
  options.is_multiplexed = false;
  options.takes_input = true;
  options.passes_signals = false;
  auto result = TRY_PLAIN(pump(client->release(), options, signals));
  return result.end == StreamEnd::interrupted ? 128 + result.signal : 0;
}

}  // namespace caisson::cli
