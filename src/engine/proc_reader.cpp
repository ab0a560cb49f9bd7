// proc(5) as text.
#include "engine/proc_reader.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/file.hpp"
#include "linux/sysinfo.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {
struct Known {
  std::string_view keyword;
  std::string_view title;
};
constexpr std::array<Known, 27> known_columns = {{
    {"pid", "PID"},     {"ppid", "PPID"},   {"pgid", "PGID"},   {"pgrp", "PGRP"}, {"sid", "SID"},   {"uid", "UID"},       {"euid", "EUID"},
    {"user", "USER"},   {"gid", "GID"},     {"group", "GROUP"}, {"c", "C"},       {"pcpu", "%CPU"}, {"%cpu", "%CPU"},     {"pmem", "%MEM"},
    {"%mem", "%MEM"},   {"vsz", "VSZ"},     {"rss", "RSS"},     {"tty", "TTY"},   {"stat", "STAT"}, {"s", "S"},           {"state", "S"},
    {"stime", "STIME"}, {"start", "START"}, {"time", "TIME"},   {"comm", "COMMAND"}, {"cmd", "CMD"}, {"args", "COMMAND"},
}};

/// Pieces between runs of blanks.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (char c : text) {
    if (c == ' ' || c == '\t' || c == '\n') {
      if (!word.empty()) words.push_back(std::exchange(word, {}));
    } else {
      word += c;
    }
  }
  if (!word.empty()) words.push_back(word);
  return words;
}

Status add_column(std::vector<PsColumn>& columns, std::string_view text) {
  auto halves = split_once(text, '=');
  std::string keyword = lower(halves.before);
  for (const auto& known : known_columns) {
    if (known.keyword != keyword) continue;
    columns.push_back({halves.found ? std::string(halves.after) : std::string(known.title), keyword});
    return {};
  }
  return Error(ErrorKind::invalid, concat("top: unknown column \"", halves.before, "\""))
      .with_hint("known are pid ppid pgid sid uid user gid group c pcpu pmem vsz rss tty stat stime start time comm cmd args");
}

/// The fields of /proc/PID/stat from the third on; the second may hold blanks and parentheses.
struct ProcessStat {
  std::string comm;
  std::vector<std::string> fields;  ///< [0] is field 3, the state
  [[nodiscard]] std::uint64_t number(std::size_t field) const {
    std::size_t index = field - 3;
    return index < fields.size() ? parse_integer<std::uint64_t>(fields[index]).value_or(0) : 0;
  }
};

struct Process {
  pid_t pid = 0;
  ProcessStat stat;
  std::string uid;
  std::string gid;
  std::string command_line;
};

std::optional<Process> read_process(pid_t pid) {
  auto stat = linux::read_file(concat("/proc/", pid, "/stat"));
  auto status = linux::read_file(concat("/proc/", pid, "/status"));
  auto command = linux::read_file(concat("/proc/", pid, "/cmdline"));
  if (!stat.ok() || !status.ok() || !command.ok()) return std::nullopt;  // it has ended
  auto open = stat->find('(');
  auto close = stat->rfind(')');
  if (open == std::string::npos || close == std::string::npos || close < open) return std::nullopt;
  Process process;
  process.pid = pid;
  process.stat.comm = stat->substr(open + 1, close - open - 1);
  process.stat.fields = words_of(std::string_view(*stat).substr(close + 1));
  for (auto line : split(*status, '\n')) {
    auto words = words_of(line);
    if (words.size() > 2 && words[0] == "Uid:") process.uid = words[2];
    if (words.size() > 2 && words[0] == "Gid:") process.gid = words[2];
  }
  for (char c : *command) process.command_line += c == '\0' ? ' ' : c;
  process.command_line = trim(process.command_line);
  if (process.command_line.empty()) process.command_line = concat("[", process.stat.comm, "]");
  return process;
}

struct Host {
  std::uint64_t uptime_s = 0;
  std::uint64_t ticks = 100;
  std::uint64_t memory_bytes = 1;
  std::int64_t now_s = 0;
};

std::string two_digits(std::uint64_t number) { return concat(number < 10 ? "0" : "", number); }

