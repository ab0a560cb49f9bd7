// BlobFeeder: downloads a blob into a file and hands what has arrived to a pipe at the same time, so that unpacking needs no second pass.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/cancel.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "image/registry_session.hpp"
#include "linux/file.hpp"

namespace caisson::image {

class BlobFeeder {
 public:
  struct Source {
    std::string path;   ///< of the file; what it holds already is not asked for again
    Digest digest;
    std::uint64_t size_bytes = 0;
  };
  /// Begins in a thread of its own. `on_progress`: bytes that are in the file; the last call says size_bytes.
  static Result<std::unique_ptr<BlobFeeder>> start(RegistrySession& session, Source source, Cancel cancel, std::function<void(std::uint64_t)> on_progress);
  ~BlobFeeder();
  BlobFeeder(const BlobFeeder&) = delete;
  BlobFeeder& operator=(const BlobFeeder&) = delete;

  /// Where the blob's bytes come out; ends after the last one, or early when the download failed.
  [[nodiscard]] int read_end() const { return pipe_.read_end.get(); }
  /// Stops what is not needed any more, waits, and says how the download went.
  Status finish();
  /// finish() came before the end: the reader had enough.
  [[nodiscard]] bool was_stopped() const { return was_stopped_; }
  /// The file held a part of the blob before.
  [[nodiscard]] bool was_resumed() const { return offset_ > 0; }

 private:
  BlobFeeder() = default;
  void run(RegistrySession& session);
  Status download(RegistrySession& session);
  Status feed(std::uint64_t until);

  Source source_;
  Cancel cancel_;
  std::function<void(std::uint64_t)> on_progress_;
  linux::Pipe pipe_;
  UniqueFd stop_;        // eventfd
  UniqueFd file_;        // written by the fetch process
  UniqueFd reading_;     // the same file with a position of its own
  std::uint64_t offset_ = 0;
  std::uint64_t fed_ = 0;
  std::atomic<bool> is_done_ = false;
  bool was_stopped_ = false;
  Status outcome_;
  std::thread thread_;
};

/// How many bytes of a partial file can be gone on from: all, unless it is longer than the blob; then it is emptied.
Result<std::uint64_t> usable_bytes(int fd, std::uint64_t size_bytes);
Status discard_partial(const std::string& path);

}  // namespace caisson::image
