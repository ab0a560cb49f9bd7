// sd_notify(3), "Notes": the socket's address.
#include "linux/service_manager.hpp"

#include <sys/un.h>

#include <cstddef>
#include <cstring>

#include "base/strings.hpp"
#include "linux/socket.hpp"

namespace caisson::linux {

Result<UniqueFd> connect_service_manager(const std::string& address) {
  if (!address.starts_with('@')) return unix_connect(address, UnixType::datagram);
  SocketAddress abstract;
  auto* name = reinterpret_cast<::sockaddr_un*>(&abstract.storage);
  if (address.size() > sizeof name->sun_path) return Error(ErrorKind::invalid, concat("NOTIFY_SOCKET ", address, ": the name is too long"));
  name->sun_family = AF_UNIX;
  std::memcpy(name->sun_path + 1, address.data() + 1, address.size() - 1);
  abstract.size = static_cast<socklen_t>(offsetof(::sockaddr_un, sun_path) + address.size());
  auto socket = TRY_PLAIN(linux::socket(AF_UNIX, SOCK_DGRAM));
  TRY_PLAIN(connect(socket.get(), abstract));
  return socket;
}

}  // namespace caisson::linux
