// The layer server: a process without rights that gives the contents of a layer's files before the layer is here (docs/adr/0017).
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/codec.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "image/layer_toc.hpp"
#include "image/registry_session.hpp"

namespace caisson::image {

/// Descriptors of the process.
namespace serve_fd {
inline constexpr int request = 3;  ///< a ServeRequest
inline constexpr int device = 4;   ///< a FUSE connection
inline constexpr int pieces = 5;   ///< an encoded vector<TocChunk>, as the worker's task toc writes it
inline constexpr int cache = 6;    ///< an empty file for what was had
inline constexpr int blob = 7;     ///< the layer's blob as far as it has come, and as it grows
inline constexpr int notices = 8;  ///< a seqpacket socket for what the daemon should say; what comes back on it is another `channel`
inline constexpr int channel = 9;  ///< to a fetch process
}  // namespace serve_fd

inline constexpr const char* serve_argument = "serve-layer";

struct ServeRequest {
  std::string blob;                 ///< its digest, as the registry is asked for it
  std::uint64_t content_bytes = 0;  ///< of the file that is served: the tar that pieces are places in
};
template <class C>
void visit(C& c, ServeRequest& r) {
  c(r.blob);
  c(r.content_bytes);
}

/// main() of caisson-worker with serve_argument. Ends when nothing is mounted any more.
int layer_server_main();

/// Where compressed bytes come from.
class PieceSource {
 public:
  virtual ~PieceSource() = default;
  /// The bytes of the blob from `offset` on that are here already; nothing: not all of them are.
  virtual Result<std::string> local(std::uint64_t offset, std::uint64_t bytes) = 0;
  /// From the registry. `cancel_fd`: readable when nobody waits any more. Errors: as RegistrySession::call, unavailable (cancelled).
  virtual Result<std::string> remote(std::uint64_t offset, std::uint64_t bytes, int cancel_fd) = 0;
};

/// The contents of a layer, piece by piece, each checked before anybody sees it, and each fetched once. Thread-safe.
class LayerContents {
 public:
  using Notice = std::function<void(const std::string&)>;
  /// `cache_fd`: an empty file, borrowed. `source` is borrowed.
  LayerContents(std::vector<TocChunk> pieces, std::uint64_t content_bytes, int cache_fd, PieceSource& source, Notice notice);

  /// Exactly `size_bytes` from `offset` on; behind the end and between files: zeros. Errors: those of the source; corrupt (bytes that are not what the table says).
  Result<std::string> read(std::uint64_t offset, std::uint64_t size_bytes, int cancel_fd);
  /// As long as the file that is served: whole pages.
  [[nodiscard]] std::uint64_t file_bytes() const;

 private:
  enum class State : std::uint8_t { absent, coming, cached };
  using Held = std::shared_ptr<const std::string>;  // shared: a reader may still need what has been pushed out
  [[nodiscard]] std::pair<std::size_t, std::size_t> pieces_of(std::uint64_t offset, std::uint64_t size_bytes) const;
  Status ensure(std::size_t first, std::size_t end, int cancel_fd, std::map<std::size_t, Held>& held);
  std::vector<std::size_t> claim(std::size_t first, std::size_t end);
  Status fetch(const std::vector<std::size_t>& wanted, int cancel_fd, std::map<std::size_t, Held>& held);
  Status fetch_run(std::span<const std::size_t> run, int cancel_fd, std::map<std::size_t, Held>& held);
  Result<std::vector<std::string>> decode_run(std::span<const std::size_t> run, std::string_view compressed) const;
  void keep(std::size_t piece, std::string content, std::map<std::size_t, Held>& held);

  const std::vector<TocChunk> pieces_;
  const std::uint64_t content_bytes_;
  const int cache_fd_;
  PieceSource& source_;
  const Notice notice_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<State> states_;
  std::map<std::size_t, Held> in_memory_;  // what the disk had no room for
  std::deque<std::size_t> memory_order_;
  std::size_t memory_bytes_ = 0;
  bool has_said_full_ = false;
};

/// The contents of one piece, which is not zeros, from the frame or member that it lies in. Errors: corrupt.
Result<std::string> decode_piece(const TocChunk& piece, std::string_view compressed);

}  // namespace caisson::image
