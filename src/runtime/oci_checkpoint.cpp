// checkpoint: a container's processes into files, by CRIU.
#include <algorithm>
#include <array>
#include <charconv>

#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "runtime/oci_criu.hpp"

namespace caisson::runtime {

namespace {

/// File systems that a container makes for itself, also where the kernel gives host and container one superblock (sysfs of
/// the host's network namespace).
bool is_made_inside(const linux::MountInfo& mount) {
  for (std::string_view type : {"proc", "sysfs", "mqueue", "devpts"})
    if (mount.type == type) return true;
  return mount.type == "cgroup2" && mount.root == "/";
}

/// Mount points whose file system is the host's: CRIU only notes their names, and restore says what is there then. Asked of
/// the kernel, not of the configuration: destinations may have been links, and masks are mounts too.
Result<std::vector<CriuPair>> external_mounts(int pid) {
  auto ours = TRY_PLAIN(linux::read_mountinfo());
  std::vector<CriuPair> out;
  for (const auto& mount : TRY_PLAIN(linux::read_mountinfo(pid))) {
    if (mount.mount_point == "/" || is_made_inside(mount)) continue;
    for (const auto& known : ours)
      if (known.major == mount.major && known.minor == mount.minor) {
        out.push_back({mount.mount_point, mount.mount_point});
        break;
      }
  }
  return out;
}

/// Namespaces that the container was given by path: they are not part of it.
Status add_external_namespaces(const OciState& state, const Spec& spec, CriuOptions& options) {
  for (auto [type, file] : {std::pair{NamespaceType::network, "net"}, {NamespaceType::pid, "pid"}}) {
    const auto* given = spec.find_namespace(type);
    if (given == nullptr || given->path.empty()) continue;
    auto fd = TRY_PLAIN(linux::open_namespace(state.pid, file));
    auto status = TRY_PLAIN(linux::fstat(fd.get()));
    options.external.push_back(concat(file, "[", std::uint64_t{status.st_ino}, "]:", external_namespace_name(type)));
  }
  return {};
}

/// Where pause would freeze it: CRIU does the same while it looks.
std::string freezer_folder(const linux::Cgroup& cgroup) {
  const auto& hierarchies = cgroup.layout().hierarchies;
  std::string out;
  for (std::size_t i = 0; i < hierarchies.size(); ++i) {
    const auto& names = hierarchies[i].controllers;
    const bool has_freezer = std::find(names.begin(), names.end(), "freezer") != names.end();
    if (has_freezer || (hierarchies[i].is_v2 && out.empty())) out = cgroup.directory(i);
  }
  return out;
}

std::string hex(std::uint64_t value) {
  std::array<char, 16> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, 16);
  return {buffer.data(), end.ptr};
}

/// The number after "mnt_id:" in fdinfo (proc(5)).
std::optional<std::uint64_t> mount_of_descriptor(int pid, int fd) {
  const auto text = linux::read_file(concat("/proc/", pid, "/fdinfo/", fd));
  if (!text) return std::nullopt;
  for (auto line : split(*text, '\n'))
    if (line.starts_with("mnt_id:"))
      if (auto number = parse_integer<std::uint64_t>(trim(line.substr(7)))) return *number;
  return std::nullopt;
}

/// The names of 0, 1 and 2 as restore will have to hand them in: "pipe:[123]", or "file[MOUNT:INODE]" for a file of the host
/// (criu(8), --external); what belongs to the container has no need of one.
Result<std::vector<std::string>> standard_descriptors(int pid) {
  const auto mounts = TRY_PLAIN(linux::read_mountinfo(pid));
  std::vector<std::string> out(3);
  for (int i = 0; i < 3; ++i) {
    const std::string path = concat("/proc/", pid, "/fd/", i);
    auto name = linux::readlinkat(AT_FDCWD, path);
    if (!name) continue;  // closed
    out[static_cast<std::size_t>(i)] = *name;
    const auto mount = mount_of_descriptor(pid, i);
    auto status = linux::stat(path);
    if (!name->starts_with('/') || !mount || !status) continue;
    const bool inside =
        std::any_of(mounts.begin(), mounts.end(), [&](const auto& known) { return static_cast<std::uint64_t>(known.id) == *mount; });
    if (!inside) out[static_cast<std::size_t>(i)] = concat("file[", hex(*mount), ":", hex(status->st_ino), "]");
  }
  return out;
}

Status check_pre_dump(const OciContext& context, const CriuOptions& options, bool pre_dump) {
  if (!pre_dump && !options.lazy_pages && options.parent_image.empty()) return {};
  auto client = TRY_PLAIN(CriuClient::start({context.globals.criu, {-1, -1, -1}, {}}));
  auto answer = TRY_PLAIN(client.request(CriuRequest::feature_check, nullptr, {}));
  if (!answer.message.empty()) return Error(ErrorKind::io, concat("criu's features: ", answer.message));
  if ((pre_dump || !options.parent_image.empty()) && !answer.can_track_memory)
    return Error(ErrorKind::unsupported, "CRIU is missing features: memTrack (this kernel does not track written memory)")
        .with_hint("--pre-dump and --parent-path need a kernel with CONFIG_MEM_SOFT_DIRTY; checkpoint without them");
  if (options.lazy_pages && !answer.has_lazy_pages) return Error(ErrorKind::unsupported, "CRIU is missing features: lazyPages");
  return {};
}

Result<CriuOptions> dump_options(const OciContext& context, const OciState& state, const Spec& spec, const CriuFolders& folders) {
  const auto& arguments = context.arguments;
  CriuOptions options;
  TRY_PLAIN(take_criu_flags(arguments, state.annotations, options));
  options.images_fd = folders.images.get();
  options.work_fd = folders.work.get();
  options.log_file = "dump.log";
  options.pid = state.pid;
  options.root = state.rootfs;
  options.parent_image = arguments.value("parent-path");
  options.leave_running = arguments.has("leave-running");
  options.track_memory = arguments.has("pre-dump") || !options.parent_image.empty();
  options.orphan_terminal = true;
  if (arguments.has("status-fd")) options.status_fd = TRY(parse_integer<int>(arguments.value("status-fd")), "--status-fd");
  if (arguments.has("page-server")) {
    auto halves = split_last(arguments.value("page-server"), ':');
    auto port = parse_integer<std::uint16_t>(halves.after);
    if (!halves.found || halves.before.empty() || !port) return Error(ErrorKind::invalid, "--page-server: use ADDRESS:PORT");
    options.page_server = CriuPair{std::string(halves.before), std::string(halves.after)};
  }
  if (!options.parent_image.empty() && options.parent_image.starts_with('/'))
    return Error(ErrorKind::invalid, "--parent-path must be relative to --image-path");
  if (!state.cgroup_path.empty()) options.freeze_cgroup = freezer_folder(TRY_PLAIN(oci_cgroup(context, state)));
  TRY_PLAIN(add_external_namespaces(state, spec, options));
  options.external_mounts = TRY_PLAIN(external_mounts(state.pid));
  return options;
}

}  // namespace

