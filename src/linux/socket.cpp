// Thin wrappers around sockets; long unix paths and passed descriptors are handled here.
#include "linux/socket.hpp"

#include <arpa/inet.h>
#include <poll.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "linux/file.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::descriptor;
using detail::status;
using detail::value;

namespace {

int native_type(UnixType type) {
  switch (type) {
    case UnixType::stream: return SOCK_STREAM;
    case UnixType::seqpacket: return SOCK_SEQPACKET;
    case UnixType::datagram: return SOCK_DGRAM;
  }
  return SOCK_STREAM;
}

/// SO_PEERPIDFD, asm-generic/socket.h of 6.5.
constexpr int so_peerpidfd = 77;

/// A unix address for any path. A long one goes through /proc/self/fd/N of its folder, which `folder` keeps open.
struct UnixAddress {
  struct ::sockaddr_un address {};
  socklen_t size = 0;
  UniqueFd folder;
};

Result<UnixAddress> unix_address(PathArg path) {
  if (path.has_nul() || path.empty())
    return Error(ErrorKind::invalid, concat("unix socket: \"", path.view(), "\" is not a path"), EINVAL);
  UnixAddress out;
  std::string text(path.view());
  if (text.size() >= sizeof out.address.sun_path) {
    const Halves halves = split_last(text, '/');
    out.folder = TRY(linux::open(std::string(halves.found ? halves.before : "."), O_PATH | O_DIRECTORY), path.view());
    text = concat("/proc/self/fd/", out.folder.get(), '/', halves.found ? halves.after : std::string_view(path.view()));
  }
  if (text.size() >= sizeof out.address.sun_path)
    return Error(ErrorKind::invalid, concat("unix socket ", path.view(), ": the file name is too long"), ENAMETOOLONG);
  out.address.sun_family = AF_UNIX;
  std::memcpy(out.address.sun_path, text.data(), text.size());
  out.size = static_cast<socklen_t>(offsetof(struct ::sockaddr_un, sun_path) + text.size() + 1);
  return out;
}

const struct ::sockaddr* generic(const void* address) { return static_cast<const struct ::sockaddr*>(address); }

Result<UniqueFd> unix_bind(PathArg path, UnixType type, mode_t mode) {
  const UnixAddress address = TRY_PLAIN(unix_address(path));
  UniqueFd fd = TRY_PLAIN(socket(AF_UNIX, native_type(type)));
  // The file's mode comes from the socket's own (minus umask), so it is never looser than asked, not even for a moment.
  TRY(fchmod(fd.get(), mode), path.view());
  TRY_PLAIN(status("bind", [&] { return ::bind(fd.get(), generic(&address.address), address.size); }, path));
  if (auto widened = fchmodat(AT_FDCWD, path, mode); !widened) {
    ignore(unlink(path));  // the first error is the one to report
    return std::move(widened).error();
  }
  return fd;
}

}  // namespace

Result<SocketPair> socketpair(UnixType type) {
  std::array<int, 2> ends{-1, -1};
  TRY_PLAIN(status("socketpair",
                   [&] { return ::socketpair(AF_UNIX, native_type(type) | SOCK_CLOEXEC, 0, ends.data()); }));
  SocketPair out;
  out.first.reset(ends[0]);
  out.second.reset(ends[1]);
  return out;
}

Result<UniqueFd> unix_listen(PathArg path, UnixType type, mode_t mode, int backlog) {
  UniqueFd fd = TRY_PLAIN(unix_bind(path, type, mode));
  TRY(listen(fd.get(), backlog), path.view());
  return fd;
}
Result<UniqueFd> unix_bind_datagram(PathArg path, mode_t mode) { return unix_bind(path, UnixType::datagram, mode); }

Result<UniqueFd> unix_connect(PathArg path, UnixType type) {
  const UnixAddress address = TRY_PLAIN(unix_address(path));
  UniqueFd fd = TRY_PLAIN(socket(AF_UNIX, native_type(type)));
  auto connected = status("connect", [&] { return ::connect(fd.get(), generic(&address.address), address.size); }, path);
  if (!connected) {
    if (connected.error().error_number() == ECONNREFUSED)
      return std::move(connected).error().with_kind(ErrorKind::unavailable);
    return std::move(connected).error();
  }
  return fd;
}

Result<UniqueFd> accept4(int fd, int flags) {
  return descriptor("accept4", [&] { return ::accept4(fd, nullptr, nullptr, flags | SOCK_CLOEXEC); });
}

namespace {
constexpr std::size_t max_passed_fds = 253;  // SCM_MAX_FD of the kernel

/// Room for the control message of `count` descriptors, aligned as cmsghdr.
struct ControlBuffer {
  alignas(struct ::cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * max_passed_fds)> bytes{};
};
}  // namespace

