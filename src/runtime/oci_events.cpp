// events: what a container uses, every few seconds or once, and every time the kernel kills in it for lack of memory.
#include <array>
#include <limits>

#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"
#include "runtime/oci_commands.hpp"

namespace caisson::runtime {

namespace {

json::object pressure_json(const std::optional<linux::CgroupPressure>& pressure) {
  if (!pressure) return {};
  return {{"some", json::object{{"avg10", pressure->some_avg10},
                                {"avg60", pressure->some_avg60},
                                {"avg300", pressure->some_avg300},
                                {"total", pressure->some_total_us}}},
          {"full", json::object{{"avg10", pressure->full_avg10},
                                {"avg60", pressure->full_avg60},
                                {"avg300", pressure->full_avg300},
                                {"total", pressure->full_total_us}}}};
}

/// Only where the kernel keeps it: readers take an absent psi for "not known".
void add_pressure(json::object& out, const std::optional<linux::CgroupPressure>& pressure) {
  if (pressure) out["psi"] = pressure_json(pressure);
}

json::object cpu_json(const linux::CgroupStats& stats) {
  json::object usage{{"total", stats.cpu_usage_ns}, {"kernel", stats.cpu_system_ns}, {"user", stats.cpu_user_ns}};
  if (!stats.cpu_per_cpu_ns.empty()) {
    json::array each;
    for (auto value : stats.cpu_per_cpu_ns) each.emplace_back(value);
    usage["percpu"] = std::move(each);
  }
  json::object out{{"usage", std::move(usage)},
                   {"throttling", json::object{{"periods", stats.cpu_periods},
                                               {"throttledPeriods", stats.cpu_throttled_periods},
                                               {"throttledTime", stats.cpu_throttled_ns}}}};
  add_pressure(out, stats.cpu_pressure);
  return out;
}

json::object memory_json(const linux::CgroupStats& stats) {
  json::object raw;
  for (const auto& [key, value] : stats.memory_stat) raw[key] = value;
  auto cache = stats.memory_stat.find("cache");
  if (cache == stats.memory_stat.end()) cache = stats.memory_stat.find("file");  // v2's name
  json::object out{{"cache", cache == stats.memory_stat.end() ? std::uint64_t{0} : cache->second},
                   {"usage", json::object{{"limit", stats.memory_limit_bytes},
                                          {"usage", stats.memory_usage_bytes},
                                          {"max", stats.memory_peak_bytes},
                                          {"failcnt", stats.memory_failures}}},
                   {"swap", json::object{{"limit", stats.swap_limit_bytes}, {"usage", stats.swap_usage_bytes}, {"failcnt", 0}}},
                   {"kernel", json::object{{"limit", 0}, {"failcnt", 0}}},
                   {"kernelTCP", json::object{{"limit", 0}, {"failcnt", 0}}},
                   {"raw", std::move(raw)}};
  add_pressure(out, stats.memory_pressure);
  return out;
}

json::array io_entries(const linux::CgroupStats& stats, std::uint64_t linux::CgroupIoStat::*read,
                       std::uint64_t linux::CgroupIoStat::*written) {
  json::array out;
  for (const auto& device : stats.io)
    for (auto [word, value] : {std::pair<const char*, std::uint64_t>{"Read", device.*read}, {"Write", device.*written}})
      out.push_back(json::object{{"major", device.major}, {"minor", device.minor}, {"op", word}, {"value", value}});
  return out;
}

json::object blkio_json(const linux::CgroupStats& stats) {
  json::object out{{"ioServiceBytesRecursive", io_entries(stats, &linux::CgroupIoStat::read_bytes, &linux::CgroupIoStat::write_bytes)},
                   {"ioServicedRecursive", io_entries(stats, &linux::CgroupIoStat::reads, &linux::CgroupIoStat::writes)}};
  add_pressure(out, stats.io_pressure);
  return out;
}

/// "0-2,5" → 0 1 2 5 (cpuset(7), "List format").
json::array list_json(std::string_view text) {
  json::array out;
  for (auto piece : split(trim(text), ',')) {
    auto halves = split_once(piece, '-');
    auto first = parse_integer<std::uint16_t>(halves.before);
    auto last = halves.found ? parse_integer<std::uint16_t>(halves.after) : parse_integer<std::uint16_t>(halves.before);
    if (!first || !last) continue;  // an empty list
    for (std::uint32_t i = *first; i <= *last; ++i) out.emplace_back(i);
  }
  return out;
}

/// The files of one controller, wherever it is mounted.
class ControllerFiles {
 public:
  ControllerFiles(const linux::Cgroup& cgroup, std::string_view controller) {
    const auto& hierarchies = cgroup.layout().hierarchies;
    for (std::size_t i = 0; i < hierarchies.size(); ++i)
      for (const auto& name : hierarchies[i].controllers)
        if (name == controller) {
          directory_ = cgroup.directory(i);
          is_v2_ = hierarchies[i].is_v2;
        }
  }
  [[nodiscard]] bool is_v2() const { return is_v2_; }
  /// Empty where there is none: what is measured depends on the kernel's configuration.
  [[nodiscard]] std::string text(std::string_view file) const {
    return directory_.empty() ? std::string() : linux::read_file(concat(directory_, "/", file)).value_or("");
  }
  [[nodiscard]] std::uint64_t number(std::string_view file) const {
    const std::string value = text(file);
    if (trim(value) == "max") return std::numeric_limits<std::uint64_t>::max();
    return parse_integer<std::uint64_t>(trim(value)).value_or(0);
  }
  [[nodiscard]] const std::string& directory() const { return directory_; }

