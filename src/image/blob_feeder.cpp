// From the fetch process's file to the unpack worker's pipe, by splice: the bytes are not copied on the way.
#include "image/blob_feeder.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "linux/event.hpp"

namespace caisson::image {

namespace {
constexpr int pipe_bytes = 1 << 20;
constexpr unsigned int do_not_block = SPLICE_F_NONBLOCK;
}  // namespace

Result<std::uint64_t> usable_bytes(int fd, std::uint64_t size_bytes) {
  const auto status = TRY_PLAIN(linux::fstat(fd));
  const auto has = static_cast<std::uint64_t>(status.st_size);
  if (has <= size_bytes) return has;
  TRY_PLAIN(linux::ftruncate(fd, 0));
  return std::uint64_t{0};
}

Status discard_partial(const std::string& path) {
  auto removed = linux::unlink(path);
  if (!removed.ok() && removed.error().kind() == ErrorKind::not_found) return {};
  return removed;
}

Result<std::unique_ptr<BlobFeeder>> BlobFeeder::start(RegistrySession& session, Source source, Cancel cancel, std::function<void(std::uint64_t)> on_progress) {
  std::unique_ptr<BlobFeeder> feeder(new BlobFeeder);
  feeder->file_ = TRY_PLAIN(linux::open(source.path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  feeder->reading_ = TRY_PLAIN(linux::open(source.path, O_RDONLY | O_NOFOLLOW));
  feeder->offset_ = TRY_PLAIN(usable_bytes(feeder->file_.get(), source.size_bytes));
  feeder->stop_ = TRY_PLAIN(linux::eventfd());
  feeder->pipe_ = TRY_PLAIN(linux::pipe2());
  ignore(linux::set_pipe_size(feeder->pipe_.write_end.get(), pipe_bytes));  // fewer wake-ups; the usual size works too
  TRY_PLAIN(linux::set_nonblocking(feeder->pipe_.write_end.get(), true));
  feeder->source_ = std::move(source);
  feeder->cancel_ = cancel;
  feeder->on_progress_ = std::move(on_progress);
  feeder->thread_ = std::thread([raw = feeder.get(), &session] { raw->run(session); });
  return feeder;
}

BlobFeeder::~BlobFeeder() { ignore(finish()); }

Status BlobFeeder::finish() {
  if (thread_.joinable()) {
    was_stopped_ = !is_done_;
    ignore(linux::eventfd_signal(stop_.get()));  // an eventfd of ours cannot be full
    thread_.join();
    // Only now: as long as both ends are open here, writing raises no SIGPIPE.
    pipe_.read_end.reset();
  }
  return outcome_;
}

void BlobFeeder::run(RegistrySession& session) {
  outcome_ = download(session);
  is_done_ = true;
  pipe_.write_end.reset();
}

Status BlobFeeder::download(RegistrySession& session) {
  TRY_PLAIN(feed(offset_));
  if (offset_ < source_.size_bytes) {
    FetchRequest request;
    request.task = FetchTask::blob;
    request.name = source_.digest.text();
    request.offset = offset_;
    request.size_bytes = source_.size_bytes;
    Status fed;
    auto take = [&](std::uint64_t bytes) {
      if (bytes < source_.size_bytes) on_progress_(bytes);
      if (fed.ok()) fed = feed(bytes);
    };
    auto reply = TRY_PLAIN(session.call(std::move(request), file_.get(), take, std::array{cancel_.fd, stop_.get()}));
    if (!reply.ok) return error_of(reply);
    TRY_PLAIN(std::move(fed));
  }
  on_progress_(source_.size_bytes);
  return feed(source_.size_bytes);
}

Status BlobFeeder::feed(std::uint64_t until) {
  while (fed_ < until) {
    std::array<linux::PollEntry, 3> entries{};
    entries[0] = {pipe_.write_end.get(), POLLOUT, 0};
    entries[1] = {stop_.get(), POLLIN, 0};
    entries[2] = {cancel_.fd, POLLIN | POLLRDHUP, 0};
    TRY_PLAIN(linux::poll(entries, -1));
    if (entries[1].revents != 0 || entries[2].revents != 0) return Error(ErrorKind::unavailable, "cancelled", ECANCELED);
    auto moved = linux::splice(reading_.get(), pipe_.write_end.get(), static_cast<std::size_t>(std::min<std::uint64_t>(until - fed_, pipe_bytes)), do_not_block);
    if (!moved.ok() && linux::would_block(moved.error())) continue;
    if (!moved.ok()) return std::move(moved).error();
    if (*moved == 0) return Error(ErrorKind::corrupt, "the downloaded file is shorter than it was");
    fed_ += *moved;
  }
  return {};
}

}  // namespace caisson::image
