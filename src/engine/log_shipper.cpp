// One container's way from file to server: read, send, remember how far.
#include "engine/log_shipper.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/log_reader.hpp"
#include "engine/log_target.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"

namespace caisson::engine {

namespace {
constexpr std::size_t block_bytes = 64 << 10;
constexpr std::int64_t first_pause_ms = 100;
constexpr std::int64_t longest_pause_ms = 10'000;
constexpr int look_ms = 500;                          ///< while a server is away: whether rotation comes near
constexpr std::int64_t save_interval_ns = 1'000'000'000;
constexpr int most_files = 1000;

/// How far a log was sent.
struct Position {
  std::uint64_t inode = 0;
  std::uint64_t offset = 0;
  std::uint64_t lost = 0;
};

Position read_position(const std::string& path) {
  Position position;
  auto text = linux::read_file(path);
  if (!text.ok()) return position;  // nothing was sent yet
  const auto words = split(trim(*text), ' ');
  if (words.size() != 3) return position;
  position.inode = parse_integer<std::uint64_t>(words[0]).value_or(0);
  position.offset = parse_integer<std::uint64_t>(words[1]).value_or(0);
  position.lost = parse_integer<std::uint64_t>(words[2]).value_or(0);
  return position;
}
}  // namespace

class LogShippers::Shipper {
 public:
  Shipper(std::string container_id, std::string log_path, std::uint32_t max_files, std::unique_ptr<LogTarget> target, UniqueFd stop)
      : container_id_(std::move(container_id)), log_path_(std::move(log_path)), max_files_(max_files), target_(std::move(target)), stop_(std::move(stop)),
        position_(read_position(position_path())) {
    lost_ = position_.lost;
  }
  ~Shipper() {
    stop();
    if (thread_.joinable()) thread_.join();
  }
  Shipper(const Shipper&) = delete;
  Shipper& operator=(const Shipper&) = delete;

  void start() {
    thread_ = std::thread([this] { run(); });
  }
  void stop() {
    stopping_ = true;
    ignore(linux::eventfd_signal(stop_.get()));  // fails only for a bad descriptor
  }
  /// The container has ended (or runs again): once the log is read to its end, so has this.
  void set_ending(bool ending) {
    ending_ = ending;
    ignore(linux::eventfd_signal(wake_.get()));  // fails only for a bad descriptor
  }
  [[nodiscard]] std::uint64_t lost() const { return lost_; }
  [[nodiscard]] bool has_ended() const { return ended_; }
  void wait_for_end(int patience_ms) {
    std::unique_lock lock(end_mutex_);
    end_told_.wait_for(lock, std::chrono::milliseconds(patience_ms), [&] { return ended_.load(); });
  }

 private:
  [[nodiscard]] std::string position_path() const { return concat(split_last(log_path_, '/').before, "/sent"); }

  void run() {
    auto outcome = ship();
    save();
    if (!outcome.ok() && outcome.error().kind() != ErrorKind::timeout) log_error("log driver", concat("container ", container_id_), outcome.error());
    std::lock_guard lock(end_mutex_);
    ended_ = true;
    end_told_.notify_all();
  }

  Status ship() {
    // A user may have 128 of them at once (fs.inotify.max_user_instances): whoever gets none looks by the clock.
    if (auto changes = linux::inotify_create(); changes.ok()) {
      const std::string folder(split_last(log_path_, '/').before);
      if (linux::inotify_add_watch(changes->get(), folder, IN_MODIFY | IN_CREATE | IN_MOVED_TO).ok()) changes_ = std::move(*changes);
    }
    TRY_PLAIN(open_first());
    while (!stopping_) {
      const bool was_ending = ending_;  // asked before the last look, so that nothing is missed
      TRY_PLAIN(drain());
      if (TRY_PLAIN(open_next())) continue;
      save();
      if (was_ending) return {};
      TRY_PLAIN(wait_for_more());
    }
    return {};
  }

  /// Where an earlier shipper stopped, or the oldest file there is.
  Status open_first() {
    std::optional<std::string> oldest;
    for (int i = 0; i < most_files; ++i) {
      const std::string path = i == 0 ? log_path_ : concat(log_path_, ".", i);
      auto status = linux::stat(path);
      if (!status.ok() && i > 0) break;
      if (!status.ok()) continue;
      oldest = path;
      if (status->st_ino == position_.inode) return open_file(path, position_.offset);
    }
    if (position_.inode != 0 && oldest) say_gap();
    return oldest ? open_file(*oldest, 0) : Status{};
  }

