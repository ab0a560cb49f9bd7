// Sockets: unix sockets with passed descriptors, and the plain calls on any family.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/path_arg.hpp"

namespace caisson::linux {

enum class UnixType : std::uint8_t { stream, seqpacket, datagram };

struct SocketPair {
  UniqueFd first;
  UniqueFd second;
};
/// Unix sockets, connected to each other, close-on-exec.
Result<SocketPair> socketpair(UnixType type);

/// Listens on a path, also one longer than the 107 bytes of sockaddr_un (through a descriptor of its folder; needs /proc).
/// The file has exactly `mode` from its first moment. Errors: conflict (EADDRINUSE) when the path exists; unlink it first
/// when it is known to be stale.
Result<UniqueFd> unix_listen(PathArg path, UnixType type, mode_t mode, int backlog = 128);
/// Binds a datagram socket to a path in the same way.
Result<UniqueFd> unix_bind_datagram(PathArg path, mode_t mode);
/// Errors: not_found (no such path), unavailable (ECONNREFUSED: nobody listens; EAGAIN: backlog full).
Result<UniqueFd> unix_connect(PathArg path, UnixType type);
/// `flags`: SOCK_NONBLOCK. Close-on-exec.
Result<UniqueFd> accept4(int fd, int flags = 0);

/// One message with the descriptors that came or go with it.
struct Message {
  std::string bytes;
  std::vector<UniqueFd> fds;
};
/// Sends all bytes; the descriptors travel with the first of them and stay open here. At most 253 descriptors, at least
/// one byte. No SIGPIPE.
Status send_message(int fd, std::string_view bytes, std::span<const int> fds = {});
/// One recvmsg: at most limit_bytes and max_fds descriptors (close-on-exec). No bytes and no descriptors: the peer has
/// closed. Errors: io when a message or its descriptors did not fit (what came is closed, never leaked).
Result<Message> receive_message(int fd, std::size_t limit_bytes, std::size_t max_fds = 0);
/// As write_all, for sockets: no SIGPIPE.
Status send_all(int fd, std::string_view bytes);
/// One send(2): number of bytes taken. `flags`: MSG_DONTWAIT, … (MSG_NOSIGNAL is added).
Result<std::size_t> send(int fd, std::string_view bytes, int flags = 0);
Result<std::size_t> recv(int fd, std::span<char> buffer, int flags = 0);

struct PeerCredentials {
  std::int32_t pid = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};
/// SO_PEERCRED: who connected, as of connect(2).
Result<PeerCredentials> peer_credentials(int fd);
/// SO_PEERGROUPS (4.13): the peer's supplementary groups, as of connect(2).
Result<std::vector<std::uint32_t>> peer_groups(int fd);
/// A pidfd of the peer (SO_PEERPIDFD, 6.5). Errors: unsupported on older kernels.
Result<UniqueFd> peer_pidfd(int fd);
/// `how`: SHUT_RD, SHUT_WR, SHUT_RDWR.
Status shutdown(int fd, int how);

/// An address of any family, as the kernel wants it.
struct SocketAddress {
  ::sockaddr_storage storage{};
  socklen_t size = 0;
  static SocketAddress ipv4(std::uint32_t address_host_order, std::uint16_t port);
  static SocketAddress ipv6(const std::array<std::uint8_t, 16>& address, std::uint16_t port);
  /// "127.0.0.1" or "::1". Errors: invalid.
  static Result<SocketAddress> parse(std::string_view address, std::uint16_t port);
  [[nodiscard]] std::uint16_t port() const;
  /// "127.0.0.1:80", "[::1]:80".
  [[nodiscard]] std::string text() const;
};
/// SOCK_CLOEXEC is added to `type`.
Result<UniqueFd> socket(int family, int type, int protocol = 0);
Status bind(int fd, const SocketAddress& address);
Status listen(int fd, int backlog = 128);
/// A non-blocking socket answers EINPROGRESS as an error; see connect_in_progress.
Status connect(int fd, const SocketAddress& address);
bool connect_in_progress(const Error& error);
/// The pending error of a socket (SO_ERROR); success when there is none.
Status socket_error(int fd);
Result<SocketAddress> getsockname(int fd);
Result<SocketAddress> getpeername(int fd);
Status setsockopt(int fd, int level, int option, int value);
Result<int> getsockopt(int fd, int level, int option);

/// What came by one recvfrom(2).
struct Datagram {
  std::size_t size = 0;  ///< of the whole datagram; larger than the buffer when it did not fit
  SocketAddress from;
};
/// Whatever the socket's mode: none when nothing waits.
Result<std::optional<Datagram>> receive_datagram(int fd, std::span<char> into);
/// Does not wait either; a socket that is full is an error (EAGAIN).
Status send_datagram(int fd, std::string_view bytes, const SocketAddress& to);

}  // namespace caisson::linux
