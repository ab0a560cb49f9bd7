// Stream sockets: the system calls.
#include "linux/stream_socket.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::call_raw;

namespace {

constexpr int backlog = 1024;
constexpr std::size_t most_pieces = 8;

union AnyAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
  sockaddr_un local;
  sockaddr_storage storage;
};

struct SizedAddress {
  AnyAddress address{};
  socklen_t size = 0;
};

Error failed(std::string_view step) { return Error::from_errno(errno, step); }

/// A unix address for `path`. Names that do not fit sun_path (unix(7): 108 bytes) are reached through the open parent
/// directory, which `parent` keeps alive for as long as the address is used.
Result<SizedAddress> unix_address(const std::string& path, UniqueFd& parent) {
  SizedAddress result;
  result.address.local.sun_family = AF_UNIX;
  std::string name = path;
  if (path.empty()) return Error(ErrorKind::invalid, "socket path is empty");
  if (name.size() >= sizeof result.address.local.sun_path) {
    auto halves = split_last(path, '/');
    std::string folder = !halves.found ? "." : halves.before.empty() ? "/" : std::string(halves.before);
    parent = TRY_PLAIN(linux::open(folder, O_PATH | O_DIRECTORY));
    name = concat("/proc/self/fd/", parent.get(), "/", halves.found ? halves.after : halves.before);
    if (name.size() >= sizeof result.address.local.sun_path)
      return Error(ErrorKind::invalid, concat("socket path ", path, ": the file name is too long"));
  }
  std::memcpy(result.address.local.sun_path, name.c_str(), name.size() + 1);
  result.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + 1);
  return result;
}

Result<SizedAddress> ip_address(const IpEndpoint& endpoint) {
  SizedAddress result;
  if (inet_pton(AF_INET, endpoint.address.c_str(), &result.address.v4.sin_addr) == 1) {
    result.address.v4.sin_family = AF_INET;
    result.address.v4.sin_port = htons(endpoint.port);
    result.size = sizeof result.address.v4;
    return result;
  }
  if (inet_pton(AF_INET6, endpoint.address.c_str(), &result.address.v6.sin6_addr) == 1) {
    result.address.v6.sin6_family = AF_INET6;
    result.address.v6.sin6_port = htons(endpoint.port);
    result.size = sizeof result.address.v6;
    return result;
  }
  return Error(ErrorKind::invalid, concat("\"", endpoint.address, "\" is not an IP address"));
}

Result<IpEndpoint> endpoint_of(const SizedAddress& from) {
  char text[INET6_ADDRSTRLEN] = {};
  if (from.address.any.sa_family == AF_INET && inet_ntop(AF_INET, &from.address.v4.sin_addr, text, sizeof text) != nullptr)
    return IpEndpoint{text, ntohs(from.address.v4.sin_port)};
  if (from.address.any.sa_family == AF_INET6 && inet_ntop(AF_INET6, &from.address.v6.sin6_addr, text, sizeof text) != nullptr)
    return IpEndpoint{text, ntohs(from.address.v6.sin6_port)};
  return Error(ErrorKind::invalid, "not an IP socket");
}

/// Creates missing parents one by one; the mode is set explicitly because umask would narrow it.
Status make_parents(const std::string& path, mode_t mode) {
  for (std::size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    std::string folder = path.substr(0, slash);
    auto made = linux::mkdir(folder, mode);
    if (made.ok())
      TRY_PLAIN(linux::fchmodat(AT_FDCWD, folder, mode));
    else if (made.error().error_number() != EEXIST)
      return std::move(made).error();
  }
  return {};
}

/// Errors: conflict when `path` is taken by something that is not a dead socket.
Status check_replaceable(const std::string& path) {
  auto info = linux::lstat(path);
  if (!info.ok() && info.error().error_number() == ENOENT) return {};
  if (!info.ok()) return std::move(info).error();
  if (!S_ISSOCK(info->st_mode)) return Error(ErrorKind::conflict, concat(path, " exists and is not a socket"), EEXIST);
  auto answer = connect_unix_socket(path, 1000);
  if (answer.ok()) return Error(ErrorKind::conflict, concat("another program answers at ", path, " already"), EADDRINUSE);
  if (answer.error().error_number() == ECONNREFUSED || answer.error().error_number() == ENOENT) return {};
  return Error(ErrorKind::conflict, concat(path, " is in use: ", answer.error().text()), EADDRINUSE);
}

