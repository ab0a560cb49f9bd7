// D-Bus: bytes and values, broken messages, and a real bus as the oracle.
#include "linux/dbus.hpp"

#include <gtest/gtest.h>

#include "linux/cgroup.hpp"
#include "linux/cgroup_systemd.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

DbusMessage rich_message() {
  DbusMessage out;
  out.serial = 7;
  out.path = "/org/freedesktop/systemd1";
  out.interface = "org.freedesktop.systemd1.Manager";
  out.member = "StartTransientUnit";
  out.destination = "org.freedesktop.systemd1";
  out.body.push_back(DbusValue::string("a.scope"));
  out.body.push_back(DbusValue::array(
      "(sv)", {DbusValue::structure({DbusValue::string("Delegate"), DbusValue::variant(DbusValue::boolean(true))}),
               DbusValue::structure({DbusValue::string("PIDs"), DbusValue::variant(DbusValue::array("u", {DbusValue::uint32(42)}))}),
               DbusValue::structure({DbusValue::string("MemoryMax"), DbusValue::variant(DbusValue::uint64(1ULL << 40U))})}));
  out.body.push_back(DbusValue::array("(sa(sv))", {}));
  return out;
}

TEST(Dbus, a_message_is_the_bytes_of_the_specification) {
  DbusMessage hello;
  hello.serial = 1;
  hello.path = "/a";
  hello.member = "M";
  hello.body.push_back(DbusValue::string("x"));
  const std::string expected(
      "l\1\0\1"
      "\6\0\0\0"
      "\1\0\0\0"
      "\47\0\0\0"  // order, call, flags, version; body 6; serial 1; fields 39
      "\1\1o\0"
      "\2\0\0\0"
      "/a\0"
      "\0\0\0\0\0"  // path
      "\3\1s\0"
      "\1\0\0\0"
      "M\0"
      "\0\0\0\0\0\0"  // member
      "\10\1g\0"
      "\1s\0"
      "\0"  // signature, and padding to 8
      "\1\0\0\0"
      "x\0",
      16 + 16 + 16 + 8 + 6);
  EXPECT_EQ(must(encode_dbus_message(hello)), expected);
  DbusMessage back = must(decode_dbus_message(expected));
  EXPECT_EQ(back, hello);
}

TEST(Dbus, what_is_written_is_read_back) {
  const DbusMessage message = rich_message();
  EXPECT_EQ(must(decode_dbus_message(must(encode_dbus_message(message)))), message);
}

TEST(Dbus, a_big_endian_peer_is_understood) {
  const std::string bytes(
      "B\4\0\1"
      "\0\0\0\4"
      "\0\0\0\2"
      "\0\0\0\27"
      "\3\1s\0"
      "\0\0\0\1"
      "S\0"
      "\0\0\0\0\0\0"
      "\10\1g\0"
      "\1u\0"
      "\0"
      "\0\0\1\0",
      16 + 16 + 8 + 4);
  const DbusMessage signal = must(decode_dbus_message(bytes));
  EXPECT_EQ(signal.type, DbusMessageType::signal);
  EXPECT_EQ(signal.member, "S");
  ASSERT_EQ(signal.body.size(), 1U);
  EXPECT_EQ(signal.body[0].number, 256U);
}

TEST(Dbus, no_cut_or_flipped_message_is_more_than_an_error) {
  const std::string bytes = must(encode_dbus_message(rich_message()));
  for (std::size_t length = 0; length < bytes.size(); ++length)
    EXPECT_FALSE(decode_dbus_message(bytes.substr(0, length)).ok()) << length;
  EXPECT_FALSE(decode_dbus_message(bytes + '\0').ok());
  for (std::size_t at = 0; at < bytes.size(); ++at)
    for (const char flipped : {'\0', '\1', '\177', '\377'}) {
      std::string broken = bytes;
      broken[at] = flipped;
      const auto decoded = decode_dbus_message(broken);
      EXPECT_TRUE(!decoded || encode_dbus_message(*decoded).ok()) << at;
    }
}

