// Server and client against each other and against hand-written bytes, over real sockets.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <latch>
#include <thread>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/stream_socket.hpp"
#include "wire/http_client.hpp"
#include "wire/http_server.hpp"

namespace caisson::wire {
namespace {

/// A server in a thread, on a socket in a folder of its own.
class RunningServer {
 public:
  explicit RunningServer(Handler handler, ServerOptions options = {}) {
    char name[] = "/tmp/caisson-test-wire-XXXXXX";
    if (mkdtemp(name) == nullptr) std::abort();
    folder_ = name;
    server_ = create_server(std::move(handler), options);
    auto listener = listen_unix(path(), 0600, std::nullopt);
    if (!listener.ok()) std::abort();
    if (!server_->add_listener(std::move(*listener)).ok()) std::abort();
    thread_ = std::thread([this] { outcome_ = server_->run(); });
  }
  ~RunningServer() {
    server_->stop(2000);
    thread_.join();
    EXPECT_TRUE(outcome_.ok());
    server_.reset();
    ignore(linux::unlink(path()));
    ignore(linux::rmdir(folder_));
  }
  [[nodiscard]] std::string path() const { return folder_ + "/s.sock"; }
  Server& server() { return *server_; }
  std::unique_ptr<Client> client() { return std::move(*connect("unix://" + path(), 5000)); }
  UniqueFd raw() { return std::move(*linux::connect_unix_socket(path(), 5000)); }

