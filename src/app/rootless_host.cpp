// The supervisor's answers.
#include "app/rootless_host.hpp"

#include <utility>

#include "base/codec.hpp"
#include "base/strings.hpp"
#include "engine/liveness.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/process.hpp"
#include "linux/rtnetlink.hpp"
#include "linux/socket.hpp"
#include "network/bridge.hpp"
#include "network/port_reservations.hpp"

namespace caisson::app {

namespace {
constexpr std::uint32_t nobody = 65534;

HostServices::Reply yes_or_no(bool is_so) {
  HostServices::Reply reply;
  reply.answer.is_yes = is_so;
  return reply;
}
}  // namespace

Result<linux::IdMap> fetch_id_map(const linux::IdMap& engine) {
  const auto uid = linux::map_to_outside(engine.uids, nobody);
  const auto gid = linux::map_to_outside(engine.gids, nobody);
  if (!uid || !gid) return Error(ErrorKind::invalid, concat("the ids of this engine have no ", nobody));
  return linux::IdMap{{{nobody, *uid, 1}}, {{nobody, *gid, 1}}};
}

HostAnswer refusal(const Error& error) {
  HostAnswer answer;
  answer.kind = error.kind();
  answer.error_number = error.error_number();
  answer.text = error.text();
  answer.hint = error.hint();
  return answer;
}

Result<HostServices::Reply> HostServices::answer(std::string_view bytes) {
  const auto request = TRY_PLAIN(decode<HostRequest>(bytes, "request of the engine"));
  if (request.task > HostTask::end_fetch || request.protocol > network::Protocol::sctp) return Error(ErrorKind::corrupt, "request of the engine: nothing that it could ask for");
  auto done = carry_out(request);
  if (done.ok()) return done;
  Reply refused;
  refused.answer = refusal(done.error());
  return refused;
}

Result<HostServices::Reply> HostServices::carry_out(const HostRequest& request) {
  switch (request.task) {
    case HostTask::is_of_host: {
      auto shares = engine::is_in_our_namespaces(request.pid);
      return yes_or_no(shares.ok() && *shares);
    }
    case HostTask::bind_port: {
      auto reply = yes_or_no(true);
      reply.fds.push_back(TRY_PLAIN(network::bind_host_port(request.protocol, TRY_PLAIN(linux::SocketAddress::parse(request.address, request.port)))));
      return reply;
    }
    case HostTask::is_subnet_free: {
      const auto subnet = TRY_PLAIN(linux::parse_ipv4_prefix(request.address));
      auto socket = TRY_PLAIN(linux::open_rtnetlink());
      return yes_or_no(TRY_PLAIN(network::is_subnet_free(socket, subnet, "")));
    }
    case HostTask::start_fetch: return start_fetch();
    case HostTask::end_fetch: TRY_PLAIN(end_fetch(request.pid)); return yes_or_no(true);
  }
  return Error(ErrorKind::internal, "request of the engine: unknown");
}

Result<HostServices::Reply> HostServices::start_fetch() {
  // As the user himself it would reach his other sockets and files wherever the kernel has no Landlock.
  if (fetch_.id_map.empty()) return Error(ErrorKind::unavailable, "there are no ids for a process that speaks to registries");
  auto ends = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
  auto child = TRY_PLAIN(image::spawn_fetch_process(fetch_, ends.second.get()));
  auto theirs = linux::dup(child.pidfd.get());
  if (!theirs.ok()) {
    linux::kill_and_reap(child.pidfd.get());
    return std::move(theirs).error();
  }
  fetches_[child.pid] = std::move(child.pidfd);
  auto reply = yes_or_no(true);
  reply.answer.pid = child.pid;
  reply.fds.push_back(std::move(ends.first));
  reply.fds.push_back(std::move(*theirs));
  return reply;
}

Status HostServices::end_fetch(std::int32_t pid) {
  const auto found = fetches_.find(pid);
  if (found == fetches_.end()) return Error(ErrorKind::not_found, concat("process ", pid, " is none that was started for fetching"));
  return linux::pidfd_send_signal(found->second.get(), SIGKILL);  // a zombie takes it, too
}

std::vector<int> HostServices::fetch_pidfds() const {
  std::vector<int> out;
  for (const auto& [pid, pidfd] : fetches_) out.push_back(pidfd.get());
  return out;
}

void HostServices::reap_fetches() {
  for (auto fetch = fetches_.begin(); fetch != fetches_.end();) {
    const auto ended = linux::try_wait_pidfd(fetch->second.get());
    const bool is_gone = !ended.ok() || *ended;
    fetch = is_gone ? fetches_.erase(fetch) : std::next(fetch);
  }
}

}  // namespace caisson::app