TEST(Dbus, long_lengths_are_refused_before_anything_is_reserved) {
  const std::string head(
      "l\2\0\1"
      "\377\377\377\177"
      "\1\0\0\0"
      "\0\0\0\0",
      16);
  EXPECT_EQ(dbus_message_size(head).error().kind(), ErrorKind::corrupt);
  EXPECT_FALSE(dbus_type_length(std::string(100, 'a') + "y").ok());
  EXPECT_FALSE(dbus_type_length("()").ok());
  EXPECT_FALSE(dbus_type_length("{sv}").ok());
  EXPECT_EQ(must(dbus_type_length("a{s(iv)}s")), 8U);
}

TEST(Dbus, values_that_do_not_fit_their_signature_are_refused) {
  DbusMessage message = rich_message();
  message.body = {DbusValue::array("s", {DbusValue::uint32(1)})};
  EXPECT_EQ(encode_dbus_message(message).error().kind(), ErrorKind::invalid);
  message.body = {DbusValue::string(std::string("a\0b", 3))};
  EXPECT_EQ(encode_dbus_message(message).error().kind(), ErrorKind::invalid);
  message.body = {DbusValue{.signature = "v"}};
  EXPECT_EQ(encode_dbus_message(message).error().kind(), ErrorKind::invalid);
}

TEST(Gvariant, texts_become_values) {
  EXPECT_EQ(must(parse_gvariant("true")), DbusValue::boolean(true));
  EXPECT_EQ(must(parse_gvariant("'it\\'s'")), DbusValue::string("it's"));
  EXPECT_EQ(must(parse_gvariant("\"double\"")), DbusValue::string("double"));
  EXPECT_EQ(must(parse_gvariant("uint64 18446744073709551615")), DbusValue::uint64(UINT64_MAX));
  EXPECT_EQ(must(parse_gvariant(" uint32  0x10 ")), DbusValue::uint32(16));
  EXPECT_EQ(must(parse_gvariant("-5")), (DbusValue{.signature = "i", .number = static_cast<std::uint64_t>(-5)}));
  EXPECT_EQ(must(parse_gvariant("['a', 'b']")), DbusValue::array("s", {DbusValue::string("a"), DbusValue::string("b")}));
  EXPECT_EQ(must(parse_gvariant("@as []")), DbusValue::array("s", {}));
  EXPECT_EQ(must(parse_gvariant("[uint64 1, 2]")), DbusValue::array("t", {DbusValue::uint64(1), DbusValue::uint64(2)}));
  EXPECT_EQ(must(parse_gvariant("('/dev/null', 'rw')")),
            DbusValue::structure({DbusValue::string("/dev/null"), DbusValue::string("rw")}));
  EXPECT_EQ(must(parse_gvariant("<true>")), DbusValue::variant(DbusValue::boolean(true)));
  EXPECT_EQ(must(parse_gvariant("{'a': 1}")).signature, "a{si}");
  EXPECT_EQ(must(parse_gvariant("objectpath '/x'")).signature, "o");
  EXPECT_EQ(must(parse_gvariant("1.5")).signature, "d");
  for (const char* bad : {"", "tru", "'open", "[]", "[1, 'a']", "byte 256", "uint16 -1", "int32 2147483648", "1 2", "()", "<1",
                          "uint64 'x'", "@", "{1}", "[1", "0x"})
    EXPECT_EQ(parse_gvariant(bad).error().kind(), ErrorKind::invalid) << bad;
  EXPECT_FALSE(parse_gvariant(std::string(10000, '[')).ok());
}

/// A peer that says what it is told, whatever is asked.
struct FakePeer {
  UniqueFd ours;
  UniqueFd theirs;
  FakePeer() {
    auto pair = must(socketpair(UnixType::stream));
    ours = std::move(pair.first);
    theirs = std::move(pair.second);
  }
  void say(std::string_view bytes) { must(write_all(ours.get(), bytes)); }
};
constexpr int short_ms = 2000;

