// DnsContainer: the clients of one container at 127.0.0.11, and what they are answered.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/unique_fd.hpp"
#include "network/dns_forwarder.hpp"
#include "network/dns_message.hpp"
#include "network/dns_server.hpp"
#include "network/dns_sockets.hpp"

namespace caisson::network {

/// What a container needs to be served, made by the thread that asks for it.
struct DnsPlace {
  std::string container_id;
  UniqueFd netns;
  DnsSockets sockets;
  std::uint64_t udp_watch = 0;  ///< EventLoop::reserve_watch
  std::uint64_t tcp_watch = 0;
};

/// On the loop's thread only, from its first to its last moment.
class DnsContainer {
 public:
  DnsContainer(DnsThread& thread, DnsPlace place, DnsConfig config);
  DnsContainer(const DnsContainer&) = delete;
  DnsContainer& operator=(const DnsContainer&) = delete;
  ~DnsContainer();

  void update(DnsConfig config) { config_ = std::move(config); }

 private:
  using Reply = std::function<void(std::string)>;
  struct Stream {
    UniqueFd socket;
    std::uint64_t watch = 0;
    std::uint64_t timer = 0;
    std::string received;  ///< not yet a whole message
    std::string unsent;
    std::size_t waiting = 0;  ///< questions without an answer yet
    bool has_ended = false;   ///< the client sends no more
    bool is_answering = false;  ///< answer_stream() is at work further up
  };

  void answer(std::string_view message, DnsTransport transport, Reply reply);
  std::optional<std::string> own_answer(const DnsQuery& query, std::size_t limit);

  void read_datagrams();
  void accept_streams();
  void pause_accepting();
  void read_stream(std::uint64_t number, std::uint32_t events);
  void answer_stream(std::uint64_t number);
  bool answer_next(std::uint64_t number);
  void queue_answer(std::uint64_t number, std::string_view answer);
  void settle_stream(std::uint64_t number);
  static Status send_queued(Stream& stream);
  void touch_stream(std::uint64_t number, Stream& stream);
  void close_stream(std::uint64_t number);

  DnsThread& thread_;
  DnsPlace place_;
  DnsConfig config_;
  DnsForwarder forwarder_;
  std::map<std::uint64_t, Stream> streams_;
  std::uint64_t next_stream_ = 1;
  std::uint64_t accept_timer_ = 0;
};

}  // namespace caisson::network
