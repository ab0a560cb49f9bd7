// Syslog over unix, UDP, TCP and TLS, and the journal's socket.
#include "engine/log_target.hpp"

#include <array>

#include "base/strings.hpp"
#include "linux/event.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/stream_socket.hpp"
#include "linux/sysinfo.hpp"
#include "wire/http_client.hpp"
#include "wire/tls.hpp"

namespace caisson::engine {

namespace {
constexpr int connect_timeout_ms = 5000;
constexpr std::size_t longest_datagram = 60 << 10;  // of UDP, with its headers; longer messages are cut

/// A socket that takes whole messages.
class SocketTarget : public LogTarget {
 public:
  [[nodiscard]] bool is_connected() const override { return static_cast<bool>(socket_); }

 protected:
  /// What a peer that has closed says: a server of syslog never sends anything.
  [[nodiscard]] bool has_hung_up() const {
    std::array<char, 256> bytes;
    auto got = linux::receive_now(socket_.get(), bytes);
    return !got.ok() || (*got && **got == 0);
  }

  Status send_stream(std::string_view bytes, Cancel cancel) {
    if (has_hung_up()) return broken(Error(ErrorKind::io, "the log server closed the connection"));
    while (!bytes.empty()) {
      const std::array<std::string_view, 1> pieces{bytes};
      auto sent = linux::send_now(socket_.get(), pieces);
      if (!sent.ok()) return broken(std::move(sent).error());
      if (*sent) bytes.remove_prefix(**sent);
      else if (!TRY_PLAIN(wait_writable(cancel))) return broken(Error(ErrorKind::timeout, "cancelled"));  // half a message may be out
    }
    return {};
  }

  Status send_datagram(std::string_view bytes, Cancel cancel) {
    for (;;) {
      const std::array<std::string_view, 1> pieces{bytes.substr(0, longest_datagram)};
      auto sent = linux::send_now(socket_.get(), pieces);
      // Nobody listens on the UDP port: an ICMP message of an earlier datagram. That is UDP's way, not a broken connection.
      if (!sent.ok() && sent.error().error_number() == ECONNREFUSED && is_udp_) return {};
      if (!sent.ok()) return broken(std::move(sent).error());
      if (*sent) return {};
      if (!TRY_PLAIN(wait_writable(cancel))) return Error(ErrorKind::timeout, "cancelled");
    }
  }

  UniqueFd socket_;
  bool is_udp_ = false;

 private:
  Status broken(Error error) {
    socket_.reset();
    return error;
  }
  [[nodiscard]] Result<bool> wait_writable(Cancel cancel) const {
    std::array<linux::PollEntry, 2> entries{{{socket_.get(), POLLOUT, 0}, {cancel.fd, POLLIN, 0}}};
    TRY_PLAIN(linux::poll(entries, -1));
    return entries[1].revents == 0;
  }
};

class SyslogServer final : public SocketTarget {
 public:
  SyslogServer(SyslogTarget target, LogIdentity identity, std::optional<wire::TlsContext> tls, std::shared_ptr<wire::Pump> pump)
      : target_(std::move(target)), identity_(std::move(identity)), tls_(std::move(tls)), pump_(std::move(pump)) {
    is_udp_ = target_.transport == SyslogTarget::Transport::udp;
  }

  Status connect() override {
    using Transport = SyslogTarget::Transport;
    is_stream_ = target_.transport == Transport::tcp || target_.transport == Transport::tls;
    if (target_.transport == Transport::unix_any || target_.transport == Transport::unix_datagram) return connect_unix();
    Status last;
    for (const auto& address : TRY_PLAIN(wire::addresses_of(target_.host))) {
      last = connect_address(address);
      if (last.ok()) return last;
    }
    return last;
  }

  Status send(const LogRecord& record, Cancel cancel) override {
    const std::string message = syslog_message(target_, identity_, record);
    return is_stream_ ? send_stream(message, cancel) : send_datagram(message, cancel);
  }