TEST(Dbus, a_direct_peer_is_called_and_its_signal_is_not_lost) {
  FakePeer peer;
  peer.say("DATA\r\nOK 0123\r\n");
  DbusMessage signal;
  signal.type = DbusMessageType::signal;
  signal.serial = 1;
  signal.member = "JobRemoved";
  peer.say(must(encode_dbus_message(signal)));
  DbusMessage reply;
  reply.type = DbusMessageType::reply;
  reply.serial = 2;
  reply.reply_serial = 1;
  reply.body.push_back(DbusValue::uint32(9));
  peer.say(must(encode_dbus_message(reply)));
  auto connection = must(DbusConnection::adopt(std::move(peer.theirs), DbusConnection::Peer::direct, short_ms));
  EXPECT_EQ(must(connection.call(rich_message())).body[0].number, 9U);
  EXPECT_EQ(must(connection.wait_signal([](const DbusMessage& message) { return message.member == "JobRemoved"; })).serial, 1U);
}

TEST(Dbus, an_error_reply_has_its_name_and_kind) {
  FakePeer peer;
  peer.say("DATA\r\nOK 0123\r\n");
  DbusMessage reply;
  reply.type = DbusMessageType::error;
  reply.serial = 2;
  reply.reply_serial = 1;
  reply.error_name = "org.freedesktop.systemd1.UnitExists";
  reply.body.push_back(DbusValue::string("Unit x.scope was already loaded"));
  peer.say(must(encode_dbus_message(reply)));
  auto connection = must(DbusConnection::adopt(std::move(peer.theirs), DbusConnection::Peer::direct, short_ms));
  const Error error = connection.call(rich_message()).error();
  EXPECT_EQ(error.kind(), ErrorKind::conflict);
  EXPECT_NE(error.text().find("already loaded"), std::string::npos) << error.text();
}

TEST(Dbus, peers_that_refuse_hang_up_or_keep_silent_are_errors) {
  FakePeer refusing;
  refusing.say("REJECTED EXTERNAL\r\n");
  EXPECT_EQ(DbusConnection::adopt(std::move(refusing.theirs), DbusConnection::Peer::direct, short_ms).error().kind(),
            ErrorKind::denied);
  FakePeer gone;
  gone.say("DATA\r\nOK 0123\r\n");
  auto connection = must(DbusConnection::adopt(std::move(gone.theirs), DbusConnection::Peer::direct, short_ms));
  gone.ours.reset();
  EXPECT_FALSE(connection.call(rich_message()).ok());
  FakePeer silent;
  EXPECT_EQ(DbusConnection::adopt(std::move(silent.theirs), DbusConnection::Peer::direct, 50).error().kind(), ErrorKind::timeout);
  FakePeer babbling;
  babbling.say(std::string(8192, 'x'));
  EXPECT_EQ(DbusConnection::adopt(std::move(babbling.theirs), DbusConnection::Peer::direct, short_ms).error().kind(),
            ErrorKind::corrupt);
}

/// A dbus-daemon with a socket of its own.
class RealBus {
 public:
  explicit RealBus(const std::string& daemon) : socket_(folder_ / "bus") {
    auto out = must(pipe2());
    ProcessRequest request;
    request.path = daemon;
    request.argv = {"dbus-daemon", "--session",         "--nofork",
                    "--nopidfile", "--print-address=1", concat("--address=unix:path=", socket_)};
    request.fds = {{out.write_end.get(), 1}};
    request.parent_death_signal = SIGKILL;
    daemon_ = must(spawn_process(request));
    out.write_end.reset();
    std::array<char, 256> line;
    EXPECT_GT(must(read(out.read_end.get(), line)), 0U);  // the address is printed once the socket listens
  }
  RealBus(const RealBus&) = delete;
  RealBus& operator=(const RealBus&) = delete;
  ~RealBus() { kill_and_reap(daemon_.pidfd.get()); }
  [[nodiscard]] const std::string& socket() const { return socket_; }

 private:
  TemporaryFolder folder_;
  std::string socket_;
  ChildProcess daemon_;
};

