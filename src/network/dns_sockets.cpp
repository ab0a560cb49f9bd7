// Entering namespaces to make the sockets of the embedded DNS.
#include "network/dns_sockets.hpp"

#include <cerrno>
#include <thread>

#include "base/strings.hpp"
#include "linux/nfnetlink_redirect.hpp"
#include "linux/process.hpp"
#include "linux/rtnetlink.hpp"
#include "network/dns_server.hpp"

namespace caisson::network {
namespace {

constexpr std::uint16_t dns_port = 53;
constexpr std::uint16_t usual_port = 61011;  // beyond the range the kernel picks from (ip_local_port_range ends at 60999)
constexpr std::uint32_t loopback_index = 1;  // in every network namespace
constexpr const char* redirect_table = "caisson_dns";

/// On the usual port, so that a new daemon finds the rules of the old one right; on any when a program of the container has that one.
Result<UniqueFd> bind_socket(int type) {
  UniqueFd socket = TRY_PLAIN(linux::socket(AF_INET, type | SOCK_NONBLOCK));
  // Connections of the old daemon may linger.
  if (type == SOCK_STREAM) TRY_PLAIN(linux::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1));
  Status bound = linux::bind(socket.get(), linux::SocketAddress::ipv4(dns_address.value, usual_port));
  if (!bound && bound.error().error_number() == EADDRINUSE) bound = linux::bind(socket.get(), linux::SocketAddress::ipv4(dns_address.value, 0));
  if (!bound) return std::move(bound).error();
  if (type == SOCK_STREAM) TRY_PLAIN(linux::listen(socket.get()));
  return socket;
}

/// Before `lo` has ever been up, the kernel takes 127.0.0.11 for a broadcast address: bind(2) accepts it, and answers leave from another one.
Status bring_up_loopback() {
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
  linux::NetlinkBatch batch;
  linux::set_link_up(batch, loopback_index);
  return socket.execute(batch);
}

Result<DnsSockets> enter_and_open(int netns_fd) {
  TRY(linux::setns(netns_fd, CLONE_NEWNET), "entering the network namespace");
  TRY_PLAIN(bring_up_loopback());
  DnsSockets sockets;
  sockets.udp = TRY_PLAIN(bind_socket(SOCK_DGRAM));
  sockets.tcp = TRY_PLAIN(bind_socket(SOCK_STREAM));
  linux::PortRedirect redirect;
  redirect.table = redirect_table;
  redirect.address = dns_address;
  redirect.port = dns_port;
  redirect.udp_port = TRY_PLAIN(linux::getsockname(sockets.udp.get())).port();
  redirect.tcp_port = TRY_PLAIN(linux::getsockname(sockets.tcp.get())).port();
  TRY_PLAIN(linux::install_port_redirect(redirect));
  return sockets;
}

}  // namespace

Result<DnsSockets> open_dns_sockets(int netns_fd) {
  Result<DnsSockets> sockets = Error(ErrorKind::internal, "not run");
  std::thread([&] { sockets = enter_and_open(netns_fd); }).join();
  return TRY(std::move(sockets), "DNS at 127.0.0.11");
}

Result<SocketMaker> SocketMaker::create() { return SocketMaker(TRY_PLAIN(linux::open_namespace(0, "net"))); }

Status SocketMaker::go_home() {
  if (is_home_) return {};
  TRY(linux::setns(home_.get(), CLONE_NEWNET), "returning to the host's network namespace");
  is_home_ = true;
  return {};
}

Result<UniqueFd> SocketMaker::socket_in(int netns_fd, int family, int type) {
  TRY_PLAIN(go_home());  // unless the last return failed, nothing to do
  if (netns_fd < 0) return linux::socket(family, type | SOCK_NONBLOCK);
  TRY(linux::setns(netns_fd, CLONE_NEWNET), "entering the container's network namespace");
  is_home_ = false;
  auto socket = linux::socket(family, type | SOCK_NONBLOCK);
  TRY_PLAIN(go_home());
  return socket;
}

}  // namespace caisson::network
