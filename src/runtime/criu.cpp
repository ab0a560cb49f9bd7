// CRIU's requests and answers, field by field (criu's images/rpc.proto).
#include "runtime/criu.hpp"

#include <array>

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"
#include "runtime/protobuf.hpp"

namespace caisson::runtime {

namespace {

ProtobufWriter pair_message(const CriuPair& pair) {
  ProtobufWriter out;
  if (!pair.key.empty()) out.bytes(1, pair.key);
  out.bytes(2, pair.value);
  return out;
}

void write_flags(const CriuOptions& options, ProtobufWriter& out) {
  const std::pair<std::uint32_t, bool> flags[] = {{3, options.leave_running},       {4, options.external_unix_sockets},
                                                  {5, options.tcp_established},     {6, options.evasive_devices},
                                                  {7, options.shell_job},           {8, options.file_locks},
                                                  {15, options.track_memory},       {16, options.auto_dedup},
                                                  {18, options.link_remap},         {26, options.restore_as_sibling},
                                                  {46, options.tcp_skip_in_flight}, {48, options.lazy_pages},
                                                  {50, options.orphan_terminal},    {52, options.tcp_close}};
  for (const auto& [field, value] : flags)
    if (value) out.flag(field, true);
}

void write_texts(const CriuOptions& options, ProtobufWriter& out) {
  const std::pair<std::uint32_t, const std::string*> texts[] = {
      {10, &options.log_file},    {13, &options.root},        {14, &options.parent_image},     {44, &options.freeze_cgroup},
      {51, &options.config_file}, {53, &options.lsm_profile}, {64, &options.lsm_mount_context}};
  for (const auto& [field, value] : texts)
    if (!value->empty()) out.bytes(field, *value);
}

void write_lists(const CriuOptions& options, ProtobufWriter& out) {
  for (const auto& mount : options.external_mounts) out.message(23, pair_message(mount));
  for (const auto& root : options.cgroup_roots) out.message(25, pair_message(root));
  for (const auto& [name, fd] : options.inherited_fds) {
    ProtobufWriter entry;
    entry.bytes(1, name);
    entry.number(2, fd);
    out.message(27, entry);
  }
  for (const auto& name : options.external) out.bytes(37, name);
}

ProtobufWriter options_message(const CriuOptions& options) {
  ProtobufWriter out;
  out.number(1, options.images_fd);
  if (options.pid != 0) out.number(2, options.pid);
  constexpr int verbose = 4;  // its reason must be in the log when it fails
  out.number(9, verbose);
  out.flag(12, true);  // notify
  if (options.work_fd >= 0) out.number(17, options.work_fd);
  write_flags(options, out);
  write_texts(options, out);
  write_lists(options, out);
  if (options.page_server) {
    ProtobufWriter server;
    server.bytes(1, options.page_server->key);
    server.number(2, parse_integer<std::int64_t>(options.page_server->value).value_or(0));
    out.message(11, server);
  }
  if (options.cgroups_mode) {
    out.flag(24, true);
    out.number(34, *options.cgroups_mode);
  }
  if (options.empty_namespaces) out.number(38, *options.empty_namespaces);
  if (options.status_fd) out.number(49, *options.status_fd);
  if (options.network_lock) out.number(65, *options.network_lock);
  return out;
}

std::string encode_notification_answer(bool success) {
  ProtobufWriter out;
  out.number(1, static_cast<int>(CriuRequest::notify));
  out.flag(3, success);
  return out.text();
}

Result<std::string> program_path(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* path = environment("PATH");
  auto found = linux::find_program(name, path == nullptr ? "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin" : path);
  if (found) return found;
  return Error(ErrorKind::unavailable, concat("checkpoint and restore need the program ", name, ", which is not in PATH"))
      .with_hint("install CRIU (https://criu.org)");
}

}  // namespace

std::string encode_criu_request(CriuRequest type, const CriuOptions* options) {
  ProtobufWriter out;
  out.number(1, static_cast<int>(type));
  if (options != nullptr) out.message(2, options_message(*options));
  if (type == CriuRequest::feature_check) {
    ProtobufWriter features;
    features.flag(1, true);
    features.flag(2, true);
    out.message(5, features);
  }
  return out.text();
}

Result<CriuMessage> decode_criu_message(std::string_view bytes) {
  CriuMessage out;
  for (const auto& field : TRY_PLAIN(read_protobuf(bytes))) switch (field.number) {
      case 1: out.is_notification = field.value == static_cast<std::uint64_t>(CriuRequest::notify); break;
      case 2: out.answer.success = field.value != 0; break;
      case 4:
        for (const auto& inner : TRY_PLAIN(read_protobuf(field.bytes)))
          if (inner.number == 1) out.answer.pid = static_cast<int>(inner.value);
        break;
      case 5:
        for (const auto& inner : TRY_PLAIN(read_protobuf(field.bytes))) {
          if (inner.number == 1) out.script = inner.bytes;
          if (inner.number == 2) out.pid = static_cast<int>(inner.value);
        }
        break;
      case 7: out.answer.error_number = static_cast<int>(field.value); break;
      case 8:
        for (const auto& inner : TRY_PLAIN(read_protobuf(field.bytes))) {
          if (inner.number == 1) out.answer.can_track_memory = inner.value != 0;
          if (inner.number == 2) out.answer.has_lazy_pages = inner.value != 0;
        }
        break;
      case 9: out.answer.message = field.bytes; break;
      default: break;  // of a newer CRIU
    }
  return out;
}

Result<CriuClient> CriuClient::start(const CriuStart& start) {
  constexpr int socket_number = 3;
  auto pair = TRY(linux::socketpair(linux::UnixType::seqpacket), "criu");
  linux::ProcessRequest request;
  request.path = TRY_PLAIN(program_path(start.program));
  request.argv = {"criu", "swrk", concat(socket_number)};
  request.env = whole_environment();  // it runs iptables and ip, and its plug-ins are told where to look
  request.fds.push_back({pair.second.get(), socket_number});
  for (int i = 0; i < 3; ++i)
    if (start.standard_fds[i] >= 0) request.fds.push_back({start.standard_fds[i], i});
  for (std::size_t i = 0; i < start.inherited.size(); ++i)
    request.fds.push_back({start.inherited[i], first_inherited_fd + static_cast<int>(i)});
  auto process = TRY(linux::spawn_process(request), "criu");
  return CriuClient(std::move(pair.first), process.pid, std::move(process.pidfd));
}

CriuClient::~CriuClient() {
  if (!pidfd_) return;
  socket_.reset();  // it ends, and undoes what it has begun, when nobody listens any more
  ignore(linux::wait_pidfd(pidfd_.get()));
}

Result<CriuAnswer> CriuClient::request(CriuRequest type, const CriuOptions* options, const Notify& notify) {
  TRY(linux::send_message(socket_.get(), encode_criu_request(type, options)), "criu");
  Status told;
  while (true) {
    constexpr std::size_t limit_bytes = 1U << 20U;
    auto received = TRY(linux::receive_message(socket_.get(), limit_bytes, 1), "criu");
    if (received.bytes.empty()) {  // it gave up before it knew whom to answer; its log says why
      if (!told) return std::move(told).error();
      CriuAnswer none;
      none.message = "criu ended without an answer";
      return none;
    }
    auto message = TRY(decode_criu_message(received.bytes), "criu");
    if (!message.is_notification) {
      if (!told) return std::move(told).error();
      return message.answer;
    }
    UniqueFd fd;
    if (!received.fds.empty()) fd = std::move(received.fds.front());
    auto outcome = notify ? notify(message, std::move(fd)) : Status();
    const bool good = outcome.ok();
    if (!good && told) told = std::move(outcome);
    TRY(linux::send_message(socket_.get(), encode_notification_answer(good)), "criu");
  }
}

std::string criu_log_reason(std::string_view log) {
  constexpr std::size_t wanted = 4;
  std::vector<std::string> errors;
  std::vector<std::string> lines;
  for (auto line : split(log, '\n')) {
    if (trim(line).empty()) continue;
    lines.emplace_back(trim(line));
    if (line.find("Error") != std::string_view::npos) errors.emplace_back(trim(line));
  }
  auto& chosen = errors.empty() ? lines : errors;
  if (chosen.size() > wanted) chosen.erase(chosen.begin(), chosen.end() - static_cast<std::ptrdiff_t>(wanted));
  return join(chosen, "; ");
}

}  // namespace caisson::runtime