  Status open_file(const std::string& path, std::uint64_t offset) {
    auto opened = linux::open(path, O_RDONLY);
    if (!opened.ok() && opened.error().kind() == ErrorKind::not_found) return {};  // renamed at this moment: the next look finds it
    file_ = TRY_PLAIN(std::move(opened));
    position_.inode = TRY_PLAIN(linux::fstat(file_.get())).st_ino;
    position_.offset = offset;
    return {};
  }

  /// 0: the file being read is the newest; N: it is called path.N by now. Nothing when rotation has deleted it.
  [[nodiscard]] std::optional<std::uint32_t> age() const {
    for (std::uint32_t i = 0; i <= max_files_; ++i) {
      auto status = linux::stat(i == 0 ? log_path_ : concat(log_path_, ".", i));
      if (status.ok() && status->st_ino == position_.inode) return i;
    }
    return std::nullopt;
  }

  /// True when another file is open now, or this one has grown meanwhile.
  Result<bool> open_next() {
    if (!file_) {
      TRY_PLAIN(open_first());
      return static_cast<bool>(file_);
    }
    const auto own_age = age();
    if (own_age && *own_age == 0) {
      // With one file only, rotation cuts it off in place.
      if (TRY_PLAIN(linux::fstat(file_.get())).st_size >= static_cast<off_t>(position_.offset)) return false;
      position_.offset = 0;
      return true;
    }
    // Renamed, so nothing more is written to it; what came just before that is read first.
    if (TRY_PLAIN(linux::fstat(file_.get())).st_size > static_cast<off_t>(position_.offset)) return true;
    // Whether the oldest file left is the one that followed it cannot be told any more.
    if (!own_age) say_gap();
    std::uint32_t next = own_age ? *own_age - 1 : max_files_ - 1;
    while (next > 0 && !linux::exists(concat(log_path_, ".", next)).value_or(false)) --next;
    const auto before = position_.inode;
    TRY_PLAIN(open_file(next == 0 ? log_path_ : concat(log_path_, ".", next), 0));
    return position_.inode != before;
  }

  Status drain() {
    std::string block;
    while (file_ && !stopping_) {
      block.resize(block_bytes);
      const std::size_t got = TRY_PLAIN(linux::pread(file_.get(), block, position_.offset));
      std::string_view text(block.data(), got);
      const auto whole = text.rfind('\n');
      if (whole == std::string_view::npos) {
        if (got == block_bytes) position_.offset += got;  // no record is so long: damage
        else return {};
        continue;
      }
      text = text.substr(0, whole + 1);
      while (!text.empty() && !stopping_) {
        const auto line = text.substr(0, text.find('\n'));
        if (auto record = parse_log_line(line)) TRY_PLAIN(deliver(*record));
        position_.offset += line.size() + 1;
        text.remove_prefix(line.size() + 1);
        if (monotonic_ns() - saved_ns_ > save_interval_ns) save();
      }
    }
    return {};
  }

  /// Until the server has it, rotation comes near (it is counted as lost then), or stop().
  Status deliver(const LogRecord& record) {
    std::int64_t pause_ms = first_pause_ms;
    std::int64_t next_try_ns = 0;
    while (!stopping_) {
      if (!target_->is_connected() && monotonic_ns() >= next_try_ns) {
        auto connected = target_->connect();
        if (!connected.ok()) say_broken(connected.error());
        next_try_ns = monotonic_ns() + pause_ms * 1'000'000;
        pause_ms = std::min(pause_ms * 2, longest_pause_ms);
      }
      if (target_->is_connected()) {
        auto sent = target_->send(record, Cancel{stop_.get()});
        if (sent.ok()) {
          say_mended();
          return {};
        }
        if (sent.error().kind() == ErrorKind::timeout) return sent;
        say_broken(sent.error());
        continue;
      }
      if (is_about_to_vanish()) {
        ++lost_;
        return {};
      }
      const auto left_ms = (next_try_ns - monotonic_ns()) / 1'000'000 + 1;
      TRY_PLAIN(linux::wait_readable(stop_.get(), static_cast<int>(std::clamp<std::int64_t>(left_ms, 1, look_ms))));
    }
    return Error(ErrorKind::timeout, "stopped");
  }

  [[nodiscard]] bool is_about_to_vanish() const {
    const auto own_age = age();
    return !own_age || (*own_age != 0 && *own_age + 1 >= max_files_);
  }

