// Tests of the embedded DNS server: a "host" and a "container" in network namespaces of their own, joined by a veth, with upstream servers
// that answer as each test tells them.
#include "network/dns_server.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/fault.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"
#include "network/dns_message.hpp"
#include "network/netns_testing.hpp"

namespace caisson::network {
namespace {

using namespace testing_support;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

/// Names that a test changes while they are served.
class FakeNames : public NameSource {
 public:
  NameAddresses addresses_of(const std::string& container_id, std::string_view name) override {
    const std::lock_guard lock(mutex_);
    ++asked_;
    auto found = names_.find({container_id, std::string(name)});
    return found == names_.end() ? NameAddresses{} : found->second;
  }
  std::string name_of(const std::string& container_id, const IpAddress& address) override {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, addresses] : names_)
      for (auto ipv4 : addresses.ipv4)
        if (key.first == container_id && address == IpAddress(ipv4)) return key.second + ".n1";
    return {};
  }
  void set(const std::string& container_id, const std::string& name, NameAddresses addresses) {
    const std::lock_guard lock(mutex_);
    if (addresses.empty()) names_.erase({container_id, name});
    else names_[{container_id, name}] = std::move(addresses);
  }
  void set(const std::string& container_id, const std::string& name, const std::string& address) {
    NameAddresses addresses;
    addresses.ipv4.push_back(linux::parse_ipv4(address).value_or(linux::Ipv4{}));
    set(container_id, name, addresses);
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, NameAddresses> names_;
  int asked_ = 0;
};

constexpr std::uint16_t type_a = 1;
constexpr std::uint16_t type_mx = 15;
constexpr std::uint16_t type_ptr = 12;
constexpr std::uint16_t type_aaaa = 28;

void append16(std::string& out, std::uint16_t value) {
  out += static_cast<char>(value >> 8);
  out += static_cast<char>(value & 0xff);
}

std::string question(const std::string& name, std::uint16_t type, std::uint16_t id = 0x4242) {
  std::string out;
  for (std::uint16_t field : {id, std::uint16_t{0x0100}, std::uint16_t{1}, std::uint16_t{0}, std::uint16_t{0}, std::uint16_t{0}}) append16(out, field);
  if (!name.empty())
    for (auto label : split(name, '.')) {
      out += static_cast<char>(label.size());
      out += label;
    }
  out += '\0';
  append16(out, type);
  append16(out, 1);
  return out;
}

/// "NOERROR 10.77.0.2 10.77.0.3", "NXDOMAIN", "SERVFAIL", "NOERROR cut", "" for no answer, and what is wrong with a wrong one.
std::string describe(const std::string& asked, const std::string& answer) {
  if (answer.empty()) return "";
  auto query = parse_dns_query(asked);
  if (!query) return "the test's own question is broken";
  auto response = check_dns_response(answer, *query, query->id);
  if (!response) return response.error().text();
  static const char* codes[] = {"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"};
  std::string text = codes[static_cast<std::size_t>(response->code) % 6];
  if (response->is_truncated) return text + " cut";
  std::size_t at = dns_header_size + query->question.size();
  while (at + 16 <= answer.size() && answer.compare(at, 2, "\xc0\x0c") == 0) {  // our own answers and those of FakeUpstream
    const auto number = [&](std::size_t place) { return static_cast<std::uint32_t>(static_cast<unsigned char>(answer[place])); };
    const std::size_t length = number(at + 10) << 8U | number(at + 11);
    if (number(at + 3) == type_a) text += concat(' ', number(at + 12), '.', number(at + 13), '.', number(at + 14), '.', number(at + 15));
    if (number(at + 3) == type_aaaa) text += " v6";
    if (number(at + 3) == type_ptr) text += concat(" ", answer.substr(at + 13, number(at + 12)));
    at += 12 + length;
  }
  return text;
}

std::string recv_some(int fd, int patience_ms) {
  pollfd entry{fd, POLLIN, 0};
  if (::poll(&entry, 1, patience_ms) != 1) return {};
  std::string buffer(65535, '\0');
  const ssize_t size = ::recv(fd, buffer.data(), buffer.size(), 0);
  return size <= 0 ? std::string() : buffer.substr(0, static_cast<std::size_t>(size));
}

std::string recv_exactly(int fd, std::size_t size, int patience_ms) {
  std::string out;
  while (out.size() < size) {
    pollfd entry{fd, POLLIN, 0};
    if (::poll(&entry, 1, patience_ms) != 1) return {};
    std::string buffer(size - out.size(), '\0');
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) return {};
    out.append(buffer, 0, static_cast<std::size_t>(got));
  }
  return out;
}