/// hh:mm of today, or the day, as ps does (UTC: the daemon knows no user's time zone).
std::string start_text(const Process& process, const Host& host) {
  constexpr int field_start_time = 22;
  constexpr std::int64_t day_s = 86'400;
  auto started = host.now_s - static_cast<std::int64_t>(host.uptime_s) +
                 static_cast<std::int64_t>(process.stat.number(field_start_time) / host.ticks);
  std::string text = to_rfc3339(started * 1'000'000'000);  // 2026-11-20T15:27:32…
  static constexpr std::array<std::string_view, 12> months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  if (host.now_s - started < day_s) return text.substr(11, 5);
  auto month = parse_integer<std::size_t>(text.substr(5, 2)).value_or(1);
  return concat(months[(month - 1) % months.size()], text.substr(8, 2));
}

std::string time_text(std::uint64_t seconds) {
  return concat(two_digits(seconds / 3600), ":", two_digits(seconds / 60 % 60), ":", two_digits(seconds % 60));
}

std::string tty_text(std::uint64_t device) {
  if (device == 0) return "?";
  auto major = linux::device_major(device);
  auto minor = linux::device_minor(device);
  constexpr std::uint32_t first_pts_major = 136;  // devices.txt: 136–143 are Unix98 slaves
  if (major >= first_pts_major && major < first_pts_major + 8) return concat("pts/", (major - first_pts_major) * 256 + minor);
  return concat(major, ",", minor);
}

std::string cell(const Process& process, const std::string& keyword, const Host& host) {
  const auto& stat = process.stat;
  std::uint64_t cpu_s = (stat.number(14) + stat.number(15)) / host.ticks;
  std::uint64_t age_s = host.uptime_s - std::min(host.uptime_s, stat.number(22) / host.ticks);
  auto tenths = [](std::uint64_t part, std::uint64_t whole) {
    std::uint64_t value = whole == 0 ? 0 : part * 1000 / whole;
    return concat(value / 10, ".", value % 10);
  };
  std::uint64_t rss_bytes = stat.number(24) * linux::page_size_bytes();
  if (keyword == "pid") return concat(process.pid);
  if (keyword == "ppid") return concat(stat.number(4));
  if (keyword == "pgid" || keyword == "pgrp") return concat(stat.number(5));
  if (keyword == "sid") return concat(stat.number(6));
  // Names of users would be the host's, for ids that are the container's: numbers say what is.
  if (keyword == "uid" || keyword == "euid" || keyword == "user") return process.uid;
  if (keyword == "gid" || keyword == "group") return process.gid;
  if (keyword == "c") return concat(age_s == 0 ? 0 : cpu_s * 100 / age_s);
  if (keyword == "pcpu" || keyword == "%cpu") return tenths(cpu_s, age_s);
  if (keyword == "pmem" || keyword == "%mem") return tenths(rss_bytes, host.memory_bytes);
  if (keyword == "vsz") return concat(stat.number(23) / 1024);
  if (keyword == "rss") return concat(rss_bytes / 1024);
  if (keyword == "tty") return tty_text(stat.number(7));
  if (keyword == "stat" || keyword == "s" || keyword == "state") return stat.fields.empty() ? "?" : stat.fields[0];
  if (keyword == "stime" || keyword == "start") return start_text(process, host);
  if (keyword == "time") return time_text(cpu_s);
  if (keyword == "comm") return stat.comm;
  return process.command_line;
}
}  // namespace

