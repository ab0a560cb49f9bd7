// Inside the worker process: sandbox, then one streaming pass from the input to the target directory, or from there to the output.
#include "image/worker.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/strings.hpp"
#include "image/archive_split.hpp"
#include "image/chunked_layer.hpp"
#include "image/compress.hpp"
#include "image/directory_form.hpp"
#include "image/examine.hpp"
#include "image/frames.hpp"
#include "image/layer_toc.hpp"
#include "image/ready_workers.hpp"
#include "image/wrappings.hpp"
#include "linux/file.hpp"
#include "linux/landlock.hpp"
#include "linux/process.hpp"
#include "linux/seccomp.hpp"
#include "linux/seccomp_worker.hpp"
#include "linux/socket.hpp"
#include "linux/sysinfo.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t input_buffer_bytes = 1 << 18;
constexpr std::size_t output_buffer_bytes = 1 << 16;
constexpr std::uint64_t progress_step_bytes = 4 << 20;
constexpr std::size_t most_compressing_threads = 16;  // what takes the old compression off and hashes is one thread, which cannot feed more

Status send_frame(WorkerFrame type, std::string_view payload) {
  return linux::write_all(worker_fd::result, make_frame(static_cast<std::uint8_t>(type), payload));
}

/// What comes in: counted and reported.
class RawInput final : public ByteSource {
 public:
  Result<std::string_view> next() override {
    auto got = TRY(linux::read(worker_fd::input, buffer_), "read the archive");
    bytes_ += got;
    if (bytes_ >= reported_ + progress_step_bytes) {
      reported_ = bytes_;
      TRY_PLAIN(send_frame(WorkerFrame::progress, encode(bytes_)));
    }
    return std::string_view(buffer_.data(), got);
  }

 private:
  std::vector<char> buffer_ = std::vector<char>(input_buffer_bytes);
  std::uint64_t bytes_ = 0;
  std::uint64_t reported_ = 0;
};

/// The blob on its way to the decoder: counted, hashed and copied.
class BlobSource final : public ByteSource {
 public:
  BlobSource(ByteSource& input, const WorkerRequest& request) : input_(input), request_(request) {
    if (request.known_digest.empty()) hasher_.emplace(request.input_algorithm);
  }
  Result<std::string_view> next() override {
    auto piece = TRY_PLAIN(input_.next());
    if (hasher_) hasher_->update(piece);
    if (request_.copy_input) TRY(linux::write_all(worker_fd::copy, piece), "store the archive");
    bytes_ += piece.size();
    return piece;
  }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::uint64_t copied_bytes() const { return request_.copy_input ? bytes_ : 0; }
  std::string finish() { return hasher_ ? hasher_->finish().text() : request_.known_digest; }

 private:
  ByteSource& input_;
  const WorkerRequest& request_;
  std::optional<Hasher> hasher_;
  std::uint64_t bytes_ = 0;
};

/// Passes bytes on and hashes them.
class HashingSource final : public ByteSource {
 public:
  HashingSource(ByteSource& input, DigestAlgorithm algorithm) : input_(input), hasher_(algorithm) {}
  Result<std::string_view> next() override {
    auto piece = TRY_PLAIN(input_.next());
    hasher_.update(piece);
    return piece;
  }
  std::string finish() { return hasher_.finish().text(); }

 private:
  ByteSource& input_;
  Hasher hasher_;
};

/// Passes the decoded tar on, and writes it where it is to stay.
class KeepingSource final : public ByteSource {
 public:
  KeepingSource(ByteSource& input, bool writes) : input_(input), writes_(writes) {}
  Result<std::string_view> next() override {
    auto piece = TRY_PLAIN(input_.next());
    if (writes_) TRY(linux::write_all(worker_fd::tar, piece), "store the layer's tar");
    bytes_ += piece.size();
    return piece;
  }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  ByteSource& input_;
  bool writes_;
  std::uint64_t bytes_ = 0;
};

/// Passes the decoded tar on, and says how much there is on the disk because of it: a small archive may hold more than the disk has.
class MeteredSource final : public ByteSource {
 public:
  using Meter = std::function<Result<std::uint64_t>(std::uint64_t passed_bytes)>;
  MeteredSource(ByteSource& input, Meter meter) : input_(input), meter_(std::move(meter)) {}
  Result<std::string_view> next() override {
    const auto written = TRY_PLAIN(meter_(passed_bytes_));
    if (written >= reported_bytes_ + written_step_bytes) {
      reported_bytes_ = written;
      TRY_PLAIN(send_frame(WorkerFrame::written, encode(written)));
    }
    auto piece = TRY_PLAIN(input_.next());
    passed_bytes_ += piece.size();
    return piece;
  }

