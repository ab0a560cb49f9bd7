// Flags of checkpoint and restore, and CRIU's failures as errors.
#include "runtime/oci_criu.hpp"

#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/tree.hpp"

namespace caisson::runtime {

namespace {

std::string absolute(const std::string& path, const std::string& cwd) { return path.starts_with('/') ? path : concat(cwd, "/", path); }

/// rpc.proto's criu_cg_mode and criu_network_lock_method.
Result<std::int32_t> cgroups_mode(const std::string& word) {
  for (auto [name, number] : {std::pair<std::string_view, std::int32_t>{"ignore", 0}, {"soft", 3}, {"full", 4}, {"strict", 5}})
    if (word == name) return number;
  return Error(ErrorKind::invalid, concat("--manage-cgroups-mode ", word, ": want soft, full, strict or ignore"));
}

Result<std::int32_t> network_lock(const std::string& word) {
  for (auto [name, number] : {std::pair<std::string_view, std::int32_t>{"iptables", 1}, {"nftables", 2}, {"skip", 3}})
    if (word == name) return number;
  return Error(ErrorKind::invalid, concat("--network-lock ", word, ": want iptables, nftables or skip"));
}

}  // namespace

Result<CriuFolders> open_criu_folders(const OciArguments& arguments, CriuImages images, const std::string& log_name) {
  const std::string cwd = TRY_PLAIN(linux::getcwd());
  CriuFolders out;
  out.images_path = absolute(arguments.value("image-path", "checkpoint"), cwd);
  const std::string work = absolute(arguments.value("work-path", out.images_path), cwd);
  if (images == CriuImages::make) TRY(linux::make_dirs(out.images_path, 0700), "--image-path");
  auto folder = linux::open(out.images_path, O_RDONLY | O_DIRECTORY);
  if (!folder && folder.error().kind() == ErrorKind::not_found)
    return Error(ErrorKind::not_found, concat("--image-path ", out.images_path, ": there is no checkpoint"));
  out.images = TRY(std::move(folder), "--image-path");
  TRY(linux::make_dirs(work, 0700), "--work-path");
  out.work = TRY(linux::open(work, O_RDONLY | O_DIRECTORY), "--work-path");
  out.log_path = concat(work, "/", log_name);
  // The reason of an earlier failure must not be taken for this one's.
  if (auto removed = linux::unlink(out.log_path); !removed && removed.error().kind() != ErrorKind::not_found)
    return std::move(removed).error();
  return out;
}

Status take_criu_flags(const OciArguments& arguments, const std::map<std::string, std::string>& annotations, CriuOptions& options) {
  options.tcp_established = arguments.has("tcp-established");
  options.tcp_skip_in_flight = arguments.has("tcp-skip-in-flight");
  options.tcp_close = arguments.has("tcp-close");
  options.external_unix_sockets = arguments.has("ext-unix-sk");
  options.shell_job = arguments.has("shell-job");
  options.file_locks = arguments.has("file-locks");
  options.link_remap = arguments.has("link-remap");
  options.auto_dedup = arguments.has("auto-dedup");
  options.lazy_pages = arguments.has("lazy-pages");
  options.lsm_profile = arguments.value("lsm-profile");
  options.lsm_mount_context = arguments.value("lsm-mount-context");
  options.cgroups_mode = TRY_PLAIN(cgroups_mode(arguments.value("manage-cgroups-mode", "soft")));
  if (arguments.has("network-lock")) options.network_lock = TRY_PLAIN(network_lock(arguments.value("network-lock")));
  for (const auto& name : arguments.all("empty-ns")) {
    if (name != "network") return Error(ErrorKind::invalid, concat("--empty-ns ", name, ": only network can be left empty"));
    options.empty_namespaces = CLONE_NEWNET;
  }
  // runc's and crun's way to hand CRIU a configuration file of the user's.
  if (auto found = annotations.find("org.criu.config"); found != annotations.end()) options.config_file = found->second;
  return {};
}

std::string_view external_namespace_name(NamespaceType type) {
  switch (type) {
    case NamespaceType::network: return "extRootNetNS";
    case NamespaceType::pid: return "extRootPidNS";
    default: return "";
  }
}

Error criu_failure(std::string_view what, const CriuAnswer& answer, const CriuFolders& folders) {
  const auto log = linux::read_file(folders.log_path, 64U << 20U);
  std::string reason = log ? criu_log_reason(*log) : "";
  if (reason.empty()) reason = answer.message;
  if (reason.empty()) reason = concat("errno ", answer.error_number);
  return Error(ErrorKind::io, concat("criu failed to ", what, ": ", reason)).with_hint(concat("the whole log is ", folders.log_path));
}

}  // namespace caisson::runtime