Result<int> oci_checkpoint(OciContext& context) {
  auto state = TRY_PLAIN(oci_load(context));
  const auto status = TRY_PLAIN(status_of(state, context.store, context.layout));
  if (status != OciStatus::running && status != OciStatus::paused)
    return Error(ErrorKind::conflict, concat("Container cannot be checkpointed in ", to_string(status), " state"));
  auto spec = TRY_PLAIN(context.store.load_spec(state.id));
  auto folders = TRY_PLAIN(open_criu_folders(context.arguments, CriuImages::make, "dump.log"));
  auto options = TRY_PLAIN(dump_options(context, state, spec, folders));
  const bool pre_dump = context.arguments.has("pre-dump");
  TRY_PLAIN(check_pre_dump(context, options, pre_dump));
  json::array descriptors;
  for (const auto& name : TRY_PLAIN(standard_descriptors(state.pid))) {
    descriptors.emplace_back(name);
    if (name.starts_with("file[")) options.external.push_back(name);
  }
  auto pidfd = TRY_PLAIN(open_init(state));
  auto client = TRY_PLAIN(CriuClient::start({context.globals.criu, {-1, -1, -1}, {}}));
  auto answer = TRY_PLAIN(client.request(pre_dump ? CriuRequest::pre_dump : CriuRequest::dump, &options, {}));
  if (!answer.success) return criu_failure("checkpoint the container", answer, folders);
  if (pre_dump) return 0;
  // The name and form that runc and containerd know.
  TRY_PLAIN(linux::write_file(concat(folders.images_path, "/descriptors.json"), to_text(descriptors), 0600));
  if (options.leave_running) return 0;
  (void)TRY_PLAIN(linux::wait_readable(pidfd.get(), 10'000));
  TRY_PLAIN(oci_destroy(context, state));
  return 0;
}

}  // namespace caisson::runtime