Result<std::vector<PsColumn>> parse_ps_arguments(std::string_view arguments) {
  auto words = words_of(arguments);
  std::vector<PsColumn> columns;
  bool user_format = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string_view word = words[i];
    if (word == "-o" || word == "-eo" || word == "-Ao" || word == "o" || word == "axo" || word.starts_with("-o")) {
      std::string_view list = word.starts_with("-o") && word.size() > 2 ? word.substr(2) : std::string_view();
      if (list.empty() && ++i < words.size()) list = words[i];
      if (list.empty()) return Error(ErrorKind::invalid, "top: -o needs a list of columns");
      for (auto column : split(list, ',')) TRY_PLAIN(add_column(columns, column));
    } else if (word == "aux" || word == "-aux" || word == "u" || word == "auxw" || word == "auxww") {
      user_format = true;
    } else if (word != "-ef" && word != "-e" && word != "-A" && word != "-f" && word != "ax" && word != "-eF" && word != "ef") {
      return Error(ErrorKind::invalid, concat("top: unknown argument \"", word, "\"")).with_hint("use -ef, aux or -o COLUMN,…");
    }
  }
  if (!columns.empty()) return columns;
  if (user_format)
    return std::vector<PsColumn>{{"USER", "user"}, {"PID", "pid"}, {"%CPU", "pcpu"}, {"%MEM", "pmem"}, {"VSZ", "vsz"}, {"RSS", "rss"},
                                 {"TTY", "tty"}, {"STAT", "stat"}, {"START", "start"}, {"TIME", "time"}, {"COMMAND", "args"}};
  return std::vector<PsColumn>{{"UID", "uid"}, {"PID", "pid"}, {"PPID", "ppid"}, {"C", "c"}, {"STIME", "stime"}, {"TTY", "tty"}, {"TIME", "time"}, {"CMD", "cmd"}};
}

TopResult read_processes(std::span<const pid_t> pids, const std::vector<PsColumn>& columns) {
  Host host;
  auto uptime = linux::read_file("/proc/uptime");
  if (uptime.ok()) host.uptime_s = parse_integer<std::uint64_t>(split_once(*uptime, '.').before).value_or(0);
  host.ticks = linux::clock_ticks_per_second();
  host.memory_bytes = linux::total_memory_bytes().value_or(1);
  host.now_s = now_ns() / 1'000'000'000;
  TopResult result;
  for (const auto& column : columns) result.titles.push_back(column.title);
  for (pid_t pid : pids) {
    auto process = read_process(pid);
    if (!process) continue;
    auto& row = result.processes.emplace_back();
    for (const auto& column : columns) row.push_back(cell(*process, column.keyword, host));
  }
  return result;
}

Result<std::uint64_t> read_system_cpu_ns() {
  auto text = TRY_PLAIN(linux::read_file("/proc/stat"));
  auto words = words_of(split_once(text, '\n').before);
  if (words.size() < 8 || words[0] != "cpu") return Error(ErrorKind::corrupt, "/proc/stat: no cpu line");
  std::uint64_t ticks = 0;
  for (std::size_t i = 1; i < 8; ++i) ticks += TRY(parse_integer<std::uint64_t>(words[i]), "/proc/stat");  // user … softirq, as docker sums
  return ticks * (1'000'000'000 / linux::clock_ticks_per_second());
}

std::map<std::string, InterfaceStats> parse_net_dev(std::string_view text) {
  std::map<std::string, InterfaceStats> interfaces;
  for (auto line : split(text, '\n')) {
    auto halves = split_once(line, ':');
    auto numbers = words_of(halves.after);
    std::string name(trim(halves.before));
    if (!halves.found || numbers.size() < 12 || name == "lo") continue;
    auto number = [&](std::size_t i) { return parse_integer<std::uint64_t>(numbers[i]).value_or(0); };
    interfaces[name] = {number(0), number(1), number(2), number(3), number(8), number(9), number(10), number(11)};
  }
  return interfaces;
}

Result<std::map<std::string, InterfaceStats>> read_interface_stats(pid_t pid) {
  return parse_net_dev(TRY_PLAIN(linux::read_file(concat("/proc/", pid, "/net/dev"))));
}

bool is_cgroup_v2() {
  auto file_system = linux::statfs("/sys/fs/cgroup");
  constexpr long cgroup2_magic = 0x63677270;  // CGROUP2_SUPER_MAGIC, statfs(2)
  return file_system.ok() && file_system->f_type == cgroup2_magic;
}

OwnUsage read_own_usage() {
  OwnUsage usage;
  auto fds = linux::list_dir("/proc/self/fd");
  if (fds.ok()) usage.open_fds = fds->size();
  auto tasks = linux::list_dir("/proc/self/task");
  if (tasks.ok()) usage.threads = tasks->size();
  return usage;
}

}  // namespace caisson::engine
