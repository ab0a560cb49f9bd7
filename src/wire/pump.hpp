// Pump: one thread that carries bytes between network sockets and plain ones, each through a codec (TLS, websocket frames), so that
// everybody else only ever sees a plain stream socket, which can be handed on as a descriptor.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::wire {

/// What happens to the bytes of one connection on their way. Used by one thread at a time.
class Codec {
 public:
  virtual ~Codec() = default;
  /// Takes all of `bytes` from the network; appends what they mean to `plain`, and what must be answered at once to `reply`.
  /// An error ends the connection once `reply` is sent.
  virtual Status receive(std::string_view bytes, std::string& plain, std::string& reply) = 0;
  /// Takes all of `plain`; appends what goes to the network.
  virtual Status send(std::string_view plain, std::string& out) = 0;
  /// The plain side has said its last byte.
  virtual void finish(std::string& out) = 0;
  /// The peer has said its last byte in the codec's own way.
  [[nodiscard]] virtual bool is_ended() const = 0;
  /// One direction may end before the other. Otherwise the end of one is the end of both.
  [[nodiscard]] virtual bool half_closes() const = 0;
};

class Pump {
 public:
  static Result<std::unique_ptr<Pump>> create();
  Pump(const Pump&) = delete;
  Pump& operator=(const Pump&) = delete;
  /// Ends all connections.
  ~Pump();

  /// From now on `network` belongs to the pump. Returns the plain side: a connected unix stream socket. `early`: what was received already.
  /// Errors: io, unavailable (descriptors are short).
  Result<UniqueFd> add(UniqueFd network, std::unique_ptr<Codec> codec, std::string_view early);

 private:
  struct Session;
  Pump(UniqueFd epoll, UniqueFd wake);
  void run();
  void serve(std::uint64_t tag, std::uint32_t events);
  bool advance(Session& session, std::uint32_t network_events, std::uint32_t plain_events);
  Status watch(Session& session);
  void drop_late();

  UniqueFd epoll_;
  UniqueFd wake_;
  std::mutex mutex_;
  std::map<std::uint64_t, std::unique_ptr<Session>> sessions_;  ///< by the tag of their network side; the plain side's is one more
  std::uint64_t next_tag_ = 2;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace caisson::wire
