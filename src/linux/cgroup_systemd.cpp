// Talking to systemd: starting, changing and stopping the unit behind a cgroup.
#include "linux/cgroup_systemd.hpp"

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "linux/child.hpp"
#include "linux/dbus.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"

namespace caisson::linux::detail {

namespace {

/// A busy systemd takes a second or two for a unit; this is for one that hangs.
constexpr int timeout_ms = 30'000;
constexpr const char* manager_name = "org.freedesktop.systemd1";
constexpr const char* manager_path = "/org/freedesktop/systemd1";
constexpr const char* manager_interface = "org.freedesktop.systemd1.Manager";

struct Place {
  std::string path;
  DbusConnection::Peer peer;
};

/// Of DBUS_SESSION_BUS_ADDRESS the form "unix:path=/…" alone; other forms are not used for it on Linux today.
std::optional<std::string> session_bus() {
  const char* text = environment("DBUS_SESSION_BUS_ADDRESS");
  if (text == nullptr) return std::nullopt;
  for (std::string_view address : split(text, ';')) {
    constexpr std::string_view head = "unix:path=";
    if (!address.starts_with(head)) continue;
    address.remove_prefix(head.size());
    address = split_once(address, ',').before;
    if (address.starts_with('/') && address.find('%') == std::string_view::npos) return std::string(address);
  }
  return std::nullopt;
}

/// The bus first, as sd-bus's users do; systemd's private socket where no bus runs.
std::vector<Place> places(bool of_user) {
  using Peer = DbusConnection::Peer;
  if (!of_user) return {{"/run/dbus/system_bus_socket", Peer::bus}, {"/run/systemd/private", Peer::direct}};
  std::vector<Place> out;
  if (auto bus = session_bus()) out.push_back({std::move(*bus), Peer::bus});
  const char* folder = environment("XDG_RUNTIME_DIR");
  const std::string runtime = folder == nullptr ? concat("/run/user/", geteuid()) : std::string(folder);
  out.push_back({runtime + "/bus", Peer::bus});
  out.push_back({runtime + "/systemd/private", Peer::direct});
  return out;
}

Result<DbusConnection> connect(const SystemdUnit& unit) {
  std::string tried;
  for (const Place& place : places(unit.of_user)) {
    auto connection = DbusConnection::connect(place.path, place.peer, timeout_ms);
    if (connection) return connection;
    const ErrorKind kind = connection.error().kind();
    if (kind != ErrorKind::not_found && kind != ErrorKind::unavailable)
      return std::move(connection).error().in(concat("systemd at ", place.path));
    tried += concat(tried.empty() ? "" : ", ", place.path);
  }
  return Error(ErrorKind::unavailable, concat("systemd cannot be reached (tried ", tried, ")"), ECONNREFUSED)
      .with_hint(unit.of_user ? "the systemd cgroup driver needs the user's systemd with its bus (loginctl enable-linger); or use "
                                "--cgroup-manager cgroupfs"
                              : "the systemd cgroup driver needs systemd as init; or use --cgroup-manager cgroupfs");
}

DbusMessage manager_call(std::string member, std::vector<DbusValue> body) {
  DbusMessage out;
  out.destination = manager_name;
  out.path = manager_path;
  out.interface = manager_interface;
  out.member = std::move(member);
  out.body = std::move(body);
  return out;
}

DbusValue property_list(std::vector<SystemdProperty> properties) {
  std::vector<DbusValue> items;
  for (SystemdProperty& property : properties)
    items.push_back(
        DbusValue::structure({DbusValue::string(std::move(property.name)), DbusValue::variant(std::move(property.value))}));
  return DbusValue::array("(sv)", std::move(items));
}

Status watch_jobs(DbusConnection& systemd) {
  return systemd.add_match(concat("type='signal',sender='", manager_name, "',path='", manager_path, "',interface='", manager_interface,
                                  "',member='JobRemoved'"));
}

/// JobRemoved(u id, o job, s unit, s result) for the job of `reply`.
Status wait_job(DbusConnection& systemd, const DbusMessage& reply, std::string_view what, const SystemdUnit& unit) {
  if (reply.body.size() != 1 || reply.body[0].signature != "o")
    return Error(ErrorKind::corrupt, concat(what, " ", unit.name, ": an answer without a job"), EPROTO);
  const std::string& job = reply.body[0].text;
  const DbusMessage removed = TRY(systemd.wait_signal([&](const DbusMessage& signal) {
    return signal.member == "JobRemoved" && signal.body.size() == 4 && signal.body[1].text == job && signal.body[3].signature == "s";
  }),
                                  concat(what, " ", unit.name));
  const std::string& result = removed.body[3].text;
  if (result == "done" || result == "skipped") return {};
  return Error(ErrorKind::io, concat(what, " ", unit.name, ": systemd's job ended with \"", result, "\""), EIO);
}

std::vector<SystemdProperty> unit_properties(const SystemdUnit& unit, int pid) {
  std::vector<SystemdProperty> out;
  out.push_back({"Description", DbusValue::string(concat("Caisson container ", unit.name))});
  if (unit.is_slice()) {
    if (unit.slice != "-.slice") out.push_back({"Wants", DbusValue::array("s", {DbusValue::string(unit.slice)})});
  } else {
    out.push_back({"Slice", DbusValue::string(unit.slice)});
    out.push_back({"Delegate", DbusValue::boolean(true)});
    if (pid != 0) out.push_back({"PIDs", DbusValue::array("u", {DbusValue::uint32(static_cast<std::uint32_t>(pid))})});
  }
  for (const char* accounting : {"MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"})
    out.push_back({accounting, DbusValue::boolean(true)});
  out.push_back({"DefaultDependencies", DbusValue::boolean(false)});
  // A container that died of its memory limit leaves the scope "failed"; nobody must have to clean that up by hand.
  out.push_back({"CollectMode", DbusValue::string("inactive-or-failed")});
  return out;
}

Status reset_failed(DbusConnection& systemd, const SystemdUnit& unit) {
  auto done = systemd.call(manager_call("ResetFailedUnit", {DbusValue::string(unit.name)}));
  if (!done && done.error().kind() != ErrorKind::not_found) return std::move(done).error().in(concat("reset ", unit.name));
  return {};
}

}  // namespace

Result<std::unique_ptr<ScopeHolder>> ScopeHolder::create() {
  auto lifeline = TRY(pipe2(), "scope holder");
  auto child = TRY(fork_with_pidfd(0), "scope holder");
  if (child.pid == 0) {
    // Keeps nothing of ours open, so that no reader waits for it, but the end that tells of our death.
    const int fd = lifeline.read_end.get() == 0 ? 0 : raw::dup3(lifeline.read_end.get(), 0, 0);
    (void)raw::close_range(1, ~0U, 0);
    char byte = 0;
    if (fd == 0) (void)raw::read(0, &byte, 1);
    raw::exit(0);
  }
  return std::unique_ptr<ScopeHolder>(new ScopeHolder(child.pid, std::move(child.pidfd), std::move(lifeline.write_end)));
}

ScopeHolder::~ScopeHolder() { kill_and_reap(pidfd_.get()); }

Status start_systemd_unit(const SystemdUnit& unit, int pid, std::vector<SystemdProperty> properties) {
  DbusConnection systemd = TRY_PLAIN(connect(unit));
  TRY_PLAIN(watch_jobs(systemd));
  auto all = unit_properties(unit, pid);
  for (SystemdProperty& property : properties) all.push_back(std::move(property));
  const auto message = manager_call("StartTransientUnit", {DbusValue::string(unit.name), DbusValue::string("fail"),
                                                           property_list(std::move(all)), DbusValue::array("(sa(sv))", {})});
  auto reply = systemd.call(message);
  if (!reply && reply.error().kind() == ErrorKind::conflict) {
    // Of an earlier container that failed; one that still runs is not touched by this.
    TRY_PLAIN(reset_failed(systemd, unit));
    reply = systemd.call(message);
  }
  if (!reply) return std::move(reply).error().in(concat("start ", unit.name));
  return wait_job(systemd, *reply, "start", unit);
}

Status come_near(const SystemdUnit& unit) {
  const auto paths = TRY(cgroup_of_process(0), "cgroup");
  const auto own = paths.find("");
  if (own == paths.end() || own->second.starts_with(concat(unit.manager, '/'))) return {};
  SystemdUnit scope = unit;
  scope.name = concat("caisson-runtime-", getpid(), ".scope");
  TRY(start_systemd_unit(scope, getpid(), {}), concat("leaving ", own->second, ", from where the container's cgroup cannot be entered"));
  return {};
}

Status set_systemd_properties(const SystemdUnit& unit, std::vector<SystemdProperty> properties) {
  if (properties.empty()) return {};
  DbusConnection systemd = TRY_PLAIN(connect(unit));
  (void)TRY(systemd.call(manager_call("SetUnitProperties",
                                      {DbusValue::string(unit.name), DbusValue::boolean(true), property_list(std::move(properties))})),
            concat("set properties of ", unit.name));
  return {};
}

Status stop_systemd_unit(const SystemdUnit& unit) {
  DbusConnection systemd = TRY_PLAIN(connect(unit));
  TRY_PLAIN(watch_jobs(systemd));
  auto reply = systemd.call(manager_call("StopUnit", {DbusValue::string(unit.name), DbusValue::string("replace")}));
  if (reply) TRY_PLAIN(wait_job(systemd, *reply, "stop", unit));
  else if (reply.error().kind() != ErrorKind::not_found) return std::move(reply).error().in(concat("stop ", unit.name));
  return reset_failed(systemd, unit);
}

}  // namespace caisson::linux::detail