std::string framed(const std::string& message) {
  std::string out;
  append_framed(out, message);
  return out;
}

std::string recv_framed(int fd, int patience_ms) {
  const std::string length = recv_exactly(fd, 2, patience_ms);
  if (length.empty()) return {};
  return recv_exactly(fd, static_cast<std::size_t>(static_cast<unsigned char>(length[0])) << 8U | static_cast<std::size_t>(static_cast<unsigned char>(length[1])), patience_ms);
}

constexpr int patience_ms = 15000;  // longer than the server's own

UniqueFd connected(int type, const std::string& address = "127.0.0.11", std::uint16_t port = 53) {
  UniqueFd socket(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
  auto where = linux::SocketAddress::parse(address, port);
  if (!where || !linux::connect(socket.get(), *where)) socket.reset();
  return socket;
}

/// Asks 127.0.0.11 from within a namespace.
std::string ask(int netns_fd, const std::string& name, std::uint16_t type = type_a, int patience = patience_ms) {
  return inside(netns_fd, [&]() -> std::string {
    UniqueFd socket = connected(SOCK_DGRAM);
    const std::string message = question(name, type);
    if (!socket || !linux::send(socket.get(), message)) return "refused";
    return describe(message, recv_some(socket.get(), patience));
  });
}
std::string ask_tcp(int netns_fd, const std::string& name, std::uint16_t type = type_a) {
  return inside(netns_fd, [&]() -> std::string {
    UniqueFd socket = connected(SOCK_STREAM);
    const std::string message = question(name, type);
    if (!socket || !linux::send_all(socket.get(), framed(message))) return "refused";
    return describe(message, recv_framed(socket.get(), patience_ms));
  });
}

/// A server on port 53 of an address in a namespace, by UDP and TCP. `answer` gets each question and returns the bytes of the answer, none for silence.
class FakeUpstream {
 public:
  using Answer = std::function<std::string(const std::string& message)>;
  FakeUpstream(int netns_fd, const std::string& address, Answer answer) : answer_(std::move(answer)) {
    std::thread([&] {
      auto where = linux::SocketAddress::parse(address, 53);
      if (::setns(netns_fd, CLONE_NEWNET) != 0 || !where) return;
      udp_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      tcp_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      ignore(linux::setsockopt(tcp_.get(), SOL_SOCKET, SO_REUSEADDR, 1));
      ok_ = linux::bind(udp_.get(), *where).ok() && linux::bind(tcp_.get(), *where).ok() && linux::listen(tcp_.get()).ok();
    }).join();
    worker_ = std::thread([this] { serve(); });
  }
  FakeUpstream(const FakeUpstream&) = delete;
  FakeUpstream& operator=(const FakeUpstream&) = delete;
  ~FakeUpstream() {
    stop_ = true;
    worker_.join();
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] int asked() const { return asked_; }

  /// An answer with this address.
  static std::string address(const std::string& message, const std::string& text) {
    auto query = parse_dns_query(message);
    NameAddresses addresses;
    addresses.ipv4.push_back(linux::parse_ipv4(text).value_or(linux::Ipv4{}));
    return query ? dns_address_answer(*query, addresses, 512) : std::string();
  }
  static std::string code(const std::string& message, DnsCode value) {
    auto query = parse_dns_query(message);
    return query ? dns_empty_answer(*query, value) : std::string();
  }

 private:
  void serve() {
    while (!stop_) {
      pollfd entries[] = {{udp_.get(), POLLIN, 0}, {tcp_.get(), POLLIN, 0}};
      if (::poll(entries, 2, 20) <= 0) continue;
      if (entries[0].revents != 0) serve_udp();
      if (entries[1].revents != 0) serve_tcp();
    }
  }
  void serve_udp() {
    std::string buffer(65535, '\0');
    auto got = linux::receive_datagram(udp_.get(), buffer);
    if (!got || !*got) return;
    ++asked_;
    const std::string answer = answer_(buffer.substr(0, (*got)->size));
    if (!answer.empty()) ignore(linux::send_datagram(udp_.get(), answer, (*got)->from));
  }
  void serve_tcp() {
    auto client = linux::accept4(tcp_.get());
    if (!client) return;
    const std::string message = recv_framed(client->get(), 1000);
    ++asked_;
    const std::string answer = message.empty() ? "" : answer_(message);
    if (!answer.empty()) ignore(linux::send_all(client->get(), framed(answer)));
  }
  Answer answer_;
  UniqueFd udp_;
  UniqueFd tcp_;
  bool ok_ = false;
  std::atomic<int> asked_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread worker_;
};

class DnsServerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: network namespaces";
    original_.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    host_ = new_netns();
    container_ = new_netns();
    ASSERT_EQ(::setns(host_.get(), CLONE_NEWNET), 0);
    ASSERT_TRUE(connect_by_veth("inner", container_.get()).ok());
    ASSERT_EQ(run("ip link set lo up && ip addr add 10.99.0.1/24 dev inner && ip addr add 10.99.0.3/24 dev inner"), 0);
    ASSERT_TRUE(inside(container_.get(), [] { return run("ip link set lo up && ip addr add 10.99.0.2/24 dev eth0 && ip link set eth0 up") == 0; }));
    open_server();
  }
  void TearDown() override {
    server_.reset();
    if (original_) {
      ASSERT_EQ(::setns(original_.get(), CLONE_NEWNET), 0);
    }
  }
  void open_server() {
    server_.reset();
    auto server = DnsServer::create(names_);
    ASSERT_TRUE(server.ok()) << server.error().text();
    server_ = std::move(*server);
  }
  static DnsConfig upstream(const std::vector<std::string>& addresses) {
    DnsConfig config;
    auto parsed = container_upstreams(addresses);
    EXPECT_TRUE(parsed.ok());
    config.upstreams = std::move(parsed).value_or({});
    return config;
  }
  void serve(const DnsConfig& config = {}) {
    Status served = server_->serve("c1", container_.get(), config);
    ASSERT_TRUE(served.ok()) << served.error().text();
  }

  UniqueFd original_;
  UniqueFd host_;
  UniqueFd container_;
  FakeNames names_;
  std::unique_ptr<DnsServer> server_;
};

