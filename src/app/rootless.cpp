// The engine's side of its supervisor, and the ids that it gets.
#include "app/rootless.hpp"

#include <array>

#include "base/codec.hpp"
#include "base/environment.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/subordinate_ids.hpp"

namespace caisson::app {

namespace {
constexpr const char* channel_variable = "CAISSON_ROOTLESS_CHANNEL";
constexpr std::uint32_t last_id = 65535;      // containers map 65536 ids where there are as many
constexpr std::uint32_t ids_needed = 65534;   // images use 0 to 65534 (nobody), of which 0 is the user; a container's own user has no more in it
constexpr std::size_t longest_answer_bytes = 16384;
constexpr std::size_t most_answer_fds = 2;

Error refused(const HostAnswer& answer) { return Error(answer.kind, answer.text, answer.error_number).with_hint(answer.hint); }

Result<std::vector<linux::IdMapping>> map_of(const std::string& text, const char* path, const char* option, const std::string& user, std::uint32_t id, std::uint32_t own) {
  const auto ranges = linux::subordinate_ids(text, user, id);
  const std::string mend = concat("sudo usermod ", option, " 100000-165535 ", user.empty() ? concat("USER-", id) : user,
                                  "   # or another range of 65536 that nobody has");
  if (ranges.empty()) return Error(ErrorKind::not_found, concat(path, ": no range of ids for ", user.empty() ? concat("uid ", id) : user)).with_hint(mend);
  auto map = linux::map_of_user(own, ranges, last_id);
  const std::uint32_t mapped = map.back().inside + map.back().count;
  if (mapped <= ids_needed) return Error(ErrorKind::invalid, concat(path, ": gives ", user, " ", mapped - 1, " ids, and containers need ", ids_needed)).with_hint(mend);
  return map;
}
/// "0.0.0.0", "::1".
std::string address_without_port(const linux::SocketAddress& address) {
  const std::string text = address.text();
  std::string_view host = split_last(text, ':').before;
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  return std::string(host);
}
}  // namespace

Result<linux::IdMap> rootless_id_map(const std::string& subuid, const std::string& subgid, const std::string& user, std::uint32_t uid, std::uint32_t gid) {
  linux::IdMap map;
  map.uids = TRY_PLAIN(map_of(subuid, "/etc/subuid", "--add-subuids", user, uid, uid));
  map.gids = TRY_PLAIN(map_of(subgid, "/etc/subgid", "--add-subgids", user, uid, gid));
  return map;
}

bool HostSide::is_there() { return environment(channel_variable) != nullptr; }

std::string HostSide::variable(int channel) { return concat(channel_variable, "=", channel); }

Result<std::shared_ptr<HostSide>> HostSide::open() {
  const std::string text = environment_text(channel_variable);
  const auto number = TRY(parse_integer<int>(text), channel_variable);
  if (linux::in_initial_user_namespace()) return Error(ErrorKind::invalid, concat(channel_variable, ": only a supervisor sets it"));
  TRY(linux::set_close_on_exec(number, true), channel_variable);
  return std::shared_ptr<HostSide>(new HostSide(UniqueFd(number)));
}

Result<HostSide::Reply> HostSide::ask(HostRequest request) {
  std::lock_guard lock(mutex_);
  auto exchange = [&]() -> Result<linux::Message> {
    TRY_PLAIN(linux::send_message(channel_.get(), encode(request)));
    return linux::receive_message(channel_.get(), longest_answer_bytes, most_answer_fds);
  };
  auto message = exchange();
  if (message.ok() && message->bytes.empty()) message = Error(ErrorKind::io, "it has ended");
  if (!message.ok()) return std::move(message).error().in("the supervisor of this engine").with_kind(ErrorKind::unavailable);
  Reply reply;
  reply.answer = TRY_PLAIN(decode<HostAnswer>(message->bytes, "the supervisor's answer"));
  reply.fds = std::move(message->fds);
  return reply;
}

Result<UniqueFd> HostSide::bind_port(network::Protocol protocol, const linux::SocketAddress& address) {
  HostRequest request;
  request.task = HostTask::bind_port;
  request.protocol = protocol;
  request.address = address_without_port(address);
  request.port = address.port();
  auto reply = TRY_PLAIN(ask(std::move(request)));
  if (!reply.answer.is_yes) return refused(reply.answer);
  if (reply.fds.size() != 1) return Error(ErrorKind::internal, "the supervisor sent no socket");
  return std::move(reply.fds.front());
}

Result<bool> HostSide::is_of_host(pid_t pid) {
  HostRequest request;
  request.pid = pid;
  return TRY_PLAIN(ask(std::move(request))).answer.is_yes;
}

Result<bool> HostSide::is_subnet_free(const linux::Ipv4Prefix& subnet) {
  HostRequest request;
  request.task = HostTask::is_subnet_free;
  request.address = linux::to_string(subnet);
  const auto answer = TRY_PLAIN(ask(std::move(request))).answer;
  if (!answer.text.empty()) return refused(answer);
  return answer.is_yes;
}

Result<image::FetchProcess> HostSide::start_fetch() {
  HostRequest request;
  request.task = HostTask::start_fetch;
  auto reply = TRY_PLAIN(ask(std::move(request)));
  if (!reply.answer.is_yes) return refused(reply.answer);
  if (reply.fds.size() != 2) return Error(ErrorKind::internal, "the supervisor sent no channel");
  image::FetchProcess process;
  process.channel = std::move(reply.fds[0]);
  // Shared: a fetch process may be ended by whoever is the last to use this side.
  process.child = image::FetchChild(std::move(reply.fds[1]), [self = shared_from_this(), pid = reply.answer.pid] { return self->end_fetch(pid); });
  return process;
}

Status HostSide::end_fetch(std::int32_t pid) {
  HostRequest request;
  request.task = HostTask::end_fetch;
  request.pid = pid;
  const auto answer = TRY_PLAIN(ask(std::move(request))).answer;
  if (!answer.is_yes) return refused(answer);
  return {};
}

}  // namespace caisson::app
