// DnsForwarder: questions of one container that are out at upstream servers.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "network/dns_message.hpp"
#include "network/dns_server.hpp"
#include "network/dns_sockets.hpp"
#include "network/event_loop.hpp"

namespace caisson::network {

enum class DnsTransport : std::uint8_t { udp, tcp };

struct ForwardRequest {
  DnsQuery query;
  std::string message;  ///< as the client has sent it
  DnsTransport transport = DnsTransport::udp;  ///< the client's; upstream is asked by the same, so a cut answer is for the client to ask again
  std::size_t limit = dns_plain_udp_size;      ///< what the client takes
  std::function<void(std::string answer)> reply;
};

/// What all containers of one thread share.
struct DnsThread {
  EventLoop& loop;
  NameSource& names;
  SocketMaker sockets;
  std::string buffer = std::string(dns_message_limit, '\0');  ///< for one read
  std::size_t questions_out = 0;                              ///< of all containers
};

/// On the loop's thread only. Each question has its own socket, connected to the server asked: a random port and a random id, and the kernel
/// drops what comes from elsewhere, so an answer is hard to forge.
class DnsForwarder {
 public:
  static constexpr std::size_t limit = 128;         ///< questions out at once, so that a flood costs its own container only
  static constexpr std::size_t total_limit = 2048;  ///< of all containers together, so that many floods leave the daemon its descriptors

  DnsForwarder(DnsThread& thread, int netns_fd) : thread_(thread), netns_fd_(netns_fd) {}
  DnsForwarder(const DnsForwarder&) = delete;
  DnsForwarder& operator=(const DnsForwarder&) = delete;
  ~DnsForwarder();

  /// Calls reply exactly once, maybe at once, unless the forwarder goes first. Asks the first server; the next one when a server fails or has not answered
  /// for 2 s (whichever then answers first is heard); SERVFAIL when none has after 10 s, or when too many questions are out.
  void forward(ForwardRequest request, const std::vector<DnsUpstream>& upstreams);

 private:
  struct Attempt {
    UniqueFd socket;
    std::uint64_t watch = 0;
    std::uint16_t id = 0;
    bool is_connecting = false;  ///< TCP
    std::string received;        ///< TCP: length and answer, as far as they have come
  };
  struct Pending {
    ForwardRequest request;
    std::vector<DnsUpstream> upstreams;
    std::size_t next = 0;
    std::vector<std::unique_ptr<Attempt>> attempts;
    std::uint64_t timer = 0;
    std::int64_t deadline_ns = 0;
  };

  void ask_next(std::uint64_t number);
  Status start(std::uint64_t number, Pending& pending, const DnsUpstream& upstream);
  Status send_question(const Pending& pending, Attempt& attempt) const;
  void on_ready(std::uint64_t number, Attempt* attempt);
  Result<std::optional<std::string>> take_answer(const Pending& pending, Attempt& attempt);
  Result<std::optional<std::string>> take_stream(Attempt& attempt);
  void judge(std::uint64_t number, Attempt* attempt, std::string answer);
  void fail(std::uint64_t number, Attempt* attempt);
  void finish(std::uint64_t number, std::string answer);
  void close(Attempt& attempt);

  DnsThread& thread_;
  const int netns_fd_;
  std::map<std::uint64_t, Pending> pending_;
  std::uint64_t next_number_ = 1;
};

}  // namespace caisson::network