TEST_F(DnsServerTest, names_of_the_containers_networks_are_answered_by_udp_and_tcp) {
  names_.set("c1", "web", "10.99.0.7");
  serve();
  EXPECT_EQ(ask(container_.get(), "web"), "NOERROR 10.99.0.7");
  EXPECT_EQ(ask(container_.get(), "WEB"), "NOERROR 10.99.0.7");
  EXPECT_EQ(ask_tcp(container_.get(), "web"), "NOERROR 10.99.0.7");
  EXPECT_EQ(ask(container_.get(), "web", type_aaaa), "NOERROR") << "the name exists, without an IPv6 address";
  EXPECT_EQ(ask(container_.get(), "web", type_mx), "NOERROR") << "an upstream would say that there is no such name";
  EXPECT_EQ(ask(container_.get(), "7.0.99.10.in-addr.arpa", type_ptr), "NOERROR web");
  EXPECT_EQ(ask(container_.get(), "other"), "SERVFAIL") << "nobody to ask";
}

TEST_F(DnsServerTest, a_resolver_of_a_real_container_is_answered) {
  if (run("command -v busybox") != 0) GTEST_SKIP() << "needs busybox";
  names_.set("c1", "web", "10.99.0.7");
  serve();
  const std::string seen = inside(container_.get(), [] { return output_of("busybox nslookup -type=a web 127.0.0.11"); });
  EXPECT_THAT(seen, HasSubstr("Address: 10.99.0.7"));
}

