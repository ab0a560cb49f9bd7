// Host id ranges of containers: 65536 ids each, so that no two user namespaces share an id on this host.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "base/result.hpp"
#include "linux/mount.hpp"

namespace caisson::engine {

/// Which ranges are in use. Who holds one is written in the container's own record, so a crash cannot lose or leak a range: at
/// start the records fill this again. Ranges are counted, because containers that join another's namespaces share its range.
/// An engine without root has one range only, its own (docs/adr/0018): every container's user namespace maps all of it to itself. What is given
/// out then are numbers of `shared_base` and above, which are nobody's ids but keep the books the same: who joins whose namespaces.
/// Thread-safe.
class IdRanges {
 public:
  static constexpr std::uint32_t size = 65536;
  static constexpr std::uint32_t base = 0x70000000;   ///< above systemd's ranges (systemd.io/UIDS-GIDS): 1879048192 up to 2^31
  static constexpr std::uint32_t count = 4096;        ///< index 0 belongs to the image worker
  static constexpr std::uint32_t shared_base = 0x80000000;

  /// `shared_count`: how many ids, from 0 on, an engine without root has for all containers together; 0: ranges of the host's.
  explicit IdRanges(std::uint32_t shared_count = 0) : base_(shared_count != 0 ? shared_base : base), count_(shared_count != 0 ? shared_count : size) {}

  /// The first host id of a free range, freed longest ago. Errors: unavailable, with a hint.
  Result<std::uint32_t> allocate();
  /// One more user of the range that begins at `first_id`; 0 is ignored.
  void share(std::uint32_t first_id);
  void release(std::uint32_t first_id);
  /// Users of that range.
  std::uint32_t users(std::uint32_t first_id);

  [[nodiscard]] linux::IdMap map_of(std::uint32_t first_id) const;
  /// The id, as the engine sees it, of the root of a container with that range.
  static std::uint32_t root_of(std::uint32_t first_id) { return first_id >= shared_base ? 0 : first_id; }

 private:
  const std::uint32_t base_;
  const std::uint32_t count_;
  std::mutex mutex_;
  std::map<std::uint32_t, std::uint32_t> users_;  ///< by first id
  std::uint32_t next_ = 1;
};

}  // namespace caisson::engine
