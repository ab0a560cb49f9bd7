// Stand-ins for layers: made of a table, mounted over a file that a process gives, and taken away when the layer is here.
#include "image/stand_ins.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "image/index_mount.hpp"
#include "image/layer_server.hpp"
#include "image/worker_process.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/fuse_file.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/tree.hpp"

namespace caisson::image {

namespace {

constexpr const char* table_file = "table";
constexpr const char* pieces_file = "pieces";
constexpr const char* about_file = "about";
constexpr mode_t private_dir = 0700;

std::string file_of(const std::string& path, const char* name) { return concat(path, "/", name); }

Result<UniqueFd> new_file(const Staging& staging, const char* name) { return linux::openat(staging.fd(), name, O_RDWR | O_CREAT | O_EXCL, 0600); }

Result<std::string> fetch_range(RegistrySession& session, const Digest& blob, std::uint64_t offset, std::uint64_t bytes, const Cancel& cancel) {
  auto file = TRY_PLAIN(linux::memfd_create("caisson-table"));
  FetchRequest request;
  request.task = FetchTask::range;
  request.name = blob.text();
  request.offset = offset;
  request.size_bytes = bytes;
  auto reply = TRY_PLAIN(session.call(std::move(request), file.get(), {}, std::array{cancel.fd}));
  if (!reply.ok) return error_of(reply);
  TRY_PLAIN(linux::lseek(file.get(), 0, SEEK_SET));
  auto out = TRY_PLAIN(linux::read_all(file.get(), bytes));
  if (out.size() != bytes) return Error(ErrorKind::corrupt, concat("the registry sent ", out.size(), " of ", bytes, " bytes"));
  return out;
}

/// Whether something is mounted there: another file system shows.
bool is_mounted(const std::string& path) {
  const auto point = linux::stat(file_of(path, layer_file::mount_point));
  const auto folder = linux::stat(path);
  return point.ok() && folder.ok() && point->st_dev != folder->st_dev;
}

}  // namespace

StandIns::StandIns(ContentStore& content, const Registries* registries, WorkerOptions worker) : content_(content), registries_(registries), worker_(std::move(worker)) {}

StandIns::~StandIns() {
  is_closing_ = true;
  std::lock_guard lock(mutex_);
  for (const auto& [diff_id, running] : running_) ignore(detach_layer(path_of(diff_id)));  // what stays is undone by recover() of the next process
  for (const auto& running : all_) {
    ignore(linux::shutdown(running->notices.get(), SHUT_RDWR));
    if (running->listener.joinable()) running->listener.join();
  }
}

std::string StandIns::path_of(const Digest& diff_id) const { return concat(content_.root(), "/coming/", diff_id.hex()); }

bool StandIns::has(const Digest& diff_id) const { return linux::exists(file_of(path_of(diff_id), about_file)).value_or(false); }

Result<std::vector<Digest>> StandIns::list() const {
  std::vector<Digest> out;
  auto entries = linux::list_dir(content_.root() + "/coming");
  if (!entries.ok() && entries.error().kind() == ErrorKind::not_found) return out;
  for (const auto& entry : TRY_PLAIN(std::move(entries)))
    if (auto digest = Digest::parse(concat(entry.name.size() == 64 ? "sha256:" : "sha512:", entry.name)); digest.ok()) out.push_back(std::move(*digest));
  return out;
}

void StandIns::remember(const Digest& diff_id, const RegistryCredentials& credentials) {
  std::lock_guard lock(mutex_);
  credentials_[diff_id] = credentials;
}

Result<StandIns::About> StandIns::about(const Digest& diff_id) const {
  return decode<About>(TRY_PLAIN(linux::read_file(file_of(path_of(diff_id), about_file))), concat("what is known about layer ", diff_id.text()));
}

/// The files, as du(1) sees them. What is read into the cache is in a Reservation.
Status StandIns::count(const std::string& path) {
  if (!content_.account().has_begun()) return {};
  std::vector<StoreAccount::Item> items;
  for (const char* name : {"", table_file, pieces_file, about_file, layer_file::index}) {
    auto status = linux::lstat(*name == '\0' ? path : file_of(path, name));
    if (status.ok()) items.push_back({status->st_ino, disk_bytes_of(*status)});
  }
  content_.account().set(path, items);
  return {};
}

Result<FetchedToc> StandIns::fetch_toc(RegistrySession& session, const Descriptor& layer, const Cancel& cancel) {
  auto place = TRY_PLAIN(toc_of(layer));
  if (!place) return Error(ErrorKind::unsupported, "it has no table of contents that the image's manifest names by a digest");
  FetchedToc out;
  out.place = std::move(*place);
  if (out.place.format == TocFormat::estargz) {
    if (layer.size_bytes < estargz_footer_bytes) return Error(ErrorKind::invalid, "it is too small to have a table of contents");
    const auto footer = TRY_PLAIN(fetch_range(session, layer.digest, layer.size_bytes - estargz_footer_bytes, estargz_footer_bytes, cancel));
    TRY_PLAIN(read_estargz_footer(footer, layer.size_bytes, out.place));
  }
  out.raw = TRY_PLAIN(fetch_range(session, layer.digest, out.place.offset, out.place.size_bytes, cancel));
  return out;
}

Status StandIns::make(const Layer& layer, const FetchedToc& toc, const std::function<Result<std::vector<std::string>>()>& below, const Cancel& cancel) {
  auto staging = TRY_PLAIN(content_.new_staging("stand-in"));
  // The index and the pieces are about as large as the table is when it is decoded.
  TRY_PLAIN(staging.room().resize(4 * disk_bytes_for(toc.raw.size())));
  auto table = TRY_PLAIN(new_file(staging, table_file));
  TRY_PLAIN(linux::write_all(table.get(), toc.raw));
  WorkerJob job;
  job.request.task = WorkerTask::toc;
  job.request.toc = toc.place;
  job.input_fd = table.get();
  job.cancel = cancel;
  WorkerResult result;
  for (bool is_settled : {false, true}) {
    TRY_PLAIN(linux::lseek(table.get(), 0, SEEK_SET));
    auto index = TRY_PLAIN(new_file(staging, layer_file::index));
    auto pieces = TRY_PLAIN(new_file(staging, pieces_file));
    job.index_fd = index.get();
    job.tar_fd = pieces.get();
    result = TRY_PLAIN(run_worker(worker_, job));
    if (is_settled || result.layer.implied_dirs.empty()) break;
    job.request.settled = TRY_PLAIN(directory_attributes(result.layer.implied_dirs, TRY_PLAIN(below())));
    if (job.request.settled.empty()) break;
    TRY_PLAIN(linux::unlinkat(staging.fd(), layer_file::index));
    TRY_PLAIN(linux::unlinkat(staging.fd(), pieces_file));
  }
  About about;
  about.diff_id = layer.diff_id.text();
  about.blob = layer.blob.digest.text();
  about.blob_bytes = layer.blob.size_bytes;
  about.reference = layer.reference.canonical();
  about.toc = toc.place;
  about.content_bytes = result.output_bytes;
  about.size_bytes = result.layer.size_bytes;
  auto index = TRY_PLAIN(linux::openat(staging.fd(), layer_file::index, O_RDONLY | O_NOFOLLOW));
  about.index_digest = TRY_PLAIN(digest_of_file(index.get(), DigestAlgorithm::sha256)).text();
  TRY_PLAIN(linux::write_file(file_of(staging.path(), about_file), encode(about), 0600));
  TRY_PLAIN(linux::mkdirat(staging.fd(), layer_file::mount_point, private_dir));
  TRY_PLAIN(content_.sync());
  std::lock_guard lock(mutex_);
  const auto path = path_of(layer.diff_id);
  TRY_PLAIN(linux::make_dirs(content_.root() + "/coming", private_dir));
  auto moved = linux::renameat2(AT_FDCWD, staging.path(), AT_FDCWD, path, RENAME_NOREPLACE);
  if (!moved.ok() && moved.error().error_number() != EEXIST) return std::move(moved).error();  // somebody else was quicker
  return count(path);
}

Result<std::uint64_t> StandIns::size(const Digest& diff_id) const { return TRY_PLAIN(about(diff_id)).size_bytes; }

Result<linux::ChildProcess> StandIns::spawn(const std::vector<linux::FdMapping>& fds) const {
  const UniqueFd program = TRY_PLAIN(linux::open(worker_.path, O_PATH));
  linux::SpawnRequest spawn;
  spawn.process.path = worker_.path;
  spawn.process.exe_fd = program.get();
  spawn.process.argv = {"caisson-worker", serve_argument};
  spawn.process.fds = fds;
  spawn.process.new_session = true;  // it outlives us, as the containers do that read what it gives
  spawn.id_map = worker_.first_host_id != 0 ? one_range(worker_.first_host_id) : own_ids();
  constexpr std::uint64_t most_open_files = 256;
  spawn.limits = {{RLIMIT_CORE, 0}, {RLIMIT_NOFILE, most_open_files}};
  return TRY(linux::spawn_sandboxed(spawn), concat("start ", worker_.path));
}

/// Under mutex_.
Result<std::string> StandIns::start(const Digest& diff_id, const std::string& path) {
  const auto known = TRY_PLAIN(about(diff_id));
  const auto reference = TRY_PLAIN(parse_reference(known.reference));
  const auto blob = TRY_PLAIN(Digest::parse(known.blob));
  auto running = std::make_shared<Running>();
  running->object = concat("layer ", known.blob, " of ", reference.familiar());
  auto index = TRY_PLAIN(linux::open(file_of(path, layer_file::index), O_RDONLY | O_NOFOLLOW));
  if (TRY_PLAIN(digest_of_file(index.get(), DigestAlgorithm::sha256)).text() != known.index_digest)
    return Error(ErrorKind::corrupt, concat(path, ": the index has changed since it was made"));
  running->room = TRY_PLAIN(content_.account().reserve(disk_bytes_for(known.content_bytes)));
  auto pieces = TRY_PLAIN(linux::open(file_of(path, pieces_file), O_RDONLY | O_NOFOLLOW));
  auto cache = TRY_PLAIN(linux::open(path, O_TMPFILE | O_RDWR, 0600));
  auto partial = linux::open(content_.blob_path(blob), O_RDONLY | O_NOFOLLOW);
  if (!partial.ok()) {
    // The file that the download goes on with; whatever it holds is checked piece by piece.
    auto made = TRY_PLAIN(linux::open(content_.partial_path(blob), O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    partial = linux::open(content_.partial_path(blob), O_RDONLY | O_NOFOLLOW);
  }
  if (!partial.ok()) return std::move(partial).error();
  ServeRequest serve;
  serve.blob = known.blob;
  serve.content_bytes = known.content_bytes;
  auto request = TRY_PLAIN(linux::sealed_memfd("caisson-serve-request", encode(serve)));
  auto notices = TRY_PLAIN(linux::socketpair(linux::UnixType::seqpacket));
  auto device = TRY_PLAIN(linux::open_fuse_device());
  auto mounted = TRY_PLAIN(linux::mount_fuse_file(device.get()));
  running->reference = reference;
  if (const auto credentials = credentials_.find(diff_id); credentials != credentials_.end()) running->credentials = credentials->second;
  auto fetch = TRY_PLAIN(registries_->start_impatient(running->reference, running->credentials));
  running->fetch = std::move(fetch.child);
  auto child = spawn({{request.get(), serve_fd::request}, {device.get(), serve_fd::device}, {pieces.get(), serve_fd::pieces}, {cache.get(), serve_fd::cache},
                      {partial->get(), serve_fd::blob}, {notices.second.get(), serve_fd::notices}, {fetch.channel.get(), serve_fd::channel}});
  if (!child.ok()) {
    running->fetch.end();
    return std::move(child).error();
  }
  running->server = std::move(child->pidfd);
  running->notices = std::move(notices.first);
  notices.second.reset();
  fetch.channel.reset();
  device.reset();  // its end must be the end of the connection
  running->listener = std::thread([this, shared = running.get()] { listen(*shared); });
  all_.push_back(running);
  auto file = TRY(linux::open_fuse_file(mounted.get()), running->object);
  auto layer = TRY(mount_index(index.get(), file.get()), running->object);
  auto point = TRY_PLAIN(linux::open(file_of(path, layer_file::mount_point), O_PATH | O_DIRECTORY | O_NOFOLLOW));
  TRY_PLAIN(linux::attach_mount(layer.get(), point.get()));
  running_[diff_id] = std::move(running);
  return file_of(path, layer_file::mount_point);
}

Result<std::string> StandIns::open(const Digest& diff_id) {
  if (registries_ == nullptr) return Error(ErrorKind::unsupported, "this engine was set up without registries");
  const auto path = path_of(diff_id);
  std::lock_guard lock(mutex_);
  join_ended();
  const auto found = running_.find(diff_id);
  if (found != running_.end() && !found->second->has_ended && is_mounted(path)) return file_of(path, layer_file::mount_point);
  running_.erase(diff_id);
  TRY_PLAIN(detach_layer(path));
  return start(diff_id, path);
}

/// In place of one that has ended.
Status StandIns::give_fetch_process(Running& running) {
  auto fetch = TRY_PLAIN(registries_->start_impatient(running.reference, running.credentials));
  auto sent = linux::send_message(running.notices.get(), ".", std::array{fetch.channel.get()});
  if (!sent.ok()) {
    fetch.child.end();
    return sent;
  }
  running.fetch = std::move(fetch.child);
  return {};
}

/// What a server says until it ends. Without its fetch process it gets another one, but not one after the other without a pause.
void StandIns::listen(Running& running) {
  constexpr const char* step = "serve a layer that is still coming";
  constexpr std::int64_t pause_ns = 1'000'000'000;
  constexpr std::int64_t millisecond_ns = 1'000'000;
  auto due_ns = monotonic_ns() + pause_ns;
  std::string buffer(4096, '\0');
  for (;;) {
    std::array<linux::PollEntry, 2> entries{linux::PollEntry{running.notices.get(), POLLIN, 0}, linux::PollEntry{running.fetch.pidfd(), POLLIN, 0}};
    const auto wait_ms = running.fetch ? -1 : static_cast<int>(std::max<std::int64_t>(0, due_ns - monotonic_ns()) / millisecond_ns + 1);
    if (!linux::poll(entries, wait_ms).ok()) break;
    if (entries[0].revents != 0) {  // first: a server that ends closes this before its fetch process can notice
      auto got = linux::recv(running.notices.get(), buffer);
      if (!got.ok() || *got == 0) break;
      last_request_ns_ = monotonic_ns();
      if (buffer[0] == '!') log(LogLevel::warning, step, running.object, std::string_view(buffer).substr(1, *got - 1));
      continue;
    }
    if (entries[1].revents != 0) {
      const auto status = running.fetch.take_end();
      const auto how = status ? concat(status->signaled ? " by signal " : " with code ", status->code) : std::string();
      log(LogLevel::warning, step, running.object, concat("what fetches for it ended", how, "; it gets another one"));
    }
    if (!running.fetch && !is_closing_ && monotonic_ns() >= due_ns) {
      due_ns = monotonic_ns() + pause_ns;
      if (auto given = give_fetch_process(running); !given.ok()) log_error(step, running.object, given.error());
    }
  }
  if (is_closing_) return;
  auto status = linux::wait_pidfd(running.server.get());
  if (status.ok() && (status->signaled || status->code != 0))
    log(LogLevel::warning, step, running.object,
        concat("its server ended ", status->signaled ? "by signal " : "with code ", status->code, ": containers that use it cannot read what they have not read yet, until they are started again"));
  running.fetch.end();
  running.has_ended = true;
}

/// Under mutex_.
void StandIns::join_ended() {
  for (auto running = all_.begin(); running != all_.end();) {
    if (!(*running)->has_ended) {
      ++running;
      continue;
    }
    (*running)->listener.join();
    running = all_.erase(running);
  }
}

Status StandIns::compare(const Digest& diff_id, int blob_fd, const Cancel& cancel) {
  const auto known = TRY_PLAIN(about(diff_id));
  auto table = TRY_PLAIN(linux::open(file_of(path_of(diff_id), table_file), O_RDONLY | O_NOFOLLOW));
  WorkerJob job;
  job.request.task = WorkerTask::compare;
  job.request.toc = known.toc;
  job.request.known_digest = known.blob;
  job.request.decoded_algorithm = diff_id.kind();
  job.input_fd = blob_fd;
  job.table_fd = table.get();
  job.cancel = cancel;
  const auto step = concat("layer ", known.blob, " of ", known.reference);
  auto compared = run_worker(worker_, job);
  if (!compared.ok()) return std::move(compared).error().in(step);
  if (compared->decoded_digest != diff_id.text()) return Error(ErrorKind::corrupt, concat(step, ": the archive's content has the digest ", compared->decoded_digest));
  return {};
}

Status StandIns::retire(const Digest& diff_id) {
  const auto path = path_of(diff_id);
  std::lock_guard lock(mutex_);
  join_ended();
  running_.erase(diff_id);
  credentials_.erase(diff_id);
  TRY_PLAIN(remove_layer_tree(path));
  content_.account().set(path, {});
  return {};
}

Result<std::size_t> StandIns::recover(const std::vector<Digest>& wanted) {
  std::size_t removed = 0;
  for (const auto& diff_id : TRY_PLAIN(list())) {
    const auto path = path_of(diff_id);
    {
      std::lock_guard lock(mutex_);
      TRY_PLAIN(detach_layer(path));
      TRY_PLAIN(count(path));
    }
    if (std::find(wanted.begin(), wanted.end(), diff_id) != wanted.end() && has(diff_id)) continue;
    TRY_PLAIN(retire(diff_id));
    ++removed;
  }
  return removed;
}

}  // namespace caisson::image