 private:
  ByteSource& input_;
  Meter meter_;
  std::uint64_t passed_bytes_ = 0;
  std::uint64_t reported_bytes_ = 0;
};

/// What is left of the decoded stream behind the archive's end has been read by TarReader; this makes sure of the rest
/// when a parser stopped early without an error.
Status drain(ByteSource& source) {
  for (;;)
    if (TRY_PLAIN(source.next()).empty()) return {};
}

/// Collects small writes: a tar is mostly blocks of 512 bytes.
class PackedOutput {
 public:
  Status take(std::string_view bytes) {
    if (pending_.size() + bytes.size() > output_buffer_bytes) TRY_PLAIN(flush());
    if (bytes.size() >= output_buffer_bytes) return linux::write_all(worker_fd::copy, bytes);
    pending_ += bytes;
    return {};
  }
  Status flush() {
    TRY_PLAIN(linux::write_all(worker_fd::copy, pending_));
    pending_.clear();
    return {};
  }

 private:
  std::string pending_;
};

Status run_pack(const WorkerRequest& request) {
  PackedOutput output;
  TarWriter tar([&](std::string_view bytes) { return output.take(bytes); });
  TRY_PLAIN(pack_tree(worker_fd::target, request.pack, tar, request.pack.grafts.empty() ? -1 : worker_fd::graft));
  return output.flush();
}

Status run_place(const WorkerRequest& request) {
  RawInput raw;
  auto input = TRY_PLAIN(unwrap(raw));
  auto inflater = TRY_PLAIN(open_inflater(*input));
  TarReader tar(*inflater);
  TRY_PLAIN(place_archive(tar, worker_fd::target, request.place));
  return drain(*inflater);
}

/// Archives of images, root file systems and what builds bring come from users, in whatever wrapping, and nobody has named them by a digest before. What is in
/// the wrapping counts as the input: it is what is hashed and kept. A layer that is pulled has a name to answer to, and its own digest is not that of what is in it.
bool may_be_wrapped(const WorkerRequest& request) { return request.task == WorkerTask::split || (request.known_digest.empty() && !request.is_decoded); }

/// Indexes a tar that is kept on the way. What no index can tell is read to its end all the same: the tar is whole then, and can be unpacked.
Status run_index(ByteSource& decoded, const BlobSource& input, const WorkerRequest& request, WorkerResult& result) {
  KeepingSource kept(decoded, result.has_tar);
  MeteredSource metered(kept, [&](std::uint64_t passed) { return input.copied_bytes() + (result.has_tar ? passed : 0); });
  TarReader tar(metered);
  IndexForm form(request.settled);
  auto indexed = unpack_into(form, tar, result.layer);
  if (!indexed.ok() && !is_beyond_an_index(indexed.error())) return indexed;
  TRY_PLAIN(drain(kept));
  if (indexed.ok()) indexed = form.write(kept.bytes(), [](std::string_view bytes) { return linux::write_all(worker_fd::index, bytes); });
  if (!indexed.ok() && !is_beyond_an_index(indexed.error())) return indexed;
  result.has_index = indexed.ok();
  return {};
}

Status run_archive(const WorkerRequest& request, WorkerResult& result) {
  RawInput raw;
  std::unique_ptr<ByteSource> unwrapped;
  if (may_be_wrapped(request)) unwrapped = TRY_PLAIN(unwrap(raw));
  BlobSource input(unwrapped ? *unwrapped : static_cast<ByteSource&>(raw), request);
  std::unique_ptr<Inflater> inflater;
  if (!request.is_decoded) {
    inflater = TRY_PLAIN(open_inflater(input));
    result.compression = inflater->compression();
  }
  ByteSource& plain = inflater ? static_cast<ByteSource&>(*inflater) : input;
  // A plain tar's two digests are the same: hashing it once is enough, unless they are of two kinds.
  const bool is_hashed_once = result.compression == Compression::none && request.input_algorithm == request.decoded_algorithm;
  std::optional<HashingSource> hashing;
  if (request.task != WorkerTask::split && !is_hashed_once) hashing.emplace(plain, request.decoded_algorithm);
  ByteSource& decoded = hashing ? static_cast<ByteSource&>(*hashing) : plain;
  if (request.task == WorkerTask::index) {
    result.has_tar = !((request.copy_input || request.keeps_input) && result.compression == Compression::none);
    TRY_PLAIN(run_index(decoded, input, request, result));
  } else if (request.task == WorkerTask::unpack) {
    DirectoryForm form(worker_fd::target, result.layer.devices);
    MeteredSource metered(decoded, [&](std::uint64_t) -> Result<std::uint64_t> { return input.copied_bytes() + TRY_PLAIN(form.disk_bytes()); });
    TarReader tar(metered);
    TRY_PLAIN(unpack_layer(tar, form, result.layer));
  } else {
    MeteredSource metered(decoded, [](std::uint64_t passed) { return passed; });
    TarReader tar(metered);
    TRY_PLAIN(split_archive(tar, worker_fd::target, result.members));
  }
  TRY_PLAIN(drain(decoded));
  if (input.bytes() == 0) return Error(ErrorKind::invalid, "the archive is empty");
  result.input_bytes = input.bytes();
  result.input_digest = input.finish();
  result.decoded_digest = hashing ? hashing->finish() : result.input_digest;
  return {};
}