/// Finishes a connect() that could not complete at once.
Status finish_connect(int fd, int timeout_ms) {
  if (!TRY_PLAIN(wait_writable(fd, timeout_ms))) return Error(ErrorKind::timeout, "timed out", ETIMEDOUT);
  return socket_error(fd);
}

/// Refusals and unreachable networks may pass, so callers see `unavailable`.
Error connect_error(Error error) {
  switch (error.error_number()) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ECONNRESET:
      return std::move(error).with_kind(ErrorKind::unavailable);
    default:
      return error;
  }
}

}  // namespace

Result<IpEndpoint> parse_ip_endpoint(std::string_view text) {
  auto halves = split_last(text, ':');
  std::string_view host = halves.before;
  if (!halves.found) return Error(ErrorKind::invalid, concat("\"", text, "\" has no port (want ADDRESS:PORT)"));
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  auto port = parse_integer<std::uint16_t>(halves.after);
  if (!port.ok()) return Error(ErrorKind::invalid, concat("\"", text, "\": \"", halves.after, "\" is not a port"));
  IpEndpoint endpoint{std::string(host), *port};
  TRY_PLAIN(ip_address(endpoint));
  return endpoint;
}

std::string to_string(const IpEndpoint& endpoint) {
  bool is_v6 = endpoint.address.find(':') != std::string::npos;
  return is_v6 ? concat("[", endpoint.address, "]:", endpoint.port) : concat(endpoint.address, ":", endpoint.port);
}

Result<UniqueFd> listen_unix_socket(const std::string& path, const UnixListenOptions& options) {
  TRY_PLAIN(make_parents(path, options.parent_mode));
  TRY_PLAIN(check_replaceable(path));
  UniqueFd fd = TRY_PLAIN(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK));
  const std::string temporary = concat(path, ".", static_cast<std::int64_t>(getpid()));
  UniqueFd parent;
  auto address = TRY_PLAIN(unix_address(temporary, parent));
  ignore(linux::unlink(temporary));  // left over by a process of the same id that died right here; absence is the usual case
  TRY_PLAIN(detail::status("bind", [&] { return ::bind(fd.get(), &address.address.any, address.size); }, temporary));
  auto finish = [&]() -> Status {
    if (options.group) TRY_PLAIN(linux::fchownat(AT_FDCWD, temporary, static_cast<uid_t>(-1), *options.group, AT_SYMLINK_NOFOLLOW));
    TRY_PLAIN(linux::fchmodat(AT_FDCWD, temporary, options.mode));
    TRY_PLAIN(detail::status("listen", [&] { return ::listen(fd.get(), backlog); }, path));
    return linux::rename(temporary, path);
  };
  auto finished = finish();
  if (!finished.ok()) {
    ignore(linux::unlink(temporary));  // the first error is the one to tell
    return std::move(finished).error();
  }
  return fd;
}

Result<UniqueFd> connect_unix_socket(const std::string& path, int timeout_ms) {
  UniqueFd fd = TRY_PLAIN(socket(AF_UNIX, SOCK_STREAM));
  UniqueFd parent;
  auto address = TRY(unix_address(path, parent), concat("connect to ", path));
  // A full backlog blocks connect() on unix sockets for SO_SNDTIMEO (unix(7)).
  timeval limit{timeout_ms / 1000, (timeout_ms % 1000) * 1000};
  timeval unlimited{};
  if (timeout_ms > 0) (void)::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const int connected = call_raw("connect", [&] { return ::connect(fd.get(), &address.address.any, address.size); });
  if (connected < 0) return connect_error(Error::from_errno(-connected, concat("connect to ", path)));
  if (timeout_ms > 0) (void)::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &unlimited, sizeof unlimited);
  return fd;
}

Result<UniqueFd> listen_tcp_socket(const IpEndpoint& endpoint) {
  auto address = TRY_PLAIN(ip_address(endpoint));
  UniqueFd fd = TRY_PLAIN(socket(address.address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK));
  TRY_PLAIN(setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1));
  if (address.address.any.sa_family == AF_INET6)
    TRY_PLAIN(setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1));
  auto bound = detail::status("bind", [&] { return ::bind(fd.get(), &address.address.any, address.size); }, to_string(endpoint));
  if (!bound.ok() && bound.error().error_number() == EADDRINUSE) return std::move(bound).error().with_kind(ErrorKind::conflict);
  if (!bound.ok()) return std::move(bound).error();
  TRY_PLAIN(detail::status("listen", [&] { return ::listen(fd.get(), backlog); }, to_string(endpoint)));
  return fd;
}