Status send_message(int fd, std::string_view bytes, std::span<const int> fds) {
  if (bytes.empty()) return Error(ErrorKind::invalid, "send message: a message needs at least one byte", EINVAL);
  if (fds.size() > max_passed_fds)
    return Error(ErrorKind::invalid, concat("send message: ", fds.size(), " descriptors are more than ", max_passed_fds), EINVAL);
  struct ::iovec part {};
  part.iov_base = const_cast<char*>(bytes.data());
  part.iov_len = bytes.size();
  ControlBuffer control;
  struct ::msghdr header {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.bytes.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    struct ::cmsghdr* message = CMSG_FIRSTHDR(&header);
    message->cmsg_level = SOL_SOCKET;
    message->cmsg_type = SCM_RIGHTS;
    message->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(message), fds.data(), fds.size_bytes());
  }
  const auto sent = TRY_PLAIN(value<std::size_t>("sendmsg", [&] { return ::sendmsg(fd, &header, MSG_NOSIGNAL); }));
  return send_all(fd, bytes.substr(sent));
}

Result<Message> receive_message(int fd, std::size_t limit_bytes, std::size_t max_fds) {
  Message out;
  out.bytes.resize(limit_bytes);
  struct ::iovec part {};
  part.iov_base = out.bytes.data();
  part.iov_len = out.bytes.size();
  ControlBuffer control;
  struct ::msghdr header {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes.data();
  header.msg_controllen = control.bytes.size();
  const auto got =
      TRY_PLAIN(value<std::size_t>("recvmsg", [&] { return ::recvmsg(fd, &header, MSG_CMSG_CLOEXEC); }));
  // Take ownership of everything that came before judging it, so that a refused message leaks nothing.
  for (struct ::cmsghdr* message = CMSG_FIRSTHDR(&header); message != nullptr; message = CMSG_NXTHDR(&header, message)) {
    if (message->cmsg_level != SOL_SOCKET || message->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (message->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int received = -1;
      std::memcpy(&received, CMSG_DATA(message) + i * sizeof(int), sizeof received);
      out.fds.emplace_back(received);
    }
  }
  if ((header.msg_flags & MSG_TRUNC) != 0)
    return Error::from_errno(EMSGSIZE, concat("recvmsg: the message is longer than ", limit_bytes, " bytes"));
  if ((header.msg_flags & MSG_CTRUNC) != 0 || out.fds.size() > max_fds)
    return Error::from_errno(EMSGSIZE, concat("recvmsg: more than ", max_fds, " descriptors came"));
  out.bytes.resize(got);
  return out;
}

Status send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    auto sent = linux::send(fd, bytes);
    if (sent) {
      bytes.remove_prefix(*sent);
      continue;
    }
    if (sent.error().error_number() != EAGAIN) return std::move(sent).error();
    struct ::pollfd entry {};
    entry.fd = fd;
    entry.events = POLLOUT;
    TRY_PLAIN(status("poll", [&] { return ::poll(&entry, 1, -1); }));
  }
  return {};
}
Result<std::size_t> send(int fd, std::string_view bytes, int flags) {
  return value<std::size_t>("send", [&] { return ::send(fd, bytes.data(), bytes.size(), flags | MSG_NOSIGNAL); });
}
Result<std::size_t> recv(int fd, std::span<char> buffer, int flags) {
  return value<std::size_t>("recv", [&] { return ::recv(fd, buffer.data(), buffer.size(), flags); });
}

Result<PeerCredentials> peer_credentials(int fd) {
  struct ::ucred credentials {};
  socklen_t size = sizeof credentials;
  TRY_PLAIN(status("getsockopt", [&] { return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size); }, "SO_PEERCRED"));
  PeerCredentials out;
  out.pid = credentials.pid;
  out.uid = credentials.uid;
  out.gid = credentials.gid;
  return out;
}
Result<std::vector<std::uint32_t>> peer_groups(int fd) {
  std::vector<std::uint32_t> groups(32);
  for (;;) {
    socklen_t size = static_cast<socklen_t>(groups.size() * sizeof(::gid_t));
    auto got = status("getsockopt", [&] { return ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size); }, "SO_PEERGROUPS");
    const std::size_t count = size / sizeof(::gid_t);
    if (!got && got.error().error_number() == ERANGE && count > groups.size()) {
      groups.resize(count);  // the kernel has said how many there are
      continue;
    }
    if (!got) return std::move(got).error();
    groups.resize(count);
    return groups;
  }
}
Result<UniqueFd> peer_pidfd(int fd) {
  int pidfd = -1;
  socklen_t size = sizeof pidfd;
  auto got = status("getsockopt", [&] { return ::getsockopt(fd, SOL_SOCKET, so_peerpidfd, &pidfd, &size); }, "SO_PEERPIDFD");
  if (!got) {
    if (got.error().error_number() == ENOPROTOOPT) return std::move(got).error().with_kind(ErrorKind::unsupported);
    return std::move(got).error();
  }
  UniqueFd out(pidfd);
  TRY_PLAIN(set_close_on_exec(out.get(), true));
  return out;
}
Status shutdown(int fd, int how) {
  return status("shutdown", [&] { return ::shutdown(fd, how); });
}