TEST_F(DnsServerTest, all_addresses_of_an_alias_are_answered_and_each_comes_first_sometimes) {
  NameAddresses three;
  for (std::uint32_t last : {7U, 8U, 9U}) three.ipv4.push_back(linux::Ipv4{0x0a630000 + last});
  names_.set("c1", "db", three);
  serve();
  std::set<std::string> orders;
  for (int i = 0; i < 200 && orders.size() < 6; ++i) orders.insert(ask(container_.get(), "db"));
  EXPECT_EQ(orders.size(), 6U);
  for (const auto& order : orders)
    for (const char* address : {"10.99.0.7", "10.99.0.8", "10.99.0.9"}) EXPECT_THAT(order, HasSubstr(address));
}

TEST_F(DnsServerTest, other_names_are_asked_upstream_from_the_containers_own_network) {
  FakeUpstream server(host_.get(), "10.99.0.1", [](const std::string& message) { return FakeUpstream::address(message, "192.0.2.1"); });
  ASSERT_TRUE(server.ok());
  serve(upstream({"10.99.0.1"}));
  EXPECT_EQ(ask(container_.get(), "example.org"), "NOERROR 192.0.2.1");
  EXPECT_EQ(ask(container_.get(), "single"), "NOERROR 192.0.2.1");
  EXPECT_EQ(ask_tcp(container_.get(), "example.org"), "NOERROR 192.0.2.1");
  EXPECT_EQ(ask(container_.get(), "9.9.9.9.in-addr.arpa", type_ptr), "NOERROR");
  EXPECT_EQ(server.asked(), 4);
}

TEST_F(DnsServerTest, a_server_on_the_hosts_loopback_is_asked_from_the_host_and_the_containers_own_loopback_is_not) {
  FakeUpstream on_host(host_.get(), "127.0.0.53", [](const std::string& message) { return FakeUpstream::address(message, "192.0.2.1"); });
  FakeUpstream in_container(container_.get(), "127.0.0.53", [](const std::string& message) { return FakeUpstream::address(message, "192.0.2.2"); });
  ASSERT_TRUE(on_host.ok() && in_container.ok());
  DnsConfig config;
  config.upstreams = host_upstreams("nameserver 127.0.0.53\n");
  serve(config);
  EXPECT_EQ(ask(container_.get(), "example.org"), "NOERROR 192.0.2.1");
  ASSERT_TRUE(server_->update("c1", upstream({"127.0.0.53"})).ok());
  EXPECT_EQ(ask(container_.get(), "example.org"), "NOERROR 192.0.2.2");
}

TEST_F(DnsServerTest, an_internal_container_gets_no_way_out) {
  FakeUpstream on_host(host_.get(), "127.0.0.53", [](const std::string& message) { return FakeUpstream::address(message, "192.0.2.1"); });
  names_.set("c1", "web", "10.99.0.7");
  DnsConfig config;
  config.upstreams = host_upstreams("nameserver 127.0.0.53\n");
  config.forwards = false;
  serve(config);
  EXPECT_EQ(ask(container_.get(), "example.org"), "SERVFAIL");
  EXPECT_EQ(ask(container_.get(), "web"), "NOERROR 10.99.0.7");
  EXPECT_EQ(on_host.asked(), 0);
}

