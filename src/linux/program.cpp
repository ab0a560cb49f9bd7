// Running a program to its end and collecting what it says.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/spawn.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

Result<std::string> find_program(std::string_view name, std::string_view path_list) {
  for (std::string_view folder : split(path_list, ':')) {
    if (!folder.starts_with('/')) continue;  // an empty or relative part would search the working directory
    std::string candidate = concat(folder, '/', name);
    const auto info = stat(candidate);
    if (info && S_ISREG(info->st_mode) && faccessat(AT_FDCWD, candidate, X_OK)) return candidate;
  }
  return Error(ErrorKind::not_found, concat("program \"", name, "\" is not installed (searched ", path_list, ")"), ENOENT);
}

namespace {

std::string_view path_of(const std::vector<std::string>& env) {
  for (const std::string& variable : env)
    if (variable.starts_with("PATH=")) return std::string_view(variable).substr(5);
  return "/usr/sbin:/usr/bin:/sbin:/bin";
}

/// A running program whose outputs we read; killed and reaped when it goes out of scope unfinished.
class Running {
 public:
  Running(ChildProcess child, UniqueFd out, UniqueFd err) : child_(std::move(child)), ends_{std::move(out), std::move(err)} {}
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() {
    if (!reaped_) kill_and_reap(child_.pidfd.get());
  }

  /// Reads until both outputs are closed and the program has ended. Errors: timeout, unavailable (cancelled), invalid (too much).
  Status collect(const RunOptions& options) {
    const std::int64_t deadline = monotonic_ns() + std::int64_t{options.timeout_ms} * 1'000'000;
    while (true) {
      std::array<PollEntry, 4> entries{};
      entries[0] = {ends_[0].get(), POLLIN, 0};
      entries[1] = {ends_[1].get(), POLLIN, 0};
      // Only once the outputs are closed: a program's last words may still be in the pipe when it has ended.
      const bool closed = !ends_[0] && !ends_[1];
      entries[2] = {closed ? child_.pidfd.get() : -1, POLLIN, 0};
      entries[3] = {options.cancel.fd, POLLIN | POLLRDHUP, 0};
      int left_ms = -1;
      if (options.timeout_ms >= 0)
        left_ms = static_cast<int>(std::max<std::int64_t>(0, (deadline - monotonic_ns() + 999'999) / 1'000'000));
      if (TRY_PLAIN(poll(entries, left_ms)) == 0)
        return Error(ErrorKind::timeout, concat("it did not end within ", options.timeout_ms, " ms"), ETIMEDOUT);
      if (entries[3].revents != 0) return Error(ErrorKind::unavailable, "cancelled", ECANCELED);
      for (const std::size_t i : {std::size_t{0}, std::size_t{1}})
        if (entries[i].revents != 0) TRY_PLAIN(take(i, options.limit_bytes));
      if (entries[2].revents != 0) return {};
    }
  }

  Result<ProgramOutput> finish() {
    ProgramOutput out;
    out.status = TRY_PLAIN(wait_pidfd(child_.pidfd.get()));
    reaped_ = true;
    out.standard_output = std::move(texts_[0]);
    out.standard_error = std::move(texts_[1]);
    return out;
  }

 private:
  Status take(std::size_t index, std::size_t limit_bytes) {
    std::array<char, 16384> buffer{};
    const std::size_t got = TRY_PLAIN(read(ends_[index].get(), buffer));
    if (got == 0) {
      ends_[index].reset();
      return {};
    }
    if (texts_[index].size() + got > limit_bytes)
      return Error(ErrorKind::invalid, concat("it wrote more than ", limit_bytes, " bytes"), EFBIG);
    texts_[index].append(buffer.data(), got);
    return {};
  }

  ChildProcess child_;
  std::array<UniqueFd, 2> ends_;
  std::array<std::string, 2> texts_;
  bool reaped_ = false;
};

}  // namespace

Result<ProgramOutput> run_program(const std::vector<std::string>& argv, const RunOptions& options) {
  ProcessRequest request;
  request.path = argv.empty() || !options.path.empty() ? options.path : argv[0];
  if (argv.empty() || request.path.empty()) return Error(ErrorKind::invalid, "run program: argv is empty", EINVAL);
  if (request.path.find('/') == std::string::npos) request.path = TRY_PLAIN(find_program(request.path, path_of(options.env)));
  request.argv = argv;
  request.env = options.env;
  request.cwd = options.cwd;
  request.parent_death_signal = SIGKILL;
  // A file instead of a pipe: nothing to poll, and no SIGPIPE when the program does not read it all.
  UniqueFd input;
  if (!options.standard_input.empty()) {
    input = TRY_PLAIN(sealed_memfd("stdin", options.standard_input));
    request.fds.push_back({input.get(), 0});
  }
  Pipe out = TRY_PLAIN(pipe2());
  Pipe err = TRY_PLAIN(pipe2());
  request.fds.push_back({out.write_end.get(), 1});
  request.fds.push_back({err.write_end.get(), 2});
  Running running(TRY_PLAIN(spawn_process(request)), std::move(out.read_end), std::move(err.read_end));
  out.write_end.reset();
  err.write_end.reset();
  TRY(running.collect(options), argv[0]);
  return running.finish();
}

}  // namespace caisson::linux