/// A layer's blob on its way to whoever reads its tar, hashed before and behind its compression.
Status read_layer(const WorkerRequest& request, WorkerResult& result, const std::function<Status(ByteSource&)>& use) {
  RawInput raw;
  BlobSource input(raw, request);
  auto inflater = TRY_PLAIN(open_inflater(input));
  result.compression = inflater->compression();
  HashingSource decoded(*inflater, request.decoded_algorithm);
  TRY_PLAIN(use(decoded));
  TRY_PLAIN(drain(decoded));
  result.input_bytes = input.bytes();
  result.input_digest = input.finish();
  result.decoded_digest = decoded.finish();
  return {};
}

/// Threads come to be behind the filter, which allows them, and nothing that is not a thread.
Status run_compress(const WorkerRequest& request, WorkerResult& result) {
  return read_layer(request, result, [&](ByteSource& tar) -> Status {
    Hasher hasher;
    MeteredSource metered(tar, [&](std::uint64_t) { return result.output_bytes; });
    const CompressionJob job{request.form, request.level, std::min(static_cast<std::size_t>(linux::cpu_count()), most_compressing_threads)};
    TRY_PLAIN(write_compressed(metered, job, [&](std::string_view bytes) -> Status {
      hasher.update(bytes);
      result.output_bytes += bytes.size();
      TRY(linux::write_all(worker_fd::copy, bytes), "store the compressed layer");
      return {};
    }));
    result.output_digest = hasher.finish().text();
    return {};
  });
}

Status run_chunk(const WorkerRequest& request, WorkerResult& result) {
  return read_layer(request, result, [&](ByteSource& tar) -> Status {
    Hasher hasher;
    const auto made = TRY_PLAIN(write_chunked(tar, request.level, [&](std::string_view bytes) {
      hasher.update(bytes);
      return linux::write_all(worker_fd::copy, bytes);
    }));
    result.toc = made.toc;
    result.decoded_toc_bytes = made.decoded_toc_bytes;
    result.output_bytes = made.blob_bytes;
    result.output_digest = hasher.finish().text();
    return {};
  });
}

Result<LayerToc> read_toc(const WorkerRequest& request, int fd) {
  const auto raw = TRY(linux::read_all(fd), "read the table");
  return parse_toc(TRY_PLAIN(decode_toc(raw, request.toc)), request.toc);
}

Status run_compare(const WorkerRequest& request, WorkerResult& result) {
  const auto toc = TRY_PLAIN(read_toc(request, worker_fd::table));
  return read_layer(request, result, [&](ByteSource& tar) { return compare_with_toc(toc, request.toc.format, tar); });
}

Status run_toc(const WorkerRequest& request, WorkerResult& result) {
  const auto toc = TRY_PLAIN(read_toc(request, worker_fd::input));
  TocArchive archive(toc);
  TarReader tar(archive);
  IndexForm form(request.settled);
  TRY_PLAIN(unpack_into(form, tar, result.layer));
  TRY_PLAIN(drain(archive));
  TRY_PLAIN(form.write(archive.bytes(), [](std::string_view bytes) { return linux::write_all(worker_fd::index, bytes); }));
  result.has_index = true;
  result.output_bytes = archive.bytes();
  return linux::write_all(worker_fd::tar, encode(archive.chunks()));
}