TEST_F(DnsServerTest, with_ndots_a_single_label_is_left_to_the_search_domains) {
  FakeUpstream server(host_.get(), "10.99.0.1", [](const std::string& message) { return FakeUpstream::code(message, DnsCode::name_error); });
  DnsConfig config = upstream({"10.99.0.1"});
  config.keeps_single_labels = true;
  serve(config);
  EXPECT_EQ(ask(container_.get(), "single"), "NOERROR");
  EXPECT_EQ(ask(container_.get(), "single", type_aaaa), "NOERROR");
  EXPECT_EQ(server.asked(), 0);
  EXPECT_EQ(ask(container_.get(), "single", type_mx), "NXDOMAIN");
  EXPECT_EQ(ask(container_.get(), "a.b"), "NXDOMAIN");
}

TEST_F(DnsServerTest, a_server_that_fails_or_is_silent_is_followed_by_the_next) {
  FakeUpstream failing(host_.get(), "10.99.0.1", [](const std::string& message) {
    return message.find("silent") != std::string::npos ? std::string() : FakeUpstream::code(message, DnsCode::server_failure);
  });
  FakeUpstream good(host_.get(), "10.99.0.3", [](const std::string& message) { return FakeUpstream::address(message, "192.0.2.3"); });
  ASSERT_TRUE(failing.ok() && good.ok());
  serve(upstream({"10.99.0.1", "10.99.0.3"}));
  EXPECT_EQ(ask(container_.get(), "fails"), "NOERROR 192.0.2.3");
  EXPECT_EQ(ask(container_.get(), "silent"), "NOERROR 192.0.2.3");
  ASSERT_TRUE(server_->update("c1", upstream({"10.99.0.4", "10.99.0.3"})).ok());
  EXPECT_EQ(ask(container_.get(), "fails"), "NOERROR 192.0.2.3") << "10.99.0.4 is nobody";
  ASSERT_TRUE(server_->update("c1", upstream({"10.99.0.2"})).ok());
  EXPECT_EQ(ask(container_.get(), "refused"), "SERVFAIL") << "nobody listens there";
}

TEST_F(DnsServerTest, forged_answers_are_ignored) {
  FakeUpstream server(host_.get(), "10.99.0.1", [](const std::string& message) {
    std::string answer = FakeUpstream::address(message, "6.6.6.6");
    if (message.find("id") != std::string::npos) answer[0] = static_cast<char>(answer[0] ^ 1);
    if (message.find("question") != std::string::npos) answer[13] = static_cast<char>(answer[13] ^ 1);
    return answer;
  });
  FakeUpstream good(host_.get(), "10.99.0.3", [](const std::string& message) { return FakeUpstream::address(message, "192.0.2.3"); });
  serve(upstream({"10.99.0.1", "10.99.0.3"}));
  EXPECT_EQ(ask(container_.get(), "id"), "NOERROR 192.0.2.3");
  EXPECT_EQ(ask(container_.get(), "question"), "NOERROR 192.0.2.3");
}

TEST_F(DnsServerTest, an_answer_that_was_cut_is_asked_again_by_tcp) {
  FakeUpstream server(host_.get(), "10.99.0.1", [](const std::string& message) {
    auto query = parse_dns_query(message);
    NameAddresses many;
    for (std::uint32_t i = 0; i < 100; ++i) many.ipv4.push_back(linux::Ipv4{0xc0000200 + i});
    if (message.find("large") != std::string::npos) return dns_address_answer(*query, many, 65535);  // larger than the client takes
    return dns_address_answer(*query, many, 512);
  });
  serve(upstream({"10.99.0.1"}));
  EXPECT_EQ(ask(container_.get(), "cut"), "NOERROR cut");
  EXPECT_EQ(ask(container_.get(), "large"), "NOERROR cut");
  EXPECT_THAT(ask_tcp(container_.get(), "large"), HasSubstr("192.0.2.99"));
}