 private:
  std::string folder_;
  std::unique_ptr<Server> server_;
  std::thread thread_;
  Status outcome_;
};

void send_text(const UniqueFd& fd, std::string_view text) { ASSERT_TRUE(linux::write_all(fd.get(), text).ok()); }

/// Everything until the end of the stream.
std::string read_to_end(const UniqueFd& fd) {
  std::string all;
  char buffer[4096];
  for (;;) {
    auto got = linux::receive_now(fd.get(), buffer);
    if (!got.ok()) return all;
    if (!*got) {
      if (!linux::wait_readable(fd.get(), 10'000).value_or(false)) return all + "<timeout>";
      continue;
    }
    if (**got == 0) return all;
    all.append(buffer, **got);
  }
}

/// Reads until `mark` was seen.
std::string read_until(const UniqueFd& fd, std::string_view mark) {
  std::string all;
  char byte[1];
  while (all.find(mark) == std::string::npos) {
    auto got = linux::receive_now(fd.get(), byte);
    if (!got.ok() || (*got && **got == 0)) return all + "<end>";
    if (!*got) {
      if (!linux::wait_readable(fd.get(), 10'000).value_or(false)) return all + "<timeout>";
      continue;
    }
    all += byte[0];
  }
  return all;
}

void echo(Exchange& exchange) {
  auto body = exchange.read_body(1 << 20);
  if (!body.ok()) {
    ignore(exchange.respond(400, {{"Content-Type", "text/plain"}}, body.error().text()));
    return;
  }
  ignore(exchange.respond(200, {{"X-Method", exchange.method()}, {"X-Query", exchange.query()}}, concat(exchange.path(), "|", *body)));
}

TEST(http, one_connection_serves_many_requests) {
  RunningServer server(echo);
  auto client = server.client();
  for (int i = 0; i < 50; ++i) {
    auto answer = client->send("POST", concat("/a/", i, "?x=1"), {}, concat("body", i));
    ASSERT_TRUE(answer.ok()) << answer.error().text();
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->header("x-query"), "x=1");
    EXPECT_EQ(*client->read_all(), concat("/a/", i, "|body", i));
  }
}

TEST(http, an_answer_left_unread_does_not_disturb_the_next_one) {
  RunningServer server(echo);
  auto client = server.client();
  ASSERT_TRUE(client->send("POST", "/first", {}, std::string(100'000, 'x')).ok());
  ASSERT_TRUE(client->send("GET", "/second", {}, "").ok());
  EXPECT_EQ(*client->read_all(), "/second|");
}

TEST(http, pipelined_requests_are_answered_in_order) {
  RunningServer server(echo);
  auto fd = server.raw();
  send_text(fd,
            "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
            "\r\nGET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  std::string all = read_to_end(fd);
  auto one = all.find("/1|abc");
  auto two = all.find("/2|");
  auto three = all.find("/3|");
  EXPECT_NE(one, std::string::npos) << all;
  EXPECT_LT(one, two);
  EXPECT_LT(two, three);
  EXPECT_NE(three, std::string::npos);
}

TEST(http, a_request_may_arrive_byte_by_byte) {
  RunningServer server(echo);
  auto fd = server.raw();
  for (char c : std::string_view("POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4;e=1\r\nwxyz\r\n1\r\n!\r\n0\r\nT: r\r\n\r\n"))
    send_text(fd, std::string_view(&c, 1));
  EXPECT_NE(read_to_end(fd).find("/slow|wxyz!"), std::string::npos);
}

std::string noise(std::size_t size) {
  std::string bytes;
  std::uint32_t state = 1;
  for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

TEST(http, a_streamed_request_body_arrives_whole) {
  std::string received;
  RunningServer server([&](Exchange& exchange) {
    for (;;) {
      auto piece = exchange.read_body_some();
      ASSERT_TRUE(piece.ok()) << piece.error().text();
      if (piece->empty()) break;
      received += *piece;
    }
    ignore(exchange.respond(200, {}, "got it"));
  });
  const std::string sent = noise(3'000'000);
  auto pipe = linux::pipe2();
  std::thread feeder([&] {
    EXPECT_TRUE(linux::write_all(pipe->write_end.get(), sent).ok());
    pipe->write_end.reset();
  });
  auto client = server.client();
  auto answer = client->send_stream("POST", "/load", {}, pipe->read_end.get());
  feeder.join();
  ASSERT_TRUE(answer.ok()) << answer.error().text();
  EXPECT_EQ(*client->read_all(), "got it");
  EXPECT_EQ(received, sent);
}

TEST(http, a_chunked_answer_arrives_whole_and_the_connection_lives_on) {
  const std::string sent = noise(3'000'000);
  RunningServer server([&](Exchange& exchange) {
    ASSERT_TRUE(exchange.begin(200, {{"Content-Type", "application/octet-stream"}}).ok());
    for (std::size_t at = 0; at < sent.size(); at += 70'001) ASSERT_TRUE(exchange.write(std::string_view(sent).substr(at, 70'001)).ok());
    ASSERT_TRUE(exchange.end().ok());
  });
  auto client = server.client();
  for (int round = 0; round < 2; ++round) {
    auto answer = client->send("GET", "/", {}, "");
    ASSERT_TRUE(answer.ok()) << answer.error().text();
    EXPECT_EQ(answer->header("transfer-encoding"), "chunked");
    EXPECT_TRUE(*client->read_all() == sent);
  }
}

TEST(http, the_head_of_a_stream_is_sent_before_its_first_byte) {
  std::latch release(1);
  RunningServer server([&](Exchange& exchange) {
    ASSERT_TRUE(exchange.begin(200, {}).ok());
    release.wait();
    ASSERT_TRUE(exchange.write("x").ok());
    ASSERT_TRUE(exchange.end().ok());
  });
  auto client = server.client();
  ASSERT_TRUE(client->send("POST", "/wait", {}, "").ok());  // returns before the handler goes on
  release.count_down();
  EXPECT_EQ(*client->read_all(), "x");
}

TEST(http, a_half_written_answer_is_not_taken_for_a_whole_one) {
  RunningServer server([](Exchange& exchange) {
    ASSERT_TRUE(exchange.begin(200, {}).ok());
    ASSERT_TRUE(exchange.write("half").ok());
  });
  auto client = server.client();
  ASSERT_TRUE(client->send("GET", "/", {}, "").ok());
  EXPECT_EQ(*client->read_some(), "half");
  EXPECT_FALSE(client->read_some().ok());
}

TEST(http, hijack_gives_the_socket_and_the_bytes_that_came_early) {
  RunningServer server([](Exchange& exchange) {
    EXPECT_EQ(*exchange.read_body(100), "{}");
    auto taken = exchange.hijack("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    ASSERT_TRUE(taken.ok());
    EXPECT_EQ(*linux::fcntl_get_flags(taken->socket.get()) & 04000, 0) << "must be blocking";
    std::string all = taken->pending + read_to_end(taken->socket);  // the client half-closes
    ASSERT_TRUE(linux::write_all(taken->socket.get(), concat("all: ", all)).ok());
  });
  auto fd = server.raw();
  send_text(fd, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n{}early");
  EXPECT_EQ(read_until(fd, "\r\n\r\n"), "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
  send_text(fd, " late");
  ASSERT_TRUE(linux::shutdown(fd.get(), SHUT_WR).ok());
  EXPECT_EQ(read_to_end(fd), "all: early late");
}

TEST(http, the_client_can_take_a_hijacked_stream_with_early_bytes) {
  RunningServer server([](Exchange& exchange) {
    auto taken = exchange.hijack("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello");
    ASSERT_TRUE(taken.ok());
    ASSERT_TRUE(linux::write_all(taken->socket.get(), read_to_end(taken->socket)).ok());
  });
  auto client = server.client();
  auto answer = client->send("POST", "/attach", {{"Connection", "Upgrade"}, {"Upgrade", "tcp"}}, "");
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->status, 101);
  auto stream = client->release();
  send_text(stream.socket, " world");
  ASSERT_TRUE(linux::shutdown(stream.socket.get(), SHUT_WR).ok());
  EXPECT_EQ(stream.pending + read_to_end(stream.socket), "hello world");
}

TEST(http, a_200_without_length_can_be_taken_as_a_stream_too) {
  RunningServer server([](Exchange& exchange) {
    auto taken = exchange.hijack("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n");
    ASSERT_TRUE(taken.ok());
    ASSERT_TRUE(linux::write_all(taken->socket.get(), "raw").ok());
  });
  auto client = server.client();
  ASSERT_TRUE(client->send("POST", "/attach", {}, "").ok());
  EXPECT_EQ(*client->read_all(), "raw");
}

TEST(http, slow_heads_are_cut_and_idle_connections_are_not) {
  ServerOptions options;
  options.header_timeout_ms = 100;
  RunningServer server(echo, options);
  auto idle = server.raw();
  auto slow = server.raw();
  send_text(slow, "GET / HTTP/1.1\r\nHos");
  std::string answer = read_to_end(slow);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 408 ")) << answer;
  send_text(idle, "GET /idle HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_NE(read_to_end(idle).find("/idle|"), std::string::npos);
}

TEST(http, oversized_heads_are_refused_however_they_arrive) {
  ServerOptions options;
  options.max_header_bytes = 8 << 10;
  RunningServer server(echo, options);
  const std::string lines = [] {
    std::string all;
    for (int i = 0; i < 200; ++i) all += concat("X-", i, ": ", std::string(100, 'x'), "\r\n");
    return all;
  }();
  {
    auto fd = server.raw();
    send_text(fd, "GET / HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n");
    std::string answer = read_to_end(fd);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 431 ")) << answer;
    EXPECT_NE(answer.find("{\"message\":\""), std::string::npos);
  }
  {
    auto fd = server.raw();
    send_text(fd, "GET / HTTP/1.1\r\nHost: x\r\n");
    std::string rest = lines;
    // One line at a time: no single read holds too much, only their sum does.
    while (!rest.empty()) {
      auto end = rest.find('\n') + 1;
      if (!linux::write_all(fd.get(), std::string_view(rest).substr(0, end)).ok()) break;
      rest.erase(0, end);
    }
    EXPECT_TRUE(read_to_end(fd).starts_with("HTTP/1.1 431 "));
  }
  {
    auto fd = server.raw();
    send_text(fd, "GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(read_to_end(fd).starts_with("HTTP/1.1 431 "));
  }
}

TEST(http, endless_chunk_headers_are_refused) {
  ServerOptions options;
  options.max_header_bytes = 8 << 10;
  RunningServer server(echo, options);
  auto fd = server.raw();
  send_text(fd, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4;" + std::string(100'000, 'e'));
  EXPECT_TRUE(read_to_end(fd).starts_with("HTTP/1.1 400 "));
}

TEST(http, malformed_requests_get_a_400_with_json) {
  RunningServer server(echo);
  for (std::string_view bad : {
           "\x16\x03\x01\x02 tls\r\n\r\n",
           "GET\r\n\r\n",
           "GET / HTTP/1.1\r\nHost x\r\n\r\n",
           "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
           "GET / HTTP/1.1\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
           "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
           "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       }) {
    auto fd = server.raw();
    send_text(fd, bad);
    std::string answer = read_to_end(fd);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 ")) << bad << "\n→ " << answer;
    EXPECT_NE(answer.find("{\"message\":\""), std::string::npos) << answer;
  }
  auto fd = server.raw();
  send_text(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  EXPECT_TRUE(read_to_end(fd).starts_with("HTTP/1.1 505 "));
}

TEST(http, broken_chunks_are_an_error_of_the_body) {
  RunningServer server(echo);
  for (std::string_view bad : {"zz\r\n", "4\r\nabcdXYZ\r\n", "FFFFFFFFFFFFFFFFF\r\n"}) {
    auto fd = server.raw();
    send_text(fd, concat("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", bad));
    std::string answer = read_to_end(fd);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 ")) << bad << "\n→ " << answer;
  }
}

TEST(http, bodies_beyond_the_limit_are_refused_with_and_without_a_length) {
  RunningServer server(echo);
  auto client = server.client();
  auto answer = client->send("POST", "/", {}, std::string((1 << 20) + 1, 'x'));
  ASSERT_TRUE(answer.ok()) << answer.error().text();
  EXPECT_EQ(answer->status, 400);
  EXPECT_NE(client->read_all()->find("too large"), std::string::npos);

  auto pipe = linux::pipe2();
  std::thread feeder([&] {
    EXPECT_TRUE(linux::write_all(pipe->write_end.get(), std::string(2 << 20, 'x')).ok());
    pipe->write_end.reset();
  });
  auto second = server.client();
  auto streamed = second->send_stream("POST", "/", {}, pipe->read_end.get());
  ASSERT_TRUE(streamed.ok()) << streamed.error().text();
  EXPECT_EQ(streamed->status, 400);
  pipe->read_end.reset();
  feeder.join();
}

TEST(http, expect_100_continue_is_answered_when_the_body_is_wanted) {
  RunningServer server(echo);
  auto fd = server.raw();
  send_text(fd, "POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(read_until(fd, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  send_text(fd, "body");
  EXPECT_NE(read_to_end(fd).find("/c|body"), std::string::npos);
}

TEST(http, expect_100_continue_is_not_answered_when_the_request_is_refused) {
  RunningServer server([](Exchange& exchange) { ignore(exchange.respond(403, {}, "no")); });
  auto fd = server.raw();
  send_text(fd, "POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
  std::string answer = read_to_end(fd);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 403 ")) << answer;
  EXPECT_NE(answer.find("Connection: close"), std::string::npos);
}

TEST(http, http_1_0_gets_no_chunks_and_a_closed_connection) {
  RunningServer server([](Exchange& exchange) {
    if (exchange.path() == "/stream") {
      ASSERT_TRUE(exchange.begin(200, {}).ok());
      ASSERT_TRUE(exchange.write("one").ok());
      ASSERT_TRUE(exchange.write("two").ok());
      ASSERT_TRUE(exchange.end().ok());
    } else {
      ignore(exchange.respond(200, {}, "whole"));
    }
  });
  auto stream = server.raw();
  send_text(stream, "GET /stream HTTP/1.0\r\n\r\n");
  std::string answer = read_to_end(stream);
  EXPECT_TRUE(answer.ends_with("\r\n\r\nonetwo")) << answer;
  EXPECT_EQ(answer.find("chunked"), std::string::npos);
  auto kept = server.raw();
  send_text(kept, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_NE(read_until(kept, "whole").find("Connection: keep-alive"), std::string::npos);
  send_text(kept, "GET / HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(read_to_end(kept).ends_with("whole"));
}

TEST(http, head_and_204_carry_no_body) {
  RunningServer server([](Exchange& exchange) {
    ignore(exchange.respond(exchange.path() == "/204" ? 204 : 200, {{"X-A", "b\r\nX-Evil: 1"}}, "OK"));
  });
  auto client = server.client();
  auto head = client->send("HEAD", "/_ping", {}, "");
  ASSERT_TRUE(head.ok());
  EXPECT_EQ(head->header("content-length"), "2");
  EXPECT_EQ(head->header("x-evil"), "") << "a line break in a value must not make a header";
  EXPECT_EQ(*client->read_all(), "");
  auto none = client->send("GET", "/204", {}, "");
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(none->header("content-length"), "");
  EXPECT_EQ(*client->read_all(), "");
  EXPECT_TRUE(client->send("GET", "/", {}, "").ok());
}

TEST(http, cancel_fires_when_the_client_leaves_and_not_for_bytes_behind_the_request) {
  std::latch left(1);
  std::atomic<bool> early = false;
  RunningServer server([&](Exchange& exchange) {
    const int fd = exchange.cancel().fd;
    early = linux::wait_readable(fd, 0).value_or(true);
    ASSERT_TRUE(exchange.begin(200, {}).ok());
    EXPECT_TRUE(linux::wait_readable(fd, 10'000).value_or(false));
    left.count_down();
  });
  auto fd = server.raw();
  send_text(fd, "GET /events HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
  read_until(fd, "\r\n\r\n");
  fd.reset();
  left.wait();
  EXPECT_FALSE(early);
}

TEST(http, a_client_gone_in_the_middle_is_an_error_for_reader_and_writer) {
  std::atomic<int> failures = 0;
  std::latch both(2);
  RunningServer server([&](Exchange& exchange) {
    if (exchange.path() == "/up") {
      if (!exchange.read_body(1000).ok()) ++failures;
    } else {
      Status wrote = exchange.begin(200, {});
      while (wrote.ok()) wrote = exchange.write(std::string(100'000, 'x'));
      ++failures;
    }
    both.count_down();
  });
  auto up = server.raw();
  send_text(up, "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
  up.reset();
  auto down = server.raw();
  send_text(down, "GET /down HTTP/1.1\r\nHost: x\r\n\r\n");
  read_until(down, "xxx");
  down.reset();
  both.wait();
  EXPECT_EQ(failures, 2);
}

TEST(http, two_hundred_connections_are_served_at_once) {
  constexpr int count = 200;
  std::latch all_in(count);
  RunningServer server([&](Exchange& exchange) {
    all_in.arrive_and_wait();  // passes only when all are in their handlers together
    echo(exchange);
  });
  std::vector<UniqueFd> clients;
  for (int i = 0; i < count; ++i) {
    clients.push_back(server.raw());
    send_text(clients.back(), concat("GET /", i, "! HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
  }
  for (int i = 0; i < count; ++i)
    EXPECT_NE(read_to_end(clients[static_cast<std::size_t>(i)]).find(concat("/", i, "!|")), std::string::npos);
}

TEST(http, requests_beyond_the_thread_limit_and_connections_beyond_theirs_get_503) {
  ServerOptions options;
  options.max_threads = 1;
  options.max_connections = 2;
  std::latch inside(1);
  std::latch release(1);
  RunningServer server(
      [&](Exchange& exchange) {
        inside.count_down();
        release.wait();
        ignore(exchange.respond(200, {}, "done"));
      },
      options);
  auto first = server.raw();
  send_text(first, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  inside.wait();
  auto second = server.raw();
  send_text(second, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(read_to_end(second).starts_with("HTTP/1.1 503 "));
  auto third = server.raw();
  auto fourth = server.raw();
  EXPECT_NE(read_to_end(fourth).find("too many connections"), std::string::npos);
  release.count_down();
  EXPECT_TRUE(read_to_end(first).ends_with("done"));
}

TEST(http, threads_end_when_idle_and_come_back) {
  ServerOptions options;
  options.idle_thread_ms = 1;
  RunningServer server(echo, options);
  auto client = server.client();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(client->send("GET", "/", {}, "").ok());
    EXPECT_EQ(*client->read_all(), "/|");
  }
}

TEST(http, stop_ends_streams_and_lets_short_requests_finish) {
  std::latch inside(2);
  std::latch release(1);
  auto server = std::make_unique<RunningServer>([&](Exchange& exchange) {
    if (exchange.path() == "/events") {
      ASSERT_TRUE(exchange.begin(200, {}).ok());
      inside.count_down();
      EXPECT_TRUE(linux::wait_readable(exchange.cancel().fd, 10'000).value_or(false));
      ignore(exchange.end());  // the socket still writes
      release.count_down();    // so the short one ends after stop() has begun
      return;
    }
    inside.count_down();
    release.wait();
    ignore(exchange.respond(200, {}, "finished"));
  });
  auto events = server->raw();
  auto brief = server->raw();
  send_text(events, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
  send_text(brief, "GET /short HTTP/1.1\r\nHost: x\r\n\r\n");
  inside.wait();
  server.reset();
  EXPECT_TRUE(read_to_end(events).ends_with("0\r\n\r\n"));
  EXPECT_TRUE(read_to_end(brief).ends_with("finished"));
}

TEST(http, an_unanswered_request_is_a_500) {
  RunningServer server([](Exchange&) {});
  auto client = server.client();
  EXPECT_EQ(client->send("GET", "/", {}, "")->status, 500);
}

TEST(http, unread_bodies_do_not_poison_the_connection) {
  RunningServer server([](Exchange& exchange) { ignore(exchange.respond(200, {}, exchange.path())); });
  auto client = server.client();
  for (std::size_t size : {std::size_t{10}, std::size_t{100'000}}) {
    auto answer = client->send("POST", "/a", {}, std::string(size, 'x'));
    ASSERT_TRUE(answer.ok()) << answer.error().text();
    EXPECT_EQ(*client->read_all(), "/a");
    if (answer->header("connection") == "close") client = server.client();
  }
  auto huge = client->send("POST", "/b", {}, std::string(20 << 20, 'x'));
  if (huge.ok()) {
    EXPECT_EQ(*client->read_all(), "/b");
  }
}

TEST(http, unix_peers_are_known_and_tcp_peers_have_an_address) {
  Handler tell = [](Exchange& exchange) {
    const Peer& peer = exchange.peer();
    ignore(exchange.respond(200, {}, peer.is_unix ? concat("unix ", peer.uid, " ", peer.pid > 0 && peer.pidfd) : concat("tcp ", peer.address)));
  };
  RunningServer server(tell);
  auto listener = listen_tcp("127.0.0.1:0");
  ASSERT_TRUE(listener.ok()) << listener.error().text();
  auto where = linux::local_endpoint(listener->get());
  ASSERT_TRUE(server.server().add_listener(std::move(*listener)).ok());
  auto local = server.client();
  ASSERT_TRUE(local->send("GET", "/", {}, "").ok());
  EXPECT_TRUE(local->read_all()->ends_with(" true"));
  auto remote = connect("tcp://localhost:" + std::to_string(where->port), 5000);
  ASSERT_TRUE(remote.ok()) << remote.error().text();
  ASSERT_TRUE((*remote)->send("GET", "/", {}, "").ok());
  EXPECT_TRUE((*remote)->read_all()->starts_with("tcp 127.0.0.1:"));
}

TEST(listen, a_stale_socket_is_replaced_and_a_live_one_is_not) {
  char name[] = "/tmp/caisson-test-wire-XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  // Deeper than sun_path's 108 bytes.
  std::string folder = concat(name, "/", std::string(120, 'd'));
  std::string path = folder + "/s.sock";
  auto first = listen_unix(path, 0660, std::nullopt);
  ASSERT_TRUE(first.ok()) << first.error().text();
  EXPECT_EQ(linux::stat(path)->st_mode & 07777, 0660U);
  EXPECT_EQ(linux::stat(folder)->st_mode & 07777, 0711U);
  auto second = listen_unix(path, 0660, std::nullopt);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind(), ErrorKind::conflict);
  first->reset();
  auto refused = connect("unix://" + path, 1000);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::unavailable);
  auto third = listen_unix(path, 0600, std::nullopt);
  EXPECT_TRUE(third.ok());
  ASSERT_TRUE(linux::unlink(path).ok());
  EXPECT_EQ(connect("unix://" + path, 1000).error().kind(), ErrorKind::not_found);
  ASSERT_TRUE(linux::write_file(path, "x").ok());
  EXPECT_EQ(listen_unix(path, 0600, std::nullopt).error().kind(), ErrorKind::conflict);
  ASSERT_TRUE(linux::unlink(path).ok());
  ASSERT_TRUE(linux::rmdir(folder).ok());
  ASSERT_TRUE(linux::rmdir(name).ok());
}

TEST(listen, inherited_sockets_are_only_taken_when_meant_for_us) {
  setenv("LISTEN_PID", "1", 1);
  setenv("LISTEN_FDS", "1", 1);
  EXPECT_TRUE(inherited_listeners(2)->empty());
  setenv("LISTEN_FDS", "many", 1);
  EXPECT_FALSE(inherited_listeners(1).ok());
  unsetenv("LISTEN_PID");
  unsetenv("LISTEN_FDS");
  EXPECT_TRUE(inherited_listeners(1)->empty());
}

TEST(endpoint, bad_ones_are_named) {
  for (auto bad : {"", "unix", "ftp://x", "tcp://nohost", "tcp://127.0.0.1:99999", "/run/x.sock"}) {
    auto result = connect(bad, 100);
    EXPECT_FALSE(result.ok()) << bad;
  }
}

TEST(query, is_decoded_in_order) {
  auto pairs = parse_query("a=b&c=%20+d&e&=f&g=%zz&h=%7B%22x%22%7D&a=2");
  ASSERT_EQ(pairs.size(), 7U);
  EXPECT_EQ(pairs[0], std::make_pair(std::string("a"), std::string("b")));
  EXPECT_EQ(pairs[1].second, "  d");
  EXPECT_EQ(pairs[2], std::make_pair(std::string("e"), std::string()));
  EXPECT_EQ(pairs[4].second, "%zz");
  EXPECT_EQ(pairs[5].second, "{\"x\"}");
  EXPECT_EQ(percent_decode("a%2Fb+c"), "a/b+c");
  EXPECT_EQ(percent_decode(percent_encode("ä {\"/\"}")), "ä {\"/\"}");
}

}  // namespace
}  // namespace caisson::wire