Status run_task(const WorkerRequest& request, WorkerResult& result) {
  switch (request.task) {
    case WorkerTask::unpack:
    case WorkerTask::index:
    case WorkerTask::split: return run_archive(request, result);
    case WorkerTask::pack: return run_pack(request);
    case WorkerTask::place: return run_place(request);
    case WorkerTask::chunk: return run_chunk(request, result);
    case WorkerTask::compress: return run_compress(request, result);
    case WorkerTask::toc: return run_toc(request, result);
    case WorkerTask::compare: return run_compare(request, result);
    case WorkerTask::look: result.path_status = TRY_PLAIN(look_at(worker_fd::target, request.path)); return {};
  }
  return Error(ErrorKind::invalid, "a task that this worker does not know");
}

linux::LandlockPolicy policy_of(const WorkerRequest& request) {
  const auto task = request.task;
  const bool reads_only = task == WorkerTask::pack || task == WorkerTask::look;
  linux::LandlockPolicy policy;
  // What is written to open files needs no path.
  if (task == WorkerTask::index || task == WorkerTask::chunk || task == WorkerTask::compress || task == WorkerTask::toc || task == WorkerTask::compare) return policy;
  policy.rules.push_back({concat("/proc/self/fd/", worker_fd::target), reads_only ? linux::LandlockAccess::read : linux::LandlockAccess::read_write_whiteouts});
  if (!request.pack.grafts.empty()) policy.rules.push_back({concat("/proc/self/fd/", worker_fd::graft), linux::LandlockAccess::read});
  return policy;
}

Status enter_sandbox(const linux::LandlockPolicy& policy) {
  TRY_PLAIN(linux::set_no_new_privileges());
  if (linux::landlock_abi() > 0) {
    auto ruleset = TRY(linux::create_landlock_ruleset(policy), "Landlock");
    TRY(linux::landlock_restrict_self(ruleset.get()), "Landlock");
  }
  auto filter = TRY(linux::worker_seccomp(), "seccomp");
  TRY(linux::load_seccomp(filter), "seccomp");
  return {};
}

Status serve(WorkerResult& result) {
  auto text = TRY(linux::read_all(worker_fd::request), "read the request");
  auto request = TRY_PLAIN(decode<WorkerRequest>(text, "worker request"));
  linux::umask(0);
  TRY(enter_sandbox(policy_of(request)), "enter the sandbox");
  return run_task(request, result);
}

/// Waits for the descriptors of a job, and puts them where a worker that was started for it would have found them. False: none will come.
Result<bool> take_job() {
  constexpr std::size_t most_descriptors = 8;
  constexpr int above_all_places = 16;
  auto message = TRY_PLAIN(linux::receive_message(worker_fd::request, most_descriptors, most_descriptors));
  if (message.fds.empty()) return false;
  if (message.fds.size() != message.bytes.size()) return Error(ErrorKind::corrupt, "a job whose descriptors and places are not as many");
  for (auto& fd : message.fds) fd = TRY_PLAIN(linux::dup_at_least(fd.get(), above_all_places));  // none stands in another's place
  for (std::size_t i = 0; i < message.fds.size(); ++i) TRY_PLAIN(linux::dup3(message.fds[i].get(), message.bytes[i], 0));
  return true;
}

/// No folder at all: a policy without rules forbids every name.
Result<std::string> serve_question(Examiner examine) {
  const auto question = TRY(linux::read_all(worker_fd::request), "read the question");
  TRY(enter_sandbox({}), "enter the sandbox");
  RawInput raw;
  auto inflater = TRY_PLAIN(open_inflater(raw));
  return examine(question, *inflater);
}

}  // namespace

int examiner_main(Examiner examine) {
  Examination said;
  auto answer = serve_question(examine);
  said.ok = answer.ok();
  if (answer.ok()) {
    said.answer = std::move(*answer);
  } else {
    said.kind = answer.error().kind();
    said.text = answer.error().text();
    said.hint = answer.error().hint();
  }
  return send_frame(WorkerFrame::result, encode(said)).ok() ? 0 : 1;
}

int ready_worker_main() {
  auto job = take_job();
  if (!job.ok()) return 1;
  return *job ? worker_main() : 0;
}

int worker_main() {
  WorkerResult result;
  auto status = serve(result);
  result.ok = status.ok();
  if (!status.ok()) {
    result.kind = status.error().kind();
    result.error_number = status.error().error_number();
    result.text = status.error().text();
    result.hint = status.error().hint();
  }
  return send_frame(WorkerFrame::result, encode(result)).ok() ? 0 : 1;
}

}  // namespace caisson::image