TEST_F(DnsServerTest, several_questions_on_one_connection_are_answered_also_when_the_client_sends_no_more) {
  FakeUpstream server(host_.get(), "10.99.0.1", [](const std::string& message) { return FakeUpstream::address(message, "192.0.2.1"); });
  names_.set("c1", "web", "10.99.0.7");
  serve(upstream({"10.99.0.1"}));
  std::vector<std::string> answers = inside(container_.get(), []() -> std::vector<std::string> {
    UniqueFd socket = connected(SOCK_STREAM);
    std::string all;
    for (int i = 0; i < 40; ++i) all += framed(question(i % 2 == 0 ? "web" : "example.org", type_a, static_cast<std::uint16_t>(i)));
    if (!socket || !linux::send_all(socket.get(), all) || !linux::shutdown(socket.get(), SHUT_WR)) return {};
    std::vector<std::string> got;
    while (true) {
      const std::string answer = recv_framed(socket.get(), patience_ms);
      if (answer.empty()) return got;
      const int id = static_cast<unsigned char>(answer[1]);
      got.push_back(describe(question(id % 2 == 0 ? "web" : "example.org", type_a, static_cast<std::uint16_t>(id)), answer));
    }
  });
  EXPECT_EQ(answers.size(), 40U);
  EXPECT_EQ(std::count(answers.begin(), answers.end(), "NOERROR 10.99.0.7"), 20);
  EXPECT_EQ(std::count(answers.begin(), answers.end(), "NOERROR 192.0.2.1"), 20);
}

TEST_F(DnsServerTest, broken_questions_are_refused_and_answers_are_not_answered) {
  names_.set("c1", "web", "10.99.0.7");
  serve();
  const std::string seen = inside(container_.get(), []() -> std::string {
    UniqueFd socket = connected(SOCK_DGRAM);
    std::string codes;
    for (const std::string& message : {std::string("\x11\x11\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00", 12),      // two questions promised
                                       std::string("\x22\x22\x28\x00\x00\x01\x00\x00\x00\x00\x00\x00", 12),      // an update
                                       std::string("\x33\x33\x81\x80\x00\x00\x00\x00\x00\x00\x00\x00", 12),      // an answer
                                       std::string("\x44"), question("web", type_a)}) {
      if (!linux::send(socket.get(), message)) return "send failed";
    }
    for (int i = 0; i < 3; ++i) {
      const std::string answer = recv_some(socket.get(), patience_ms);
      if (answer.size() < dns_header_size) return codes + "nothing";
      codes += concat(static_cast<int>(static_cast<unsigned char>(answer[0])), ":", static_cast<int>(answer[3]) & 0xf, " ");
    }
    return codes;
  });
  EXPECT_EQ(seen, "17:1 34:4 66:0 ");
}

TEST_F(DnsServerTest, a_dns_server_of_the_container_on_every_address_works_beside) {
  names_.set("c1", "web", "10.99.0.7");
  FakeUpstream before(container_.get(), "0.0.0.0", [](const std::string& message) { return FakeUpstream::address(message, "192.0.2.9"); });
  ASSERT_TRUE(before.ok());
  serve(upstream({"10.99.0.2"}));
  EXPECT_EQ(ask(container_.get(), "web"), "NOERROR 10.99.0.7");
  EXPECT_EQ(ask(container_.get(), "other"), "NOERROR 192.0.2.9") << "asked by way of eth0's address";
  const std::string direct = inside(host_.get(), []() -> std::string {
    UniqueFd socket = connected(SOCK_DGRAM, "10.99.0.2");
    const std::string message = question("web", type_a);
    if (!socket || !linux::send(socket.get(), message)) return "refused";
    return describe(message, recv_some(socket.get(), patience_ms));
  });
  EXPECT_EQ(direct, "NOERROR 192.0.2.9") << "its own clients reach it on port 53";
}