TEST(Dbus, a_real_bus_answers_and_signals) {
  const auto daemon = find_program("dbus-daemon", "/usr/bin:/bin");
  if (!daemon) GTEST_SKIP() << "needs dbus-daemon";
  const RealBus bus(*daemon);
  auto connection = must(DbusConnection::connect(bus.socket(), DbusConnection::Peer::bus, 20000));
  auto call = [](std::string member, std::vector<DbusValue> body) {
    DbusMessage out;
    out.destination = "org.freedesktop.DBus";
    out.path = "/org/freedesktop/DBus";
    out.interface = "org.freedesktop.DBus";
    out.member = std::move(member);
    out.body = std::move(body);
    return out;
  };
  const DbusMessage names = must(connection.call(call("ListNames", {})));
  ASSERT_EQ(names.body.size(), 1U);
  EXPECT_EQ(names.body[0].signature, "as");
  EXPECT_GE(names.body[0].items.size(), 2U);
  must(connection.add_match("type='signal',interface='org.freedesktop.DBus',member='NameOwnerChanged'"));
  const DbusMessage owned = must(connection.call(call("RequestName", {DbusValue::string("org.caisson.Test"), DbusValue::uint32(4)})));
  EXPECT_EQ(owned.body[0].number, 1U);
  const DbusMessage changed = must(connection.wait_signal([](const DbusMessage& signal) {
    return signal.member == "NameOwnerChanged" && !signal.body.empty() && signal.body[0].text == "org.caisson.Test";
  }));
  EXPECT_EQ(changed.body.size(), 3U);
  EXPECT_EQ(connection.call(call("GetNameOwner", {DbusValue::string("org.nobody.Here")})).error().kind(), ErrorKind::io);
  EXPECT_EQ(connection.call(call("NoSuchMethod", {})).error().kind(), ErrorKind::not_found);
}

// --- the systemd driver's plans --------------------------------------------------------------------------------------

TEST(SystemdCgroup, paths_are_slices_prefixes_and_names) {
  const SystemdManager system;
  EXPECT_EQ(must(systemd_cgroup_path("", "web", system)), "systemd:/system.slice/caisson-web.scope");
  EXPECT_EQ(must(systemd_cgroup_path(":cri:a1", "web", system)), "systemd:/system.slice/cri-a1.scope");
  EXPECT_EQ(must(systemd_cgroup_path("kube-pod-x.slice:cri:a1", "web", system)),
            "systemd:/kube.slice/kube-pod.slice/kube-pod-x.slice/cri-a1.scope");
  EXPECT_EQ(must(systemd_cgroup_path("-.slice::a1", "web", system)), "systemd:/a1.scope");
  EXPECT_EQ(must(systemd_cgroup_path("x.slice:ignored:kube-pod.slice", "web", system)), "systemd:/kube.slice/kube-pod.slice");
  SystemdManager user;
  user.of_user = true;
  user.root = "/user.slice/user-1000.slice/user@1000.service";
  user.default_slice = "user.slice";
  const std::string path = must(systemd_cgroup_path("", "web", user));
  EXPECT_EQ(path, "systemd:/user.slice/user-1000.slice/user@1000.service/user.slice/caisson-web.scope");
  const auto unit = must(detail::parse_systemd_path(path + "/inner"));
  EXPECT_TRUE(unit->of_user);
  EXPECT_EQ(unit->manager, user.root);
  EXPECT_EQ(unit->name, "caisson-web.scope");
  EXPECT_EQ(unit->slice, "user.slice");
  EXPECT_TRUE(unit->path.ends_with("caisson-web.scope/inner"));
  EXPECT_EQ(systemd_unit_name("/caisson/x"), "");
  EXPECT_EQ(must(detail::parse_systemd_path("systemd:/a.slice/a-b.slice/x.scope"))->slice, "a-b.slice");
  for (const char* bad : {"/absolute", "a:b", "a.slice:b:", "a:b:c", "a--b.slice:c:d", "../x.slice:c:d", "a.slice:c:d/e",
                          "a.slice:c:d e", "a.slice:b:c:d"})
    EXPECT_EQ(systemd_cgroup_path(bad, "web", system).error().kind(), ErrorKind::invalid) << bad;
}

const DbusValue* property(const std::vector<detail::SystemdProperty>& all, std::string_view name) {
  const DbusValue* out = nullptr;
  for (const auto& item : all)
    if (item.name == name) out = &item.value;
  return out;
}