SocketAddress SocketAddress::ipv4(std::uint32_t address_host_order, std::uint16_t port) {
  struct ::sockaddr_in native {};
  native.sin_family = AF_INET;
  native.sin_port = htons(port);
  native.sin_addr.s_addr = htonl(address_host_order);
  SocketAddress out;
  std::memcpy(&out.storage, &native, sizeof native);
  out.size = sizeof native;
  return out;
}
SocketAddress SocketAddress::ipv6(const std::array<std::uint8_t, 16>& address, std::uint16_t port) {
  struct ::sockaddr_in6 native {};
  native.sin6_family = AF_INET6;
  native.sin6_port = htons(port);
  std::memcpy(&native.sin6_addr, address.data(), address.size());
  SocketAddress out;
  std::memcpy(&out.storage, &native, sizeof native);
  out.size = sizeof native;
  return out;
}
Result<SocketAddress> SocketAddress::parse(std::string_view address, std::uint16_t port) {
  const std::string text(address);
  struct ::in_addr four {};
  std::array<std::uint8_t, 16> six{};
  if (::inet_pton(AF_INET, text.c_str(), &four) == 1) return ipv4(ntohl(four.s_addr), port);
  if (::inet_pton(AF_INET6, text.c_str(), six.data()) == 1) return ipv6(six, port);
  return Error(ErrorKind::invalid, concat("\"", address, "\" is not an IP address"));
}
std::uint16_t SocketAddress::port() const {
  if (storage.ss_family == AF_INET) {
    struct ::sockaddr_in native {};
    std::memcpy(&native, &storage, sizeof native);
    return ntohs(native.sin_port);
  }
  if (storage.ss_family == AF_INET6) {
    struct ::sockaddr_in6 native {};
    std::memcpy(&native, &storage, sizeof native);
    return ntohs(native.sin6_port);
  }
  return 0;
}
std::string SocketAddress::text() const {
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  if (storage.ss_family == AF_INET) {
    struct ::sockaddr_in native {};
    std::memcpy(&native, &storage, sizeof native);
    return concat(::inet_ntop(AF_INET, &native.sin_addr, buffer.data(), buffer.size()), ':', port());
  }
  if (storage.ss_family == AF_INET6) {
    struct ::sockaddr_in6 native {};
    std::memcpy(&native, &storage, sizeof native);
    return concat('[', ::inet_ntop(AF_INET6, &native.sin6_addr, buffer.data(), buffer.size()), "]:", port());
  }
  return "unix";
}

Result<UniqueFd> socket(int family, int type, int protocol) {
  return descriptor("socket", [&] { return ::socket(family, type | SOCK_CLOEXEC, protocol); });
}
Status bind(int fd, const SocketAddress& address) {
  return status("bind", [&] { return ::bind(fd, generic(&address.storage), address.size); }, address.text());
}
Status listen(int fd, int backlog) {
  return status("listen", [&] { return ::listen(fd, backlog); });
}
Status connect(int fd, const SocketAddress& address) {
  return status("connect", [&] { return ::connect(fd, generic(&address.storage), address.size); }, address.text());
}
bool connect_in_progress(const Error& error) { return error.error_number() == EINPROGRESS; }
Status socket_error(int fd) {
  const int pending = TRY_PLAIN(getsockopt(fd, SOL_SOCKET, SO_ERROR));
  if (pending != 0) return Error::from_errno(pending, "connect");
  return {};
}
Result<SocketAddress> getsockname(int fd) {
  SocketAddress out;
  out.size = sizeof out.storage;
  TRY_PLAIN(status("getsockname", [&] {
    return ::getsockname(fd, reinterpret_cast<struct ::sockaddr*>(&out.storage), &out.size);
  }));
  return out;
}
Result<SocketAddress> getpeername(int fd) {
  SocketAddress out;
  out.size = sizeof out.storage;
  TRY_PLAIN(status("getpeername", [&] {
    return ::getpeername(fd, reinterpret_cast<struct ::sockaddr*>(&out.storage), &out.size);
  }));
  return out;
}
Status setsockopt(int fd, int level, int option, int number) {
  return status("setsockopt", [&] { return ::setsockopt(fd, level, option, &number, sizeof number); }, "option ", option);
}
Result<int> getsockopt(int fd, int level, int option) {
  int number = 0;
  socklen_t size = sizeof number;
  TRY_PLAIN(status("getsockopt", [&] { return ::getsockopt(fd, level, option, &number, &size); }, "option ", option));
  return number;
}

Result<std::optional<Datagram>> receive_datagram(int fd, std::span<char> into) {
  Datagram out;
  out.from.size = sizeof out.from.storage;
  const auto count = detail::call_raw("recvfrom", [&] {
    return ::recvfrom(fd, into.data(), into.size(), MSG_DONTWAIT | MSG_TRUNC, reinterpret_cast<struct ::sockaddr*>(&out.from.storage),
                      &out.from.size);
  });
  if (count == -EAGAIN) return std::optional<Datagram>();
  if (count < 0) return Error::from_errno(static_cast<int>(-count), "recvfrom");
  out.size = static_cast<std::size_t>(count);
  return std::optional(out);
}
Status send_datagram(int fd, std::string_view bytes, const SocketAddress& to) {
  return status("sendto",
                [&] { return ::sendto(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL, generic(&to.storage), to.size); });
}

}  // namespace caisson::linux