TEST_F(DnsServerTest, a_firewall_with_connection_tracking_in_the_container_sees_one_flow) {
  names_.set("c1", "web", "10.99.0.7");
  serve();
  const int loaded = inside(container_.get(), [] {
    return run("nft -f - <<'END'\ntable ip own { chain in { type filter hook input priority 0; policy drop; ct state established accept; ip daddr 127.0.0.11 accept\n}\n}\nEND\n");
  });
  ASSERT_EQ(loaded, 0);
  EXPECT_EQ(ask(container_.get(), "web"), "NOERROR 10.99.0.7");
  EXPECT_EQ(ask_tcp(container_.get(), "web"), "NOERROR 10.99.0.7");
}

TEST_F(DnsServerTest, a_new_server_takes_over_a_namespace_even_for_a_client_that_keeps_its_socket) {
  names_.set("c1", "web", "10.99.0.7");
  serve();
  UniqueFd client = inside(container_.get(), [] { return connected(SOCK_DGRAM); });
  const std::string message = question("web", type_a);
  auto ask_again = [&](int patience) {
    EXPECT_TRUE(linux::send(client.get(), message).ok());
    return describe(message, recv_some(client.get(), patience));
  };
  EXPECT_EQ(ask_again(patience_ms), "NOERROR 10.99.0.7");
  server_.reset();  // the sockets die, the rules stay
  EXPECT_EQ(ask_tcp(container_.get(), "web"), "refused");
  open_server();
  names_.set("c1", "web", "10.99.0.8");
  serve();
  EXPECT_EQ(ask_again(patience_ms), "NOERROR 10.99.0.8");
  EXPECT_EQ(ask_tcp(container_.get(), "web"), "NOERROR 10.99.0.8");
  const std::string rules = inside(container_.get(), [] { return output_of("nft list ruleset"); });
  EXPECT_EQ(rules.find("udp dport 53"), rules.rfind("udp dport 53")) << rules;
}

TEST_F(DnsServerTest, a_container_that_is_forgotten_is_let_go_with_its_namespace) {
  serve(upstream({"10.99.0.3"}));
  FakeUpstream silent(host_.get(), "10.99.0.3", [](const std::string&) { return std::string(); });
  inside(container_.get(), [] {
    UniqueFd socket = connected(SOCK_DGRAM);
    return linux::send(socket.get(), question("pending.example", type_a)).ok();
  });
  const std::int64_t until = monotonic_ns() + 10'000'000'000;
  while (silent.asked() == 0 && monotonic_ns() < until) std::this_thread::yield();
  ASSERT_TRUE(server_->forget("c1").ok());
  ASSERT_TRUE(server_->forget("c1").ok()) << "safe to repeat";
  container_.reset();
  // The veth's other end goes when nothing holds the namespace any more: no socket, and not the thread that made them.
  while (run("ip link show inner >/dev/null 2>&1") == 0 && monotonic_ns() < until) std::this_thread::yield();
  EXPECT_NE(run("ip link show inner >/dev/null 2>&1"), 0);
}

TEST_F(DnsServerTest, a_namespace_whose_loopback_is_down_is_served_all_the_same) {
  UniqueFd bare = new_netns();
  UniqueFd used = new_netns();
  ASSERT_EQ(inside(used.get(), [] { return run("ip link set lo up && ip link set lo down"); }), 0) << "the kernel judges this one otherwise";
  for (const auto* netns : {&bare, &used}) {
    names_.set("c2", "web", "10.99.0.7");
    Status served = server_->serve("c2", netns->get(), {});
    ASSERT_TRUE(served.ok()) << served.error().text();
    EXPECT_EQ(ask(netns->get(), "web"), "NOERROR 10.99.0.7");
  }
}