 private:
  std::string directory_;
  bool is_v2_ = false;
};

json::object cpuset_json(const linux::Cgroup& cgroup) {
  const ControllerFiles files(cgroup, "cpuset");
  json::object out{{"cpus", list_json(files.text(files.is_v2() ? "cpuset.cpus.effective" : "cpuset.cpus"))},
                   {"mems", list_json(files.text(files.is_v2() ? "cpuset.mems.effective" : "cpuset.mems"))}};
  static constexpr std::pair<const char*, const char*> flags[] = {
      {"cpu_exclusive", "cpuset.cpu_exclusive"},           {"mem_hardwall", "cpuset.mem_hardwall"},
      {"mem_exclusive", "cpuset.mem_exclusive"},           {"memory_migrate", "cpuset.memory_migrate"},
      {"memory_spread_page", "cpuset.memory_spread_page"}, {"memory_spread_slab", "cpuset.memory_spread_slab"},
      {"memory_pressure", "cpuset.memory_pressure"},       {"sched_load_balance", "cpuset.sched_load_balance"}};
  for (const auto& [key, file] : flags) out[key] = files.is_v2() ? 0 : files.number(file);
  out["sched_relax_domain_level"] = parse_integer<std::int64_t>(trim(files.text("cpuset.sched_relax_domain_level"))).value_or(0);
  return out;
}

json::object hugetlb_json(const linux::Cgroup& cgroup) {
  const ControllerFiles files(cgroup, "hugetlb");
  json::object out;
  if (files.directory().empty()) return out;
  auto entries = linux::list_dir(files.directory());
  if (!entries) return out;  // the container has just ended
  const std::string_view suffix = files.is_v2() ? ".current" : ".usage_in_bytes";
  for (const auto& entry : *entries) {
    if (!entry.name.starts_with("hugetlb.") || !entry.name.ends_with(suffix) || entry.name.find(".rsvd.") != std::string::npos)
      continue;
    const std::string size = entry.name.substr(8, entry.name.size() - 8 - suffix.size());
    const std::string base = concat("hugetlb.", size);
    json::object usage{{"usage", files.number(entry.name)}};
    if (files.is_v2()) {
      const std::string events = files.text(concat(base, ".events"));
      const auto words = split(trim(events), ' ');  // "max N"
      usage["failcnt"] = words.size() == 2 ? parse_integer<std::uint64_t>(words[1]).value_or(0) : 0;
    } else {
      usage["max"] = files.number(concat(base, ".max_usage_in_bytes"));
      usage["failcnt"] = files.number(concat(base, ".failcnt"));
    }
    out[size] = std::move(usage);
  }
  return out;
}

/// What the container's own network namespace counts: "name: rx_bytes packets errs drop fifo frame compressed multicast tx…".
json::array network_json(int pid) {
  json::array out;
  const std::string text = linux::read_file(concat("/proc/", pid, "/net/dev")).value_or("");
  for (auto line : split(text, '\n')) {
    auto halves = split_once(line, ':');
    if (!halves.found) continue;
    std::vector<std::uint64_t> numbers;
    for (auto word : split(halves.after, ' '))
      if (!word.empty()) numbers.push_back(parse_integer<std::uint64_t>(word).value_or(0));
    if (numbers.size() < 12 || trim(halves.before) == "lo") continue;
    out.push_back(json::object{{"Name", std::string(trim(halves.before))},
                               {"RxBytes", numbers[0]},
                               {"RxPackets", numbers[1]},
                               {"RxErrors", numbers[2]},
                               {"RxDropped", numbers[3]},
                               {"TxBytes", numbers[8]},
                               {"TxPackets", numbers[9]},
                               {"TxErrors", numbers[10]},
                               {"TxDropped", numbers[11]}});
  }
  return out;
}

Result<json::object> stats_json(const linux::Cgroup& cgroup, const OciState& state) {
  const auto stats = TRY_PLAIN(cgroup.stats());
  json::object out;
  out["cpu"] = cpu_json(stats);
  out["cpuset"] = cpuset_json(cgroup);
  out["memory"] = memory_json(stats);
  out["pids"] = json::object{{"current", stats.pids_current},
                             {"limit", stats.pids_limit == std::numeric_limits<std::uint64_t>::max() ? 0 : stats.pids_limit}};
  out["blkio"] = blkio_json(stats);
  out["hugetlb"] = hugetlb_json(cgroup);
  out["intel_rdt"] = json::object{};
  out["network_interfaces"] = network_json(state.pid);
  return out;
}

Status print_event(const OciState& state, const char* type, json::value data) {
  json::object event{{"type", type}, {"id", state.id}};
  if (!data.is_null()) event["data"] = std::move(data);
  return oci_print(concat(to_text(event), "\n"));
}

/// Until the container ends.
Status watch(const linux::Cgroup& cgroup, const OciState& state, std::int64_t interval_ns) {
  auto pidfd = TRY_PLAIN(open_init(state));
  auto timer = TRY_PLAIN(linux::timerfd_create());
  TRY_PLAIN(linux::timerfd_settime(timer.get(), 1, interval_ns));  // the first at once
  auto oom = cgroup.oom_events();                                  // not without a memory controller: then there is nothing to hear
  std::uint64_t known = 0;
  if (oom) known = TRY_PLAIN((*oom)->count());
  while (true) {
    std::array<linux::PollEntry, 3> entries{};
    entries[0] = {pidfd.get(), POLLIN, 0};
    entries[1] = {timer.get(), POLLIN, 0};
    entries[2] = {oom ? (*oom)->fd() : -1, POLLIN, 0};
    (void)TRY_PLAIN(linux::poll(entries, -1));
    if (entries[2].revents != 0) {
      const std::uint64_t now = TRY_PLAIN((*oom)->count());
      for (; known < now; ++known) TRY_PLAIN(print_event(state, "oom", nullptr));
    }
    if (entries[0].revents != 0) return {};
    if (entries[1].revents != 0) {
      (void)TRY_PLAIN(linux::timerfd_take(timer.get()));
      TRY_PLAIN(print_event(state, "stats", TRY_PLAIN(stats_json(cgroup, state))));
    }
  }
}

}  // namespace

Result<int> oci_events(OciContext& context) {
  auto state = TRY_PLAIN(oci_load(context));
  const auto interval_ns = TRY(parse_duration_ns(context.arguments.value("interval", "5s")), "--interval");
  if (interval_ns <= 0) return Error(ErrorKind::invalid, "--interval: duration must be greater than 0");
  const auto status = TRY_PLAIN(status_of(state, context.store, context.layout));
  if (status == OciStatus::stopped || status == OciStatus::creating)
    return Error(ErrorKind::conflict, concat("container with id ", state.id, " is not running"));
  auto cgroup = TRY_PLAIN(oci_cgroup(context, state));
  if (context.arguments.has("stats")) TRY_PLAIN(print_event(state, "stats", TRY_PLAIN(stats_json(cgroup, state))));
  else TRY_PLAIN(watch(cgroup, state, interval_ns));
  return 0;
}

}  // namespace caisson::runtime
