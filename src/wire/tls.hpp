// TLS for connections of our own protocol: contexts from PEM files, and the codec that a Pump runs.
#pragma once

#include <memory>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "wire/pump.hpp"

namespace caisson::wire {

class PeerName;

/// Where keys and certificates are, as Docker's flags --tlscacert, --tlscert and --tlskey name them.
struct TlsFiles {
  std::string ca;           ///< server: who signs clients; client: who signs the server. "": nobody (with `verify`, client: the system's)
  std::string certificate;  ///< with its chain. "": none (clients only)
  std::string key;
  bool verify = true;       ///< the peer must have a certificate signed by `ca`
};

/// One side's settings; TLS 1.2 or newer. Thread-safe once made.
class TlsContext {
 public:
  /// Errors: not_found, denied, invalid (not PEM, or a key that belongs to another certificate), each naming the file.
  static Result<TlsContext> create_server(const TlsFiles& files);
  static Result<TlsContext> create_client(const TlsFiles& files);
  TlsContext(TlsContext&&) noexcept;
  TlsContext& operator=(TlsContext&&) noexcept;
  ~TlsContext();

  /// Whether peers are known by a certificate.
  [[nodiscard]] bool verifies() const;
  /// The server's side of one connection. The handshake happens as bytes come.
  /// `peer` is told the name in the client's certificate.
  [[nodiscard]] std::unique_ptr<Codec> create_codec(std::shared_ptr<PeerName> peer) const;
  /// The client's: the whole handshake on `socket` (blocking), at most `timeout_ms`; `host` is the name or address that the certificate must
  /// hold. Errors: denied (a certificate that is not accepted, on either side), timeout, io.
  Result<std::unique_ptr<Codec>> connect(int socket, const std::string& host, int timeout_ms) const;

 private:
  struct State;
  explicit TlsContext(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace caisson::wire
