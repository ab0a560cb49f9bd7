// features: what this build can do (runtime-spec, features.md); static, whatever the host offers.
#include "linux/capabilities.hpp"
#include "runtime/oci_commands.hpp"

namespace caisson::runtime {

namespace {

json::array strings(std::initializer_list<std::string_view> items) {
  json::array out;
  for (auto item : items) out.emplace_back(json::string(item));
  return out;
}

json::object enabled(bool on) { return json::object{{"enabled", on}}; }

json::object seccomp_features() {
  return json::object{
      {"enabled", true},
      {"actions", strings({"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                           "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"})},
      {"operators",
       strings({"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"})},
      {"archs", strings({"SCMP_ARCH_AARCH64", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"})},
      {"knownFlags", strings({"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"})},
      {"supportedFlags", strings({"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"})}};
}

json::object linux_features() {
  json::array capabilities;
  for (int number = 0; number <= linux::max_known_capability; ++number) capabilities.emplace_back(linux::capability_name(number));
  json::object out;
  out["namespaces"] = strings({"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"});
  out["capabilities"] = std::move(capabilities);
  out["cgroup"] = json::object{{"v1", true}, {"v2", true}, {"systemd", true}, {"systemdUser", true}, {"rdma", true}};
  out["seccomp"] = seccomp_features();
  out["apparmor"] = enabled(true);
  out["selinux"] = enabled(true);
  out["intelRdt"] = json::object{{"enabled", true}, {"schemata", true}, {"monitoring", true}};
  out["memoryPolicy"] = json::object{
      {"modes", strings({"MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY",
                         "MPOL_LOCAL"})},
      {"flags", strings({"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"})}};
  out["netDevices"] = enabled(true);
  out["mountExtensions"] = json::object{{"idmap", enabled(true)}};
  return out;
}

}  // namespace

Result<int> oci_features(OciContext& /*context*/) {
  json::object out;
  out["ociVersionMin"] = "1.0.0";
  out["ociVersionMax"] = "1.3.0";
  out["hooks"] = strings({"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"});
  json::array options;
  for (auto word : mount_option_words()) options.emplace_back(json::string(word));
  out["mountOptions"] = std::move(options);
  out["linux"] = linux_features();
  // The names that callers look for: checkpoint and restore need a criu in PATH when they are used (podman, containerd).
  out["annotations"] = json::object{{"org.opencontainers.runc.checkpoint.enabled", "true"}};
  // Annotations of a configuration that change what the runtime does; whoever lets others write them should know.
  out["potentiallyUnsafeConfigAnnotations"] = strings({"org.criu.config"});
  TRY_PLAIN(oci_print(concat(to_text(out), "\n")));
  return 0;
}

}  // namespace caisson::runtime