TEST(SystemdCgroup, limits_become_properties) {
  CgroupLimits limits;
  limits.memory_limit_bytes = 1000;
  limits.memory_swap_bytes = 1500;
  limits.cpu_shares = 1024;
  limits.cpu_quota_us = 12345;
  limits.cpu_period_us = 50000;
  limits.cpuset_cpus = "0-1,9";
  limits.pids_limit = -1;
  limits.blkio_read_bps = {{8, 0, 5}};
  const auto v2 = detail::plan_systemd_limits(limits, CgroupMode::unified);
  EXPECT_EQ(*property(v2, "MemoryMax"), DbusValue::uint64(1000));
  EXPECT_EQ(*property(v2, "MemorySwapMax"), DbusValue::uint64(500));
  EXPECT_EQ(*property(v2, "CPUWeight"), DbusValue::uint64(100));
  EXPECT_EQ(*property(v2, "CPUQuotaPerSecUSec"), DbusValue::uint64(250000));  // 246900, rounded up to whole per cents
  EXPECT_EQ(*property(v2, "CPUQuotaPeriodUSec"), DbusValue::uint64(50000));
  EXPECT_EQ(*property(v2, "AllowedCPUs"), DbusValue::bytes(std::string("\3\2", 2)));
  EXPECT_EQ(*property(v2, "TasksMax"), DbusValue::uint64(UINT64_MAX));
  EXPECT_EQ(property(v2, "IOReadBandwidthMax")->items[0].items[0].text, "/dev/block/8:0");
  const auto v1 = detail::plan_systemd_limits(limits, CgroupMode::hybrid);
  EXPECT_EQ(*property(v1, "MemoryLimit"), DbusValue::uint64(1000));
  EXPECT_EQ(*property(v1, "CPUShares"), DbusValue::uint64(1024));
  EXPECT_EQ(property(v1, "AllowedCPUs"), nullptr);
}

TEST(SystemdCgroup, device_rules_that_systemd_cannot_say_are_left_to_our_filter) {
  CgroupLimits limits;
  limits.devices = {{.allow = false},
                    {.allow = true, .type = 'c', .major = 1, .minor = 3, .access = "rw"},
                    {.allow = true, .type = 'c', .major = 136},
                    {.allow = true, .type = 'b', .access = "m"}};
  const auto said = detail::plan_systemd_limits(limits, CgroupMode::unified);
  EXPECT_EQ(property(said, "DevicePolicy")->text, "strict");
  const DbusValue& lines = *property(said, "DeviceAllow");
  ASSERT_EQ(lines.items.size(), 3U);
  EXPECT_EQ(lines.items[0].items[0].text, "/dev/char/1:3");
  EXPECT_EQ(lines.items[1].items[0].text, "char-136");
  EXPECT_EQ(lines.items[2].items[0].text, "block-*");
  limits.devices.push_back({.allow = false, .type = 'c', .major = 1, .minor = 3});
  const auto unsaid = detail::plan_systemd_limits(limits, CgroupMode::unified);
  EXPECT_EQ(property(unsaid, "DevicePolicy")->text, "auto");
  EXPECT_TRUE(property(unsaid, "DeviceAllow")->items.empty());
}

TEST(SystemdCgroup, annotations_are_properties) {
  const auto parsed =
      must(detail::parse_systemd_properties({{"TimeoutStopSec", "3"}, {"CollectMode", "'inactive'"}, {"RuntimeMaxUSec", "uint64 5"}}));
  EXPECT_EQ(*property(parsed, "TimeoutStopUSec"), DbusValue::uint64(3'000'000));
  EXPECT_EQ(*property(parsed, "CollectMode"), DbusValue::string("inactive"));
  EXPECT_EQ(*property(parsed, "RuntimeMaxUSec"), DbusValue::uint64(5));
  EXPECT_EQ(detail::parse_systemd_properties({{"A-b", "1"}}).error().kind(), ErrorKind::invalid);
  EXPECT_EQ(detail::parse_systemd_properties({{"Abc", "nonsense"}}).error().kind(), ErrorKind::invalid);
  EXPECT_EQ(detail::parse_systemd_properties({{"XSec", "'3'"}}).error().kind(), ErrorKind::invalid);
}

}  // namespace
}  // namespace caisson::linux
