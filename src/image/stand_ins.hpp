// StandIns: layers that may be used before they are here. Each is an index of the tree that its table of contents promises, over a file that a layer server gives.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "image/content_store.hpp"
#include "image/layer_toc.hpp"
#include "image/registries.hpp"
#include "image/worker.hpp"
#include "linux/spawn.hpp"

namespace caisson::image {

/// A layer's table as it lies in the registry, checked by nothing but its length.
struct FetchedToc {
  TocPlace place;
  std::string raw;
};

/// Thread-safe. On disk, below the store's root: coming/<hex of diffID>/ with table, index.erofs, pieces, about, and the folder mount.
class StandIns {
 public:
  /// `content` and `registries` are borrowed.
  StandIns(ContentStore& content, const Registries* registries, WorkerOptions worker);
  /// Takes the mounts down. Containers that use them keep them, and the processes that serve those go on without us.
  ~StandIns();
  StandIns(const StandIns&) = delete;
  StandIns& operator=(const StandIns&) = delete;

  /// Asks the registry for a layer's table. Errors: unsupported (no table that the manifest binds by a digest, no ranges), invalid, and the registry's.
  static Result<FetchedToc> fetch_toc(RegistrySession& session, const Descriptor& layer, const Cancel& cancel);

  struct Layer {
    Digest diff_id;
    Descriptor blob;
    Reference reference;  ///< where it comes from
  };
  /// Makes the index of a table. `below`: directories of the layers below, topmost first, for what the layer names only in passing.
  /// Errors: corrupt (digest), invalid, unsupported (what an index cannot tell), io (EDQUOT).
  Status make(const Layer& layer, const FetchedToc& toc, const std::function<Result<std::vector<std::string>>()>& below, const Cancel& cancel);
  [[nodiscard]] bool has(const Digest& diff_id) const;
  /// Sum of its files' sizes, as the table has them.
  Result<std::uint64_t> size(const Digest& diff_id) const;
  Result<std::vector<Digest>> list() const;
  /// Credentials for what open() starts. They are kept in memory only.
  void remember(const Digest& diff_id, const RegistryCredentials& credentials);
  /// Where the layer can be seen. The first time, and after its server has ended, one is started and the layer is mounted.
  /// Errors: corrupt (its files are damaged), unavailable, unsupported (no FUSE), io (EDQUOT: no room for what may be read).
  Result<std::string> open(const Digest& diff_id);
  /// Holds the layer's blob against the table. Errors: corrupt, naming layer, registry and what differs.
  Status compare(const Digest& diff_id, int blob_fd, const Cancel& cancel);
  /// Takes it out of the store: it is not to be found any more. Who has it mounted keeps it, and its server has all it needs in the blob, which is here (`is_here`)
  /// or not wanted.
  Status retire(const Digest& diff_id);
  /// After a start: undoes the mounts of an earlier process, and removes those that are not `wanted`. How many.
  Result<std::size_t> recover(const std::vector<Digest>& wanted);
  /// When a server last asked its registry for something; monotonic, 0: never. Downloads in the background give way to it.
  [[nodiscard]] std::int64_t last_request_ns() const { return last_request_ns_; }

 private:
  /// What is remembered beside the index.
  struct About {
    std::string diff_id;
    std::string blob;
    std::uint64_t blob_bytes = 0;
    std::string reference;
    TocPlace toc;
    std::uint64_t content_bytes = 0;
    std::uint64_t size_bytes = 0;
    std::string index_digest;
    template <class C>
    friend void visit(C& c, About& a) {
      c(a.diff_id);
      c(a.blob);
      c(a.blob_bytes);
      c(a.reference);
      c(a.toc);
      c(a.content_bytes);
      c(a.size_bytes);
      c(a.index_digest);
    }
  };
  struct Running {
    UniqueFd server;   // pidfd
    FetchChild fetch;  // the listener's, from its start on
    UniqueFd notices;
    Reference reference;  // for the next fetch process
    RegistryCredentials credentials;
    Reservation room;  // for what is read
    std::string object;
    std::atomic<bool> has_ended = false;
    std::thread listener;
  };
  [[nodiscard]] std::string path_of(const Digest& diff_id) const;
  Result<About> about(const Digest& diff_id) const;
  Result<std::string> start(const Digest& diff_id, const std::string& path);
  Result<linux::ChildProcess> spawn(const std::vector<linux::FdMapping>& fds) const;
  void listen(Running& running);
  Status give_fetch_process(Running& running);
  void join_ended();
  Status count(const std::string& path);

  ContentStore& content_;
  const Registries* registries_;
  const WorkerOptions worker_;
  std::atomic<std::int64_t> last_request_ns_ = 0;
  std::atomic<bool> is_closing_ = false;
  std::mutex mutex_;  // of all below, and of mounting against retiring
  std::map<Digest, RegistryCredentials> credentials_;
  std::map<Digest, std::shared_ptr<Running>> running_;  // shared with `all_`
  std::list<std::shared_ptr<Running>> all_;             // also those that only containers use
};

}  // namespace caisson::image