  /// Files went by rotation before they were read. How many records that were is not known: counted as one.
  void say_gap() {
    ++lost_;
    log(LogLevel::warning, "log driver", concat("container ", container_id_), concat("rotation was quicker than the log server; lost so far: ", lost_.load()));
  }
  /// Once per outage, not per record.
  void say_broken(const Error& error) {
    if (!std::exchange(is_broken_, true)) log_error("log driver", concat("container ", container_id_), error);
  }
  void say_mended() {
    if (std::exchange(is_broken_, false)) log(LogLevel::info, "log driver", concat("container ", container_id_), concat("the log server takes records again; lost so far: ", lost_.load()));
  }

  Status wait_for_more() {
    std::array<linux::PollEntry, 3> entries{{{changes_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
    TRY_PLAIN(linux::poll(entries, changes_ ? -1 : look_ms));
    if (entries[0].revents != 0) TRY_PLAIN(linux::inotify_take(changes_.get()));
    if (entries[2].revents != 0) TRY_PLAIN(linux::eventfd_take(wake_.get()));
    return {};
  }

  void save() {
    saved_ns_ = monotonic_ns();
    const std::string text = concat(position_.inode, " ", position_.offset, " ", lost_.load(), "\n");
    if (text == saved_text_) return;
    // Records sent since the last one that was saved are sent twice after a crash; without the file, everything is.
    if (linux::write_file_atomic(position_path(), text, 0600, linux::Durability::none).ok()) saved_text_ = text;
  }

  const std::string container_id_;
  const std::string log_path_;
  const std::uint32_t max_files_;
  std::unique_ptr<LogTarget> target_;
  UniqueFd stop_;
  UniqueFd wake_ = linux::eventfd().value_or(UniqueFd());
  UniqueFd changes_;
  UniqueFd file_;
  Position position_;
  std::atomic<std::uint64_t> lost_{0};
  std::atomic<bool> ending_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> ended_{false};
  std::mutex end_mutex_;
  std::condition_variable end_told_;
  bool is_broken_ = false;
  std::int64_t saved_ns_ = 0;
  std::string saved_text_;
  std::thread thread_;
};

Result<std::shared_ptr<wire::Pump>> LogShippers::pump() {
  std::lock_guard lock(mutex_);
  if (!pump_) pump_ = std::shared_ptr<wire::Pump>(TRY_PLAIN(wire::Pump::create()));
  return pump_;
}

Status LogShippers::begin(const ContainerInfo& info, const std::string& log_path, Start start) {
  if (!is_sent_away(info.spec)) return {};
  constexpr std::string_view what = "failed to initialize logging driver";
  std::shared_ptr<Shipper> old;
  {
    std::lock_guard lock(mutex_);
    auto found = shippers_.find(info.id);
    if (found != shippers_.end() && !found->second->has_ended() && start == Start::in_background) return {};
    if (found != shippers_.end()) old = std::move(shippers_.extract(found).mapped());
  }
  old.reset();  // its thread is waited for outside the lock, and the new one goes on where it stopped
  std::shared_ptr<wire::Pump> pump_for_tls;
  if (info.spec.log_options.contains("syslog-address") && info.spec.log_options.at("syslog-address").starts_with("tcp+tls:")) pump_for_tls = TRY(pump(), what);
  auto target = TRY(create_log_target(info, journal_socket_, std::move(pump_for_tls)), what);
  if (start == Start::checked) TRY(target->connect(), what);
  UniqueFd stop = TRY(linux::eventfd(), what);
  const auto limits = TRY(file_limits_of(info.spec), what);
  auto shipper = std::make_shared<Shipper>(info.id, log_path, limits.max_files, std::move(target), std::move(stop));
  shipper->start();
  std::lock_guard lock(mutex_);
  shippers_[info.id] = std::move(shipper);
  return {};
}

void LogShippers::end(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  if (auto found = shippers_.find(container_id); found != shippers_.end()) found->second->set_ending(true);
}

void LogShippers::forget(const std::string& container_id, int patience_ms) {
  std::shared_ptr<Shipper> gone;
  {
    std::lock_guard lock(mutex_);
    auto node = shippers_.extract(container_id);
    if (node.empty()) return;
    gone = std::move(node.mapped());
  }
  gone->set_ending(true);
  gone->wait_for_end(patience_ms);
}

std::uint64_t LogShippers::lost(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  auto found = shippers_.find(container_id);
  return found == shippers_.end() ? 0 : found->second->lost();
}

void LogShippers::finish() {
  std::map<std::string, std::shared_ptr<Shipper>> all;
  {
    std::lock_guard lock(mutex_);
    all.swap(shippers_);
  }
  for (auto& [id, shipper] : all) shipper->stop();
}

}  // namespace caisson::engine