 private:
  Status connect_unix() {
    if (target_.path != SyslogTarget{}.path) return connect_path(target_.path);
    for (const char* path : {"/dev/log", "/var/run/syslog", "/var/run/log"})
      if (connect_path(path).ok()) return {};
    // Docker's words: the reason would hold "no such file", from which its command line would make exit code 127.
    return Error(ErrorKind::unavailable, "Unix syslog delivery error").with_hint("this host runs no syslog; give --log-opt syslog-address=…");
  }

  Status connect_path(const std::string& path) {
    is_stream_ = false;
    auto datagram = linux::unix_connect(path, linux::UnixType::datagram);
    if (!datagram.ok() && target_.transport == SyslogTarget::Transport::unix_any && datagram.error().error_number() == EPROTOTYPE) {
      is_stream_ = true;
      socket_ = TRY(linux::unix_connect(path, linux::UnixType::stream), concat("dial unix ", path));
      return {};
    }
    if (!datagram.ok()) return std::move(datagram).error().in(concat("dial unixgram ", path));
    socket_ = std::move(*datagram);
    return {};
  }

  Status connect_address(const std::string& address) {
    const auto port = TRY_PLAIN(parse_integer<std::uint16_t>(target_.port));
    const linux::IpEndpoint endpoint{address, port};
    const std::string where = concat("dial ", is_udp_ ? "udp " : "tcp ", linux::to_string(endpoint));
    if (is_udp_) {
      auto peer = TRY(linux::SocketAddress::parse(address, port), where);
      auto socket = TRY(linux::socket(peer.storage.ss_family, SOCK_DGRAM), where);
      TRY(linux::connect(socket.get(), peer), where);
      socket_ = std::move(socket);
      return {};
    }
    auto socket = TRY(linux::connect_tcp_socket(endpoint, connect_timeout_ms), where);
    if (tls_) {
      auto codec = TRY(tls_->connect(socket.get(), target_.host, connect_timeout_ms), where);
      socket = TRY(pump_->add(std::move(socket), std::move(codec), ""), where);
    }
    socket_ = std::move(socket);
    return {};
  }

  SyslogTarget target_;
  LogIdentity identity_;
  std::optional<wire::TlsContext> tls_;
  std::shared_ptr<wire::Pump> pump_;  // shared by all that speak TLS
  bool is_stream_ = false;
};

class Journal final : public SocketTarget {
 public:
  Journal(std::string path, std::string fields) : path_(std::move(path)), fields_(std::move(fields)) {}
  Status connect() override {
    auto socket = linux::unix_connect(path_, linux::UnixType::datagram);
    if (!socket.ok() && socket.error().kind() == ErrorKind::not_found) return Error(ErrorKind::not_found, "journald is not enabled on this host");
    socket_ = TRY(std::move(socket), concat("journal ", path_));
    return {};
  }
  Status send(const LogRecord& record, Cancel cancel) override { return send_datagram(journal_message(fields_, record), cancel); }

 private:
  std::string path_;
  std::string fields_;
};
}  // namespace

Result<std::unique_ptr<LogTarget>> create_log_target(const ContainerInfo& info, const std::string& journal_socket, std::shared_ptr<wire::Pump> pump) {
  if (info.spec.log_driver == "journald") {
    const std::string tag = TRY_PLAIN(log_tag(info, "{{.ID}}"));
    auto attributes = TRY_PLAIN(chosen_attributes(info.spec));
    return std::unique_ptr<LogTarget>(std::make_unique<Journal>(journal_socket, journal_fields(info, tag, attributes)));
  }
  auto target = TRY_PLAIN(parse_syslog_target(info.spec.log_options));
  LogIdentity identity;
  identity.hostname = TRY_PLAIN(linux::uname()).nodename;
  identity.tag = TRY_PLAIN(log_tag(info, "{{.ID}}"));
  identity.pid = linux::getpid();
  std::optional<wire::TlsContext> tls;
  if (target.transport == SyslogTarget::Transport::tls) {
    const wire::TlsFiles files{target.ca, target.certificate, target.key, target.verify};
    tls = TRY_PLAIN(wire::TlsContext::create_client(files));
  }
  return std::unique_ptr<LogTarget>(std::make_unique<SyslogServer>(std::move(target), std::move(identity), std::move(tls), std::move(pump)));
}

}  // namespace caisson::engine
