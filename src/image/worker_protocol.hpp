// What the image store and its worker process say to each other.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/codec.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"
#include "image/index_form.hpp"
#include "image/inflate.hpp"
#include "image/layer_form.hpp"
#include "image/layer_toc.hpp"
#include "image/pack.hpp"
#include "image/place.hpp"
#include "image/unpack.hpp"

namespace caisson::image {

/// Descriptors of the worker. 1 and 2 are as everywhere; 1 takes the copy of the input, if one is asked for, or the tar that is packed.
namespace worker_fd {
inline constexpr int input = 0;
inline constexpr int copy = 1;
inline constexpr int request = 3;
inline constexpr int target = 4;   ///< a directory
inline constexpr int result = 5;   ///< a pipe
inline constexpr int tar = 6;      ///< of index: an empty file; of toc: one for the pieces
inline constexpr int index = 7;    ///< of index and toc: an empty file
inline constexpr int table = 8;    ///< of compare: a layer's table of contents as it lies in the blob
inline constexpr int graft = 9;    ///< of pack: the tree that PackRequest::grafts are taken from
}  // namespace worker_fd

enum class WorkerTask : std::uint8_t {
  unpack,  ///< a layer's tar → a tree in the target directory
  index,   ///< a layer's tar → the same, decoded, on worker_fd::tar and an index of it on worker_fd::index
  split,   ///< an archive of images → its files, as "0", "1", … in the target directory
  pack,    ///< what lies at a path of the target → a tar on worker_fd::copy
  look,    ///< what lies at a path of the target → WorkerResult::path_status
  place,   ///< a tar → files below a path of the target, which others may be changing
  chunk,   ///< a layer's blob → the same as zstd:chunked on worker_fd::copy
  compress,  ///< a layer's blob → the same tar as WorkerRequest::form on worker_fd::copy
  toc,     ///< a table of contents, as it lies in a blob → an index of the tree it promises, and its pieces (encoded vector<TocChunk>) on worker_fd::tar
  compare, ///< a layer's blob and its table of contents: an error when the one is not what the other promised
};

struct WorkerRequest {
  WorkerTask task = WorkerTask::unpack;
  bool copy_input = false;    ///< write all that is read to worker_fd::copy
  bool keeps_input = false;   ///< of index: the input stays where it is, so that a tar without compression is not written once more
  bool is_decoded = false;    ///< the input is a tar as it is: nothing is taken off it
  std::vector<DirectoryAttributes> settled;  ///< of index: for directories that the tar names only in passing
  std::string known_digest;   ///< of the input, already checked: it is not computed again. "": compute it
  std::uint64_t total_bytes = 0;  ///< of the input, for progress; 0: unknown
  PackRequest pack;
  PlaceRequest place;
  std::string path;  ///< of look
  LayerForm form = LayerForm::uncompressed;  ///< of compress; never zstd_chunked, which is chunk
  std::int32_t level = 0;                    ///< of compress and chunk
  TocPlace toc;      ///< of toc and compare
  DigestAlgorithm input_algorithm = DigestAlgorithm::sha256;    ///< in which the blob is named
  DigestAlgorithm decoded_algorithm = DigestAlgorithm::sha256;  ///< in which the diffID is
};
template <class C>
void visit(C& c, WorkerRequest& r) {
  c(r.task);
  c(r.copy_input);
  c(r.keeps_input);
  c(r.is_decoded);
  c(r.settled);
  c(r.known_digest);
  c(r.total_bytes);
  c(r.pack);
  c(r.place);
  c(r.path);
  c(r.form);
  c(r.level);
  c(r.toc);
  c(r.input_algorithm);
  c(r.decoded_algorithm);
}

/// One member of a split archive.
struct ArchiveMember {
  std::string name;  ///< normalised: "blobs/sha256/ab…"
  TarType type = TarType::file;  ///< file, symlink or hard_link
  std::string link_target;  ///< hostile
  std::uint64_t file = 0;   ///< its number in the target directory
  std::uint64_t size_bytes = 0;
  std::string digest;       ///< "sha256:…"
};
template <class C>
void visit(C& c, ArchiveMember& m) {
  c(m.name);
  c(m.type);
  c(m.link_target);
  c(m.file);
  c(m.size_bytes);
  c(m.digest);
}

struct WorkerResult {
  bool ok = false;
  ErrorKind kind = ErrorKind::internal;  ///< of a failure
  std::int32_t error_number = 0;
  std::string text;
  std::string hint;
  std::string input_digest;
  std::uint64_t input_bytes = 0;
  Compression compression = Compression::none;
  std::string decoded_digest;  ///< a layer's diffID
  UnpackedLayer layer;
  bool has_index = false;  ///< of index; false: the tar was read and written to its end, but the layer has to become a directory
  bool has_tar = false;    ///< of index; false: it would have been the input once more
  std::vector<ArchiveMember> members;
  std::optional<PathStatus> path_status;
  TocPlace toc;                        ///< of chunk
  std::uint64_t decoded_toc_bytes = 0; ///< of chunk
  std::string output_digest;           ///< of chunk and compress
  std::uint64_t output_bytes = 0;      ///< of chunk and compress; of toc: of the tar that the pieces are places in
};
template <class C>
void visit(C& c, WorkerResult& r) {
  c(r.ok);
  c(r.kind);
  c(r.error_number);
  c(r.text);
  c(r.hint);
  c(r.input_digest);
  c(r.input_bytes);
  c(r.compression);
  c(r.decoded_digest);
  c(r.layer);
  c(r.has_index);
  c(r.has_tar);
  c(r.members);
  c(r.path_status);
  c(r.toc);
  c(r.decoded_toc_bytes);
  c(r.output_digest);
  c(r.output_bytes);
}

/// Types of the frames (frames.hpp) on the result pipe.
enum class WorkerFrame : std::uint8_t {
  progress = 1,  ///< payload: u64 bytes of input read so far
  result = 2,    ///< payload: WorkerResult; the last frame
  written = 3,   ///< payload: u64 bytes that lie on the disk by its work so far
};
/// That much may be written before it is said: what a quota can be passed by.
inline constexpr std::uint64_t written_step_bytes = 4 << 20;
/// A result names every device and implied directory of a layer, or every member of an archive.
inline constexpr std::size_t most_worker_frame_bytes = 64 << 20;

}  // namespace caisson::image