TEST_F(DnsServerTest, a_failure_at_any_step_of_serving_is_told_and_leaves_the_next_try_free) {
  names_.set("c1", "web", "10.99.0.7");
  for (const char* call : {"setns", "socket", "bind", "listen", "netlink_socket", "netlink_send", "netlink_receive", "epoll_ctl", "dup"}) {
    linux::ScopedFault fault(call, ENOMEM, 1);
    Status served = server_->serve("c1", container_.get(), {});
    EXPECT_FALSE(served.ok()) << call;
  }
  serve();
  EXPECT_EQ(ask(container_.get(), "web"), "NOERROR 10.99.0.7");
}

TEST_F(DnsServerTest, a_flood_by_one_container_does_not_hold_another_up) {
  FakeUpstream silent(host_.get(), "10.99.0.1", [](const std::string&) { return std::string(); });
  UniqueFd other = new_netns();
  ASSERT_EQ(inside(other.get(), [] { return run("ip link set lo up"); }), 0);
  names_.set("c2", "web", "10.99.0.7");
  serve(upstream({"10.99.0.1"}));
  ASSERT_TRUE(server_->serve("c2", other.get(), {}).ok());
  std::atomic<bool> stop = false;
  std::atomic<int> sent = 0;
  std::thread flood([&] {
    if (::setns(container_.get(), CLONE_NEWNET) != 0) return;
    UniqueFd socket = connected(SOCK_DGRAM);
    const std::string message = question("never.example", type_a);
    while (!stop) {
      ignore(linux::send(socket.get(), message, MSG_DONTWAIT));
      ++sent;
    }
  });
  while (sent < 10000) std::this_thread::yield();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(ask(other.get(), "web"), "NOERROR 10.99.0.7");
  stop = true;
  flood.join();
  EXPECT_LE(silent.asked(), 128) << "questions out at once are bounded";
}

TEST_F(DnsServerTest, a_thousand_random_changes_of_names_are_each_seen_by_the_next_question) {
  serve();
  const unsigned seed = static_cast<unsigned>(monotonic_ns());
  SCOPED_TRACE(concat("seed ", seed));
  std::minstd_rand random(seed);
  std::map<std::string, std::string> expected;
  inside(container_.get(), [&] {
    UniqueFd socket = connected(SOCK_DGRAM);
    for (int change = 0; change < 1000; ++change) {
      const std::string name = concat("name", random() % 20);
      const std::string address = random() % 3 == 0 ? "" : concat("10.99.", random() % 256, ".", random() % 256);
      if (address.empty()) names_.set("c1", name, NameAddresses{});
      else names_.set("c1", name, address);
      expected[name] = address.empty() ? "SERVFAIL" : "NOERROR " + address;
      for (const std::string& asked : {name, concat("name", random() % 20)}) {
        const std::string message = question(asked, type_a, static_cast<std::uint16_t>(change));
        if (!linux::send(socket.get(), message)) ADD_FAILURE() << "send";
        const std::string wanted = expected.contains(asked) ? expected[asked] : "SERVFAIL";
        EXPECT_EQ(describe(message, recv_some(socket.get(), patience_ms)), wanted) << asked;
      }
    }
    return 0;
  });
}

TEST_F(DnsServerTest, servers_come_and_go_while_questions_are_asked) {
  names_.set("c1", "web", "10.99.0.7");
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0;
  std::thread client([&] {
    while (!stop) {
      const std::string answer = ask(container_.get(), "web", type_a, 50);
      if (answer != "NOERROR 10.99.0.7" && !answer.empty() && answer != "refused") ++wrong;
    }
  });
  for (int i = 0; i < 30; ++i) {
    serve();
    if (i % 3 == 0) open_server();
    if (i % 3 == 1) ignore(server_->forget("c1"));
  }
  stop = true;
  client.join();
  EXPECT_EQ(wrong, 0);
  serve();
  EXPECT_EQ(ask(container_.get(), "web"), "NOERROR 10.99.0.7");
}

}  // namespace
}  // namespace caisson::network
