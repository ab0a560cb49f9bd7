// Starting pasta or slirp4netns.
#include "app/rootless_uplink.hpp"

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/rtnetlink.hpp"
#include "linux/spawn.hpp"

namespace caisson::app {

namespace {
constexpr std::string_view program_folders = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
constexpr const char* interface_name = "uplink";
constexpr std::int64_t start_timeout_ns = 10'000'000'000;
constexpr int look_again_ms = 5;
constexpr std::size_t log_tail_bytes = 1000;

std::string name_of(RootlessNetwork kind) { return kind == RootlessNetwork::pasta ? "pasta" : "slirp4netns"; }

std::string package_of(RootlessNetwork kind) { return kind == RootlessNetwork::pasta ? "passt" : "slirp4netns"; }

std::string log_tail(const std::string& path) {
  std::string text = linux::read_file(path).value_or("");
  if (text.size() > log_tail_bytes) text.erase(0, text.size() - log_tail_bytes);
  return std::string(trim(text));
}

bool is_connected(int holder) {
  return has_default_route(linux::read_kernel_file(concat("/proc/", holder, "/net/route")).value_or(""),
                           linux::read_kernel_file(concat("/proc/", holder, "/net/ipv6_route")).value_or(""));
}
}  // namespace

Result<UplinkProgram> find_uplink(RootlessNetwork wanted) {
  if (wanted == RootlessNetwork::none) return UplinkProgram{};
  for (const auto kind : {RootlessNetwork::pasta, RootlessNetwork::slirp4netns}) {
    if (wanted != RootlessNetwork::automatic && wanted != kind) continue;
    auto path = linux::find_program(name_of(kind), program_folders);
    if (path.ok()) return UplinkProgram{kind, *path};
    if (wanted == kind) return Error(ErrorKind::not_found, concat("--rootless-network ", name_of(kind), ": not installed")).with_hint(concat("apt-get install ", package_of(kind)));
  }
  return UplinkProgram{};
}

std::vector<std::string> uplink_command(const UplinkProgram& program, int holder, bool resolves) {
  const std::string folder = concat("/proc/", holder, "/ns/");
  if (program.kind == RootlessNetwork::slirp4netns)
    // The host's loopback stays closed to containers; ports are published by us.
    return {program.path, "--configure", "--mtu=65520", "--disable-host-loopback", concat(holder), interface_name};
  // No port is forwarded by itself in either direction, and the gateway's address does not stand for the host's loopback.
  std::vector<std::string> words{program.path, "--foreground", "--quiet", "--config-net", "--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none",
                                 "--ns-ifname", interface_name, "--userns", folder + "user", "--netns", folder + "net"};
  // Only where it must be: pasta of 2023 gives every answer of the host's resolver that address, also to who has asked the resolver itself and refuses it then.
  if (resolves) words.insert(words.end(), {"--dns-forward", uplink_resolver(program.kind)});
  return words;
}

std::string uplink_resolver(RootlessNetwork kind) {
  if (kind == RootlessNetwork::slirp4netns) return "10.0.2.3";  // slirp4netns(1)
  return kind == RootlessNetwork::pasta ? "169.254.1.1" : "";   // link-local: nobody else's (RFC 3927)
}

bool has_ipv4_nameserver(std::string_view resolv_conf) {
  for (auto line : split(resolv_conf, '\n')) {
    line = trim(line);
    constexpr std::string_view keyword = "nameserver";
    const auto server = line.starts_with(keyword) ? trim(line.substr(keyword.size())) : std::string_view();
    if (linux::parse_ipv4(server).ok()) return true;
  }
  return false;
}

bool has_default_route(std::string_view ipv4_routes, std::string_view ipv6_routes) {
  // "uplink 00000000 0102000A …": interface, destination, gateway (proc(5)).
  for (auto line : split(ipv4_routes, '\n')) {
    const auto columns = split(line, '\t');
    if (columns.size() > 2 && trim(columns[1]) == "00000000") return true;
  }
  for (auto line : split(ipv6_routes, '\n')) {
    if (line.starts_with("00000000000000000000000000000000 00 ") && !trim(line).ends_with(" lo")) return true;
  }
  return false;
}

Result<Uplink> start_uplink(const UplinkProgram& program, int holder, bool resolves, const std::string& log_path) {
  auto log = TRY(linux::open(log_path, O_WRONLY | O_CREAT | O_TRUNC, 0600), log_path);
  linux::ProcessRequest request;
  request.path = program.path;
  request.argv = uplink_command(program, holder, resolves);
  request.env = {concat("PATH=", program_folders), "LC_ALL=C"};
  request.cwd = "/";
  request.fds = {{log.get(), 1}, {log.get(), 2}};
  request.new_session = true;
  auto child = TRY_PLAIN(linux::spawn_process(request));
  const std::int64_t deadline = monotonic_ns() + start_timeout_ns;
  while (!is_connected(holder)) {
    if (TRY_PLAIN(linux::wait_readable(child.pidfd.get(), look_again_ms))) {
      ignore(linux::wait_pidfd(child.pidfd.get()));
      return Error(ErrorKind::unavailable, concat(program.path, " has ended: ", log_tail(log_path)));
    }
    if (monotonic_ns() > deadline) {
      linux::kill_and_reap(child.pidfd.get());
      return Error(ErrorKind::unavailable, concat(program.path, " gave the containers' network no way out: ", log_tail(log_path)));
    }
  }
  Uplink uplink;
  uplink.process = {child.pid, TRY_PLAIN(linux::process_start_time(child.pid))};
  uplink.pidfd = std::move(child.pidfd);
  return uplink;
}

}  // namespace caisson::app