Result<UniqueFd> connect_tcp_socket(const IpEndpoint& endpoint, int timeout_ms) {
  const std::string step = concat("connect to ", to_string(endpoint));
  auto address = TRY(ip_address(endpoint), step);
  UniqueFd fd = TRY(socket(address.address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK), step);
  const int connected = call_raw("connect", [&] { return ::connect(fd.get(), &address.address.any, address.size); });
  if (connected < 0) {
    if (connected != -EINPROGRESS) return connect_error(Error::from_errno(-connected, step));
    auto finished = finish_connect(fd.get(), timeout_ms);
    if (!finished.ok()) return connect_error(std::move(finished).error().in(step));
  }
  TRY(set_nonblocking(fd.get(), false), step);
  TRY(setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1), step);
  return fd;
}

Result<std::optional<UniqueFd>> accept_connection(int listener) {
  for (;;) {
    const int accepted = call_raw("accept4", [&] { return ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC); });
    if (accepted >= 0) {
      UniqueFd fd(accepted);
      // Fails on unix sockets, where there is nothing to delay.
      if (!is_unix_socket(fd.get())) ignore(setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1));
      return std::optional<UniqueFd>(std::move(fd));
    }
    switch (-accepted) {
      case EAGAIN:
        return std::optional<UniqueFd>();
      case ECONNABORTED:  // the peer gave up while it waited; accept(2) says to go on
      case EPROTO:
        continue;
      case ENFILE:
      case ENOBUFS:
        return Error::from_errno(-accepted, "accept4").with_kind(ErrorKind::unavailable);
      default:
        return Error::from_errno(-accepted, "accept4");
    }
  }
}

Result<std::size_t> unread_bytes(int fd) {
  int count = 0;
  TRY_PLAIN(detail::status("ioctl", [&] { return ::ioctl(fd, SIOCOUTQ, &count); }, "SIOCOUTQ"));
  return static_cast<std::size_t>(count);
}

bool is_unix_socket(int fd) {
  int family = 0;
  socklen_t size = sizeof family;
  return ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 && family == AF_UNIX;
}

Result<IpEndpoint> local_endpoint(int fd) {
  SizedAddress address;
  address.size = sizeof address.address;
  if (::getsockname(fd, &address.address.any, &address.size) != 0) return failed("getsockname");
  return endpoint_of(address);
}

Result<IpEndpoint> peer_endpoint(int fd) {
  SizedAddress address;
  address.size = sizeof address.address;
  if (::getpeername(fd, &address.address.any, &address.size) != 0) return failed("getpeername");
  return endpoint_of(address);
}

Result<std::optional<std::size_t>> receive_now(int fd, std::span<char> into) {
  const auto count = call_raw("recv", [&] { return ::recv(fd, into.data(), into.size(), MSG_DONTWAIT); });
  if (count == -EAGAIN) return std::optional<std::size_t>();
  if (count < 0) return Error::from_errno(static_cast<int>(-count), "recv");
  return std::optional<std::size_t>(static_cast<std::size_t>(count));
}

Result<std::optional<std::size_t>> send_now(int fd, std::span<const std::string_view> pieces) {
  std::array<iovec, most_pieces> vectors{};
  std::size_t used = 0;
  for (auto piece : pieces) {
    if (piece.empty() || used == vectors.size()) continue;
    vectors[used++] = iovec{const_cast<char*>(piece.data()), piece.size()};  // sendmsg does not write through it
  }
  msghdr message{};
  message.msg_iov = vectors.data();
  message.msg_iovlen = used;
  const auto count = call_raw("sendmsg", [&] { return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL); });
  if (count == -EAGAIN) return std::optional<std::size_t>();
  if (count < 0) return Error::from_errno(static_cast<int>(-count), "sendmsg").with_kind(ErrorKind::io);
  return std::optional<std::size_t>(static_cast<std::size_t>(count));
}

}  // namespace caisson::linux
