// update: new limits for a container that exists.
#include "linux/file.hpp"
#include "linux/resctrl.hpp"
#include "runtime/oci_commands.hpp"

namespace caisson::runtime {

namespace {

Result<Resources> resources_file(const std::string& path) {
  auto text = path == "-" ? linux::read_all(0) : linux::read_file(path);
  return parse_resources(TRY(std::move(text), "--resources"));
}

/// Flags that carry one plain number, into a field that knows its range.
class NumberFlags {
 public:
  explicit NumberFlags(const OciArguments& arguments) : arguments_(arguments) {}
  template <typename Value>
  Status read(const char* flag, std::optional<Value>& out) const {
    if (arguments_.has(flag)) out = TRY(parse_integer<Value>(arguments_.value(flag)), concat("--", flag));
    return {};
  }
  /// With a unit; -1 is "no limit".
  Status read_size(const char* flag, std::optional<std::int64_t>& out) const {
    if (!arguments_.has(flag)) return {};
    const std::string text = arguments_.value(flag);
    out = text == "-1" ? -1 : TRY(parse_size_bytes(text), concat("--", flag));
    return {};
  }

 private:
  const OciArguments& arguments_;
};

Status take_flags(const OciArguments& arguments, Resources& resources) {
  const NumberFlags flags(arguments);
  TRY_PLAIN(flags.read_size("memory", resources.memory.limit_bytes));
  TRY_PLAIN(flags.read_size("memory-reservation", resources.memory.reservation_bytes));
  TRY_PLAIN(flags.read_size("memory-swap", resources.memory.swap_bytes));
  TRY_PLAIN(flags.read("cpu-share", resources.cpu.shares));
  TRY_PLAIN(flags.read("cpu-quota", resources.cpu.quota_us));
  TRY_PLAIN(flags.read("cpu-period", resources.cpu.period_us));
  TRY_PLAIN(flags.read("cpu-burst", resources.cpu.burst_us));
  TRY_PLAIN(flags.read("cpu-rt-period", resources.cpu.realtime_period_us));
  TRY_PLAIN(flags.read("cpu-rt-runtime", resources.cpu.realtime_runtime_us));
  TRY_PLAIN(flags.read("cpu-idle", resources.cpu.idle));
  TRY_PLAIN(flags.read("pids-limit", resources.pids_limit));
  TRY_PLAIN(flags.read("blkio-weight", resources.block_io.weight));
  if (arguments.has("cpuset-cpus")) resources.cpu.cpus = arguments.value("cpuset-cpus");
  if (arguments.has("cpuset-mems")) resources.cpu.mems = arguments.value("cpuset-mems");
  return {};
}

/// Flags of both peers that have nothing to act on.
void check_other_flags(const OciContext& context) {
  for (const char* flag : {"kernel-memory", "kernel-memory-tcp"})
    if (context.arguments.has(flag))  // refused by kernels since 5.16 (v1) and unknown to v2; runc and crun pass it over as well
      warn(context.globals.log, concat("--", flag, " has no effect: the kernel has no such limit any more"));
}

/// --l3-cache-schema and --mem-bw-schema: new lines for the group that linux.intelRdt has named.
Status update_resctrl(const OciContext& context, const OciState& state) {
  linux::ResctrlRequest request;
  for (const char* flag : {"l3-cache-schema", "mem-bw-schema"}) {
    if (!context.arguments.has(flag)) continue;
    const std::string text = context.arguments.value(flag);
    for (std::string_view line : split(text, '\n'))
      if (!trim(line).empty()) request.schemata.emplace_back(trim(line));
  }
  if (request.schemata.empty()) return {};
  const Spec spec = TRY_PLAIN(context.store.load_spec(state.id));
  if (!spec.intel_rdt)
    return Error(ErrorKind::unsupported, "--l3-cache-schema, --mem-bw-schema: the container has no resctrl group (linux.intelRdt)");
  request.group = spec.intel_rdt->clos_id.empty() ? state.id : spec.intel_rdt->clos_id;
  request.root = TRY(linux::find_resctrl(), "update");
  return linux::ResctrlGroup::change(request);
}

}  // namespace

Result<int> oci_update(OciContext& context) {
  auto state = TRY_PLAIN(oci_load(context));
  const auto& arguments = context.arguments;
  Resources resources;
  if (arguments.has("resources")) resources = TRY_PLAIN(resources_file(arguments.value("resources")));
  TRY_PLAIN(take_flags(arguments, resources));
  check_other_flags(context);
  if (TRY_PLAIN(status_of(state, context.store, context.layout)) == OciStatus::stopped)
    return Error(ErrorKind::conflict, "container not running");
  TRY_PLAIN(update_resctrl(context, state));
  auto cgroup = TRY_PLAIN(oci_cgroup(context, state));
  TRY_PLAIN(cgroup.apply(TRY_PLAIN(plan_limits(resources))));
  return 0;
}

}  // namespace caisson::runtime
